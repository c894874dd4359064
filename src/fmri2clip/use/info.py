"""What `fmri2clip info` says of a model folder."""

from __future__ import annotations

from collections.abc import Iterator

from fmri2clip.artefacts.card import Card
from fmri2clip.datasets.terms import find_source
from fmri2clip.use.model import load
from fmri2clip.use.normalise import list_sessions


def describe(place: str) -> list[str]:
    """Lines of a name and what it is. Raises ValueError for what is not a model."""
    model = load(place)
    about = model.description
    clip = model.content.clip
    inputs = model.content.inputs
    source = find_source(about)
    numbers = about["parameters"]
    identity = f", weights {clip['weights_sha256']}" if "weights_sha256" in clip else ""
    categories = "not kept; train the model again to have them"
    if clip and "present_C" in inputs:
        n_present = inputs["present_C"].sum()
        categories = f"{len(clip['category_C'])}, of which {n_present} occur in training images"
    sessions = ", ".join(list_sessions(inputs)) or "none"
    if "betas_scale_1" in inputs and "session_labels_B" not in inputs:
        sessions += " by their order in trials.tsv (train again to have their labels)"
    rows = {
        "run": about["run"],
        "decoder": about["decoder"],
        "clip": f"{about['clip']}{identity}; {about['width_D']} numbers",
        "categories": categories,
        "data": source.name,
        "subject": model.subject,
        "voxels": f"{len(model.ijk_V3)} of group {about['voxels']!r}",
        "sessions": f"{sessions}, with statistics for --norm stored",
        "images": f"{about['n_training_images'][model.subject]} for training, "
        f"{about['n_validation_images'][model.subject]} for validation",
        "scores": f"\n{'':<11}".join(tell_scores(model.card)) or "none on test images come with it",
        "weights": f"{numbers['deployed']} numbers for decoding, {numbers['trained']} trained",
        "digest": model.weights_sha256,
        "licence": source.licence.get("license_name", source.licence["license"]),
        "terms": source.terms,
    }
    if model.address:
        rows["hub"] = model.address
    return [f"{name:<11}{value}" for name, value in rows.items()]


def tell_scores(card: Card | None) -> Iterator[str]:
    """Test scores of a card in percent, with their intervals and what is found without a brain."""
    for score in card.scores if card else ():
        extra = score["args"]
        low, high = extra["ci95"]
        null = f", no brain {100 * extra['no_brain']:.1f}" if "no_brain" in extra else ""
        interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
        yield f"{score['name']} {100 * score['value']:.1f} {interval}{null}"
