"""Input maps against scikit-learn's PCA and scipy's Procrustes, on training images only; and what
ROI names mean.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA

from fmri2clip.decoders.batches import TrainingData
from fmri2clip.decoders.parts.areas import parse_names, select_rois
from fmri2clip.decoders.parts.input_maps import InputMap, find_clip_axes, find_rotation, fit_pca

NAMES = ("V1", "V2", "floc-faces", "floc-bodies", "rest")


def make_data(
    subject: str = "subj01", seed: int = 0, mixing: torch.Tensor | None = None, **more: Any
) -> TrainingData:
    """40 images with two trials each, 20 voxels; the last ten images are for validation."""
    generator = torch.Generator().manual_seed(seed)
    embedding_ID = torch.randn(40, 6, generator=generator) + 1
    embedding_ID = embedding_ID / embedding_ID.norm(dim=1, keepdim=True)
    betas_IV = torch.randn(40, 20, generator=generator) if mixing is None else embedding_ID @ mixing
    voxel = torch.arange(20)
    rois = {"V1v": voxel < 4, "V1d": (voxel >= 4) & (voxel < 8), "V2": (voxel >= 8) & (voxel < 11)}
    data = TrainingData(
        subject=subject,
        betas_NV=betas_IV.repeat(2, 1),
        image_N=torch.arange(40).repeat(2),
        nsd_id_I=torch.arange(40),
        image_embedding_ID=embedding_ID,
        text_embedding_KD=embedding_ID,
        caption_image_K=torch.arange(40),
        caption_K=[str(i) for i in range(40)],
        is_validation_I=torch.arange(40) >= 30,
        rois={f"prf-visualrois/{name}": member for name, member in rois.items()},
        groups={"low": voxel < 11},
    )
    data.rois |= {"floc-faces": (voxel >= 10) & (voxel < 18), "floc-bodies": voxel < 0}
    return replace(data, **more)


def fit(data: TrainingData, n: int, axes: Any = None) -> InputMap:
    rows = select_rois(data, NAMES)
    fitted = InputMap([len(r) for r in rows], n, learned=False)
    fitted.fit(data, rows, axes)
    return fitted


def test_pca_equals_scikit_learns_up_to_signs() -> None:
    data, n = make_data(), 5
    z_IRK, rows = fit(data, n)(data.mean_betas_IV), select_rois(data, NAMES)
    for r, name in enumerate(NAMES):
        if name == "floc-bodies":
            assert not z_IRK[:, r].any()
            continue
        x_IX = data.mean_betas_IV[:, rows[r]].double().numpy()
        oracle = PCA(min(n, x_IX.shape[1]), whiten=True, svd_solver="full").fit(x_IX[:30])
        expected = oracle.transform(x_IX)
        found = z_IRK[:, r].numpy()
        np.testing.assert_allclose(
            np.abs(found[:, : expected.shape[1]]), np.abs(expected), atol=1e-4
        )
        assert not found[:, expected.shape[1] :].any()
        explained = fit_pca(torch.from_numpy(x_IX[:30]), n)[1]
        assert explained == pytest.approx(oracle.explained_variance_ratio_.sum())
        assert float(fit(data, n).explained_R[r]) == pytest.approx(explained)


def test_maps_never_see_validation_images() -> None:
    data = make_data()
    other = replace(
        data, betas_NV=data.betas_NV.clone(), image_embedding_ID=data.image_embedding_ID.clone()
    )
    other.betas_NV[data.image_N >= 30] = 7.0
    other.image_embedding_ID[30:] = 0.5
    for axes in (None, 4):
        maps = [fit(d, 4, axes and find_clip_axes([d], axes)) for d in (data, other)]
        assert torch.equal(maps[0].weight_XK, maps[1].weight_XK) and torch.equal(
            maps[0].offset_RK, maps[1].offset_RK
        )


def test_components_that_hold_nothing_are_zero() -> None:
    x_IX = torch.randn(30, 2, generator=torch.Generator().manual_seed(1)) @ torch.ones(2, 6)
    weight_XK, explained = fit_pca(x_IX, 3)
    assert weight_XK[:, 0].all() and not weight_XK[:, 1:].any() and explained == pytest.approx(1.0)


def test_rotation_is_scipys_procrustes_solution() -> None:
    generator = torch.Generator().manual_seed(2)
    z, scores = torch.randn(2, 30, 4, generator=generator).double()
    np.testing.assert_allclose(
        find_rotation(z, scores), orthogonal_procrustes(z.numpy(), scores.numpy())[0], atol=1e-9
    )
    z[:, 2:] = 0  # an ROI of two voxels
    q = find_rotation(z, scores)
    np.testing.assert_allclose(q[:2] @ q[:2].T, np.eye(2), atol=1e-9)
    assert not q[2:].any()


def test_aligned_axes_agree_between_brains_and_pca_axes_do_not() -> None:
    """Two brains hold the same six numbers of a picture, each mixed in its own way into other
    voxels.
    """
    generator = torch.Generator().manual_seed(3)
    subjects = [make_data(f"subj0{s}", 0, torch.randn(6, 20, generator=generator)) for s in (1, 2)]
    axes = find_clip_axes(subjects, 6)

    def agreement(aligned: bool) -> float:
        a, b = (fit(d, 6, axes if aligned else None)(d.mean_betas_IV)[:, 0, :5] for d in subjects)
        return float(torch.nn.functional.cosine_similarity(a, b, dim=0).mean())

    assert agreement(True) > 0.9 and agreement(False) < 0.5


def test_clip_axes_are_scikit_learns_principal_axes() -> None:
    data = [make_data(f"subj0{s}", s) for s in (1, 2)]
    mean_D, axes_DK = find_clip_axes(data, 3)
    pooled = torch.cat([d.image_embedding_ID[:30] for d in data]).double().numpy()
    oracle = PCA(3).fit(pooled)
    np.testing.assert_allclose(mean_D, pooled.mean(0), atol=1e-9)
    np.testing.assert_allclose(np.abs(axes_DK.T), np.abs(oracle.components_), atol=1e-6)


def test_more_axes_than_clip_has_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"components is 7, but the CLIP embedding .* has 6 dimensions"
    ):
        find_clip_axes([make_data()], 7)


def test_roi_names() -> None:
    data = make_data()
    v1, v2, faces, bodies, rest = (r.tolist() for r in select_rois(data, NAMES))
    assert (
        v1 == list(range(8))
        and v2 == [8, 9, 10]
        and faces == list(range(10, 18))
        and bodies == []
        and rest == [18, 19]
    )
    joined, low = select_rois(data, ("V2 + prf-visualrois/V1v", "low"))
    assert joined.tolist() == [0, 1, 2, 3, 8, 9, 10] and low.tolist() == list(range(11))
    assert parse_names(" V1,rest ") == ("V1", "rest")
    with pytest.raises(
        ValueError,
        match=r"subj01 has no ROI 'floc-face' \(did you mean floc-faces\?\); "
        r"choose from low, V1, V2",
    ):
        select_rois(data, ("floc-face",))
    with pytest.raises(ValueError, match="none of the ROIs floc-bodies has a voxel of subj01"):
        select_rois(data, ("floc-bodies",))
    for text in ("", "V1,,V2", "V1, V1"):
        with pytest.raises(ValueError, match="expected names of ROIs, each once"):
            parse_names(text)
