"""Predictions and scores, image by image.

They lie in data/predictions/<run>.h5 and reference_<clip>.h5, and in data/picture_scores/<name>.h5.

Letters: I test images (ascending NSD id), D embedding width, C categories, M metrics, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.core import store
from fmri2clip.core.rows import find_rows
from fmri2clip.core.schema import Field, Kind, Value
from fmri2clip.metrics.statistics import Run, Scores
from fmri2clip.solvers.average_precision import LEAST_POSITIVES, find_defined_classes

Array = NDArray[Any]

PREDICTIONS = Kind(
    "predictions",
    {
        "nsd_id_I": Field("int64", "row of imgBrick"),
        "embedding_ID": Field("float32", "CLIP space", False),
        "text_embedding_ID": Field("float32", "CLIP space", False),
        "noise_free_embedding_ID": Field("float32", "CLIP space", False),
        "class_score_IC": Field("float32", "score", False),
        "metric_M": Field("str", "dotted name"),
        "score_IM": Field("float32", "score of the image, NaN = not scored"),
        "score_weight_IM": Field("float32", "draws behind the score"),
        # Of a decoder with an encoding model.
        "ijk_V3": Field("int16", "zero-based X, Y, Z", False),
        "foretold_r_V": Field("float32", "correlation of predicted and measured response", False),
        "foretold_r2_V": Field("float32", "share of the measured variance", False),
        "ceiling_r2_V": Field("float32", "share of the measured variance that is no noise", False),
    },
)


def read_predictions(
    path: Path, names: Sequence[str] | None = None, group: str | None = None
) -> store.Arrays:
    """Arrays of one group (a subject, or a row of the references), all or those named."""
    return store.read(path, PREDICTIONS, names, group)


def list_groups(path: Path) -> list[str]:
    """Names of the groups, sorted."""
    return store.groups(path, PREDICTIONS)


def write_predictions(
    path: Path, groups: Mapping[str, Mapping[str, Value]], attrs: store.Attrs | None = None
) -> None:
    """Write one group of arrays for each name; the file appears when it is complete."""
    store.write_groups(path, PREDICTIONS, groups, attrs)


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
    """Subject -> Scores of a predictions file, as `statistics.paired_difference` takes them.

    row: name of a row of the references file, such as 'baseline.nearest_brain'; '' for the
    predictions of a run. Scores of mAP and AUC are kept as class scores, with the labels of the
    CLIP cache shared_path.
    """
    clip = read_cache(shared_path, ["nsd_id_I", "labels_IC", "present_C"])
    groups = list_groups(predictions_path)
    wanted = {
        name.removeprefix(f"{row}."): name
        for name in groups
        if not row or name.startswith(f"{row}.")
    }
    if not wanted:
        raise ValueError(f"{predictions_path} has no row {row!r}; it has {', '.join(groups)}")
    return {
        subject: _unpack_scores(read_predictions(predictions_path, None, g), clip)
        for subject, g in wanted.items()
    }


def _unpack_scores(arrays: Mapping[str, Array], clip: Mapping[str, Array]) -> Scores:
    row_I = find_rows(clip["nsd_id_I"], arrays["nsd_id_I"], "the CLIP cache of the test images")
    label_IC = clip["labels_IC"][row_I]
    metrics = [str(metric) for metric in arrays["metric_M"]]
    score_MI = arrays["score_IM"].T.astype(np.float64)
    weight_MI = arrays["score_weight_IM"].T.astype(np.float64)
    class_scores = {}
    if "class_score_IC" in arrays:
        class_scores["classification"] = arrays["class_score_IC"]
    return Scores(
        nsd_id_I=arrays["nsd_id_I"],
        per_image=dict(zip(metrics, zip(score_MI, weight_MI, strict=True), strict=True)),
        class_scores=class_scores,
        label_IC=label_IC,
        class_C=find_defined_classes(label_IC, clip["present_C"], LEAST_POSITIVES),
    )
