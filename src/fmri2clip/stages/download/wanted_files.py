"""Which files of NSD's bucket are wanted for subjects, sessions, preparation and container.

NSD manual, How to get the data and Functional data; keys as in the bucket's listing. Files that
every analysis here reads are required; files that only describe or check the data (coverage masks,
behaviour, label names) are taken where the bucket has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from fmri2clip.core.params import Dataset
from fmri2clip.datasets.nsd import layout
from fmri2clip.transfer.remotes import RemoteFile

ROOT = Path()
# .mat: the first release, HDF5 inside
SUFFIXES = {"hdf5": (".hdf5", ".mat"), "nifti": (".nii.gz",)}
Listing = Mapping[str, RemoteFile]


class Prefix(NamedTuple):
    """A folder of the bucket; with or without the folders in it."""

    key: str
    recursive: bool = False


class WantedFile(NamedTuple):
    """A file of the bucket to be fetched, and what it is for, as the plan prints it."""

    file: RemoteFile
    purpose: str
    is_betas: bool = False


def stimuli_prefixes() -> list[Prefix]:
    """Folders that hold pictures and design."""
    return [_folder(layout.stimuli_dir(ROOT)), _folder(layout.experiments_dir(ROOT))]


def subject_prefixes(subject: str, preparation: str) -> list[Prefix]:
    """Folders that hold the files of a subject."""
    return [
        _folder(layout.betas_dir(ROOT, subject, preparation)),
        _folder(layout.volumes_dir(ROOT, subject)),
        _folder(layout.roi_dir(ROOT, subject), recursive=True),
        _folder(layout.responses_path(ROOT, subject).parent),
        _folder(layout.labels_dir(ROOT, subject)),
    ]


def stimuli_files(listing: Listing) -> list[WantedFile]:
    """Pictures, design and picture table; a missing one raises ValueError."""
    purposes = {
        layout.stimuli_path(ROOT): "pictures",
        layout.expdesign_path(ROOT): "design",
        layout.stim_info_path(ROOT): "design",
    }
    return [WantedFile(_required(listing, path), purpose) for path, purpose in purposes.items()]


def subject_files(
    listing: Listing, subject: str, dataset: Dataset, n_sessions: int
) -> list[WantedFile]:
    """Betas of the first sessions, masks, ROIs, behaviour, label names; a missing required one
    raises ValueError.
    """
    files = [
        WantedFile(file, "betas", is_betas=True)
        for file in _sessions(listing, subject, dataset, n_sessions)
    ]
    ncsnr = _required(listing, layout.ncsnr_path(ROOT, subject, dataset.preparation))
    brainmask = _required(listing, layout.brainmask_path(ROOT, subject))
    files += [WantedFile(ncsnr, "masks"), WantedFile(brainmask, "masks")]
    # None: the volume that says in how many sessions a voxel is valid.
    coverage = [
        layout.valid_path(ROOT, subject, session) for session in (None, *range(1, n_sessions + 1))
    ]
    files += [WantedFile(file, "masks") for file in _present(listing, coverage)]
    # Taken with the other ROIs below; but without this one there is nothing to extract.
    _required(listing, layout.roi_path(ROOT, subject, layout.GENERAL_ROI))
    rois = _below(listing, layout.roi_dir(ROOT, subject), ".nii.gz")
    files += [WantedFile(file, "ROIs") for file in rois]
    behaviour = _present(listing, [layout.responses_path(ROOT, subject)])
    files += [WantedFile(file, "behaviour") for file in behaviour]
    label_names = _below(listing, layout.labels_dir(ROOT, subject), ".mgz.ctab")
    files += [WantedFile(file, "label names") for file in label_names]
    return files


def _sessions(
    listing: Listing, subject: str, dataset: Dataset, n_sessions: int
) -> list[RemoteFile]:
    found = []
    missing = []
    for session in range(1, n_sessions + 1):
        paths = [
            layout.betas_path(ROOT, subject, dataset.preparation, session, suffix)
            for suffix in SUFFIXES[dataset.container]
        ]
        # Where the bucket has a session in both suffixes, the newer one comes first.
        present = list(_present(listing, paths))
        found += present[:1]
        missing += [] if present else [session]
    if missing:
        folder = layout.betas_dir(ROOT, subject, dataset.preparation).as_posix()
        raise ValueError(
            f"the bucket has no {dataset.container} betas of {subject} for session "
            f"{_ranges(missing)} in {folder}/ (it has {len(found)} of {n_sessions}); change "
            "dataset.container, dataset.preparation or dataset.sessions"
        )
    return found


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 7] -> '1-3, 7'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _required(listing: Listing, path: Path) -> RemoteFile:
    key = path.as_posix()
    if key not in listing:
        folder = path.parent.as_posix()
        near = sorted(
            other.removeprefix(f"{folder}/") for other in listing if other.startswith(f"{folder}/")
        )
        seen = f"it has {', '.join(near[:20])}" if near else "that folder is empty"
        raise ValueError(
            f"the bucket has no {key}; {seen}. Is download.bucket or download.endpoint right?"
        )
    return listing[key]


def _present(listing: Listing, paths: Iterable[Path]) -> Iterable[RemoteFile]:
    return [listing[path.as_posix()] for path in paths if path.as_posix() in listing]


def _below(listing: Listing, folder: Path, suffix: str) -> list[RemoteFile]:
    prefix = f"{folder.as_posix()}/"
    return [
        file
        for key, file in sorted(listing.items())
        if key.startswith(prefix) and key.endswith(suffix)
    ]


def _folder(path: Path, recursive: bool = False) -> Prefix:
    return Prefix(f"{path.as_posix()}/", recursive)
