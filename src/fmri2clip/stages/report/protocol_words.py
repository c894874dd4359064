"""Words about protocols of pictures: what stands above a table, and why numbers under equal names
differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fmri2clip.core.params import MEAN_IMAGE
from fmri2clip.metrics.pictures.protocols import Protocol, Resize
from fmri2clip.stages.report.inputs import Inputs, PictureResult, Tree

SLOTS = {
    "alexnet": "AlexNet",
    "inception": "Inception",
    "clip": "CLIP",
    "efficientnet": "EfficientNet",
    "swav": "SwAV",
}
CREDITS = {0.0: "none", 0.5: "half", 1.0: "whole"}


def describe_protocol(inputs: Inputs, protocol: str) -> str:
    """Networks and stand-ins, number of images, candidates and their choice, encoding model,
    versions.
    """
    record = inputs.picture_record[protocol]
    networks = "; ".join(
        _describe_network(slot, facts) for slot, facts in record["networks"].items()
    )
    n_first = inputs.params.pictures.n_images
    versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    sentences = [
        f"**Protocol `{protocol}`.** Networks: {networks or 'none'}",
        "Images a subject: "
        f"{_describe_counts(record['n_images'])}{', the first by NSD id' if n_first else ', all'}",
        f"Candidates an image: {describe_candidates(inputs)}",
        "Two-way identification asks for the stimulus among two images: chance is 50 %",
        *_describe_shared_network(inputs, protocol),
        *_describe_brain(inputs, protocol),
        f"Versions: {versions}",
    ]
    return ". ".join(sentences) + "."


def _describe_network(slot: str, facts: Tree) -> str:
    stand_in = ", a stand-in" if facts.get("stand_in") else ""
    return f"{SLOTS.get(slot, slot)}: {facts['name']}{stand_in}"


def _describe_counts(n_images: Mapping[str, Mapping[str, int]]) -> str:
    counts = {n for by_subject in n_images.values() for n in by_subject.values()}
    return f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def describe_candidates(inputs: Inputs) -> str:
    """How many pictures were made of each image, and who chose among them."""
    words = {name: _describe_choice(result) for name, result in inputs.pictures.items()}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"`{name}` {text}" for name, text in words.items())


def _describe_choice(result: PictureResult) -> str:
    if result.entry.selection == "none":
        return f"{result.entry.n_candidates}, no selection"
    return f"{result.entry.n_candidates}, selection by {result.entry.selection}"


def _describe_shared_network(inputs: Inputs, protocol: str) -> list[str]:
    """That the network of the CLIP metric also made the pictures, where it did."""
    params = inputs.params
    painted = [r for r in inputs.pictures.values() if r.entry.source != MEAN_IMAGE]
    key = params.pictures.clip
    if not key or "clip" not in inputs.picture_record[protocol]["networks"]:
        return []
    model = params.clips[key].model
    painted = [
        r
        for r in painted
        if params.generators.get(r.entry.generator, {}).get("clip_model") == model
    ]
    if not painted:
        return []
    sources = [params.runs[r.entry.source] for r in painted if r.entry.source in params.runs]
    roles = (
        ["decoders are trained towards"]
        if any(params.clips[run.clip].model == model for run in sources)
        else []
    )
    roles.append("the generator is conditioned on")
    chose = (
        " (and that chose among candidates)"
        if any(r.entry.selection == "brain" for r in painted)
        else ""
    )
    return [
        f"The CLIP metric is measured by the network that {' and that '.join(roles)}{chose}, so "
        "read the other networks"
        " beside it"
    ]


def _describe_brain(inputs: Inputs, protocol: str) -> list[str]:
    brain = inputs.picture_record[protocol].get("brain", {})
    if not brain:
        return []
    first = next(iter(brain.values()))
    counts = sorted({facts["n_training_images"] for facts in brain.values()})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return [
        "Brain correlation: r across voxels between the measured pattern and what an encoding "
        "model of our own (ridge"
        f" regression from {' and '.join(f'`{layer}`' for layer in first['layers'])} of the "
        f"classifier, {n} training"
        " images a subject) predicts from the reconstruction"
    ]


def describe_difference(main: Protocol, other: Protocol) -> str:
    """One sentence: in what `other` differs from `main`, save in metrics that only one of them
    has.
    """
    there = describe(main)
    clauses = [
        f"{topic} ({here}; there: {there[topic]})"
        for topic, here in describe(other).items()
        if here != there[topic]
    ]
    if not clauses:
        return f"`{other.name}` measures as `{main.name}` does."
    return (
        f"Numbers under equal names differ from those of `{main.name}`, because the protocols "
        "differ in"
        f" {', '.join(clauses)}."
    )


def describe(protocol: Protocol) -> dict[str, str]:
    """Topic -> what the protocol does, the same topics for every protocol."""
    steps = [
        *protocol.common,
        *protocol.pixels,
        *(step for m in protocol.networks for step in m.resize),
    ]
    found = {
        "antialiased resizing": "yes" if all(step.antialias for step in steps) else "no",
        "first resize of all pictures": _describe_steps(protocol.common),
        "resize for PixCorr and SSIM": _describe_steps(protocol.pixels),
        "SSIM": "of single pixel columns" if protocol.ssim_columns else "of pictures",
        "what resizing does to the 8 bits of a stored picture": "kept"
        if protocol.eight_bit
        else "not rounded again",
    }
    for metric in protocol.networks:
        found[f"resize for {metric.slot}"] = _describe_steps(metric.resize)
        found[f"weights of {metric.slot}"] = f"`{metric.weights}`"
    return found | {
        "credit of a tie": CREDITS.get(protocol.tie_credit, f"{protocol.tie_credit:g}"),
        "decimals that make a tie": f"{protocol.decimals}",
        "correlation with a constant picture": (
            "undefined, and so is the mean"
            if math.isnan(protocol.undefined)
            else f"{protocol.undefined:g}"
        ),
        "precision of networks": "fp32" if protocol.fp32 else "any",
    }


def _describe_steps(steps: Sequence[Resize]) -> str:
    return (
        ", then ".join(f"{step.size} pixels, {step.filter}, {step.library}" for step in steps)
        or "none"
    )
