"""The predictions file as scores: what evaluation writes image by image and the report compares.

Letters: I test images (ascending NSD id), C categories, M metrics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip import store
from fmri2clip.metrics.classification import find_defined_classes
from fmri2clip.metrics.scoring import find_rows
from fmri2clip.metrics.statistics import Run, Scores

Array = NDArray[Any]


def pack_scores(scores: Scores) -> dict[str, Any]:
    """Per-image scores as arrays of kind 'predictions'."""
    metrics = list(scores.per_image)
    arrays: dict[str, Any] = {"nsd_id_I": scores.nsd_id_I, "metric_M": metrics}
    for name, part in (("score_IM", 0), ("score_weight_IM", 1)):
        columns = [scores.per_image[metric][part] for metric in metrics]
        arrays[name] = np.stack(columns, axis=1) if columns else np.zeros((len(scores.nsd_id_I), 0))
    if "classification" in scores.class_scores:
        arrays["class_score_IC"] = scores.class_scores["classification"]
    return arrays


def read_scores(predictions_path: Path, shared_path: Path, row: str = "") -> Run:
    """Subject -> Scores of a predictions file, as `metrics.statistics.paired_difference` takes
    them.

    row: name of a row of the references file, such as 'baseline.nearest_brain'; '' for the
    predictions of a run. Scores of mAP and AUC are kept as class scores, with the labels of the
    CLIP cache shared_path.
    """
    clip = store.read(shared_path, "clip", ["nsd_id_I", "labels_IC", "present_C"])
    groups = store.groups(predictions_path, "predictions")
    wanted = {
        name.removeprefix(f"{row}."): name
        for name in groups
        if not row or name.startswith(f"{row}.")
    }
    if not wanted:
        raise ValueError(f"{predictions_path} has no row {row!r}; it has {', '.join(groups)}")
    return {
        subject: _unpack_scores(store.read(predictions_path, "predictions", None, g), clip)
        for subject, g in wanted.items()
    }


def _unpack_scores(arrays: Mapping[str, Array], clip: Mapping[str, Array]) -> Scores:
    row_I = find_rows(clip["nsd_id_I"], arrays["nsd_id_I"], "the CLIP cache of the test images")
    label_IC = clip["labels_IC"][row_I]
    columns = (
        arrays["score_IM"].T.astype(np.float64),
        arrays["score_weight_IM"].T.astype(np.float64),
    )
    return Scores(
        nsd_id_I=arrays["nsd_id_I"],
        per_image=dict(zip(map(str, arrays["metric_M"]), zip(*columns, strict=True), strict=True)),
        class_scores={"classification": arrays["class_score_IC"]}
        if "class_score_IC" in arrays
        else {},
        label_IC=label_IC,
        class_C=find_defined_classes(label_IC, clip["present_C"]),
    )


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write numbers as JSON; the file appears when it is complete."""
    with store.replacing(path) as (temporary,):
        temporary.write_text(json.dumps(tree, indent=2, allow_nan=False) + "\n", encoding="utf-8")
