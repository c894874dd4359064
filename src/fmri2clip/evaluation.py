"""Score a trained run on the sealed test images: metrics.json and per-image predictions.

Letters: N trials, I test images (ascending NSD id), V voxels, D embedding width, T tokens, W token
width, C categories.

The repeats of a test image are averaged (z-scored betas, float32) and decoded once. Whatever the
decoder offers is scored; nothing here asks which decoder it is. Predictions and targets are each
centred by their own mean over the subject's training images, which training has put into the model
folder. Tokens are large: they are predicted and compared in blocks of images and never stored, as
the model folder gives them again at any time. Where a noise-free response exists (simulated data),
the same decoder is scored on it as well: `reference.noise_free`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fmri2clip import decoders, store
from fmri2clip.attention import score_attention
from fmri2clip.decoders import TOKEN_TARGETS
from fmri2clip.look import STREAMS, Look, read_look, score_look
from fmri2clip.metrics.retrieval import centre, similarity
from fmri2clip.metrics.scoring import (
    Prediction,
    Truth,
    Unseen,
    find_rows,
    merge,
    place,
    score,
    score_tokens,
    score_unseen,
)
from fmri2clip.metrics.statistics import Scores
from fmri2clip.metrics.summary import summarise
from fmri2clip.params import Evaluation
from fmri2clip.predictions import pack_scores, write_json
from fmri2clip.testset import CLIP_NAMES, TestBetas, make_truth, read_test_betas
from fmri2clip.training.cached import read_target
from fmri2clip.training.split import assign_clusters

Array = NDArray[Any]
GALLERY_BYTES = 2**28  # of true tokens of a stream, float64, in memory at a time


class Pictures(NamedTuple):
    """Where the pictures are: an NSD tree, and from which visible fraction on an object counts."""

    root: Path
    min_area: float


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained decoder with what its folder says about one subject (arrays of
    inputs.safetensors, split.json).
    """

    decoder: Any
    inputs: Mapping[str, Array]
    split: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrueTokens:
    """What the predicted tokens of a stream are compared with. token_KTW: of all images of the CLIP
    cache; row_I: the test images among them; mean_TW: over the subject's training images, of as
    many tokens as the stream has.
    """

    token_KTW: Array
    row_I: Array
    mean_TW: Array

    def centre_blocks(self) -> Iterator[tuple[slice, Array]]:
        """Test images and their centred tokens (J, X), in blocks of GALLERY_BYTES; centred once
        if one block is all.
        """
        step = max(1, GALLERY_BYTES // (8 * self.mean_TW.size))
        if step >= len(self.row_I):
            yield slice(0, len(self.row_I)), self._whole_IX
        else:
            for start in range(0, len(self.row_I), step):
                rows = slice(start, start + step)
                yield rows, self._centre(rows)

    @cached_property
    def _whole_IX(self) -> Array:
        return self._centre(slice(None))

    def _centre(self, rows: slice) -> Array:
        return _centre_tokens(self.token_KTW[self.row_I[rows], : len(self.mean_TW)], self.mean_TW)


def evaluate_run(
    models_dir: Path,
    run_name: str,
    subjects: Sequence[str],
    test_paths: Mapping[str, Path],
    voxels_paths: Mapping[str, Path],
    shared_path: Path,
    evaluation: Evaluation,
    metrics_path: Path,
    predictions_path: Path,
    pictures: Pictures | None = None,
) -> dict[str, Any]:
    """Score every subject of a run; writes metrics_path (JSON) and predictions_path, returns the
    content of the former.

    models_dir holds <run_name>/<subject>; test_paths and voxels_paths hold a file of each subject;
    shared_path is the CLIP cache of the test images; pictures: where they are, for the readouts.
    Raises ValueError if the files do not belong together.
    """
    clip = store.read(shared_path, "clip", CLIP_NAMES)
    look = read_look(pictures.root, clip["nsd_id_I"], pictures.min_area) if pictures else None
    run: dict[str, Scores] = {}
    groups: dict[str, dict[str, Any]] = {}
    for subject in subjects:
        model = load_model(models_dir / run_name, subject)
        rows_V = select_voxels(model, voxels_paths[subject])
        betas = read_test_betas(test_paths[subject], rows_V)
        read_tokens(model, shared_path, clip)
        run[subject], groups[subject] = evaluate_subject(
            model, subject, betas, clip, evaluation, look
        )
    tree = summarise(run, evaluation.n_bootstrap, evaluation.seed)
    store.write_groups(predictions_path, "predictions", groups)
    write_json(metrics_path, tree)
    return tree


def evaluate_subject(
    model: Model,
    subject: str,
    betas: TestBetas,
    clip: Mapping[str, Array],
    evaluation: Evaluation,
    look: Look | None = None,
) -> tuple[Scores, dict[str, Any]]:
    """Scores of one subject and the arrays of its group in the predictions file."""
    truth = make_truth(
        clip,
        betas.nsd_id_I,
        required(model, "mean_image_D"),
        required(model, "mean_text_D"),
        evaluation,
    )
    unseen = find_unseen(model, clip, betas.nsd_id_I)
    decoded = decode(model, subject, betas.mean_IV)
    scores = [
        _score_all(model, decoded, truth, unseen, "", "unseen"),
        _count_parameters(model, subject, betas),
    ]
    targets = find_targets(model, clip, betas.nsd_id_I)
    scores.append(score_all_tokens(model, subject, betas.mean_IV, targets, truth))
    scores.append(score_attention(model.decoder, betas.mean_IV, subject, betas.nsd_id_I))
    if look is not None:
        tokens = read_streams(model, subject, betas.mean_IV, tuple(STREAMS))
        scores.append(score_look(look, betas.nsd_id_I, decoded.get("embedding_ID"), tokens))
    noise_free: dict[str, Array] = {}
    if betas.noise_free_IV is not None:
        noise_free = decode(model, subject, betas.noise_free_IV)
        scores.append(
            _score_all(
                model, noise_free, truth, unseen, "reference.noise_free", "unseen.noise_free"
            )
        )
        token_scores = score_all_tokens(model, subject, betas.noise_free_IV, targets, truth)
        scores.append(place(token_scores, "reference.noise_free"))
    merged = merge(scores)
    arrays: dict[str, Any] = {name: value for name, value in decoded.items() if name != "logits_IC"}
    if "embedding_ID" in noise_free:
        arrays["noise_free_embedding_ID"] = noise_free["embedding_ID"]
    return merged, arrays | pack_scores(merged)


def _score_all(
    model: Model,
    decoded: Mapping[str, Array],
    truth: Truth,
    unseen: Unseen | None,
    prefix: str,
    unseen_prefix: str,
) -> Scores:
    prediction = make_prediction(model, decoded)
    scores = score(prediction, truth)
    parts = [place(scores, prefix) if prefix else scores]
    if unseen is not None:
        parts.append(place(score_unseen(prediction, truth, unseen), unseen_prefix))
    return merge(parts)


def _count_parameters(model: Model, subject: str, betas: TestBetas) -> Scores:
    """parameters.trained and parameters.deployed of the model that serves this subject, and
    what else it states.
    """
    constants = {f"parameters.{name}": float(n) for name, n in model.decoder.n_parameters().items()}
    if hasattr(model.decoder, "facts"):
        constants |= model.decoder.facts(subject)
    return Scores(nsd_id_I=betas.nsd_id_I, constants=constants)


def load_model(folder: Path, subject: str) -> Model:
    """Decoder of a subject: its own, or the one that all subjects share."""
    own = folder / subject
    decoder, _ = decoders.load(
        own if (own / "weights.safetensors").is_file() else folder / "shared"
    )
    for name in ("inputs.safetensors", "split.json"):
        if not (own / name).is_file():
            raise ValueError(
                f"{own} has no {name}: the run was not trained on {subject}; run the train stage "
                "(dvc repro)"
            )
    from safetensors.numpy import load_file

    return Model(
        decoder=decoder,
        inputs=load_file(own / "inputs.safetensors"),
        split=json.loads((own / "split.json").read_text()),
    )


def required(model: Model, name: str) -> Array:
    """An array of inputs.safetensors. Raises ValueError if the folder was written without it."""
    if name not in model.inputs:
        raise ValueError(
            f"the model's inputs.safetensors has no {name}; it has {', '.join(model.inputs)}: "
            "train it again"
        )
    return model.inputs[name]


def select_voxels(model: Model, voxels_path: Path) -> Array:
    """Columns of the betas that the model reads, after checking that they are still the voxels
    it was trained on.
    """
    ijk_V3, rows_V = (
        store.read(voxels_path, "voxels", ["ijk_V3"])["ijk_V3"],
        required(model, "voxel_rows_V"),
    )
    if rows_V.max() >= len(ijk_V3) or not np.array_equal(ijk_V3[rows_V], required(model, "ijk_V3")):
        raise ValueError(
            f"{voxels_path} lists other voxels than the model was trained on; train it again (dvc "
            "repro)"
        )
    return rows_V


def decode(model: Model, subject: str, betas_IV: Array) -> dict[str, Array]:
    """What the decoder offers, float32: any of embedding_ID, text_embedding_ID, logits_IC."""
    with torch.no_grad():
        decoded = model.decoder.decode(torch.from_numpy(np.ascontiguousarray(betas_IV)), subject)
    names = ("embedding_ID", "text_embedding_ID", "logits_IC")
    return {
        name: getattr(decoded, name).float().numpy()
        for name in names
        if getattr(decoded, name) is not None
    }


def token_streams(model: Model) -> list[str]:
    """Streams of tokens that the decoder offers: those that training has centred."""
    return [name for name in TOKEN_TARGETS if f"mean_tokens_{name}_TW" in model.inputs]


def read_tokens(model: Model, shared_path: Path, clip: dict[str, Array]) -> None:
    """Add the cached tokens of the test images that the decoder's streams are compared with to
    `clip`.
    """
    for target in {TOKEN_TARGETS[stream] for stream in token_streams(model)}:
        if not any(name in clip for name in target.split("|")):
            name, array = read_target(shared_path, target)
            clip[name] = array


def decode_tokens(
    model: Model, subject: str, betas_IV: Array, n_block: int = 64
) -> Iterator[tuple[slice, dict[str, Array]]]:
    """Rows and their tokens (rows, T, W) by stream, float32, block after block; none for a
    decoder without tokens.
    """
    for start in range(0, len(betas_IV) if token_streams(model) else 0, n_block):
        rows = slice(start, start + n_block)
        with torch.no_grad():
            decoded = model.decoder.decode_tokens(
                torch.from_numpy(np.ascontiguousarray(betas_IV[rows])), subject
            )
        yield (
            rows,
            {name: tokens_ITW.float().numpy() for name, tokens_ITW in decoded.tokens.items()},
        )


def read_streams(
    model: Model, subject: str, betas_IV: Array, streams: Sequence[str]
) -> dict[str, Array]:
    """All tokens (I, T, W) of those of the streams that the decoder offers, float16."""
    blocks = [
        {name: tokens_ITW[name].astype(np.float16) for name in streams if name in tokens_ITW}
        for _, tokens_ITW in decode_tokens(model, subject, betas_IV)
    ]
    return {
        name: np.concatenate([block[name] for block in blocks])
        for name in (blocks[0] if blocks else ())
    }


def find_targets(model: Model, clip: Mapping[str, Array], nsd_id_I: Array) -> dict[str, TrueTokens]:
    """True tokens by stream; streams with the same target and mean share one, so that it is
    centred once.
    """
    row_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache of the test images")
    shared: dict[tuple[str, bytes], TrueTokens] = {}
    targets: dict[str, TrueTokens] = {}
    for stream in token_streams(model):
        mean_TW = required(model, f"mean_tokens_{stream}_TW")
        name = next(name for name in TOKEN_TARGETS[stream].split("|") if name in clip)
        own = TrueTokens(token_KTW=clip[name], row_I=row_I, mean_TW=mean_TW)
        targets[stream] = shared.setdefault((name, mean_TW.tobytes()), own)
    return targets


def score_all_tokens(
    model: Model, subject: str, betas_IV: Array, targets: Mapping[str, TrueTokens], truth: Truth
) -> Scores:
    """Retrieval by the flattened tokens of every stream, centred by the means over the training
    images.

    Memory: predicted tokens of one block of images and, of each stream, true ones of GALLERY_BYTES
    beside the cache's own, whatever the number of images.
    """
    n_images = len(truth.nsd_id_I)
    similarities = {stream: np.zeros((n_images, n_images)) for stream in targets}
    for rows, tokens in decode_tokens(model, subject, betas_IV):
        for stream, target in targets.items():
            query_IX = _centre_tokens(
                tokens[stream], required(model, f"mean_predicted_tokens_{stream}_TW")
            )
            for columns, gallery_JX in target.centre_blocks():
                similarities[stream][rows, columns] = similarity(query_IX, gallery_JX)
    scored = [
        score_tokens(matrix, truth.galleries, stream) for stream, matrix in similarities.items()
    ]
    return Scores(
        nsd_id_I=truth.nsd_id_I, per_image={k: v for part in scored for k, v in part.items()}
    )


def _centre_tokens(tokens_ITW: Array, mean_TW: Array) -> Array:
    """One centred vector of norm 1 an image."""
    return centre(tokens_ITW.reshape(len(tokens_ITW), -1), mean_TW.reshape(-1))


def make_prediction(model: Model, decoded: Mapping[str, Array]) -> Prediction:
    """Centred predictions; the embedding also serves as text embedding where the decoder has no
    other.
    """
    image_ID = text_ID = None
    own_text = "text_embedding_ID" in decoded
    if "embedding_ID" in decoded:
        image_ID = text_ID = centre(
            decoded["embedding_ID"], required(model, "mean_predicted_image_D")
        )
        own_text = own_text and not np.array_equal(
            decoded["embedding_ID"], decoded["text_embedding_ID"]
        )
    if own_text:
        text_ID = centre(decoded["text_embedding_ID"], required(model, "mean_predicted_text_D"))
    return Prediction(
        image_ID=image_ID, text_ID=text_ID, logits_IC=decoded.get("logits_IC"), own_text=own_text
    )


def find_unseen(model: Model, clip: Mapping[str, Array], nsd_id_I: Array) -> Unseen | None:
    """Which categories and which test images the subject's training has left out; None if
    nothing.
    """
    candidates_C: Array | None = None
    held_out_I: Array | None = None
    if model.split.get("unseen_categories"):
        candidates_C = np.isin(clip["category_C"].astype(str), model.split["unseen_categories"])
    if "centroids_KD" in model.inputs:
        row_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache of the test images")
        cluster_I = assign_clusters(clip["image_embedding_ID"][row_I], model.inputs["centroids_KD"])
        held_out_I = np.isin(cluster_I, model.inputs["heldout_clusters"])
    if candidates_C is None and held_out_I is None:
        return None
    return Unseen(candidates_C=candidates_C, held_out_I=held_out_I)
