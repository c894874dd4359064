"""A model folder as an object that decodes: what `fmri2clip.load` gives.

Letters: N trials, I rows that are decoded, V voxels, D embedding width, C categories, P prompts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fmri2clip.artefacts import model as artefact
from fmri2clip.artefacts.card import Card, find_card
from fmri2clip.clip.prompts import compare_prompts, share_out
from fmri2clip.solvers.platt import scale_logits
from fmri2clip.solvers.ranks import centre
from fmri2clip.use import hub
from fmri2clip.use.normalise import NONE, normalise

Array = NDArray[Any]
LABELS = "labels"
PROMPTS = "prompts"


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What a model says of I rows of betas; None where it says nothing.

    embedding, text_embedding: (I, D), in the CLIP space of the model's training, not of unit norm.
    probabilities: (I, C). Of a decoder of labels, that the picture shows the category: they need
    not add up to 1. Of other decoders, that a category of the picture is this one, by the prompts
    (clip/prompts.py): they add up to 1. Both are as sure as validation images allow that were seen
    as often.
    named_by: 'labels' or 'prompts', which of the two; '' without probabilities. categories: names
    of the columns of `probabilities`, empty where the folder does not keep them.
    """

    embedding: Array | None = None
    text_embedding: Array | None = None
    probabilities: Array | None = None
    named_by: str = ""
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained model of one subject, in memory.

    address: on the hub, with its commit; '' for a folder of this machine. card: None for a folder
    without one.
    """

    subject: str
    weights_sha256: str
    content: artefact.Model
    address: str = ""
    card: Card | None = None

    @property
    def ijk_V3(self) -> Array:
        """Voxels that the model reads: zero-based X, Y, Z in the volumes of its training."""
        return artefact.required(self.content, "ijk_V3")

    @property
    def description(self) -> Mapping[str, Any]:
        """What the model is: run, decoder, settings, counts (config.yaml)."""
        return self.content.description

    def normalise(self, betas_NV: Array, norm: str, session: Array | int | str = 0) -> Array:
        """z-scores of single trials by stored, session or none; see normalise.py."""
        self._check_shape(betas_NV)
        return normalise(betas_NV, norm, self.content.inputs, session)

    def decode(self, betas_IV: Array, n_repeats: int = 1) -> Decoding:
        """Decode z-scored betas whose columns are the voxels of ijk_V3, in this order.

        n_repeats: how many trials each row is the mean of. Raises ValueError for another number of
        voxels and for what are no z-scores.
        """
        self._check_shape(betas_IV)
        if n_repeats < 1:
            raise ValueError(f"n_repeats is {n_repeats}; a row is the mean of 1 trial or more")
        z_IV = normalise(betas_IV, NONE, self.content.inputs)
        decoded = artefact.decode(self.content, self.subject, z_IV, n_repeats)
        probability_IC, named_by = self._name_categories(decoded, n_repeats)
        return Decoding(
            embedding=decoded.get("embedding_ID"),
            text_embedding=decoded.get("text_embedding_ID"),
            probabilities=probability_IC,
            named_by=named_by,
            categories=tuple(self.content.clip.get("category_C", ())) if named_by else (),
        )

    def _name_categories(
        self, decoded: Mapping[str, Array], n_repeats: int
    ) -> tuple[Array | None, str]:
        """Probabilities, and what they come from; none where training kept nothing for them."""
        inputs = self.content.inputs
        if "logits_IC" in decoded and "label_scaling_R2" in inputs:
            slope, offset = _choose(inputs["label_scaling_R2"], n_repeats)
            return scale_logits(decoded["logits_IC"], slope, offset), LABELS
        if "embedding_ID" in decoded and "prompt_scale_R" in inputs:
            cosine_IC = compare_prompts(self.centre(decoded["embedding_ID"]), inputs)
            scale = float(_choose(inputs["prompt_scale_R"], n_repeats))
            return share_out(cosine_IC, inputs["present_C"], scale), PROMPTS
        return None, ""

    def centre(self, embedding_ID: Array, kind: str = "image") -> Array:
        """Predictions less their mean over training images, unit norm; kind: image or text."""
        return centre(embedding_ID, artefact.required(self.content, f"mean_predicted_{kind}_D"))

    def centre_targets(self, embedding_ID: Array, kind: str = "image") -> Array:
        """The same of CLIP's own embeddings, of pictures or of captions."""
        return centre(embedding_ID, artefact.required(self.content, f"mean_{kind}_D"))

    def _check_shape(self, betas_NV: Array) -> None:
        n_voxels = len(self.ijk_V3)
        if betas_NV.ndim != 2 or betas_NV.shape[1] != n_voxels:
            raise ValueError(
                f"betas have the shape {betas_NV.shape}, the model reads (rows, {n_voxels}): its "
                "voxels, in the order of ijk_V3"
            )


def _choose(fitted_R: Array, n_repeats: int) -> Any:
    """What was fitted to means of as many trials; of the most, where there are more."""
    return fitted_R[min(n_repeats, len(fitted_R)) - 1]


def load(path: str | os.PathLike[str]) -> Model:
    """The model in a folder models/<run>/<subject>, in a copy of it, or on the Hugging Face hub.

    path: a folder, or hf://OWNER/NAME@REVISION/<subject> (hub.py). A decoder for all subjects has
    its weights in the folder `shared` beside it, which is copied along. Raises ValueError for what
    is not a subject's model.
    """
    given = os.fspath(path)
    address = ""
    if given.startswith(hub.SCHEME):
        fetched = hub.fetch(given)
        given = str(fetched.folder)
        address = fetched.address
    # Absolute, as '.' has neither a name nor a parent.
    folder = Path(given).absolute()
    weights = _find_weights(folder, Path(given))
    _check_whole(folder, weights, given)
    content = artefact.load_model(folder.parent, folder.name)
    digest = artefact.weights_sha256(weights)
    return Model(
        subject=_find_subject(folder, content.description),
        weights_sha256=digest,
        content=content,
        address=address,
        card=find_card(folder, digest),
    )


def _find_weights(folder: Path, given: Path) -> Path:
    """The folder itself, or `shared` beside it."""
    if not (folder / artefact.INPUTS).is_file():
        subjects = sorted(path.parent for path in folder.glob(f"*/{artefact.INPUTS}"))
        beside = sorted(path.parent for path in folder.parent.glob(f"*/{artefact.INPUTS}"))
        if subjects:
            advice = f"it holds models: name one, such as {given / subjects[0].name}"
        elif beside and artefact.has_weights(folder):
            advice = (
                f"its weights serve all subjects: name one, such as {given.parent / beside[0].name}"
            )
        else:
            advice = "name a folder models/<run>/<subject>, which the train stage writes"
        lack = f"no {artefact.INPUTS}" if folder.exists() else "it does not exist"
        raise ValueError(f"{given} is not a subject's model ({lack}); {advice}")
    shared = folder.parent / artefact.SHARED
    found = [path for path in (folder, shared) if artefact.has_weights(path)]
    if not found:
        raise ValueError(
            f"{given} has no weights, nor has the folder {artefact.SHARED!r} beside it; copy that "
            "of the run along, if its decoder serves all subjects"
        )
    return found[0]


def _check_whole(folder: Path, weights: Path, given: str) -> None:
    for path in (weights / artefact.CONFIG, folder / artefact.SPLIT):
        if not path.is_file():
            raise ValueError(
                f"{given} is not whole: {path.parent.name} has no {path.name}; copy all of its "
                "files"
            )


def _find_subject(folder: Path, description: Mapping[str, Any]) -> str:
    """A model of one subject names it; of several, the folder has the subject's name."""
    subjects = list(description["digests"])
    if len(subjects) == 1:
        return str(subjects[0])
    if folder.name not in subjects:
        raise ValueError(
            f"the model serves {', '.join(subjects)}, but its folder is called {folder.name!r}; "
            "give it the name of its subject again"
        )
    return folder.name
