"""One subject's betas, z-scored and cut to nsdgeneral: training file, sealed test file, voxel file
and counts.

Every session is z-scored by itself (zscore.py), with statistics of its training trials only by
default: shared pictures are spread over all sessions, so statistics of all 750 trials have seen the
test set. A voxel without signal in a session gets 0 there, the mean; one without signal in every
session is dropped. Repeats stay single trials.

Sessions are read one by one into blocks (blocks.py), from which the outputs are put together:
memory does not grow with their number. Letters: N trials, I images, V voxels, S sessions, T the 750
trials of a session.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fmri2clip import resume, store
from fmri2clip.datasets.nsd import betas, design, layout
from fmri2clip.datasets.nsd.blocks import Blocks, Statistics, extract_sessions
from fmri2clip.datasets.nsd.counts import count_everything
from fmri2clip.datasets.nsd.ncsnr import compute_ncsnr, read_ncsnr
from fmri2clip.datasets.nsd.rois import load_rois
from fmri2clip.datasets.nsd.zscore import cut
from fmri2clip.params import Dataset, Norm
from fmri2clip.schema import Rows

if TYPE_CHECKING:
    from fmri2clip.datasets.nsd.sources import SessionSource

BAND_V = 1024  # voxels of all training trials that are held at once, 55 MB of 27,000 trials
BLOCK_CODE = tuple(f"datasets/nsd/{name}.py" for name in ("betas", "blocks", "layout", "zscore"))


def extract_subject(
    root: Path,
    subject: str,
    *,
    dataset: Dataset,
    rois: Mapping[str, Sequence[str]],
    norm: Norm,
    source: SessionSource,
    workers: int,
    train_path: Path,
    test_path: Path,
    voxels_path: Path,
    report_path: Path,
    resume_root: Path = resume.RESUME_ROOT,
) -> None:
    """Write the four outputs of a subject, all or none. A killed extraction goes on with the
    session it was at.

    root: NSD tree. rois: group -> ROI names. source: where the betas of a session come from.
    workers: sessions read at once. A missing, truncated or misshapen input raises ValueError with
    its path.
    """
    trials = design.list_trials(design.load_design(root), subject, dataset.sessions)
    regions = load_rois(root, subject, rois)
    ncsnr_V = read_ncsnr(root, subject, dataset.preparation, regions.mask)
    used_ST = (~trials.is_shared_N | (norm.stats == "all_trials")).reshape(
        -1, layout.TRIALS_PER_SESSION
    )
    folder = _resume_dir(subject, dataset, regions.mask, used_ST, source, resume_root)
    blocks = Blocks(folder)
    extract_sessions(source, blocks, regions.mask, used_ST, workers, subject)
    source.close()

    statistics = blocks.statistics(len(used_ST))
    kept_V = np.logical_or.reduce(~statistics.invalid_SV)
    if not kept_V.any():
        raise ValueError(
            f"{subject} has no voxel with signal in "
            f"{layout.betas_dir(root, subject, dataset.preparation)}"
        )
    statistics = statistics.select(kept_V)
    train_N = ~trials.is_shared_N
    bands = _bands(blocks, train_N.reshape(used_ST.shape), np.flatnonzero(kept_V))
    voxels: dict[str, Any] = {
        "ijk_V3": regions.ijk_V3[kept_V],
        "roi_VG": regions.roi_VG[kept_V],
        "roi_names_G": regions.names_G,
        "ncsnr_V": ncsnr_V[kept_V],
        "ncsnr_train_V": compute_ncsnr(bands, trials.session_N[train_N], trials.nsd_id_N[train_N]),
        "mean_SV": statistics.mean_SV,
        "std_SV": statistics.std_SV,
        "invalid_SV": statistics.invalid_SV,
    }
    noise_free = _read_noise_free(
        root, subject, dataset.preparation, voxels["ijk_V3"], trials, statistics
    )
    attrs: store.Attrs = {
        "subject": subject,
        "preparation": dataset.preparation,
        "sessions": len(used_ST),
        "norm_stats": norm.stats,
    }
    report = count_everything(trials, voxels, int(np.sum(~kept_V)))
    with store.replacing(train_path, test_path, voxels_path, report_path) as (
        train,
        test,
        voxel_file,
        report_file,
    ):
        store.write(train, "betas", _select_trials(blocks, trials, train_N, kept_V), attrs)
        store.write(
            test, "betas", {**_select_trials(blocks, trials, ~train_N, kept_V), **noise_free}, attrs
        )
        store.write(voxel_file, "voxels", voxels, attrs)
        report_file.write_text(json.dumps(report, indent=1) + "\n")
    resume.remove(folder, resume_root)


def _resume_dir(
    subject: str,
    dataset: Dataset,
    mask: betas.Mask,
    used_ST: NDArray[np.bool_],
    source: SessionSource,
    root: Path,
) -> Path:
    """Folder of the finished sessions; its name depends on all that decides about them."""
    shapes = [list(mask.shape), list(used_ST.shape)]
    digests = [
        hashlib.sha256(np.packbits(array).tobytes()).hexdigest() for array in (mask, used_ST)
    ]
    identity = source.identity(len(used_ST))
    return resume.resume_dir(
        f"extract_rois/{subject}", dataset.preparation, shapes, digests, identity, resume.code_digest(*BLOCK_CODE),
        root=root,
    )  # fmt: skip


def _bands(
    blocks: Blocks, chosen_ST: NDArray[np.bool_], columns: NDArray[np.intp]
) -> Iterator[NDArray[np.float16]]:
    """z-scores (N, v) of the chosen trials of all sessions, for some of the columns at a time."""
    for part in cut(len(columns), BAND_V):
        here = columns[part]
        band_NV = np.empty((int(chosen_ST.sum()), len(here)), dtype=np.float16)
        start = 0
        for session, chosen_T in enumerate(chosen_ST, start=1):
            stop = start + int(chosen_T.sum())
            band_NV[start:stop] = blocks.betas(session)[chosen_T, here[0] : here[-1] + 1][
                :, here - here[0]
            ]
            start = stop
        yield band_NV


def _select_trials(
    blocks: Blocks, trials: design.Trials, chosen_N: NDArray[np.bool_], kept_V: NDArray[np.bool_]
) -> dict[str, NDArray[Any] | Rows]:
    """Arrays of a betas file; the betas themselves come session by session."""
    chosen_ST = chosen_N.reshape(-1, layout.TRIALS_PER_SESSION)
    shape = int(chosen_N.sum()), int(kept_V.sum())
    parts = (
        blocks.betas(session)[chosen_T][:, kept_V]
        for session, chosen_T in enumerate(chosen_ST, start=1)
    )
    return {
        "betas_NV": Rows(shape, parts),
        "nsd_id_N": trials.nsd_id_N[chosen_N],
        "session_N": trials.session_N[chosen_N],
        "trial_N": trials.trial_N[chosen_N],
        "repetition_N": trials.repetition_N[chosen_N],
    }


def _read_noise_free(
    root: Path,
    subject: str,
    preparation: str,
    ijk_V3: NDArray[Any],
    trials: design.Trials,
    statistics: Statistics,
) -> dict[str, NDArray[Any]]:
    """Noise-free responses to the test pictures on the scale of the betas, where the tree has them;
    otherwise nothing.

    z-scored with the mean over sessions of mean and std, sessions without signal left out.
    """
    path = layout.noise_free_path(root, subject, preparation)
    if not path.is_file():
        return {}
    with h5py.File(path, "r") as file:
        place = {tuple(ijk): column for column, ijk in enumerate(file["ijk"][()].tolist())}
        missing = [ijk for ijk in ijk_V3.tolist() if tuple(ijk) not in place]
        if missing:
            raise ValueError(
                f"{path} lacks {len(missing)} voxels of {layout.GENERAL_ROI}, the first is "
                f"{missing[0]}"
            )
        nsd_id_I = file["nsd_id"][()].astype(np.int64)
        rows = np.flatnonzero(np.isin(nsd_id_I, design.list_images(trials, shared=True)))
        rows = rows[np.argsort(nsd_id_I[rows])]
        percent_IV = file["betas"][()][rows][
            :, [place[tuple(ijk)] for ijk in ijk_V3.tolist()]
        ].astype(np.float64)
    valid_SV = ~statistics.invalid_SV
    mean_V, std_V = (
        np.average(a, axis=0, weights=valid_SV) for a in (statistics.mean_SV, statistics.std_SV)
    )
    return {"noise_free_IV": (percent_IV - mean_V) / std_V, "noise_free_nsd_id_I": nsd_id_I[rows]}
