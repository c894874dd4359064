"""Whether a training was long enough: by the study of how long its decoder needs.

benchmarks/convergence.py trains a decoder for 1, 2, 4 and 8 times its epochs and writes which of
them was enough (docs/preregistered.md has the rule). A curve alone cannot tell: under a rate that
falls to 0 it flattens in any case.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STUDY = Path("benchmarks/convergence.json")
TRIED = ("max_epochs", "patience")  # settings that the study varies


def read_study(path: Path = STUDY) -> dict[str, Any]:
    """Content of the study, by run; empty where there is none."""
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def is_converged(description: Mapping[str, Any], study: Mapping[str, Any]) -> bool:
    """Whether the study has the decoder with these settings, or settings that its entry stands for,
    as wide an embedding and as many training images of each subject, and found that as many epochs
    as these, or fewer, are enough.

    description: content of the model's config.yaml. A closed form has no epochs and is always
    converged.
    """
    config = description.get("config", {})
    if "max_epochs" not in config:
        return True
    settings = {name: value for name, value in config.items() if name not in TRIED}
    n_images = sorted(description["n_training_images"].values())
    for entry in study.values():
        needed = entry.get("needed")
        if (
            needed is not None
            and entry["decoder"] == description["decoder"]
            and entry["width_D"] == description["width_D"]
            and settings in [entry["config"] | other for other in [{}, *entry["stands_for"]]]
            and all(trial["images_by_subject"] == n_images for trial in entry["trials"])
            and config["max_epochs"] >= needed * entry["epochs"]
            and config["patience"] >= config["max_epochs"]
        ):
            return True
    return False
