"""What must hold for behaviour, masks and regions of one subject in an NSD tree, real or simulated.

Every function checks one property: it returns what it saw, or raises ValueError where the property
does not hold. What NSD leaves open (label files, counts that changed between revisions, files that
no analysis needs) is a warning. Sources: NSD manual; cvnlab/nsddatapaper,
main/analysis_surfaceroistovolume.m; nsd_savenifti.m for the header.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmri2clip.core.files import describe_failure
from fmri2clip.datasets.nsd import design as designs
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels import rois
from fmri2clip.stages.check_data import published
from fmri2clip.stages.check_data.outcomes import Outcome, passed, require, shorten, skipped

VOXEL_MM = 1.8


@dataclass(frozen=True, kw_only=True)
class SubjectFiles:
    """A subject of a tree, the sessions asked for, and what the checks need to know of the tree."""

    root: Path
    subject: str
    preparation: str
    trials: designs.Trials
    all_sessions: bool  # the trials are all that the tree's ncsnr was computed from
    is_real: bool
    keep_raw: bool  # betas lie in the tree

    @property
    def n_sessions(self) -> int:
        """Sessions that the trials come from; they are numbered without a gap."""
        return int(self.trials.session_N[-1])

    def entry(self, numbers: tuple[int, ...] | tuple[float, ...]) -> float | None:
        """Entry of a table by subject; None where it ends earlier."""
        row = layout.subject_number(self.subject) - 1
        return numbers[row] if row < len(numbers) else None


def check_responses(files: SubjectFiles) -> Outcome:
    """19 columns; the picture of every trial that was run is the one that the design names; run
    lengths.
    """
    path = layout.responses_path(files.root, files.subject)
    trials = files.trials
    if files.is_real and not path.is_file():
        return Outcome("WARN", f"{path} does not exist; nothing but this check reads it")
    table = _read_responses(path)
    n_planned = layout.released_sessions(files.subject) * layout.TRIALS_PER_SESSION
    complete = len(table) == n_planned if files.is_real else len(table) >= len(trials.trial_N)
    require(
        complete,
        f"{path} has {len(table)} trials, {n_planned if files.is_real else len(trials.trial_N)} "
        "expected",
    )
    table = table.iloc[: len(trials.trial_N)]
    wrong = int(np.sum(table["73KID"].to_numpy() - 1 != trials.nsd_id_N))
    require(wrong == 0, f"{path}: 73KID of {wrong} trials is not the picture of the design")
    require(np.array_equal(table["SESSION"], trials.session_N), f"{path}: SESSION is out of step")
    same_column = pd.Series(trials.nsd_id_N).groupby(table["10KID"].to_numpy()).nunique()
    require((same_column == 1).all(), f"{path}: a 10KID stands for several pictures")
    lengths = table.groupby(["SESSION", "RUN"])["TRIAL"].agg(["size", "max"]).to_numpy()
    expected = np.resize(layout.TRIALS_PER_RUN, len(lengths))[:, None]
    require(
        (lengths == expected).all(),
        f"{path}: runs are not of {layout.TRIALS_PER_RUN} trials in turn",
    )
    return passed(f"{len(table)} trials")


def _read_responses(path: Path) -> pd.DataFrame:
    require(path.is_file(), f"{path} does not exist; run the download stage")
    try:
        table = pd.read_csv(path, sep="\t")
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as a table ({error}); download it again"
        ) from error
    missing = [name for name in layout.RESPONSE_COLUMNS if name not in table.columns]
    require(not missing, f"{path} lacks the columns {', '.join(missing)}; download it again")
    require(
        tuple(table.columns) == layout.RESPONSE_COLUMNS,
        f"{path} has the columns {list(table.columns)}",
    )
    ids = ["SESSION", "RUN", "TRIAL", "73KID", "10KID"]
    numbers = table[ids].apply(pd.to_numeric, errors="coerce")
    whole = (numbers % 1 == 0).all()
    require(
        whole.all(),
        f"{path}: {', '.join(whole.index[~whole])} hold something else than whole numbers",
    )
    return table.assign(**numbers.astype(np.int64))


def check_grid(files: SubjectFiles) -> Outcome:
    """All volumes share one grid and the header's affine: 1.8 mm, centred; the published shape in a
    real tree.
    """
    brainmask = layout.brainmask_path(files.root, files.subject)
    mask = rois.read_volume(brainmask)
    if files.is_real:
        expected = layout.VOLUME_SHAPES[layout.subject_number(files.subject) - 1]
        require(
            mask.shape == expected, f"{brainmask} has shape {mask.shape}, the release {expected}"
        )
    # 1.8 mm in all directions, with the origin in the middle of the volume, as the release has it.
    affine = np.diag((VOXEL_MM,) * 3 + (1.0,))
    affine[:3, 3] = (1 - (np.array(mask.shape) + 1) / 2) * VOXEL_MM
    paths = [
        *layout.find_volumes(layout.volumes_dir(files.root, files.subject)),
        ncsnr_path(files),
    ]
    moved = []
    for path in paths:
        image = _open(path)
        require(
            image.shape[:3] == mask.shape, f"{path} has shape {image.shape}, brainmask {mask.shape}"
        )
        if not np.allclose(image.affine, affine, atol=1e-3):
            moved.append(f"{path} has the affine {image.affine.tolist()}")
    # Voxels are matched by index, so a real tree only looks odd.
    require(files.is_real or not moved, shorten(moved))
    return passed(f"{len(paths)} volumes of {mask.shape}", moved[:1])


def check_rois(files: SubjectFiles) -> Outcome:
    """float64 labels in {-1, 0, 1..N}; the merged volume is the left one with the right one where
    left is -1.
    """
    present = rois.list_rois(files.root, files.subject)
    lost = [
        layout.roi_path(files.root, files.subject, roi, hemisphere)
        for roi in layout.ROI_LABELS
        for hemisphere in ("", *layout.HEMISPHERES)
        if (f"{hemisphere}.{roi}" if hemisphere else roi) not in present
    ]
    required = [
        path for path in lost if not files.is_real or path.name == f"{layout.GENERAL_ROI}.nii.gz"
    ]
    require(
        not required,
        f"{shorten(required)} does not exist; {files.subject} has "
        f"{', '.join(present) or 'no ROIs'}",
    )
    for roi in layout.ROI_LABELS:
        if not any(path.name.endswith(f"{roi}.nii.gz") for path in lost):
            _check_roi(files, roi)
    # Those with numbers for labels, and single hemispheres: whatever NSD names and the tree has.
    for name in present:
        hemisphere, _, roi = name.rpartition(".") if name[:3] in ("lh.", "rh.") else ("", "", name)
        if layout.is_nsd_roi(layout.roi_path(files.root, files.subject, roi)):
            rois.read_roi(files.root, files.subject, roi, hemisphere)
    names = shorten([path.name for path in lost])
    warnings = (
        [f"{len(lost)} ROI files that other subjects have are missing: {names}"] if lost else []
    )
    return passed(f"{len(present)} volumes", warnings)


def _check_roi(files: SubjectFiles, roi: str) -> None:
    path = layout.roi_path(files.root, files.subject, roi)
    merged = rois.read_roi(files.root, files.subject, roi)
    lh, rh = layout.HEMISPHERES
    left = rois.read_roi(files.root, files.subject, roi, lh)
    right = rois.read_roi(files.root, files.subject, roi, rh)
    require(
        left.shape == right.shape == merged.shape, f"{path} and its hemispheres differ in shape"
    )
    combined = np.where(left == layout.OUTSIDE_CORTEX, right, left)
    require(np.array_equal(merged, combined), f"{path} is not lh.{roi} and rh.{roi} put together")
    for hemisphere in ("", *layout.HEMISPHERES):
        volume = layout.roi_path(files.root, files.subject, roi, hemisphere)
        dtype = _open(volume).get_data_dtype()
        require(dtype == np.float64, f"{volume} is stored as {dtype}, not float64")
    counts = np.bincount(merged[merged > 0], minlength=len(layout.roi_labels(roi)) + 1)
    require(
        counts.sum() == np.sum(merged > 0) > 0,
        f"{path}: labels do not add up to the {counts.sum()} voxels",
    )


def check_labels(files: SubjectFiles) -> Outcome:
    """Label names in the .ctab files are those that rois may name; other names are a warning,
    numbers decide.
    """
    warnings = []
    n_read = 0
    for roi, labels in layout.ROI_LABELS.items():
        path = layout.ctab_path(files.root, files.subject, roi)
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            names = dict(line.split(maxsplit=1) for line in lines if len(line.split()) > 1)
            found = [
                names.get(str(number), "nothing").strip() for number in range(1, len(labels) + 1)
            ]
            differ = [
                f"{k} is {name}, not {labels[k - 1]}"
                for k, name in enumerate(found, 1)
                if name != labels[k - 1]
            ]
            warnings += [f"{path}: {shorten(differ)}"] if differ else []
            n_read += 1
    if not n_read:
        return skipped(
            f"{layout.labels_dir(files.root, files.subject)} has no label names to compare"
        )
    return passed(f"{n_read} files with the names that rois takes", warnings)


def check_nsdgeneral(files: SubjectFiles) -> Outcome:
    """nsdgeneral lies in the brain mask; its size is the published one in a real tree."""
    path = layout.roi_path(files.root, files.subject, layout.GENERAL_ROI)
    mask = general_mask(files)
    brain = read_on_grid(layout.brainmask_path(files.root, files.subject), files) > 0
    outside = int(np.sum(mask & ~brain))
    require(files.is_real or outside == 0, f"{path}: {outside} voxels lie outside the brain mask")
    n_published = files.entry(layout.NSDGENERAL_VOXELS)
    require(
        not files.is_real or mask.sum() == n_published,
        f"{path} has {mask.sum()} voxels, published {n_published}",
    )
    return passed(
        f"{mask.sum()} voxels" + (f", {outside} outside the brain mask" if outside else "")
    )


def check_counts(files: SubjectFiles) -> Outcome:
    """Published sizes of brain mask and areas, in a real tree; more than 5 % off is a warning."""
    if not files.is_real:
        return skipped("published numbers hold for the released NSD only")
    mask = rois.read_volume(layout.brainmask_path(files.root, files.subject)) > 0
    counts = {"brainmask": int(mask.sum())}
    expected = {"brainmask": files.entry(published.BRAINMASK_VOXELS)}
    for area, numbers in published.AREA_VOXELS.items():
        path = layout.roi_path(files.root, files.subject, area.partition("/")[0])
        if files.entry(numbers) is not None and path.is_file():
            counts[area] = count_area(files.root, files.subject, area)
            expected[area] = files.entry(numbers)
    off = [
        f"{area} has {counts[area]} voxels, published {number}"
        for area, number in expected.items()
        if number is not None and published.differs(counts[area], number)
    ]
    return passed(", ".join(f"{area} {count}" for area, count in counts.items()), off)


def count_area(root: Path, subject: str, area: str) -> int:
    """Voxels of an area in the whole volume: 'prf-visualrois/V1v+V1d' is the union of two
    labels.
    """
    roi, _, labels = area.partition("/")
    numbers = [layout.roi_labels(roi).index(label) + 1 for label in labels.split("+")]
    return int(np.isin(rois.read_roi(root, subject, roi), numbers).sum())


def read_on_grid(path: Path, files: SubjectFiles) -> NDArray[Any]:
    """Volume of the shape of nsdgeneral; another shape raises ValueError."""
    volume = rois.read_volume(path)
    shape = general_mask(files).shape
    require(volume.shape == shape, f"{path} has shape {volume.shape}, {layout.GENERAL_ROI} {shape}")
    return volume


def general_mask(files: SubjectFiles) -> NDArray[np.bool_]:
    """Voxels of nsdgeneral; an empty one raises ValueError."""
    mask = rois.read_roi(files.root, files.subject, layout.GENERAL_ROI) > 0
    require(
        mask.any(),
        f"{layout.roi_path(files.root, files.subject, layout.GENERAL_ROI)} has no voxel above 0",
    )
    return mask


def ncsnr_path(files: SubjectFiles) -> Path:
    """The shipped noise ceiling of the subject's preparation."""
    return layout.ncsnr_path(files.root, files.subject, files.preparation)


def _open(path: Path) -> Any:
    require(path.is_file(), f"{path} does not exist; run the download stage")
    try:
        return nib.load(path)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise describe_failure(path, error, "NIfTI", "delete it and download it again") from error


CHECKS = {
    "responses": check_responses,
    "grid": check_grid,
    "rois": check_rois,
    "labels": check_labels,
    "nsdgeneral": check_nsdgeneral,
    "counts": check_counts,
}
