"""The words of a model card, from what the model's folder holds; card.py has the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmri2clip.datasets.terms import SIMULATED, find_source

OFFERS = {
    "mean_predicted_image_D": "a CLIP embedding of the picture",
    "mean_predicted_text_D": "one of its captions",
    "mean_predicted_tokens_semantic_TW": "CLIP's tokens",
    "label_scaling_R2": "how likely the picture shows each category",
}
LIMITS = (
    "Another person, or the same person in another space of voxels: the numbers that come out mean "
    "nothing.",
    "What somebody thinks, remembers, intends or dreams: it was trained on responses to pictures "
    "that were on a screen.",
    "Diagnosis, questioning, surveillance, hiring, or any other decision about a person.",
    "Responses of anybody who has not agreed to it, or to find out who a participant is.",
    "Single pictures as evidence: what is nearest in a gallery, or painted by a generator, need "
    "not have been seen.",
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score on test images, a fraction of 1, with its 95 % interval.

    metric: dotted name in metrics.json. null: of a decoder without a brain; target: of the true
    CLIP embedding; None where there is none.
    """

    metric: str
    label: str
    value: float
    low: float
    high: float
    null: float | None = None
    target: float | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of one subject's model: contents of the files of its folder, and a digest."""

    subject: str
    about: Mapping[str, Any]  # config.yaml
    inputs: Mapping[str, Any]
    split: Mapping[str, Any]
    clip: Mapping[str, Any]
    weights_sha256: str

    @property
    def title(self) -> str:
        """Run and subject."""
        return f"{self.about['run']}, {self.subject}"


def write_text(facts: Facts, scores: Sequence[Score] = ()) -> str:
    """The card behind its YAML part."""
    about = facts.about
    sections = [
        f"# {facts.title}: from fMRI to CLIP",
        *_warn(about),
        f"A decoder of the Python package fmri2clip. It reads the fMRI responses of one person "
        f"({facts.subject}) to pictures, single trials or means of them, and gives "
        f"{_join(facts.inputs)}. It reads no other brain.",
        _make_table(_describe(facts)),
        "## Data and split",
        _make_list(_tell_split(facts)),
        *(_tell_scores(scores) if scores else ()),
        "## Use",
        f"```\nfmri2clip decode FOLDER/{facts.subject} --betas betas.npy --norm stored --session 1 "
        "--out decoded\n```",
        "FOLDER is that of the run, or `hf://OWNER/NAME@REVISION` on the Hugging Face hub. What "
        "can be seen not to fit is refused: other voxels, a file of another person, values of "
        "another scale. How sure categories may be was fitted to validation images.",
        "## What it must not be used for",
        _make_list([*LIMITS, *(["Any statement about brains."] if _is_simulated(about) else [])]),
        "## Terms",
        find_source(about).terms,
        "## To cite",
        _make_list(_cite(about)),
    ]
    return "\n\n".join(sections) + "\n"


def _warn(about: Mapping[str, Any]) -> list[str]:
    """What must be read first."""
    found = []
    if _is_simulated(about):
        found.append(
            "**Trained on simulated data.** Its voxels are units of a model, so it decodes no "
            "brain, and its scores say nothing about brains."
        )
    if about["split"]["permute"]:
        found.append(
            "**A null.** It was trained on pairs of brain and picture that do not belong together, "
            "to show what is found where nothing is."
        )
    return found


def _join(inputs: Mapping[str, Any]) -> str:
    """What the model gives, in words."""
    found = [words for name, words in OFFERS.items() if name in inputs]
    return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else "".join(found)


def _describe(facts: Facts) -> dict[str, str]:
    about = facts.about
    clip = facts.clip
    numbers = about["parameters"]
    return {
        "run": about["run"],
        "decoder": about["decoder"],
        "CLIP": f"{clip.get('model', about['clip'])}, {about['width_D']} numbers; weights "
        f"{clip.get('weights_sha256', 'unknown')}",
        "data": find_source(about).name,
        "subject": facts.subject,
        "voxels": f"{len(facts.inputs['ijk_V3'])} of group {about['voxels']}; their places are in "
        "inputs.safetensors",
        "weights": f"{numbers['deployed']} numbers, {numbers['trained']} of them trained",
        "sha256 of the weights": facts.weights_sha256,
    }


def _tell_split(facts: Facts) -> list[str]:
    about = facts.about
    split = facts.split
    preparation = about["dataset"]["preparation"]
    lines = [
        f"Betas ({preparation}) of {len(facts.inputs['session_mean_SV'])} sessions, z-scored "
        "within session.",
        f"{about['n_training_images'][facts.subject]} images for training, "
        f"{about['n_validation_images'][facts.subject]} for validation, split by image; the ids "
        "are in split.json.",
        "Training saw no test image, no response to one and no caption of one.",
    ]
    if split["left_out"]:
        unseen = ", ".join(split["unseen_categories"]) or "none"
        lines.append(
            f"{len(split['left_out'])} images were left out on purpose; categories that were never "
            f"seen: {unseen}."
        )
    if split["unused"]:
        lines.append(f"{len(split['unused'])} images were not used, by the settings of the split.")
    return lines


def _tell_scores(scores: Sequence[Score]) -> list[str]:
    rows = ["| score, % | this model | 95 % interval | no brain | true embedding |"]
    rows.append("| --- | ---: | ---: | ---: | ---: |")
    for score in scores:
        null, target = ("-" if x is None else _percent(x) for x in (score.null, score.target))
        rows.append(
            f"| {score.label} | {_percent(score.value)} | {_percent(score.low)} to "
            f"{_percent(score.high)} | {null} | {target} |"
        )
    return [
        "## Scores on test images",
        "\n".join(rows),
        "Means of all trials of an image, unless it is said otherwise. Intervals: bootstrap over "
        "test images. No brain: the mean training embedding for every image, and how often "
        "training images show a category. True embedding: CLIP's own, where that is not right by "
        "definition.",
    ]


def _cite(about: Mapping[str, Any]) -> list[str]:
    from fmri2clip.decoders import load_decoder

    method = load_decoder(about["decoder"]).CITATION.rstrip(".")
    lines = [f"The method, of which this is a re-implementation in its style: {method}."]
    data = find_source(about).cite
    return [*lines, f"The data: {data}."] if data else lines


def _is_simulated(about: Mapping[str, Any]) -> bool:
    return find_source(about) is SIMULATED


def _make_table(rows: Mapping[str, str]) -> str:
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def _make_list(lines: Sequence[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
