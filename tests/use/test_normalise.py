from __future__ import annotations

import numpy as np
import pytest

from fmri2clip.use.normalise import LEAST_TRIALS, list_sessions, normalise
from tests.model_folder import make_inputs


@pytest.fixture
def percent_NV(rng: np.random.Generator) -> np.ndarray:
    inputs = make_inputs()
    z_NV = rng.standard_normal((60, 20))
    return z_NV * inputs["session_std_SV"][1] + inputs["session_mean_SV"][1]


def test_stored_statistics_are_those_of_the_session(percent_NV: np.ndarray) -> None:
    inputs = make_inputs()
    found = normalise(percent_NV, "stored", inputs, 2)
    expected = (percent_NV - inputs["session_mean_SV"][1]) / inputs["session_std_SV"][1]
    assert np.allclose(found, expected, atol=1e-5)
    mixed = normalise(percent_NV, "stored", inputs, np.array([1, 2] * 30))
    assert np.allclose(mixed[1::2], found[1::2], atol=1e-5)
    first = (percent_NV[0] - inputs["session_mean_SV"][0]) / inputs["session_std_SV"][0]
    assert np.allclose(mixed[0], first, atol=1e-5)


def test_integers_are_percent_times_300(percent_NV: np.ndarray) -> None:
    inputs = make_inputs()
    stored = np.round(300 * percent_NV).astype(np.int16)
    found = normalise(stored, "stored", inputs, 2)
    assert np.allclose(found, normalise(percent_NV, "stored", inputs, 2), atol=0.01)


def test_betas_are_on_the_scale_that_the_model_keeps(percent_NV: np.ndarray) -> None:
    inputs = make_inputs()
    expected = normalise(percent_NV, "stored", inputs, 2)
    inputs["betas_scale_1"] = np.array([1000.0])
    for stored in (np.round(1000 * percent_NV).astype(np.int32), 1000 * percent_NV):
        assert np.allclose(normalise(stored, "stored", inputs, 2), expected, atol=0.01)
    inputs["betas_scale_1"] = np.array([1.0])
    whole = np.round(10 * percent_NV).astype(np.int16)
    inputs["session_mean_SV"] *= 10
    inputs["session_std_SV"] *= 10
    assert np.allclose(normalise(whole, "stored", inputs, 2), expected, atol=0.11)


def test_session_statistics_are_those_of_the_trials(percent_NV: np.ndarray) -> None:
    percent_NV[:, 3] = 0.1
    found = normalise(percent_NV, "session", {})
    assert np.all(found[:, 3] == 0)
    others = np.arange(20) != 3
    z_NV = (percent_NV - percent_NV.mean(0))[:, others] / percent_NV.std(0, ddof=1)[others]
    assert np.allclose(found[:, others], z_NV, atol=1e-5)


def test_sessions_are_normalised_one_by_one(rng: np.random.Generator) -> None:
    """Two sessions, row by row in turn, of which the second has drifted and is twice as wide."""
    session_N = np.tile([3, 7], LEAST_TRIALS)
    scale_N1 = np.where(session_N == 7, 2.0, 1.0)[:, None]
    percent_NV = (rng.standard_normal((2 * LEAST_TRIALS, 20)) + 5 * (scale_N1 - 1)) * scale_N1
    percent_NV[::2, 4] = 0.1  # no signal in one of them
    found_NV = normalise(percent_NV, "session", {}, session_N)
    for start in (0, 1):
        alone_NV = normalise(percent_NV[start::2], "session", {})
        assert np.allclose(found_NV[start::2], alone_NV, atol=1e-6)
        others = np.arange(20) != 4
        assert np.allclose(found_NV[start::2].mean(axis=0), 0, atol=1e-5)
        assert np.allclose(found_NV[start::2, others].std(axis=0, ddof=1), 1, atol=1e-5)
    assert np.all(found_NV[::2, 4] == 0) and np.any(found_NV[1::2, 4] != 0)
    few = f"{LEAST_TRIALS - 1} of session 7 are too few: give {LEAST_TRIALS} or more"
    with pytest.raises(ValueError, match=few):
        normalise(percent_NV[:-1], "session", {}, session_N[:-1])


def test_a_voxel_without_spread_in_the_session_is_0(percent_NV: np.ndarray) -> None:
    inputs = make_inputs()
    inputs["session_std_SV"][1, 4] = 0
    assert np.all(normalise(percent_NV, "stored", inputs, 2)[:, 4] == 0)


def test_what_cannot_be_normalised_is_refused(percent_NV: np.ndarray) -> None:
    broken = percent_NV.copy()
    broken[1, 2] = np.inf
    turned = percent_NV / np.square(percent_NV).mean(axis=0)
    few = percent_NV[: LEAST_TRIALS - 1]
    stored = (300 * percent_NV).astype(np.int16)
    inputs = make_inputs()
    for betas_NV, norm, session, message in (
        (percent_NV, "zscore", 1, "'zscore' is not known; choose from stored, session, none"),
        (percent_NV, "stored", 0, "needs a session; .* sessions 1, 2 of its training"),
        (percent_NV, "stored", 3, "session 3 is not known"),
        (turned, "stored", 2, "do not spread over voxels as .*; use norm 'none' for z-scores"),
        (300 * percent_NV, "stored", 2, "spread of .* are they percent signal change"),
        (few, "session", 0, f"{LEAST_TRIALS - 1} are too few: give {LEAST_TRIALS} or more"),
        (broken, "none", 0, "1 betas are NaN or infinite, the first in trial 2, voxel 3"),
        (stored, "none", 0, "int16, which are no z-scores"),
        (percent_NV, "none", 0, "the betas spread over voxels as percent signal change does"),
        (np.full((60, 20), 3.0), "none", 0, "a spread of 3 .* are they raw betas"),
    ):
        with pytest.raises(ValueError, match=message):
            normalise(betas_NV, norm, inputs, session)


def test_a_voxel_that_is_nan_in_all_trials_is_0(percent_NV: np.ndarray) -> None:
    betas_NV = percent_NV.copy()
    betas_NV[:, 3] = np.nan
    found_NV = normalise(betas_NV, "stored", make_inputs(), 2)
    expected_NV = normalise(percent_NV, "stored", make_inputs(), 2)
    assert not found_NV[:, 3].any()
    others = np.arange(percent_NV.shape[1]) != 3
    np.testing.assert_array_equal(found_NV[:, others], expected_NV[:, others])


def test_sessions_of_a_folder_go_by_their_labels(percent_NV: np.ndarray) -> None:
    inputs = make_inputs()
    labels = np.frombuffer(b'["5", "1"]', dtype=np.uint8)
    own = {**inputs, "session_labels_B": labels}
    assert list_sessions(own) == ["5", "1"] and list_sessions(inputs) == ["1", "2"]
    for label, session in (("1", 2), (5, 1)):
        np.testing.assert_array_equal(
            normalise(percent_NV, "stored", own, label),
            normalise(percent_NV, "stored", inputs, session),
        )
    with pytest.raises(ValueError, match=r"session 2 is not known; .* sessions 5, 1 of its"):
        normalise(percent_NV, "stored", own, 2)
