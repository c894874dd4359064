"""Regions of interest as boolean columns over the voxels of nsdgeneral.

ROI volumes are float64: -1 outside the cortical ribbon, 0 in it without label, 1..N labels (nsddatapaper,
main/analysis_surfaceroistovolume.m), so a member is `> 0`. ROIs overlap (a voxel may lie in floc-faces and floc-words):
hence one column per label, per ROI and per group, never one integer a voxel. An empty label is legal; some named areas
are missing in some subjects. Voxels are in C order over (X, Y, Z). Letters: V voxels, G columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.nsd import layout

GROUP_PREFIX = "group/"


@dataclass(frozen=True, kw_only=True)
class Rois:
    """nsdgeneral of a subject and the members of every ROI inside it."""

    mask: NDArray[np.bool_]  # (X, Y, Z), nsdgeneral
    ijk_V3: NDArray[np.int16]  # zero-based X, Y, Z of its voxels
    roi_VG: NDArray[np.bool_]
    names_G: list[str]  # 'prf-visualrois', 'prf-visualrois/V1v', ..., 'group/low', ...


def read_volume(path: Path) -> NDArray[Any]:
    """Array (X, Y, Z) of a NIfTI volume; a missing or corrupt file raises ValueError."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the download stage")
    try:
        image: Any = nib.load(path)
        return np.asarray(image.dataobj)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as NIfTI ({error}); delete it and download it again") from error


def list_rois(root: Path, subject: str) -> list[str]:
    """Names of the ROI volumes that the tree has for a subject, hemispheres with their prefix."""
    return sorted(path.name.removesuffix(".nii.gz") for path in layout.roi_dir(root, subject).glob("*.nii.gz"))


def read_roi(root: Path, subject: str, roi: str, hemisphere: str = "") -> NDArray[np.int16]:
    """Labels (X, Y, Z) of an ROI: -1, 0, or 1..N. A missing file raises ValueError with the ROIs that exist."""
    path = layout.roi_path(root, subject, roi, hemisphere)
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist; {subject} has {', '.join(list_rois(root, subject)) or 'no ROI files'}"
        )
    volume = read_volume(path)
    n_labels = len(layout.roi_labels(roi))
    labels = np.nan_to_num(volume, nan=-9).astype(np.int16)
    if not np.array_equal(labels, volume) or labels.min() < layout.OUTSIDE_CORTEX or labels.max() > n_labels:
        raise ValueError(f"{path} has values other than -1, 0 and the labels 1 to {n_labels} of {roi}")
    return labels


def load_rois(root: Path, subject: str, groups: Mapping[str, Sequence[str]]) -> Rois:
    """nsdgeneral with columns for every ROI of the tree that has named labels, every ROI that groups name, and groups.

    groups: name -> members, each an ROI ('floc-faces'), a hemisphere of it ('lh.floc-faces') or a label of it
    ('prf-visualrois/V1v'); a group is the union of its members inside nsdgeneral and may not be empty.
    """
    mask = read_roi(root, subject, layout.GENERAL_ROI) > 0
    if not mask.any():
        raise ValueError(f"{layout.roi_path(root, subject, layout.GENERAL_ROI)} has no voxel above 0")
    columns: dict[str, NDArray[np.bool_]] = {}
    for volume in _volumes(root, subject, groups):
        columns.update(_read_columns(root, subject, volume, mask))
    for group, members in groups.items():
        member_V = np.logical_or.reduce([columns[member] for member in members]) if members else np.zeros(1, dtype=bool)
        if not member_V.any():
            raise ValueError(f"rois.{group} has no voxel of {subject} in nsdgeneral; its members are {list(members)}")
        columns[GROUP_PREFIX + group] = member_V
    return Rois(
        mask=mask,
        ijk_V3=np.argwhere(mask).astype(np.int16),
        roi_VG=np.stack(list(columns.values()), axis=1),
        names_G=list(columns),
    )


def _volumes(root: Path, subject: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """ROI volumes to read, such as 'streams' and 'lh.streams': those with named labels, then those that groups name."""
    volumes = [roi for roi in layout.ROI_LABELS if layout.roi_path(root, subject, roi).is_file()]
    for member in (member for members in groups.values() for member in members):
        layout.split_roi_name(member)
        volume = member.partition("/")[0]
        if volume not in volumes:
            volumes.append(volume)
    return volumes


def _read_columns(root: Path, subject: str, volume: str, mask: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Members of the whole ROI and of each of its labels, over the voxels of the mask."""
    hemisphere, roi, _ = layout.split_roi_name(volume)
    labels = read_roi(root, subject, roi, hemisphere)
    if labels.shape != mask.shape:
        path = layout.roi_path(root, subject, roi, hemisphere)
        raise ValueError(f"{path} has shape {labels.shape}, but {layout.GENERAL_ROI} of {subject} has {mask.shape}")
    labels_V = labels[mask]
    columns = {volume: labels_V > 0}
    for number, label in enumerate(layout.roi_labels(roi), start=1):
        columns[f"{volume}/{label}"] = labels_V == number
    return columns
