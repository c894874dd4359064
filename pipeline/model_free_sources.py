"""Stage model_free_sources: what stands in models/ for the sources of reconstructions that are no run.

DVC can then say of every reconstruction that it needs models/<source>, and no other model.
"""

from __future__ import annotations

from fmri2clip.params import MEAN_IMAGE, TARGET, Params
from pipeline import _stage

MEANING = {
    TARGET: "No model: true CLIP features of the test images, the reference of reconstructions.\n",
    MEAN_IMAGE: "No model: the mean training picture, a null of reconstructions.\n",
}


def model_free_sources(params: Params) -> None:
    """Write models/target and models/mean_image, a line of text each."""
    _stage.MODELS.mkdir(exist_ok=True)
    for name, text in MEANING.items():
        (_stage.MODELS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _stage.run(model_free_sources)
