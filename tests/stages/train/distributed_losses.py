"""Trains tiny decoders for a few steps and writes the loss of each step; started by
test_distributed.py with torchrun.

Argument: folder for losses and checkpoints.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [
    str(Path(__file__).parents[3] / "src"),
    str(Path(__file__).parents[3]),
]  # torchrun starts this file

from fmri2clip import decoders  # noqa: E402
from fmri2clip.stages.train import trainer  # noqa: E402
from tests.decoders.settings import make_config  # noqa: E402
from tests.tiny_subject import make_tiny  # noqa: E402

SETTINGS: dict[str, dict[str, Any]] = {
    "brainclip": {"hidden": 16, "dropout_in": 0.0, "dropout_block": 0.0, "lr": 1e-2},
    "brainmclip": {
        "hidden": 16,
        "blocks": 1,
        "token_rank": 3,
        "dropout_in": 0.0,
        "dropout_res": 0.0,
        "mixco_epochs": 0.5,
        "nce_tokens": 3,
        "lr": 1e-2,
    },
    "brainmclip_plus": {
        "hidden": 16,
        "dropout_in": 0.0,
        "dropout_res": 0.0,
        "mixco_epochs": 0.5,
        "nce_tokens": 3,
        "lr": 1e-2,
    },
    "mindeye": {
        "hidden": 16,
        "blocks": 1,
        "projector": 12,
        "dropout_in": 0.0,
        "dropout_res": 0.0,
        "mixco_epochs": 0.5,
        "lr": 1e-2,
    },
    "clip_mused": {
        "areas": "V1, V2, floc-faces, rest",
        "components": 4,
        "width": 8,
        "heads": 2,
        "layers": 1,
        "dropout": 0.0,
        "dropout_in": 0.0,
        "lr": 1e-2,
        "w_high": 1.0,
        "w_low": 1.0,
        "w_orthogonal": 0.1,
    },
}


def train(name: str, folder: Path) -> list[Any]:
    """Losses of each step, rows of the curve, sums of the weights.

    Batches of 17, of which no share can be halved.
    """
    module = decoders.load_decoder(name)
    config = make_config(name, **SETTINGS[name], batch_size=17, max_epochs=2, patience=2)
    data = (
        [make_tiny("subj01")]
        if module.Decoder.per_subject
        else [make_tiny("subj01"), make_tiny("subj02", 1)]
    )
    decoder = module.Decoder.from_data(config, data, 0)
    losses: list[float] = []
    rows = trainer.fit(
        decoder,
        data,
        config,
        seed=0,
        device="cpu",
        resume_dir=folder,
        on_step=lambda epoch, loss, optimizer: losses.append(float(loss)),
        checkpoint_every_s=0.0,
        progress=None,
    )
    state = {key: value.double().sum().item() for key, value in decoder.state_dict().items()}
    return [losses, rows, state]


if __name__ == "__main__":
    root = Path(sys.argv[1])
    found = {name: train(name, root / name) for name in SETTINGS}
    (root / f"out.{os.environ['RANK']}").write_text(json.dumps(found))
