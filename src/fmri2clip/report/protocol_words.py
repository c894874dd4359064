"""Words that say why numbers under equal names differ between two protocols, from what the protocols themselves say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fmri2clip.metrics.protocols import Protocol, Resize

CREDITS = {0.0: "no credit", 0.5: "half a credit", 1.0: "a whole credit"}


def say_difference(main: Protocol, other: Protocol) -> str:
    """One sentence: what `other` does that `main` does not."""
    clauses = [
        f"{words} (there: {theirs})"
        for say in (_say_common, _say_pixels, _say_network_steps, _say_sizes, _say_weights, _say_ties, _say_undefined,
                    _say_ssim, _say_range, _say_precision, _say_directions)
        if (words := say(other)) != (theirs := say(main))
    ]  # fmt: skip
    if not clauses:
        return f"`{other.name}` measures as `{main.name}` does."
    return f"Numbers under equal names differ from those of `{main.name}`, because here {'; '.join(clauses)}."


def _say_common(protocol: Protocol) -> str:
    return f"pictures are first resized to {_say_steps(protocol.common)}"


def _say_pixels(protocol: Protocol) -> str:
    return f"PixCorr and SSIM see {_say_steps(protocol.pixels)}"


def _say_steps(steps: Sequence[Resize]) -> str:
    return ", then ".join(f"{step.size} pixels ({_say_filter(step)})" for step in steps) or "nothing"


def _say_filter(step: Resize) -> str:
    by = "Pillow" if step.library == "pillow" else f"tensors, {'' if step.antialias else 'not '}antialiased"
    return f"{step.filter}, {by}"


def _say_network_steps(protocol: Protocol) -> str:
    filters = sorted({_say_filter(metric.resize[-1]) for metric in protocol.networks})
    return f"pictures for networks are resized ({'; '.join(filters)})"


def _say_sizes(protocol: Protocol) -> str:
    return f"network sizes are {', '.join(f'{m.slot} {m.resize[-1].size}' for m in protocol.networks)}"


def _say_weights(protocol: Protocol) -> str:
    return f"weights are {', '.join(metric.weights for metric in protocol.networks)}"


def _say_ties(protocol: Protocol) -> str:
    credit = CREDITS.get(protocol.tie_credit, f"a credit of {protocol.tie_credit:g}")
    return f"ties earn {credit}, correlations that agree to {protocol.decimals} decimals being ties"


def _say_undefined(protocol: Protocol) -> str:
    if math.isnan(protocol.undefined):
        return "one constant picture leaves a metric undefined"
    return f"correlation with a constant picture counts as {protocol.undefined:g}"


def _say_ssim(protocol: Protocol) -> str:
    return "SSIM takes each pixel column as a signal" if protocol.ssim_columns else "SSIM is that of pictures"


def _say_range(protocol: Protocol) -> str:
    bits = "pictures are rounded to 8 bits first" if protocol.eight_bit else "pictures stay unrounded"
    return f"{bits}{', clamped' if protocol.clamp else ', not clamped'}"


def _say_precision(protocol: Protocol) -> str:
    return "networks must compute in fp32" if protocol.fp32 else "networks may compute in half precision"


def _say_directions(protocol: Protocol) -> str:
    n = len(protocol.directions)
    return f"{n} direction{'s' if n > 1 else ''} of two-way identification"
