"""What must hold in an exchange folder (docs/own_data.md): one named check for each property.

Betas are read once, session by session. Letters: N trials, I images, T trials of a session, V
voxels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.files import sha256_file
from fmri2clip.core.params import Norm
from fmri2clip.datasets.folder import tables
from fmri2clip.datasets.folder.pictures import FolderPictures
from fmri2clip.datasets.folder.recordings import FolderRecordings
from fmri2clip.datasets.interface import Groups
from fmri2clip.stages.check_data import duplicates
from fmri2clip.stages.check_data.check import run_check
from fmri2clip.stages.check_data.outcomes import Check, Outcome, passed, require, shorten, skipped
from fmri2clip.stages.check_data.repeats import Repeats

BLOCK = 64  # pictures in memory at a time
MOST_SILENT = 0.05  # of voxel-sessions without signal; masks elsewhere than the betas have more
LEAST_TRAINING = 20  # pictures, below which a warning says that little can be learned
# Trials behind mean and spread of a session that has test trials: of fewer, they carry noise of
# their own into every z-score of the test set.
LEAST_OF_SESSION = 10
FEW_OF_SESSION = 30
LEAST_DISTINCT = 0.5  # of captions
OUTLIER = 20  # of |z|; no response of a brain


@dataclass(frozen=True)
class Folder:
    """What all checks look at."""

    root: Path
    subjects: Sequence[str]
    rois: Groups
    norm: Norm

    @cached_property
    def pictures(self) -> FolderPictures:
        """Pictures and their tables."""
        return FolderPictures.open(self.root)

    def recordings(self, subject: str) -> FolderRecordings:
        """Trials, masks and betas of a subject."""
        return FolderRecordings.open(self.root, subject)


def iterate_folder_checks(
    root: Path, subjects: Sequence[str], rois: Groups, norm: Norm
) -> Iterator[Check]:
    """Every check, each as soon as it is done."""
    folder = Folder(root, subjects, rois, norm)
    tasks: dict[str, Callable[[], Outcome]] = {
        "dataset": partial(check_description, folder),
        "trials": partial(check_trials, folder),
        "pictures": partial(check_pictures, folder),
        "duplicates": partial(check_duplicates, folder),
        "captions": partial(check_captions, folder),
        "labels": partial(check_labels, folder),
    }
    for subject in subjects:
        for name, check in SUBJECT_CHECKS.items():
            tasks[f"{subject}.{name}"] = partial(check, folder, subject)
    for name, task in tasks.items():
        yield run_check(name, task)


def digest_folder(root: Path) -> str:
    """sha256 over names and content of all files, so that stages behind know of any change."""
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}\0".encode())
    return digest.hexdigest()


def check_description(folder: Folder) -> Outcome:
    """dataset.json names the data set, its licence and the test pictures."""
    found = tables.read_description(folder.root)
    return Outcome(
        "PASS",
        f"{found.name}, licence {found.licence}, {len(found.test)} test pictures",
        {"name": found.name, "licence": found.licence},
    )


def check_trials(folder: Folder) -> Outcome:
    """trials.tsv has trials of every subject; others are named."""
    table = tables.read_trials(folder.root)
    path = folder.root / tables.TRIALS
    for subject in folder.subjects:
        tables.subject_rows(table, subject, path)
    others = sorted(set(table["subject"]) - set(folder.subjects))
    more = f"; not among subjects of params.yaml: {shorten(others)}" if others else ""
    n_without = int((~tables.is_filled(table["picture"])).sum())
    if n_without:
        more = f", {n_without} without a picture, which are left out with their betas{more}"
    return passed(f"{len(table)} trials of {table['subject'].nunique()} subjects{more}")


def check_pictures(folder: Folder) -> Outcome:
    """Every picture that was shown can be read, and has the size of the others."""
    seen = folder.pictures.seen(folder.subjects)
    height, width = folder.pictures.size()
    for ids in seen.values():
        for _ in folder.pictures.iterate(ids, BLOCK):
            pass
    require(len(seen["train"]) > 0, "the subjects saw no picture that is not of the test set")
    require(len(seen["shared"]) > 0, "the subjects saw no picture of the test set")
    unseen = len(set(folder.pictures.test_I.tolist()) - set(seen["shared"].tolist()))
    warnings = [f"{unseen} test pictures of dataset.json were shown to nobody"] if unseen else []
    return passed(
        f"{len(seen['train'])} to train on, {len(seen['shared'])} of the test set, {height} x "
        f"{width} pixels",
        warnings,
    )


def check_duplicates(folder: Folder) -> Outcome:
    """No picture of the test set has the pixels of a training picture; those that are almost the
    same are named.
    """
    pictures = folder.pictures
    seen = pictures.seen(folder.subjects)
    digests: dict[int, bytes] = {}

    def iterate(ids: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for start, images in pictures.iterate(ids, BLOCK):
            for nsd_id, image in zip(ids[start : start + len(images)], images, strict=True):
                digests[int(nsd_id)] = hashlib.sha256(image.tobytes()).digest()
            yield start, images

    n_pairs, pairs, _ = duplicates.find_pairs(iterate, seen["shared"], seen["train"])
    trained = {digests[nsd_id]: nsd_id for nsd_id in seen["train"].tolist()}
    name = pictures.stock.name
    same = [
        f"{name(nsd_id)} is {name(trained[digests[nsd_id]])}"
        for nsd_id in seen["shared"].tolist()
        if digests[nsd_id] in trained
    ]
    require(
        not same,
        f"{len(same)} test pictures have the pixels of a training picture: {shorten(same)}; give "
        f"both one name in {tables.TRIALS}, in the test set or out of it",
    )
    near = [f"{name(pair.shared)} and {name(pair.train)}" for pair in pairs]
    warnings = []
    if near:
        warnings.append(
            f"{n_pairs} test and training pictures are almost the same: {shorten(near)}; leave one "
            "of two out, or know that such a test picture is easy"
        )
    return passed(f"{len(digests)} pictures, none of the test set is one of training", warnings)


def check_captions(folder: Folder) -> Outcome:
    """Every picture has a caption, or none has."""
    pictures = folder.pictures
    if pictures.captions is None:
        return skipped(
            f"no {tables.CAPTIONS}: scores of captions are left out, and the picture's embedding "
            "stands where a decoder learns text"
        )
    ids = np.concatenate(list(pictures.seen(folder.subjects).values()))
    texts = pictures.annotations(ids).caption_K
    n = len(set(texts))
    warnings = []
    if n < LEAST_DISTINCT * len(texts):
        warnings.append(
            f"only {n} captions are distinct, and scores of captions take equal ones as different; "
            "describe each picture, or leave the file out"
        )
    return passed(f"{len(texts)} captions of {len(ids)} pictures", warnings)


def check_labels(folder: Folder) -> Outcome:
    """Labels that the tables know."""
    pictures = folder.pictures
    if pictures.labels is None:
        return skipped(
            f"no {tables.LABELS}: scores of categories are left out, and decoders that "
            "learn labels cannot be trained"
        )
    seen = pictures.seen(folder.subjects)
    train = pictures.annotations(seen["train"]).labels_IC
    test = pictures.annotations(seen["shared"]).labels_IC
    new = int((test.any(axis=0) & ~train.any(axis=0)).sum())
    none = int((~train.any(axis=1)).sum() + (~test.any(axis=1)).sum())
    warnings = [f"{none} pictures have no label"] if none else []
    return passed(
        f"{len(pictures.categories)} categories, {new} of the test set's "
        f"{int(test.any(axis=0).sum())} in no training picture",
        warnings,
    )


def check_subject_trials(folder: Folder, subject: str) -> Outcome:
    """Sessions with training trials for mean and spread, pictures to train on and to test on."""
    recordings = folder.recordings(subject)
    trials = recordings.trials()
    takes_all = folder.norm.stats == "all_trials"
    used_N = ~trials.is_shared_N | takes_all
    used = "trials" if takes_all else "training trials"
    few = []
    for session, label in enumerate(recordings.sessions, start=1):
        here_N = trials.session_N == session
        n = int((used_N & here_N).sum())
        said = (
            f"{folder.root / tables.TRIALS}: session {label} of {subject} has {n} {used}, "
            "of which mean and spread of its voxels are taken"
        )
        require(
            n > 1,
            f"{said}; give it the label of a session that has them, or set norm.stats: all_trials",
        )
        is_tested = bool((trials.is_shared_N & here_N).any())
        require(
            n >= LEAST_OF_SESSION or not is_tested,
            f"{said}, and test trials, which need {LEAST_OF_SESSION} at least; show more training "
            "pictures in that session, or leave the session out",
        )
        if is_tested and n < FEW_OF_SESSION:
            few.append(f"{label} ({n})")
    counts = {}
    for name, part_N in (("training", ~trials.is_shared_N), ("test", trials.is_shared_N)):
        _, shown_I = np.unique(trials.nsd_id_N[part_N], return_counts=True)
        require(len(shown_I) > 1, f"{subject} saw {len(shown_I)} {name} pictures; two are needed")
        counts[name] = len(shown_I), int(shown_I.min()), int(shown_I.max())
    said = ", ".join(
        f"{n} {name} pictures shown {_range(least, most)}"
        for name, (n, least, most) in counts.items()
    )
    n_train = counts["training"][0]
    warnings = []
    if few:
        warnings.append(
            f"fewer than {FEW_OF_SESSION} {used}, of which mean and spread are taken, in "
            f"sessions with test trials: {shorten(few)}; show more training pictures there, or "
            "leave these sessions out"
        )
    if n_train < LEAST_TRAINING:
        warnings.append(f"{n_train} training pictures are very few")
    left = len(np.unique(folder.pictures.test_I)) - counts["test"][0]
    if left:
        warnings.append(f"{left} test pictures of {tables.DESCRIPTION} were not shown to it")
    return passed(f"{len(recordings.sessions)} sessions, {said}", warnings)


def _range(least: int, most: int) -> str:
    """'once', '3 times', '2 to 5 times'."""
    if least == most == 1:
        return "once"
    return f"{most} times" if least == most else f"{least} to {most} times"


def check_masks(folder: Folder, subject: str) -> Outcome:
    """Voxels, and the groups of params.yaml among them."""
    recordings = folder.recordings(subject)
    masks = recordings.masks()
    rois = recordings.rois(folder.rois)
    counts = dict(zip(rois.names_G, rois.roi_VG.sum(axis=0).tolist(), strict=True))
    groups = ", ".join(f"{group} {counts[f'group/{group}']}" for group in folder.rois)
    empty = [name for name in masks.members if not counts[name]]
    warnings = [f"{masks.path}: no voxel in {shorten(empty)}"] if empty else []
    shipped = "" if masks.ncsnr_V is None else ", with ncsnr"
    return passed(
        f"{len(masks.ijk_V3)} voxels in {len(masks.members)} ROIs{shipped}; {groups}", warnings
    )


def check_betas(folder: Folder, subject: str) -> Outcome:
    """Every session has its trials, a signal and numbers; the noise ceiling where pictures were
    repeated.
    """
    recordings = folder.recordings(subject)
    trials = recordings.trials()
    rois = recordings.rois(folder.rois)
    ceilings = {
        count: Repeats(trials.nsd_id_N, len(rois.ijk_V3), count)
        for count in _list_repetitions(trials.nsd_id_N)
    }
    seen: dict[bytes, Path] = {}
    n_silent = 0
    medians = []
    outliers = []
    used_N = ~trials.is_shared_N | (folder.norm.stats == "all_trials")
    for session in range(1, len(recordings.sessions) + 1):
        path = recordings.find(session)
        stored_TV = recordings.read(session, rois)
        twin = seen.setdefault(hashlib.sha256(stored_TV.tobytes()).digest(), path)
        require(twin == path, f"{path} holds the same betas as {twin}")
        silent_V = (stored_TV == stored_TV[0]).all(axis=0)
        require(not silent_V.all(), f"{path} has no signal in any of {silent_V.size} voxels")
        n_silent += int(silent_V.sum())
        beta_TV = stored_TV.astype(np.float32) / np.float32(recordings.scale)
        medians.append(float(np.median(np.abs(beta_TV[:, ~silent_V]))))
        here_N = trials.session_N == session
        outliers += _find_outlier(path, beta_TV, used_N[here_N])
        for repeats in ceilings.values():
            repeats.add(np.flatnonzero(here_N), _standardise(beta_TV))
    share = n_silent / (len(medians) * len(rois.ijk_V3))
    warnings = []
    if share > MOST_SILENT:
        warnings.append(
            f"{share:.0%} of voxel-sessions have no signal; look whether the masks lie where the "
            "betas do"
        )
    if outliers:
        warnings.append(f"{shorten(outliers)}; look whether that scan is sound")
    return passed(
        f"{len(medians)} sessions, median |beta| {np.median(medians):.3g}, {n_silent} "
        f"voxel-sessions without signal, {_describe_ceiling(ceilings)}",
        warnings,
    )


def _find_outlier(path: Path, beta_TV: NDArray[Any], used_T: NDArray[np.bool_]) -> list[str]:
    """The largest z-score of a session, as it will be extracted, where it is beyond OUTLIER."""
    if used_T.sum() < 2:
        return []  # which the check of trials says
    mean_V = beta_TV[used_T].mean(axis=0)
    std_V = beta_TV[used_T].std(axis=0, ddof=1)
    is_flat_V = beta_TV[used_T].max(axis=0) == beta_TV[used_T].min(axis=0)
    z_TV = np.abs(beta_TV - mean_V) / np.where(is_flat_V, np.inf, std_V)
    if z_TV.max() <= OUTLIER:
        return []
    t, v = np.unravel_index(int(z_TV.argmax()), z_TV.shape)
    return [f"{path} has |z| of {z_TV[t, v]:.3g} in trial {t + 1} of voxel {v + 1}"]


def _list_repetitions(nsd_id_N: NDArray[np.int64]) -> list[int]:
    """Numbers of presentations above one."""
    _, shown_I = np.unique(nsd_id_N, return_counts=True)
    found: list[int] = np.unique(shown_I[shown_I > 1]).tolist()
    return found


def _describe_ceiling(ceilings: dict[int, Repeats]) -> str:
    if not ceilings:
        return "no picture was repeated, so no noise ceiling"
    total = np.sum([repeats.total_count()[0] for repeats in ceilings.values()], axis=0)
    count = np.sum([repeats.total_count()[1] for repeats in ceilings.values()], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise_V = total / count
        ncsnr_V = np.sqrt(np.maximum(0, 1 - noise_V) / noise_V)
    return f"median ncsnr {np.nanmedian(ncsnr_V):.3f}"


def _standardise(beta_TV: NDArray[Any]) -> NDArray[np.float32]:
    """z-scores of a session; NaN where a voxel has no signal, so that it takes no part in ncsnr."""
    std_V = beta_TV.std(axis=0, ddof=1)
    z_TV: NDArray[np.float32] = (beta_TV - beta_TV.mean(axis=0)) / np.where(
        std_V > 0, std_V, np.nan
    )
    return z_TV


SUBJECT_CHECKS = {
    "trials": check_subject_trials,
    "masks": check_masks,
    "betas": check_betas,
}
