"""Regions of interest as boolean columns over the voxels of nsdgeneral.

ROI volumes are float64: -1 outside the cortical ribbon, 0 in it without label, 1..N labels
(nsddatapaper, main/analysis_surfaceroistovolume.m), so a member is `> 0`. ROIs overlap (a voxel may
lie in floc-faces and floc-words): hence one column per label, per ROI and per group, never one
integer a voxel. An empty label is legal; some named areas are missing in some subjects. What a
group may name stands in roi_groups. Voxels are in C order over (X, Y, Z). Letters: V voxels, G
columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.files import describe_failure
from fmri2clip.core.strict import suggest
from fmri2clip.datasets.interface import GROUP_PREFIX, Rois
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels import roi_groups

MAX_LABEL = int(np.iinfo(np.int16).max)  # of volumes whose labels are not known beforehand
LABEL_TOLERANCE = 1e-3  # of labels in a mask of the user's own
AFFINE_TOLERANCE = 0.01  # mm


def read_volume(path: Path) -> NDArray[Any]:
    """Array (X, Y, Z) of a NIfTI volume; a missing or corrupt file raises ValueError."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the download stage")
    try:
        image: Any = nib.load(path)
        return np.asarray(image.dataobj)
    except Exception as error:
        raise describe_failure(path, error, "NIfTI", "delete it and download it again") from error


def list_rois(root: Path, subject: str) -> list[str]:
    """Names of the ROI volumes that the tree has for a subject, hemispheres with their prefix."""
    folder = layout.roi_dir(root, subject)
    return sorted(path.name.removesuffix(".nii.gz") for path in layout.find_volumes(folder))


def read_roi(root: Path, subject: str, roi: str, hemisphere: str = "") -> NDArray[np.int16]:
    """Labels (X, Y, Z) of an ROI: -1, 0, or 1..N. Masks of the user's own may have an axis of
    length 1 behind, NaN outside and labels within 1e-3. A missing file raises ValueError with the
    ROIs that exist.
    """
    path = _roi_path(root, subject, roi, hemisphere)
    if not path.is_file():
        present = list_rois(root, subject)
        near = suggest(path.name.removesuffix(".nii.gz"), present)
        raise ValueError(
            f"{path} does not exist; {subject} has {', '.join(present) or 'no ROI files'}{near}"
        )
    volume = read_volume(path)
    if roi.startswith(layout.FILE_PREFIX):
        volume = _tidy(volume)
    if volume.ndim != 3:
        raise ValueError(f"{path} has shape {volume.shape}, expected the three axes X, Y, Z")
    n_labels = len(layout.roi_labels(roi)) or MAX_LABEL
    if volume.dtype.kind not in "iuf" or not _is_label(volume, n_labels).all():
        raise ValueError(
            f"{path} has values other than -1, 0 and the labels 1 to {n_labels} of {roi}"
            f"{_find_odd(volume, n_labels)}"
        )
    return volume.astype(np.int16)


def _tidy(volume: NDArray[Any]) -> NDArray[Any]:
    """A mask as other software may write it: fourth axis of length 1, numbers that arithmetic has
    left a little beside their label, NaN for outside.
    """
    if volume.ndim > 3 and set(volume.shape[3:]) == {1}:
        volume = volume.reshape(volume.shape[:3])
    if volume.dtype.kind != "f":
        return volume
    nearest = np.rint(volume)
    volume = np.where(np.abs(volume - nearest) < LABEL_TOLERANCE, nearest, volume)
    return np.where(np.isnan(volume), layout.OUTSIDE_CORTEX, volume)


def _find_odd(volume: NDArray[Any], n_labels: int) -> str:
    """Where a volume has the first of them, as the end of a message."""
    if volume.dtype.kind not in "iuf":
        return f": it holds {volume.dtype}"
    place = np.argwhere(~_is_label(volume, n_labels))[0]
    return f": the first is {volume[tuple(place)]:g} at X, Y, Z = {tuple(place.tolist())}"


def _is_label(volume: NDArray[Any], n_labels: int) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):  # NaN and infinity are no labels
        return (volume >= layout.OUTSIDE_CORTEX) & (volume <= n_labels) & (volume % 1 == 0)


def load_rois(root: Path, subject: str, groups: Mapping[str, Sequence[str]]) -> Rois:
    """nsdgeneral with columns for every ROI of the tree that has named labels, every ROI that
    groups name, and groups.

    groups: name -> entries, each an ROI ('floc-faces'), a hemisphere of it ('lh.floc-faces'), a
    label of it ('prf-visualrois/V1v', 'HCP_MMP1/18'), a file that NSD does not name
    ('file:my-roi'), or an expression of these in words (roi_groups). A group is the union of its
    entries inside nsdgeneral and may not be empty.
    """
    parsed = roi_groups.parse_groups(groups)
    mask = read_roi(root, subject, layout.GENERAL_ROI) > 0
    if not mask.any():
        raise ValueError(
            f"{layout.roi_path(root, subject, layout.GENERAL_ROI)} has no voxel above 0"
        )
    columns: dict[str, NDArray[np.bool_]] = {}
    for volume in _volumes(root, subject, parsed):
        columns.update(_read_columns(root, subject, volume, mask))
    for group, expression in parsed.items():
        written = {
            name: _find_column(columns, name, subject, group)
            for name in roi_groups.names(expression)
        }
        member_V = roi_groups.evaluate(expression, written)
        if not member_V.any():
            raise ValueError(
                f"rois.{group} has no voxel of {subject} in nsdgeneral; its members are "
                f"{list(groups[group])}"
            )
        columns[GROUP_PREFIX + group] = member_V
    return Rois(
        mask=mask,
        ijk_V3=np.argwhere(mask).astype(np.int16),
        roi_VG=np.stack(list(columns.values()), axis=1),
        names_G=list(columns),
    )


def _roi_path(root: Path, subject: str, roi: str, hemisphere: str = "") -> Path:
    return layout.roi_path(root, subject, roi.removeprefix(layout.FILE_PREFIX), hemisphere)


def _column_name(name: str) -> str:
    """One name for the many ways to write it: 'lh.streams/5' -> 'lh.streams/ventral'."""
    hemisphere, roi, label = layout.split_roi_name(name)
    volume = f"{hemisphere}.{roi}" if hemisphere else roi
    return f"{volume}/{label}" if label else volume


def _volumes(root: Path, subject: str, parsed: Mapping[str, roi_groups.Expression]) -> list[str]:
    """ROI volumes to read, such as 'streams' and 'lh.streams': those with named labels, then those
    that groups name.
    """
    volumes = [roi for roi in layout.ROI_LABELS if layout.roi_path(root, subject, roi).is_file()]
    named = [name for expression in parsed.values() for name in roi_groups.names(expression)]
    volumes += [_column_name(name).partition("/")[0] for name in named]
    return list(dict.fromkeys(volumes))  # each once, in order


def _read_columns(
    root: Path, subject: str, volume: str, mask: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """Members of the whole ROI and of each of its labels, over the voxels of the mask.

    Where the release gives neither names nor a number of labels, those that the volume has.
    """
    hemisphere, roi, _ = layout.split_roi_name(volume)
    labels = read_roi(root, subject, roi, hemisphere)
    if labels.shape != mask.shape:
        path = _roi_path(root, subject, roi, hemisphere)
        raise ValueError(
            f"{path} has shape {labels.shape}, but {layout.GENERAL_ROI} of {subject} has "
            f"{mask.shape}"
        )
    if roi.startswith(layout.FILE_PREFIX):
        _check_affine(root, subject, roi)
    labels_V = labels[mask]
    columns = {volume: labels_V > 0}
    known = dict(enumerate(layout.roi_labels(roi), start=1))
    if not known:
        # Numbers of the whole volume: a label without a voxel in the mask is a column, too.
        known = {number: str(number) for number in np.unique(labels[labels > 0]).tolist()}
    for number, label in known.items():
        columns[f"{volume}/{label}"] = labels_V == number
    return columns


def _read_affine(path: Path) -> NDArray[Any]:
    """(4, 4): voxel indices to millimetres."""
    return np.asarray(nib.load(path).affine)  # type: ignore[attr-defined]


def _check_affine(root: Path, subject: str, roi: str) -> None:
    """A mask that other software wrote may be flipped or shifted although its shape is right."""
    path = _roi_path(root, subject, roi)
    general_path = layout.roi_path(root, subject, layout.GENERAL_ROI)
    own = _read_affine(path)
    general = _read_affine(general_path)
    if not np.allclose(own, general, atol=AFFINE_TOLERANCE):
        raise ValueError(
            f"{path} has another affine than {general_path.name} ({own.tolist()}, expected "
            f"{general.tolist()}), so its voxels may lie elsewhere; resample it to that grid, or "
            "give it that affine if the grids agree"
        )


def _find_column(
    columns: Mapping[str, NDArray[np.bool_]], name: str, subject: str, group: str
) -> NDArray[np.bool_]:
    """Members of an ROI by any way to write its name; a label that the file lacks raises
    ValueError.
    """
    column = _column_name(name)
    if column not in columns:
        volume = column.partition("/")[0]
        labels = [other.partition("/")[2] for other in columns if other.startswith(f"{volume}/")]
        found = f"which has the labels {', '.join(labels) or 'none'}"
        raise ValueError(f"rois.{group}: {name!r} is not in {volume} of {subject}, {found}")
    return columns[column]
