"""Model cards with the scores of test images: reports/cards/<run>/<subject>.md."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmri2clip.artefacts.card import write_card
from fmri2clip.artefacts.card_text import Score
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.files import flatten
from fmri2clip.core.params import Params

SINGLE = "trials.1."  # scores of single trials
SCORES = {
    "retrieval.image_given_brain.top1": "image given brain, top-1 of {n}",
    f"{SINGLE}retrieval.image_given_brain.top1": "image given brain, top-1 of {n}, one trial",
    "retrieval.brain_given_image.top1": "brain given image, top-1 of {n}",
    "retrieval.text_given_brain.top1": "text given brain, top-1 of {n}",
    "zero_shot.top1": "zero-shot category, top-1",
    "classification.map": "categories in the picture, mean average precision",
    "classification.auc": "categories in the picture, area under the ROC curve",
}
NULL = "null.prior"
TARGET = "reference.target"


def write_cards(run_name: str, params: Params, paths: Paths, metrics: Mapping[str, Any]) -> None:
    """Write the card of every subject of a run; metrics: content of its metrics.json.

    Raises ValueError if the scores of chance and of true embeddings are not there.
    """
    run = params.runs[run_name]
    references = _read(paths.reference_metrics(run.clip))
    # Of an earlier run by hand, perhaps with other subjects: DVC removes outputs itself.
    shutil.rmtree(paths.cards(run_name), ignore_errors=True)
    for subject in run.subjects:
        scores = list_scores(metrics, references, subject, params.evaluation.n_way)
        write_card(paths.model(run_name), subject, paths.card(run_name, subject), scores)


def list_scores(
    metrics: Mapping[str, Any], references: Mapping[str, Any], subject: str, n_way: int
) -> list[Score]:
    """Those of SCORES that the decoder has, of one subject, beside what is no decoder."""
    own, null, target = (
        flatten(tree.get("subjects", {}).get(subject, {}))
        for tree in (metrics, references.get(NULL, {}), references.get(TARGET, {}))
    )
    # What never saw a brain is the same with fewer trials.
    return [
        Score(
            metric=name,
            label=label.format(n=n_way),
            value=own[name],
            low=own[f"{name}_ci95_low"],
            high=own[f"{name}_ci95_high"],
            null=null.get(name.removeprefix(SINGLE)),
            target=target.get(name.removeprefix(SINGLE)),
        )
        for name, label in SCORES.items()
        if name in own
    ]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the references stage (dvc repro references)")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
