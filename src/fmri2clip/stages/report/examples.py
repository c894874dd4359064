"""What decoders retrieve for single test pictures, side by side.

Which pictures are shown follows a rule: places in an order by rank. Nobody picks them.

Letters: I test images, K captions, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.artefacts.model import read_inputs
from fmri2clip.artefacts.scores import read_predictions
from fmri2clip.artefacts.stimuli import TEST, read_names
from fmri2clip.core import store
from fmri2clip.core.rows import find_rows
from fmri2clip.metrics.decoding.retrieval import similarity
from fmri2clip.solvers.ranks import centre
from fmri2clip.stages.report.inputs import Inputs
from fmri2clip.stages.report.pictures import Floats, Tile, choose_rows, load_stimuli
from fmri2clip.stages.report.scores import IMAGE, Scores

PLACES = {"best": 0.0, "median": 0.5, "worst": 1.0}
N_RETRIEVED = 5
SOURCE = "the CLIP cache of the test images"
MEANS = ("mean_image_D", "mean_text_D", "mean_predicted_image_D", "mean_predicted_text_D")


@dataclass(frozen=True)
class Found:
    """What one decoder found for a picture."""

    decoder: str
    rank: int
    tiles: Sequence[Tile]
    caption: str
    is_own: bool


@dataclass(frozen=True)
class Example:
    """A test picture and what every decoder found for it."""

    place: str
    stimulus: Tile
    caption: str
    found: Sequence[Found]


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """One subject's predictions against the test pictures and captions.

    image_II: similarity of brain pattern (row) and picture; text_IK: of brain pattern and caption.
    caption_image_K: row in I of each caption's picture.
    """

    nsd_id_I: NDArray[np.int64]
    image_II: Floats
    text_IK: Floats
    caption_K: Sequence[str]
    caption_image_K: NDArray[np.integer]

    @property
    def rank_I(self) -> NDArray[np.int64]:
        """1-based rank of the picture that was seen; exactly as similar ones count as ahead."""
        own_I1 = np.diagonal(self.image_II)[:, None]
        return (self.image_II >= own_I1).sum(axis=1)


def make_examples(inputs: Inputs, scores: Scores, subject: str) -> list[Example]:
    """Test pictures at PLACES of the mean rank of the true picture over decoders, and what each
    decoder finds for them.
    """
    by_decoder = {
        name: read_retrieval(inputs, name, subject)
        for name in scores.rows(IMAGE, "decoder", "baseline")
        if subject in inputs.params.runs[name].subjects
    }
    if not by_decoder:
        return []
    nsd_id_I = next(iter(by_decoder.values())).nsd_id_I
    mean_I = np.mean([retrieval.rank_I for retrieval in by_decoder.values()], axis=0)
    names = {quantile: place for place, quantile in PLACES.items()}
    chosen = choose_rows(mean_I, nsd_id_I, list(names))
    return [_make_example(inputs, by_decoder, names[quantile], row) for quantile, row in chosen]


def make_table(inputs: Inputs, scores: Scores) -> pd.DataFrame:
    """Every test picture as every decoder finds it: a row for each decoder, subject and picture.

    picture: its id; of a folder, its file. rank: its own place among the `of` test pictures of the
    subject. found_1 ...: which pictures came first.
    """
    names = {}
    if inputs.params.dataset.source == "folder":
        names = read_names(inputs.paths.stimuli(TEST))
    rows = []
    for decoder in scores.rows(IMAGE, "decoder", "baseline", "null"):
        run = inputs.params.runs.get(decoder)
        for subject in run.subjects if run else ():
            retrieval = read_retrieval(inputs, decoder, subject)
            picture_I = [names.get(nsd_id, nsd_id) for nsd_id in retrieval.nsd_id_I.tolist()]
            first_IF = np.argsort(-retrieval.image_II, axis=1, kind="stable")[:, :N_RETRIEVED]
            for picture, rank, first_F in zip(picture_I, retrieval.rank_I, first_IF, strict=True):
                found = {f"found_{place}": picture_I[i] for place, i in enumerate(first_F, start=1)}
                row = {"decoder": decoder, "subject": subject, "picture": picture}
                rows.append({**row, "rank": rank, "of": len(picture_I), **found})
    return pd.DataFrame(rows)


def _make_example(
    inputs: Inputs, by_decoder: Mapping[str, Retrieval], place: str, row: int
) -> Example:
    first = next(iter(by_decoder.values()))
    nearest = {
        name: np.argsort(-retrieval.image_II[row], kind="stable")[:N_RETRIEVED]
        for name, retrieval in by_decoder.items()
    }
    shown = np.unique(np.concatenate([[row], *nearest.values()]))
    uris = load_stimuli(inputs, [int(nsd_id) for nsd_id in first.nsd_id_I[shown]])
    nsd_id = int(first.nsd_id_I[row])
    own = np.flatnonzero(first.caption_image_K == row)
    return Example(
        place=place,
        stimulus=Tile(uris[nsd_id], f"seen picture, NSD id {nsd_id}", f"id {nsd_id}"),
        caption=first.caption_K[own[0]] if len(own) else "",
        found=[
            _make_found(name, retrieval, row, nearest[name], uris)
            for name, retrieval in by_decoder.items()
        ],
    )


def _make_found(
    name: str, retrieval: Retrieval, row: int, nearest: NDArray[np.intp], uris: Mapping[int, str]
) -> Found:
    tiles = []
    for place, other in enumerate(nearest, start=1):
        nsd_id = int(retrieval.nsd_id_I[other])
        is_hit = bool(other == row)
        alt = f"{name}, place {place}: NSD id {nsd_id}{', the seen picture' if is_hit else ''}"
        tiles.append(Tile(uris[nsd_id], alt, f"id {nsd_id}", is_hit))
    if not retrieval.caption_K:
        return Found(name, int(retrieval.rank_I[row]), tiles, "", False)
    best = int(np.argmax(retrieval.text_IK[row]))
    is_own = bool(retrieval.caption_image_K[best] == row)
    return Found(name, int(retrieval.rank_I[row]), tiles, retrieval.caption_K[best], is_own)


def read_retrieval(inputs: Inputs, name: str, subject: str) -> Retrieval:
    """Similarities of a subject's predictions with its test pictures and captions: the centred
    cosine of the metrics, every side less its own training mean.

    Raises ValueError where they are not those of the scores.
    """
    predictions = inputs.paths.predictions(name)
    stored = read_predictions(predictions, group=subject)
    shared = read_cache(
        inputs.paths.clip_shared(inputs.params.runs[name].clip),
        ("nsd_id_I", "image_embedding_ID", "text_embedding_KD", "caption_K", "caption_image_K"),
    )
    row_I = find_rows(shared["nsd_id_I"], stored["nsd_id_I"], SOURCE)
    own_K = np.isin(shared["caption_image_K"], row_I)
    arrays = read_inputs(inputs.paths.model(name) / subject)
    means = {key: arrays[key] for key in MEANS if key in arrays}
    brain_ID = centre(stored["embedding_ID"], means["mean_predicted_image_D"])
    image_II = similarity(
        brain_ID, centre(shared["image_embedding_ID"][row_I], means["mean_image_D"])
    )
    # A decoder without a second embedding searches captions with its first.
    if "text_embedding_ID" in stored:
        brain_ID = centre(stored["text_embedding_ID"], means["mean_predicted_text_D"])
    text_KD = centre(shared["text_embedding_KD"][own_K], means["mean_text_D"])
    place_of = {int(row): place for place, row in enumerate(row_I)}
    retrieval = Retrieval(
        nsd_id_I=stored["nsd_id_I"],
        image_II=image_II,
        text_IK=similarity(brain_ID, text_KD),
        caption_K=list(shared["caption_K"][own_K]),
        caption_image_K=np.array([place_of[int(row)] for row in shared["caption_image_K"][own_K]]),
    )
    _check_ranks(stored, retrieval, f"{predictions}, {subject}")
    return retrieval


def _check_ranks(stored: store.Arrays, retrieval: Retrieval, where: str) -> None:
    """Ranks shown beside pictures and scores in the tables must come from the same similarities."""
    metric = np.flatnonzero(stored["metric_M"] == "retrieval_all.image_given_brain.top1")
    if metric.size and not np.array_equal(
        stored["score_IM"][:, metric[0]] == 1, retrieval.rank_I == 1
    ):
        raise ValueError(
            f"{where}: scores do not belong to the embeddings and the model; run evaluate again "
            "(dvc repro)"
        )
