"""Weights of the CLIP-MUSED-style decoder and of its baselines at the size of NSD.

Counted from the modules. Sizes: the settings of presets/nsd.yaml (256 components of each of nine
ROIs, width 512, four blocks), 80 COCO categories, and the 15,724 voxels of subject 1 in nsdgeneral.
How the voxels are dealt to ROIs changes no count unless ROIs share voxels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from fmri2clip.decoders.clip_mused.decoder import Config, Decoder
from fmri2clip.decoders.clip_mused.describe import count_parts
from fmri2clip.decoders.parts.areas import parse_names

N_VOXELS = 15_724
N_CLASSES = 80
WIDTH = 768
SUBJECT = "subj01"
NETWORKS: dict[str, dict[str, Any]] = {
    "clip_mused": {},
    "subject_embedding": {"identity": "embedding"},
    "mlp_shared": {"backbone": "mlp", "identity": "none", "layers": 2},
    "mlp_single": {"backbone": "mlp", "identity": "none", "layers": 1, "shared": False},
}


def count_at_nsd(config: Config) -> dict[str, dict[str, int]]:
    """Run -> input_map, identity, per_subject and shared, as facts of a decoder.

    Ridge is counted in closed form. config: of run clip_mused; the other networks change what
    NETWORKS says.
    """
    counts = {
        name: count_parts(_build(replace(config, **changes)), SUBJECT)
        for name, changes in NETWORKS.items()
    }
    n_inputs = len(parse_names(config.areas)) * config.components
    input_map = N_VOXELS * config.components + n_inputs
    # Weights, offsets, and the two numbers of the scaling.
    own = input_map + n_inputs * N_CLASSES + N_CLASSES + 2
    return counts | {
        "label_ridge": {"input_map": input_map, "identity": 0, "per_subject": own, "shared": 0}
    }


def _build(config: Config) -> Decoder:
    """The modules at full size without memory for their weights."""
    # All voxels stand in the last ROI: only their number counts.
    n_empty = len(parse_names(config.areas)) - 1
    with torch.device("meta"):
        return Decoder(
            config,
            {SUBJECT: N_VOXELS},
            WIDTH,
            0,
            n_classes=N_CLASSES,
            n_roi_voxels={SUBJECT: [*[0] * n_empty, N_VOXELS]},
        )
