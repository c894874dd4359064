"""Means of test trials: of all, and of the first ones where pictures were shown as often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fmri2clip.artefacts.trials import read_test_betas, write_betas


@pytest.mark.parametrize("n_shown", [1, 2, 3, 4])
def test_means_of_first_trials_end_where_the_trials_do(tmp_path: Path, n_shown: int) -> None:
    rng = np.random.default_rng(0)
    ids_I = np.array([3, 5, 8])
    betas_IRV = rng.standard_normal((3, n_shown, 4)).astype(np.float16)
    order = rng.permutation(3 * n_shown)
    arrays = {
        "betas_NV": betas_IRV.reshape(-1, 4)[order],
        "nsd_id_N": np.repeat(ids_I, n_shown)[order],
        "session_N": np.ones(3 * n_shown, np.int16),
        "trial_N": np.arange(1, 3 * n_shown + 1, dtype=np.int32),
        "repetition_N": np.tile(np.arange(1, n_shown + 1, dtype=np.int8), 3)[order],
    }
    write_betas(tmp_path / "test.h5", arrays)
    found = read_test_betas(tmp_path / "test.h5", np.arange(4))
    assert found.n_repeats == n_shown
    assert list(found.first) == list(range(1, min(n_shown, 2) + 1))
    for n, mean_IV in found.first.items():
        expected_IV = betas_IRV[:, :n].astype(np.float32).mean(1)
        np.testing.assert_allclose(mean_IV, expected_IV, atol=1e-3)
