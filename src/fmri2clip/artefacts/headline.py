"""Eight numbers that stand for a run: what `dvc metrics show` and the table of MLflow have.

Means over subjects, or the numbers of one, rounded; their intervals stand in the files that they
are read from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.params import Params

PERCENT = 100.0
PLAIN = 1.0  # of a correlation
DIGITS = {PERCENT: 2, PLAIN: 4}
# Name -> dotted place in the scores of a run, factor.
SCORES = {
    "image_top1": ("retrieval.image_given_brain.top1", PERCENT),
    "image_hard_top1": ("retrieval_hard.image_given_brain.top1", PERCENT),
    "caption_top1": ("retrieval.text_given_brain.top1", PERCENT),
    "category_top1": ("zero_shot.top1", PERCENT),
    "labels_map": ("classification.map", PERCENT),
}
# The same in the scores of the pictures that are painted from the run, under one protocol.
PAINTED = {
    "painted_clip": ("clip.image_given_reconstruction", PERCENT),
    "painted_alexnet2": ("alexnet2.image_given_reconstruction", PERCENT),
    "painted_pixcorr": ("pixcorr", PLAIN),
}


def read_headline(params: Params, paths: Paths, run: str, subject: str = "") -> dict[str, float]:
    """Those of the numbers that the files have, by name; subject: '' for the mean over all."""
    scores = _choose(_read(paths.metrics(run)), subject)
    pictures = _choose(_read_pictures(params, paths, run), subject)
    painted = pictures.get(params.pictures.protocols[0], {})
    return _pick(scores, SCORES) | _pick(painted, PAINTED)


def _read_pictures(params: Params, paths: Paths, run: str) -> Mapping[str, Any]:
    """Scores of the reconstruction with the run's name, else of the first that is painted from it.

    Empty if there is none.
    """
    names = [name for name, entry in params.reconstructions.items() if entry.source == run]
    if not names:
        return {}
    return _read(paths.picture_metrics(run if run in names else names[0]))


def _read(path: Path) -> Mapping[str, Any]:
    """Content of a JSON file; empty where its stage has not run."""
    content: Mapping[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return content


def _choose(tree: Mapping[str, Any], subject: str) -> Mapping[str, Any]:
    branch: Mapping[str, Any] = tree.get("subjects", {}).get(subject, {}) if subject else tree
    return branch


def _pick(tree: Mapping[str, Any], names: Mapping[str, tuple[str, float]]) -> dict[str, float]:
    found = {}
    for name, (place, factor) in names.items():
        node: Any = tree
        for key in place.split("."):
            node = node.get(key) if isinstance(node, Mapping) else None
        if node is not None:
            found[name] = round(factor * float(node), DIGITS[factor])
    return found
