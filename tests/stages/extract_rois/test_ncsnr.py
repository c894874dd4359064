"""ncsnr.py: the recomputed ncsnr against its definition, however voxels are cut; the shipped one
and its faults.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels.ncsnr import read_ncsnr
from fmri2clip.stages.extract_rois import ncsnr, zscore

SESSION = np.repeat(np.arange(1, 4), 200)


def _trials(n_voxels: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Betas (600, V) and images: 180 shown three times, 20 twice, 20 once; one voxel is silent in
    session 2.
    """
    rng = np.random.default_rng(0)
    image_N = rng.permutation(
        np.repeat(np.arange(220), np.r_[np.full(180, 3), np.full(20, 2), np.full(20, 1)])
    )
    betas_NV = rng.standard_normal((220, n_voxels))[image_N] + rng.standard_normal((600, n_voxels))
    betas_NV[SESSION == 2, 1] = 0
    return betas_NV.astype(np.float16), image_N


def _by_definition(betas_NV: np.ndarray, image_N: np.ndarray) -> list[float]:
    result = []
    for x_N in betas_NV.astype(np.float64).T:
        z_N, silent = x_N.copy(), set()
        for session in (1, 2, 3):
            here = session == SESSION
            z_N[here] = (x_N[here] - x_N[here].mean()) / (x_N[here].std(ddof=1) or 1)
            if not x_N[here].any():
                silent.add(session)
        variances = []
        for image in range(180):
            here = np.flatnonzero(image_N == image)
            if not silent & set(SESSION[here].tolist()):
                variances.append(z_N[here].var(ddof=1))
        noise = np.mean(variances)
        result.append(np.sqrt(max(0, 1 - noise)) / np.sqrt(noise))
    return result


def test_definition() -> None:
    betas_NV, image_N = _trials()
    got = ncsnr.compute_ncsnr([betas_NV], SESSION, image_N)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, _by_definition(betas_NV, image_N), rtol=1e-6)


@pytest.mark.parametrize("widths", [[9], [2, 7], [4, 3, 2]])
@pytest.mark.parametrize("chunk", [4, 5, 512])
def test_bands_and_chunks_do_not_matter(
    widths: list[int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    betas_NV, image_N = _trials()
    whole = ncsnr.compute_ncsnr([betas_NV], SESSION, image_N)
    monkeypatch.setattr(ncsnr, "CHUNK_V", chunk)
    bands = np.split(betas_NV, np.cumsum(widths)[:-1], axis=1)
    assert ncsnr.compute_ncsnr(iter(bands), SESSION, image_N).tobytes() == whole.tobytes()


def test_undefined_without_three_presentations() -> None:
    betas_NV = np.random.default_rng(0).standard_normal((20, 3))
    assert np.isnan(
        ncsnr.compute_ncsnr([betas_NV], np.ones(20, int), np.repeat(np.arange(10), 2))
    ).all()
    silent = np.zeros((30, 1))
    assert np.isnan(
        ncsnr.compute_ncsnr([silent], np.ones(30, int), np.repeat(np.arange(10), 3))
    ).all()


@pytest.mark.parametrize(
    ("n", "size"), [(1, 4), (2, 4), (5, 4), (9, 4), (513, 512), (15724, 512), (1024, 512)]
)
def test_cuts_cover_everything_and_leave_no_single_column(n: int, size: int) -> None:
    parts = zscore.cut(n, size)
    assert np.concatenate([np.arange(n)[part] for part in parts]).tolist() == list(range(n))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) <= size and (n == 1 or min(lengths) > 1)


def test_agreement() -> None:
    rng = np.random.default_rng(0)
    shipped, train = rng.random((2, 50)).astype(np.float32)
    shipped[3], train[7] = np.nan, np.nan
    both = np.isfinite(shipped) & np.isfinite(train)
    assert ncsnr.agreement(shipped, train) == pytest.approx(
        np.corrcoef(shipped[both], train[both])[0, 1], abs=1e-6
    )
    for other in (np.full(50, np.nan), np.ones(50), np.where(np.arange(50) == 1, 1, np.nan)):
        assert ncsnr.agreement(shipped, other) is None


def _write(root: Path, volume: np.ndarray) -> None:
    path = layout.ncsnr_path(root, "subj01", "betas_fithrf")
    path.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), path)


def test_shipped_volume(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((3, 4, 5))
    volume[0, 0, 1] = np.nan
    mask = np.zeros((3, 4, 5), dtype=bool)
    mask[0] = True
    _write(tmp_path, volume)
    np.testing.assert_array_equal(
        read_ncsnr(tmp_path, "subj01", "betas_fithrf", mask), volume[0].ravel()
    )


@pytest.mark.parametrize(
    ("shape", "message"), [((3, 4, 5), "NaN in all 20 voxels"), ((5, 4, 3), "has shape")]
)
def test_shipped_volume_is_refused(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    mask = np.zeros((3, 4, 5), dtype=bool)
    mask[0] = True
    volume = np.ones(shape)
    volume[0] = np.nan
    _write(tmp_path, volume)
    with pytest.raises(ValueError, match=rf"ncsnr\.nii\.gz .*{message}"):
        read_ncsnr(tmp_path, "subj01", "betas_fithrf", mask)
