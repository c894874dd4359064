"""In which order a CLIP-MUSED-style decoder learns: all subjects at once, or the others first and
then a new subject.

A new subject is fitted to frozen shared weights. What is its own: tokens (or embedding), started at
the mean of the others', and, as an option, a projection that starts as the shared one. Its input
map is fitted before any phase.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from fmri2clip.decoders.batches import Phase, TrainingData


def make_phases(decoder: Any, data: Sequence[TrainingData]) -> Iterator[Phase]:
    """Phases `shared` and, with a new subject, `new`; weights that a phase does not train are
    frozen in it.
    """
    config = decoder.config
    new = decoder.config.new_subject
    _free(decoder, lambda name: not is_new(name, new))
    yield Phase("shared", [d for d in data if d.subject != new], config)
    if not new:
        return
    # The shared phase is over when the trainer asks for the next one: the others' tokens are final.
    with torch.no_grad():
        others = torch.stack(
            [value for subject, value in decoder.identity.items() if subject != new]
        )
        decoder.identity[new].copy_(others.mean(0))
        if decoder.new_projection is not None:
            decoder.new_projection.load_state_dict(decoder.projection.state_dict())
    # requires_grad stops weights only; dropout and statistics of norms are stopped here.
    decoder.freeze_shared(True)
    _free(decoder, lambda name: is_new(name, new))
    yield Phase("new", [d for d in data if d.subject == new], replace(config, lr=config.new_lr))
    decoder.freeze_shared(False)


def is_new(name: str, new_subject: str) -> bool:
    """Whether a weight of this name belongs to the new subject alone."""
    return bool(new_subject) and (
        name.startswith("new_projection.") or is_of_subject(name, (new_subject,))
    )


def is_of_subject(name: str, subjects: Collection[str]) -> bool:
    """Whether a weight of this name is the input map, token or embedding of one of the subjects.

    By its place: a subject may be called 0, as a layer is.
    """
    part, _, rest = name.partition(".")
    return part in ("identity", "maps") and rest.partition(".")[0] in subjects


def _free(decoder: Any, is_free: Callable[[str], bool]) -> None:
    for name, value in decoder.named_parameters():
        value.requires_grad_(is_free(name))
