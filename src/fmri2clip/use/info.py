"""What `fmri2clip info` says of a model folder."""

from __future__ import annotations

from pathlib import Path

from fmri2clip.datasets.nsd.layout import TERMS_URL
from fmri2clip.use.model import load

TERMS = (
    f"NSD's terms ({TERMS_URL}) are for research and education and forbid to pass on data or parts "
    "of them: ask before passing on weights derived from them; of the simulated NSD they are free"
)


def describe(folder: Path) -> list[str]:
    """Lines of a name and what it is. Raises ValueError for a folder that is not a model."""
    model = load(folder)
    about = model.description
    clip = model.content.clip
    identity = f", weights {clip['weights_sha256']}" if "weights_sha256" in clip else ""
    present = model.content.inputs.get("present_C")
    n_sessions = len(model.content.inputs.get("session_mean_SV", ()))
    categories = "not kept; train the model again to have them"
    if clip and present is not None:
        categories = f"{len(clip['category_C'])}, of which {present.sum()} occur in training images"
    numbers = about["parameters"]
    rows = {
        "run": about["run"],
        "decoder": about["decoder"],
        "clip": f"{about['clip']}{identity}; {about['width_D']} numbers",
        "categories": categories,
        "subject": model.subject,
        "voxels": f"{len(model.ijk_V3)} of group {about['voxels']!r}",
        "sessions": f"{n_sessions} with statistics for --norm stored",
        "images": f"{about['n_training_images'][model.subject]} for training, "
        f"{about['n_validation_images'][model.subject]} for validation",
        "weights": f"{numbers['deployed']} numbers for decoding, {numbers['trained']} trained",
        "digest": model.weights_sha256,
        "terms": TERMS,
    }
    return [f"{name:<11}{value}" for name, value in rows.items()]
