"""Words that say why numbers under equal names differ between two protocols, from what the protocols themselves say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fmri2clip.metrics.protocols import Protocol, Resize

CREDITS = {0.0: "none", 0.5: "half", 1.0: "whole"}


def say_difference(main: Protocol, other: Protocol) -> str:
    """One sentence: in what `other` differs from `main`, save in metrics that only one of them has."""
    there = describe(main)
    clauses = [
        f"{topic} ({here}; there: {there[topic]})" for topic, here in describe(other).items() if here != there[topic]
    ]
    if not clauses:
        return f"`{other.name}` measures as `{main.name}` does."
    return (
        f"Numbers under equal names differ from those of `{main.name}`, because the protocols differ in"
        f" {', '.join(clauses)}."
    )


def describe(protocol: Protocol) -> dict[str, str]:
    """Topic -> what the protocol does, the same topics for every protocol."""
    steps = [*protocol.common, *protocol.pixels, *(step for m in protocol.networks for step in m.resize)]
    found = {
        "antialiased resizing": "yes" if all(step.antialias for step in steps) else "no",
        "first resize of all pictures": _say_steps(protocol.common),
        "resize for PixCorr and SSIM": _say_steps(protocol.pixels),
        "SSIM": "of single pixel columns" if protocol.ssim_columns else "of pictures",
        "rounding to 8 bits": "yes" if protocol.eight_bit else "no",
    }
    for metric in protocol.networks:
        found[f"resize for {metric.slot}"] = _say_steps(metric.resize)
        found[f"weights of {metric.slot}"] = f"`{metric.weights}`"
    return found | {
        "credit of a tie": CREDITS.get(protocol.tie_credit, f"{protocol.tie_credit:g}"),
        "decimals that make a tie": f"{protocol.decimals}",
        "correlation with a constant picture": (
            "undefined, and so is the mean" if math.isnan(protocol.undefined) else f"{protocol.undefined:g}"
        ),
        "precision of networks": "fp32" if protocol.fp32 else "any",
    }


def _say_steps(steps: Sequence[Resize]) -> str:
    return ", then ".join(f"{step.size} pixels, {step.filter}, {step.library}" for step in steps) or "none"
