"""Which metrics a report shows, what they are called in print, and how a number is read out of a
metric tree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fmri2clip.core.params import Evaluation
from fmri2clip.stages.report.document import Score

Tree = Mapping[str, Any]

DIRECTIONS = {  # in print order: gallery given query
    "image_given_brain": "image given brain",
    "brain_given_image": "brain given image",
    "text_given_brain": "text given brain",
    "text_given_brain_fixed": "text given brain, fixed caption",
}
HEADLINE = {  # the four numbers of overview, paired differences and studies
    "retrieval.image_given_brain.top1": "image given brain, 300-way top-1",
    "retrieval_hard.image_given_brain.top1": "image given brain, hard gallery top-1",
    "retrieval.text_given_brain.top1": "text given brain, 300-way top-1",
    "zero_shot.top1": "zero-shot category top-1",
    "classification.map": "multi-label mAP",
}
TOKENS = {  # metrics of decoders that predict tokens
    "retrieval_tokens.fused.image_given_brain.top1": "fused tokens, image given brain top-1",
    "retrieval_tokens.semantic.image_given_brain.top1": "semantic tokens, image given brain top-1",
    "retrieval_detail.image_given_brain.top1": "detail tokens, image given brain top-1",
    "retrieval_text_tokens.text_given_brain.top1": "text tokens, text given brain top-1",
}
MAPS = ("colour", "luminance", "edges", "position", "size")
READOUTS = {f"readout.{name}": name for name in MAPS} | {
    f"readout_detail.{name}": f"{name}, from detail tokens" for name in MAPS
}
ATTENTION = {
    "attention.high_early": "attention to early areas, high token",
    "attention.low_early": "attention to early areas, low token",
    "attention.low_minus_high": "attention to early areas, low minus high token",
}
OTHER = {
    "zero_shot.top1": "zero-shot top-1",
    "zero_shot.top5": "zero-shot top-5",
    "zero_shot_text.top1": "zero-shot from text embedding, top-1",
    "zero_shot_text.top5": "zero-shot from text embedding, top-5",
    "classification.map": "mAP",
    "classification.auc": "macro AUC",
    "classification.hamming": "Hamming loss (lower is better)",
}


@dataclass(frozen=True)
class Family:
    """A table of metrics that share one protocol. metrics: dotted name -> column title."""

    title: str
    protocol: str
    metrics: Mapping[str, str]


def lookup(tree: Tree, name: str) -> float | None:
    """The number under a dotted name, or None where the tree has none."""
    node: Any = tree
    for part in name.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return float(node) if isinstance(node, (int, float)) else None


def read_score(tree: Tree, name: str) -> Score | None:
    """The metric in percent with its interval, or None where the tree has none."""
    value = lookup(tree, name)
    if value is None:
        return None
    low, high = (lookup(tree, f"{name}_ci95_{end}") for end in ("low", "high"))
    return Score(100 * value, _percent(low), _percent(high))


def _percent(value: float | None) -> float:
    return math.nan if value is None else 100 * value


def headline(evaluation: Evaluation) -> dict[str, str]:
    """HEADLINE with the configured number of ways in its titles."""
    return {
        name: title.replace("300-way", f"{evaluation.n_way}-way")
        for name, title in HEADLINE.items()
    }


def list_families(trees: Iterable[Tree], evaluation: Evaluation, n_images: int) -> list[Family]:
    """The families of metrics that at least one tree has; columns that nothing fills are left
    out.
    """
    trees = list(trees)
    galleries = {
        "retrieval": (
            f"Retrieval, {evaluation.n_way}-way",
            f"{evaluation.n_draws} fixed draws of {evaluation.n_way} test images",
        ),
        "retrieval_hard": (
            "Retrieval, hard gallery",
            f"each query among itself and its {evaluation.n_hard} nearest test images",
        ),
        "retrieval_all": ("Retrieval, whole test set", f"all {n_images} test images as gallery"),
    }
    families = []
    for key, (title, protocol) in galleries.items():
        names = {
            f"{key}.{d}.top{k}": f"{label} top-{k}"
            for k in (1, 5)
            for d, label in DIRECTIONS.items()
        }
        families.append(Family(title, protocol, _present(names, trees)))
    protocol = (
        "zero-shot: images with one dominant category (the only object, or at least "
        f"{evaluation.dominant_area:.0%} of"
        " the object area); mAP and AUC: all test images, classes without a positive or a negative "
        "left out"
    )
    families.append(Family("Categories", protocol, _present(OTHER, trees)))
    return [family for family in families if family.metrics]


def _present(names: Mapping[str, str], trees: list[Tree]) -> dict[str, str]:
    return {
        name: title
        for name, title in names.items()
        if any(lookup(tree, name) is not None for tree in trees)
    }


def chance(name: str, evaluation: Evaluation, n_images: int, tree: Tree) -> float | None:
    """Chance level of a metric in percent; None where it depends on the data in a way that is not
    recorded.
    """
    if name.startswith("zero_shot"):
        one = lookup(tree, f"{name.rsplit('.', 1)[0]}.chance")
        return None if one is None else 100 * min(1.0, one * int(name.rsplit("top", 1)[1]))
    if name == "classification.auc":
        return 50.0
    sizes = {
        "retrieval": evaluation.n_way,
        "retrieval_hard": evaluation.n_hard + 1,
        "retrieval_all": n_images,
    }
    family = name.split(".")[0]
    return 100 * int(name.rsplit("top", 1)[1]) / sizes[family] if family in sizes else None
