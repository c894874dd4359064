"""Model cards: README.md of a model folder, in the format of the Hugging Face hub.

YAML between two lines `---`, then text. A card is made of what the folder holds and of nothing
else. Training writes it; evaluation writes it once more, with scores of test images, to
reports/cards/<run>/<subject>.md. Readers prefer the second where it is of the same weights.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmri2clip.artefacts.card_text import Facts, Score, write_text
from fmri2clip.artefacts.model import (
    CLIP,
    SPLIT,
    find_weights,
    read_description,
    read_inputs,
    weights_sha256,
)
from fmri2clip.core.files import replacing
from fmri2clip.datasets.terms import find_source

CARD = "README.md"
OWN = "fmri2clip"  # key of the YAML part for what the hub does not ask for


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card that was read: all of its text, and the YAML part of it."""

    text: str
    front: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights_sha256(self) -> str:
        """Digest of the weights that it describes; '' for a card that is not ours."""
        own = self.front.get(OWN)
        return str(own.get("weights_sha256", "")) if isinstance(own, Mapping) else ""

    @property
    def scores(self) -> list[dict[str, Any]]:
        """Entries of `metrics` in the hub's model-index; empty without test scores."""
        index = self.front.get("model-index", [])
        return [m for entry in index for result in entry["results"] for m in result["metrics"]]


# Reading


def read_card(path: Path) -> Card | None:
    """A card; None for a file that is not there. One without a YAML part has no `front`."""
    from ruamel.yaml import YAML, YAMLError

    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    parts = text.split("---\n", 2)
    if parts[0] or len(parts) < 3:
        return Card(text=text)
    try:
        front = YAML(typ="safe").load(parts[1])
    except YAMLError:
        front = None
    return Card(text=text, front=front if isinstance(front, Mapping) else {})


def find_card(folder: Path, weights_sha256: str) -> Card | None:
    """The card of a model in models/<run>/<subject>, or in a copy of it: the one with test scores
    if it is of these weights, else that of the folder; None where neither is.
    """
    run = folder.absolute().parent
    scored = run.parent.parent / "reports/cards" / run.name / f"{folder.name}.md"
    for path in (scored, folder / CARD):
        card = read_card(path)
        if card is not None and card.weights_sha256 == weights_sha256:
            return card
    return None


# Writing


def write_card(
    run_folder: Path, subject: str, path: Path | None = None, scores: Sequence[Score] = ()
) -> None:
    """Write the card of a subject's model, into its folder unless a path is given."""
    folder = find_weights(run_folder, subject)
    own = run_folder / subject
    facts = Facts(
        subject=subject,
        about=read_description(folder),
        inputs=read_inputs(own),
        split=json.loads((own / SPLIT).read_text(encoding="utf-8")),
        clip=json.loads((own / CLIP).read_text(encoding="utf-8")),
        weights_sha256=weights_sha256(folder),
    )
    text = join(_make_front(facts, scores), write_text(facts, scores))
    if path is None:
        # Into a folder that nobody sees before it is whole.
        (own / CARD).write_text(text, encoding="utf-8")
        return
    with replacing(path) as (part,):
        part.write_text(text, encoding="utf-8")


def join(front: Mapping[str, Any], text: str) -> str:
    """A card of its YAML part and its text."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 10_000  # a digest stays on its line
    stream = io.StringIO()
    yaml.dump(dict(front), stream)
    return f"---\n{stream.getvalue()}---\n\n{text}"


def _make_front(facts: Facts, scores: Sequence[Score]) -> dict[str, Any]:
    source = find_source(facts.about)
    digest = {"weights_sha256": facts.weights_sha256}
    front: dict[str, Any] = {
        "library_name": "fmri2clip",
        **source.licence,
        "tags": ["fmri", "brain-decoding", "clip"],
        OWN: {"run": facts.about["run"], "subject": facts.subject, **digest},
    }
    if scores:
        result = {
            "task": {"type": "brain-decoding"},
            "dataset": {"name": f"{source.name}, {facts.subject}", "type": "fmri"},
            "metrics": [_make_entry(score) for score in scores],
        }
        front["model-index"] = [{"name": facts.title, "results": [result]}]
    return front


def _make_entry(score: Score) -> dict[str, Any]:
    extra = {
        "ci95": [score.low, score.high],
        "no_brain": score.null,
        "true_embedding": score.target,
    }
    return {
        "type": score.metric,
        "name": score.label,
        "value": score.value,
        "args": {name: value for name, value in extra.items() if value is not None},
    }
