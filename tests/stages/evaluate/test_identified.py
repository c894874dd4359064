"""Identification by a decoder's own likelihood: features as they are given, hits by hand."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fmri2clip.decoders import Decoder
from fmri2clip.metrics.decoding.retrieval import make_galleries
from fmri2clip.stages.evaluate.identified import (
    has_likelihood,
    list_features,
    score_identification,
)

N, WIDTH, N_TOKENS, N_COMPONENTS = 30, 4, 5, 3


class Near(Decoder):
    """A response is a picture's scores with noise; it is likely for what lies near."""

    def identify(
        self, betas_IV: torch.Tensor, features: Mapping[str, torch.Tensor], n_repeats: int = 1
    ) -> torch.Tensor:
        expected_JV = torch.cat(
            [features["semantic_components_IP"], features["detail_components_IP"]], 1
        )
        assert features["image_embedding_ID"].shape == (N, WIDTH)
        return -(n_repeats / 2) * torch.cdist(betas_IV.double(), expected_JV.double()) ** 2


def test_own_likelihood_by_hand(rng: np.random.Generator) -> None:
    tokens = {
        stream: rng.standard_normal((N, N_TOKENS, WIDTH)).astype(np.float32)
        for stream in ("semantic", "detail")
    }
    basis: dict[str, np.ndarray] = {}
    scores = []
    for stream, token_ITW in tokens.items():
        axes_PX = np.linalg.qr(rng.standard_normal(((N_TOKENS - 1) * WIDTH, N_COMPONENTS)))[0].T
        mean_TW = rng.standard_normal((N_TOKENS - 1, WIDTH))
        basis[f"{stream}_mean_TW"] = mean_TW
        basis[f"{stream}_components_PTW"] = axes_PX.reshape(N_COMPONENTS, N_TOKENS - 1, WIDTH)
        scores.append((token_ITW[:, 1:] - mean_TW).reshape(N, -1) @ axes_PX.T)
    clean_IV = np.concatenate(scores, axis=1)
    means = {n: clean_IV + rng.standard_normal(clean_IV.shape) / np.sqrt(n) for n in (1, 2, 3)}
    order = rng.permutation(N)  # of the cache
    clip: dict[str, Any] = {
        "nsd_id_I": order,
        "image_embedding_ID": rng.standard_normal((N, WIDTH)).astype(np.float16),
        "semantic_tokens_ITD": tokens["semantic"][order],
        "detail_tokens_ITD": tokens["detail"][order],
    }
    betas: Any = SimpleNamespace(
        n_repeats=3, nsd_id_I=np.arange(N), first={1: means[1], 2: means[2]}, mean_IV=means[3]
    )
    model: Any = SimpleNamespace(decoder=Near())
    galleries = make_galleries(clip["image_embedding_ID"].astype(float), 20, 4, 5, seed=0)
    features = list_features(clip, betas.nsd_id_I, basis)
    found = score_identification(model, betas, features, galleries).per_image
    for n, place in ((1, "trials.1."), (2, "trials.2."), (3, "")):
        distance_II = ((means[n][:, None] - clean_IV[None]) ** 2).sum(axis=2)
        hits_I = distance_II.argmin(axis=1) == np.arange(N)
        name = f"{place}own.retrieval_all.image_given_brain"
        np.testing.assert_array_equal(found[f"{name}.top1"][0], hits_I)
        log_II = -(n / 2) * distance_II
        right_I = np.diag(log_II) - np.log(np.exp(log_II).sum(axis=1))
        bits_I = np.log2(N) + right_I / np.log(2)
        assert found[f"{name}.bits"][0] == pytest.approx(bits_I, abs=1e-4)
    assert 0.2 < found["trials.1.own.retrieval_all.image_given_brain.top1"][0].mean() < 1


def test_most_decoders_have_none() -> None:
    plain: Any = SimpleNamespace(decoder=Decoder())
    near: Any = SimpleNamespace(decoder=Near())
    assert has_likelihood(near) and not has_likelihood(plain)
