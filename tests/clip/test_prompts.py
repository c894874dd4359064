from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from fmri2clip.clip.prompts import SCALES, compare_prompts, fit_scale, share_out

PRESENT = np.array([True, True, True, False])


def test_probabilities_are_the_softmax_over_categories_that_occur(
    rng: np.random.Generator,
) -> None:
    cosine_IC = rng.uniform(-1, 1, (5, 4))
    expected = np.zeros((5, 4))
    expected[:, :3] = softmax(7 * cosine_IC[:, :3], axis=1)
    assert np.allclose(share_out(cosine_IC, PRESENT, 7.0), expected)


def test_cosines_are_those_with_the_first_prompt_centred(rng: np.random.Generator) -> None:
    prompt_PCD = rng.standard_normal((2, 4, 6)).astype(np.float16)
    query_ID = rng.standard_normal((3, 6))
    query_ID /= np.linalg.norm(query_ID, axis=1, keepdims=True)
    found = compare_prompts(query_ID, {"prompt_embedding_PCD": prompt_PCD, "present_C": PRESENT})
    centred = prompt_PCD[0].astype(float) - prompt_PCD[0, :3].astype(float).mean(0)
    for i in range(3):
        for c in range(4):
            cosine = query_ID[i] @ centred[c] / np.linalg.norm(centred[c])
            assert found[i, c] == pytest.approx(cosine)


def test_the_scale_is_the_one_that_made_the_labels(rng: np.random.Generator) -> None:
    cosine_IC = rng.uniform(-1, 1, (20_000, 4))
    probability_IC = share_out(cosine_IC, PRESENT, 5.0)
    drawn_I = (rng.random((len(cosine_IC), 1)) > probability_IC.cumsum(axis=1)).sum(axis=1)
    scale = fit_scale(cosine_IC, np.eye(4, dtype=bool)[drawn_I], PRESENT)
    assert scale == pytest.approx(5, rel=0.1)


def test_labels_by_chance_make_sure_of_nothing(rng: np.random.Generator) -> None:
    cosine_IC = rng.uniform(-1, 1, (2000, 4))
    assert fit_scale(cosine_IC, np.eye(4, dtype=bool)[rng.integers(0, 3, 2000)], PRESENT) < 0.3
    assert fit_scale(cosine_IC, np.zeros((2000, 4), bool), PRESENT) == SCALES[0]
