"""Guidance losses against loops written from their definitions, and against scipy's cosine
distance.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from scipy.stats import pearsonr

from fmri2clip.decoders.clip_mused import guidance


@pytest.fixture
def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    high, low = torch.randn(2, 7, 5, generator=generator)
    return high, low


def loop_dissimilarity(rows: list[list[float]]) -> list[list[float]]:
    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    return [
        [1 - dot(a, b) / (math.sqrt(dot(a, a)) * math.sqrt(dot(b, b)) + 1e-6) for b in rows]
        for a in rows
    ]


def test_guidance_equals_a_double_loop(tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    high, low = tokens
    a, b = (loop_dissimilarity(x.double().tolist()) for x in tokens)
    expected = sum((a[i][j] - b[i][j]) ** 2 for i in range(7) for j in range(7)) / 7**2
    assert float(guidance.guide(high, low)) == pytest.approx(expected, rel=1e-5)


def test_centred_guidance_is_one_minus_scipys_correlation_of_distances(
    tokens: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """And the same from a cone far away, where the cosines of paper_like hardly differ."""
    high, low = (x.double().numpy() for x in tokens)
    distances = [pdist(x - x.mean(0), "cosine") for x in (high, low)]
    expected = 1 - pearsonr(*distances).statistic
    assert float(guidance.guide_centred(*tokens)) == pytest.approx(expected, abs=1e-4)
    far = tokens[0] + 50.0
    assert float(guidance.guide_centred(far, tokens[1])) == pytest.approx(expected, abs=1e-3)
    assert float(guidance.dissimilarity(far).abs().max()) < 0.01
    assert float(guidance.guide_centred(tokens[0], 3 * tokens[0] + 1)) == pytest.approx(0, abs=1e-5)


def test_centred_guidance_has_gradients_and_stands_single_rows() -> None:
    token_BE = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    feature_BF = torch.randn(6, 9, generator=torch.Generator().manual_seed(2))
    guidance.guide_centred(feature_BF, token_BE).backward()
    assert token_BE.grad is not None and token_BE.grad.abs().sum() > 0
    for n in (1, 2):
        assert guidance.guide_centred(feature_BF[:n], token_BE[:n]).isfinite()


def test_dissimilarity_equals_rsatoolbox(tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    """rsatoolbox has the correlation distance, which is the cosine distance of centred rows."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    high = tokens[0] - tokens[0].mean(1, keepdim=True)
    (expected,) = calc_rdm(Dataset(high.double().numpy()), method="correlation").get_matrices()
    found = guidance.dissimilarity(high).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_orthogonality_types_equal_loops(tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    high, low = (x.double().tolist() for x in tokens)
    inner = [[sum(x * y for x, y in zip(h, k, strict=True)) for k in low] for h in high]
    expected = {
        "F": sum(value**2 for row in inner for value in row) / 7**2,
        "L1": sum(abs(inner[i][i]) for i in range(7)) / 7,
        "L2": sum(inner[i][i] ** 2 for i in range(7)) / 7,
    }
    for kind, value in expected.items():
        assert float(guidance.orthogonality(*tokens, kind)) == pytest.approx(value, rel=1e-5)  # type: ignore[arg-type]


def test_dissimilarity_is_scipys_cosine_distance(tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    found = guidance.dissimilarity(tokens[0]).numpy()
    np.testing.assert_allclose(found, cdist(tokens[0], tokens[0], "cosine"), atol=2e-6)
    assert np.diag(found) == pytest.approx(np.zeros(7), abs=2e-6)


def test_zero_tokens_have_dissimilarity_one_and_no_gradient() -> None:
    zero = torch.zeros(4, 3, requires_grad=True)
    assert torch.equal(guidance.dissimilarity(zero.detach()), torch.ones(4, 4))
    guidance.orthogonality(zero, zero, "F").backward()
    assert zero.grad is not None and not zero.grad.any()


def test_features_are_clipped_before_they_are_normalised() -> None:
    found = guidance.clip_features(torch.tensor([[3.0, -9.0, 0.5], [0.1, 0.2, 0.0]]), 1.5)
    for row, source in zip(found.tolist(), ([1.5, -1.5, 0.5], [0.1, 0.2, 0.0]), strict=True):
        norm = math.sqrt(sum(x * x for x in source))
        assert row == pytest.approx([x / norm for x in source], abs=1e-6)
    assert guidance.clip_features(torch.ones(2, 3, 4), 1.5).shape == (2, 12)


def test_high_features_by_mode(tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, text = tokens
    assert torch.equal(guidance.high_features(image, text, "image"), image)
    assert torch.equal(guidance.high_features(image, text, "text"), text)
    assert torch.allclose(guidance.high_features(image, text, "average"), (image + text) / 2)
    cosine = 1 - guidance.dissimilarity(guidance.high_features(image, text, "concat"))
    both = torch.cat([image, text], 1)
    assert torch.allclose(
        cosine, torch.nn.functional.cosine_similarity(both[:, None], both, dim=2), atol=1e-5
    )


def test_mean_cosine_is_that_of_the_pairs(
    tokens: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    cosine = 1 - cdist(tokens[0], tokens[0], "cosine")
    for rows in (64, 3):
        monkeypatch.setattr(guidance, "ROWS", rows)
        assert guidance.mean_cosine(tokens[0], 100.0) == pytest.approx(
            cosine[~np.eye(7, dtype=bool)].mean(), abs=1e-6
        )
