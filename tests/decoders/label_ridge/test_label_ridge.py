from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from fmri2clip.decoders.batches import TrainingData
from fmri2clip.decoders.label_ridge.decoder import Config, Decoder
from tests.decoders.settings import make_config

SMALL = make_config(
    "label_ridge",
    areas="V1, V2, floc-faces, rest",
    input_map="pca",
    components=4,
    n_alphas=5,
    log10_alpha_min=-1,
    log10_alpha_max=4,
    n_folds=4,
)


def fitted(data: TrainingData, config: Config = SMALL) -> tuple[Decoder, dict[str, float]]:
    decoder = Decoder.from_data(config, [data], 0)
    return decoder, decoder.fit(data)


def test_ranks_are_those_of_scikit_learns_ridge_on_the_input_map(tiny: TrainingData) -> None:
    decoder, row = fitted(tiny)
    assert tiny.labels_IC is not None
    train_I, x_IX = ~tiny.is_validation_I, decoder.map(tiny.mean_betas_IV).flatten(1)
    oracle = Ridge(row["alpha"]).fit(x_IX[train_I], tiny.labels_IC[train_I].float())
    logits_IC = decoder.decode(tiny.mean_betas_IV, "subj01").logits_IC
    assert logits_IC is not None
    slope, offset = decoder.scaling_2.tolist()
    np.testing.assert_allclose((logits_IC - offset) / slope, oracle.predict(x_IX), atol=1e-4)
    assert slope > 0 and row["slope"] == slope


def test_rotated_components_give_the_same_ridge(tiny: TrainingData) -> None:
    """A ridge with one penalty does not see a rotation: pca and clip_aligned hold the same
    information.

    Only where no ROI has fewer voxels than components, so that the rotation is complete.
    """
    settings: dict[str, Any] = {
        "areas": "V1, V2, floc-faces",
        "components": 4,
        "n_alphas": 1,
        "log10_alpha_min": 1.0,
    }
    pca, aligned = (
        fitted(tiny, make_config("label_ridge", **settings, input_map=kind))[0]
        for kind in ("pca", "clip_aligned")
    )
    a, b = (d.decode(tiny.mean_betas_IV, "subj01").logits_IC for d in (pca, aligned))
    assert not torch.allclose(pca.map.weight_XK, aligned.map.weight_XK, atol=1e-2)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_validation_images_decide_nothing_but_the_scaling(tiny: TrainingData) -> None:
    decoder, _ = fitted(tiny)
    assert tiny.labels_IC is not None
    tiny.labels_IC[tiny.is_validation_I] = ~tiny.labels_IC[tiny.is_validation_I]
    other, _ = fitted(tiny)
    assert torch.equal(decoder.weight_XC, other.weight_XC) and not torch.equal(
        decoder.scaling_2, other.scaling_2
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"input_map": "subject_linear"},
            "input_map is 'subject_linear', expected pca or clip_aligned",
        ),
        ({"n_folds": 1}, "n_folds is 1, expected at least 2"),
        ({"log10_alpha_min": 9.0}, "log10_alpha_min is 9.0"),
        ({"areas": ""}, "expected names of ROIs"),
    ],
)
def test_wrong_settings_say_what_is_allowed(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config("label_ridge", **bad)
