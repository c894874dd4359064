"""What `make publish` does: a folder for the Hugging Face hub, whole or not at all, no upload.

publish/<run>/README.md         the card of the repository
publish/<run>/<subject>/        a model folder, its card with test scores where there are some
publish/<run>/shared/           where one decoder serves all subjects
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from fmri2clip.artefacts.card import CARD, OWN, Card, join
from fmri2clip.artefacts.model import INPUTS, SHARED, has_weights
from fmri2clip.artefacts.paths import Paths
from fmri2clip.datasets.terms import SIMULATED, find_source
from fmri2clip.use.hub import FILES, SCHEME
from fmri2clip.use.info import tell_scores
from fmri2clip.use.model import Model, load
from fmri2clip.use.normalise import list_sessions


def publish(run: str, paths: Paths, out: Path) -> list[str]:
    """Write the folder `out` of a run; returns lines on what to do before it is uploaded.

    Raises ValueError for a run without models, for a model without a card, and if `out` exists.
    """
    run_folder = paths.model(run)
    folders = sorted(path.parent for path in run_folder.glob(f"*/{INPUTS}"))
    if not folders:
        there = ", ".join(sorted(path.name for path in paths.models.glob("[!.]*"))) or "none"
        raise ValueError(
            f"{run_folder} holds no models; choose from the runs that are trained: {there}"
        )
    if out.exists():
        raise ValueError(f"{out} exists already; look at what it holds, then move or delete it")
    models = {folder.name: load(folder) for folder in folders}
    cards = {subject: model.card for subject, model in models.items() if model.card is not None}
    for subject in models:
        if subject not in cards:
            raise ValueError(
                f"{run_folder / subject} has no card of its weights; train it again (dvc repro "
                f"train@{run})"
            )
    part = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _copy(run_folder, part, cards)
        (part / CARD).write_text(_join_cards(run, cards, models), encoding="utf-8")
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _list_checks(run, models, cards, out)


def _copy(run_folder: Path, part: Path, cards: Mapping[str, Card]) -> None:
    """The files of the models, by their names, and nothing else that lies there."""
    for subject in (*cards, SHARED):
        (part / subject).mkdir(parents=True)
        for name in FILES:
            if (run_folder / subject / name).is_file():
                shutil.copyfile(run_folder / subject / name, part / subject / name)
    for subject, card in cards.items():
        (part / subject / CARD).write_text(card.text, encoding="utf-8")
    if not has_weights(run_folder / SHARED):
        (part / SHARED).rmdir()


def _join_cards(run: str, cards: Mapping[str, Card], models: Mapping[str, Model]) -> str:
    """The card of the repository: what its models have in common, and where theirs are."""
    about = next(iter(models.values())).description
    front = {k: v for k, v in next(iter(cards.values())).front.items() if k != OWN}
    index = [entry for card in cards.values() for entry in card.front.get("model-index", [])]
    if index:
        front["model-index"] = index
    rows = [
        f"| [{subject}]({subject}/{CARD}) | {next(tell_scores(card), '-')} |"
        for subject, card in cards.items()
    ]
    first = next(iter(cards))
    session = next(iter(list_sessions(models[first].content.inputs)), "1")
    text = [
        f"# {run}: from fMRI to CLIP",
        f"Decoders ({about['decoder']}) of the Python package fmri2clip, trained on "
        f"{find_source(about).name}: one for each person, whose brain it reads and no other. The "
        "card of each says what it was trained on, what it scores, and what it must not be used "
        "for.",
        "\n".join(["| person | score on test images, % |", "| --- | --- |", *rows]),
        f"```\nfmri2clip decode {SCHEME}OWNER/NAME@REVISION/{first} --betas betas.npy "
        f"--norm stored --session {session} --out decoded\n```",
        "## Terms",
        find_source(about).terms,
    ]
    return join(front, "\n\n".join(text) + "\n")


def _list_checks(
    run: str, models: Mapping[str, Model], cards: Mapping[str, Card], out: Path
) -> list[str]:
    """What was made, and what to check about it."""
    about = next(iter(models.values())).description
    source = find_source(about)
    lines = [f"{out} holds {len(models)} models of {run}; nothing was uploaded"]
    unscored = [subject for subject, card in cards.items() if not card.scores]
    if unscored:
        lines.append(
            f"without test scores: {', '.join(unscored)} (dvc repro evaluate@{run}, then again)"
        )
    lines.append(f"terms: {source.terms}")
    if source is not SIMULATED:
        lines.append(
            "derived from the data are: the weights; in inputs.safetensors places of voxels, their "
            "mean and spread in every session, labels of sessions, grid and affine of masks, means "
            "of predictions; in split.json ids of pictures"
        )
    return [
        *lines,
        f"if you may pass it on: hf upload OWNER/NAME {out}; a private or gated repository lets "
        "you choose who reads it",
    ]
