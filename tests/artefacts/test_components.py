"""Tokens as scores on components, against the module that reads them back."""

from __future__ import annotations

import numpy as np
import torch

from fmri2clip.artefacts import components
from fmri2clip.decoders.batches import Basis
from fmri2clip.decoders.parts.token_basis import TokenBasis


def test_tokens_are_expressed_as_they_are_read_back(rng: np.random.Generator) -> None:
    """Scores of tokens that lie in the space of the components give the tokens themselves; the
    class token stays.
    """
    components_PX = np.linalg.qr(rng.standard_normal((20, 4)))[0].T
    basis = {
        "semantic_mean_TW": rng.standard_normal((5, 4)).astype(np.float32),
        "semantic_components_PTW": components_PX.reshape(4, 5, 4).astype(np.float32),
    }
    scores_IP = rng.standard_normal((6, 4)).astype(np.float32)
    module = TokenBasis.of(
        Basis(
            torch.from_numpy(basis["semantic_mean_TW"]),
            torch.from_numpy(basis["semantic_components_PTW"]).half(),
        )
    )
    class_I1W = rng.standard_normal((6, 1, 4)).astype(np.float32)
    patches_ITW = module.read(torch.from_numpy(scores_IP)).numpy()
    found = components.express_tokens(
        np.concatenate([class_I1W, patches_ITW], axis=1), basis, "semantic"
    )
    np.testing.assert_array_equal(found[:, :4], class_I1W[:, 0])
    np.testing.assert_allclose(found[:, 4:], scores_IP, atol=0.01)
