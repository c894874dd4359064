"""selection.py: whose response chooses, and how gains are summed up."""

from __future__ import annotations

import numpy as np

from benchmarks import selection
from fmri2clip.stages.reconstruct.selection import Decoded


def test_another_response_is_that_of_the_subjects_next_picture() -> None:
    response_IV = np.arange(6.0).reshape(3, 2)
    one = Decoded(nsd_id_I=np.arange(3), features={}, response_IV=response_IV)
    (moved,) = selection.swap([one])
    assert moved.response_IV is not None
    assert moved.response_IV.tolist() == response_IV[[2, 0, 1]].tolist()
    assert one.response_IV is response_IV


def test_gains_are_paired_and_subjects_weigh_alike() -> None:
    """A choice that adds .1 to every picture has a gain without width, however pictures differ."""
    rng = np.random.default_rng(0)
    parts = []
    for n in (30, 10):
        first = {name: rng.random(n) for name in ("pixcorr", "trial_3")}
        better = {name: value + 0.1 for name, value in first.items()}
        parts.append({"first": first, "encoding": better})
    found = selection.summarise(parts)
    means = [part["first"]["trial_3"].mean() for part in parts]
    assert found["first"]["trial_3"]["value"] == round(float(np.mean(means)), 4)
    assert "gain" not in found["first"]
    assert found["encoding"]["gain"]["pixcorr"] == {"value": 0.1, "low": 0.1, "high": 0.1}
