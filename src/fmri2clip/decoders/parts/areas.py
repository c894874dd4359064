"""Which voxels make up each ROI that a decoder names, of the voxels that a run reads.

A decoder names ROIs in one line: 'V1, V2, floc-faces, prf-visualrois/V3v+prf-visualrois/V3d, rest'.
A name is a key of params `rois`, a column of the voxel file (an ROI of NSD or one label of it), or
a label of prf-visualrois, whose ventral and dorsal parts count as one (V1 is V1v and V1d). Names
joined by + are one ROI; `rest` holds the voxels of no other. ROIs may share voxels, as the category
areas of NSD do. Axis letters: V voxels, R ROIs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fmri2clip.core.strict import suggest
from fmri2clip.datasets.nsd.areas import PRF
from fmri2clip.decoders.batches import TrainingData

REST = "rest"


def parse_names(text: str) -> tuple[str, ...]:
    """ROI names of one line, in order. Raises ValueError if it has none or one twice."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(
            f"areas is {text!r}, expected names of ROIs, each once, separated by commas, such as "
            "V1, rest"
        )
    return names


def select_rois(data: TrainingData, names: tuple[str, ...]) -> list[Tensor]:
    """Voxel numbers of each ROI, ascending; an ROI without voxels in this subject gives an empty
    tensor.

    Raises ValueError, with the names there are, for one that the subject's files do not have, and
    if all are empty.
    """
    n_voxels = data.betas_NV.shape[1]
    found = {name: _find(data, name) for name in names if name != REST}
    if REST in names:
        # The row of zeros is for a decoder that names `rest` alone.
        nothing_V = torch.zeros(n_voxels, dtype=torch.bool)
        taken_V = torch.stack([*found.values(), nothing_V]).any(0)
        found[REST] = ~taken_V
    rows = [found[name].nonzero()[:, 0] for name in names]
    if not any(len(r) for r in rows):
        raise ValueError(
            f"none of the ROIs {', '.join(names)} has a voxel of {data.subject}; name others in "
            "areas"
        )
    return rows


def _find(data: TrainingData, name: str) -> Tensor:
    """Members among V of one ROI, or of several joined by +."""
    return torch.stack([_find_one(data, part.strip()) for part in name.split("+")]).any(0)


def _find_one(data: TrainingData, name: str) -> Tensor:
    known: Mapping[str, Tensor] = {**data.rois, **data.groups}
    if name in known:
        return known[name]
    # hV4 is one label; V1 to V3 have a ventral and a dorsal half.
    parts = [
        known[f"{PRF}/{name}{half}"] for half in ("", "v", "d") if f"{PRF}/{name}{half}" in known
    ]
    if parts:
        return torch.stack(parts).any(0)
    labels = [key.removeprefix(f"{PRF}/") for key in known if key.startswith(f"{PRF}/")]
    short = sorted({label.rstrip("vd") for label in labels})
    allowed = [*data.groups, *short, *data.rois, REST]
    raise ValueError(
        f"areas: {data.subject} has no ROI {name!r}{suggest(name, allowed)}; choose from "
        f"{', '.join(allowed)}"
    )
