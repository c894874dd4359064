"""Score a trained run on the sealed test images: metrics.json and per-image predictions.

Letters: N trials, I test images (ascending NSD id), V voxels, D embedding width, T tokens, W token
width, C categories.

The repeats of a test image are averaged (z-scored betas, float32) and decoded, and so are its first
one and its first two (`trials.<n>`). Whatever the
decoder offers is scored; nothing here asks which decoder it is. Predictions and targets are each
centred by their own mean over the subject's training images, which training has put into the model
folder. Tokens are large: they are predicted and compared in blocks of images and never stored, as
the model folder gives them again at any time. Where a noise-free response exists (simulated data),
the same decoder is scored on it as well: `reference.noise_free`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import TEST_NAMES, read_cache, read_target
from fmri2clip.artefacts.components import read_basis
from fmri2clip.artefacts.model import (
    Model,
    decode,
    decode_tokens,
    load_judged,
    load_model,
    read_attention,
    required,
    select_voxels,
    token_streams,
)
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.scores import pack_scores, write_predictions
from fmri2clip.artefacts.stimuli import TEST
from fmri2clip.artefacts.trials import TestBetas, read_test_betas
from fmri2clip.clip.clusters import assign_clusters
from fmri2clip.clip.targets import TOKEN_TARGETS
from fmri2clip.core.files import write_json
from fmri2clip.core.params import Evaluation, Params
from fmri2clip.core.rows import find_rows
from fmri2clip.metrics.decoding.attention import score_attention
from fmri2clip.metrics.decoding.retrieval import similarity
from fmri2clip.metrics.decoding.scoring import (
    Prediction,
    Truth,
    Unseen,
    list_categories,
    merge,
    place,
    score,
    score_tokens,
    score_trials,
    score_unseen,
)
from fmri2clip.metrics.decoding.truth import make_truth
from fmri2clip.metrics.statistics import Scores
from fmri2clip.metrics.summary import summarise
from fmri2clip.solvers.ranks import centre
from fmri2clip.stages.evaluate.converged import is_converged, read_study
from fmri2clip.stages.evaluate.encoded import (
    Regions,
    has_encoding_model,
    read_regions,
    score_responses,
)
from fmri2clip.stages.evaluate.identified import STREAMS as STREAMS_OF_LIKELIHOOD
from fmri2clip.stages.evaluate.identified import (
    has_likelihood,
    list_features,
    score_identification,
)
from fmri2clip.stages.evaluate.judged import score_judged
from fmri2clip.stages.evaluate.picture_maps import PictureMaps, load_maps
from fmri2clip.stages.evaluate.picture_readout import choose_streams, score_picture_readout

Array = NDArray[Any]
GALLERY_BYTES = 2**28  # of true tokens of a stream, float64, in memory at a time
QUERY_BYTES = 2**30  # of predicted tokens of all streams that meet a gallery in one pass


@dataclass(frozen=True, kw_only=True)
class TrueTokens:
    """What the predicted tokens of a stream are compared with.

    token_KTW: of all images of the CLIP cache; row_I: the test images among them; mean_TW: over the
    subject's training images, of as many tokens as the stream has.
    """

    token_KTW: Array
    row_I: Array
    mean_TW: Array

    def centre_blocks(self) -> Iterator[tuple[slice, Array]]:
        """Test images and their centred tokens (J, X), in blocks of GALLERY_BYTES."""
        step = max(1, GALLERY_BYTES // (8 * self.mean_TW.size))
        # Every block of predictions, noise-free ones too, meets the same gallery: one that fits is
        # centred once and kept.
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
    run_name: str, params: Params, paths: Paths, read_pictures: bool = True
) -> dict[str, Any]:
    """Score every subject of a run; writes its metrics and its predictions, returns the metrics.

    read_pictures: whether the look of the pictures is read out of what the decoder gives. Raises
    ValueError if the files do not belong together.
    """
    run = params.runs[run_name]
    shared_path = paths.clip_shared(run.clip)
    clip = read_cache(shared_path, TEST_NAMES)
    maps = load_maps(paths.stimuli(TEST), clip["nsd_id_I"]) if read_pictures else None
    scores: dict[str, Scores] = {}
    groups: dict[str, dict[str, Any]] = {}
    # Decoders that read no tokens can have a likelihood, too, so an empty basis is one.
    has_tokens = params.clips[run.clip].tokens
    basis: dict[str, Array] | None = None
    for subject in run.subjects:
        model = load_model(paths.model(run_name), subject)
        rows_V = select_voxels(model, paths.voxels(subject))
        betas = read_test_betas(paths.test_betas(subject), rows_V)
        read_tokens(model, shared_path, clip)
        judged = load_judged(paths.model(run_name), subject)
        reads_features = has_likelihood(model) or has_encoding_model(model)
        if reads_features and has_tokens:
            add_tokens(shared_path, STREAMS_OF_LIKELIHOOD, clip)
        if basis is None and (reads_features or (judged and "tokens_JX" in (judged.heldout or {}))):
            basis = read_basis(paths.clip_basis(run.clip)) if has_tokens else {}
        regions = read_regions(paths.voxels(subject), paths.test_betas(subject), rows_V)
        scores[subject], groups[subject] = evaluate_subject(
            model, subject, betas, clip, params.evaluation, maps, judged, basis, regions
        )
    tree = summarise(scores, params.evaluation.n_bootstrap, params.evaluation.seed)
    write_predictions(paths.predictions(run_name), groups)
    write_json(paths.metrics(run_name), tree)
    return tree


def evaluate_subject(
    model: Model,
    subject: str,
    betas: TestBetas,
    clip: Mapping[str, Array],
    evaluation: Evaluation,
    maps: PictureMaps | None = None,
    judged: Model | None = None,
    basis: Mapping[str, Array] | None = None,
    regions: Regions | None = None,
) -> tuple[Scores, dict[str, Any]]:
    """Scores of one subject and the arrays of its group in the predictions file.

    judged, basis: the second fit, and components of the clip's tokens, which its judge needs, and a
    decoder with a likelihood or an encoding model; regions: where that one is scored.
    """
    truth = make_truth(
        clip,
        betas.nsd_id_I,
        required(model, "mean_image_D"),
        required(model, "mean_text_D"),
        evaluation,
    )
    unseen = find_unseen(model, clip, betas.nsd_id_I)
    decoded = decode(model, subject, betas.mean_IV, betas.n_repeats)
    scores = [
        _score_all(model, decoded, truth, unseen, "", "unseen"),
        _describe_model(model, subject, betas),
    ]
    by_trials = {n: decode(model, subject, first_IV, n) for n, first_IV in betas.first.items()}
    for n, fewer in by_trials.items():
        scores.append(place(score_trials(make_prediction(model, fewer), truth), f"trials.{n}"))
    of_voxels: dict[str, Array] = {}
    if basis is not None and (has_likelihood(model) or has_encoding_model(model)):
        features = list_features(clip, betas.nsd_id_I, basis)
        if has_likelihood(model):
            scores.append(score_identification(model, betas, features, truth.galleries))
        if has_encoding_model(model) and regions is not None:
            foretold, of_voxels = score_responses(model, betas, features, regions)
            scores.append(foretold)
    if judged is not None:
        scores.append(score_judged(judged, subject, betas, clip, truth.galleries, basis))
    targets = find_targets(model, clip, betas.nsd_id_I)
    # The readout needs all tokens of a stream at once. They are kept from the one pass that also
    # scores them, rather than decoded a second time.
    token_scores, tokens = score_all_tokens(
        model, subject, betas.mean_IV, betas.n_repeats, targets, truth, keeps=maps is not None
    )
    scores.append(token_scores)
    attention_ITR = read_attention(model, subject, betas.mean_IV)
    scores.append(score_attention(attention_ITR, model.decoder.roi_names, betas.nsd_id_I))
    if maps is not None:
        scores.append(
            score_picture_readout(maps, betas.nsd_id_I, decoded.get("embedding_ID"), tokens)
        )
    noise_free: dict[str, Array] = {}
    # Decoded by the decoder that was trained on noisy responses: what is left of its errors here is
    # not due to the noise of the test trials.
    if betas.noise_free_IV is not None:
        noise_free = decode(model, subject, betas.noise_free_IV, betas.n_repeats)
        scores.append(
            _score_all(
                model, noise_free, truth, unseen, "reference.noise_free", "unseen.noise_free"
            )
        )
        clean_scores, _ = score_all_tokens(
            model, subject, betas.noise_free_IV, betas.n_repeats, targets, truth
        )
        scores.append(place(clean_scores, "reference.noise_free"))
    names = [str(name) for name in clip["category_C"]]
    scores.append(list_categories(scores[0], names, truth.present_C))
    merged = merge(scores)
    # The logits are left out because pack_scores keeps them, as scores of the classes.
    arrays: dict[str, Any] = {name: value for name, value in decoded.items() if name != "logits_IC"}
    if "embedding_ID" in noise_free:
        arrays["noise_free_embedding_ID"] = noise_free["embedding_ID"]
    return merged, arrays | of_voxels | pack_scores(merged)


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


def _describe_model(model: Model, subject: str, betas: TestBetas) -> Scores:
    """parameters.trained and .deployed of the subject's model, training.converged (0 where that is
    not shown), and what else it states.
    """
    constants = {f"parameters.{name}": float(n) for name, n in model.decoder.n_parameters().items()}
    constants["training.converged"] = float(is_converged(model.description, read_study()))
    constants |= model.decoder.facts(subject)
    return Scores(nsd_id_I=betas.nsd_id_I, constants=constants)


def read_tokens(model: Model, shared_path: Path, clip: dict[str, Array]) -> None:
    """Add to `clip` the cached tokens of the test images that the decoder's streams predict."""
    add_tokens(shared_path, token_streams(model), clip)


def add_tokens(shared_path: Path, streams: Iterable[str], clip: dict[str, Array]) -> None:
    """Add to `clip` the cached tokens that these streams predict."""
    # Two streams may share a target, and "a|b" means whichever of two arrays the cache has: each is
    # read once, by the name that is there.
    for target in {TOKEN_TARGETS[stream] for stream in streams}:
        if not any(name in clip for name in target.split("|")):
            name, array = read_target(shared_path, target)
            clip[name] = array


def find_targets(model: Model, clip: Mapping[str, Array], nsd_id_I: Array) -> dict[str, TrueTokens]:
    """True tokens by stream; streams with the same target and mean share one."""
    row_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache of the test images")
    shared: dict[tuple[str, bytes], TrueTokens] = {}
    targets: dict[str, TrueTokens] = {}
    for stream in token_streams(model):
        mean_TW = required(model, f"mean_tokens_{stream}_TW")
        name = next(name for name in TOKEN_TARGETS[stream].split("|") if name in clip)
        own = TrueTokens(token_KTW=clip[name], row_I=row_I, mean_TW=mean_TW)
        # Shared, so that the tokens of both streams are centred, and held in memory, only once.
        targets[stream] = shared.setdefault((name, mean_TW.tobytes()), own)
    return targets


def score_all_tokens(
    model: Model,
    subject: str,
    betas_IV: Array,
    n_repeats: int,
    targets: Mapping[str, TrueTokens],
    truth: Truth,
    keeps: bool = False,
) -> tuple[Scores, dict[str, Array]]:
    """Retrieval by the flattened tokens of every stream, and the tokens of some. n_repeats: trials
    behind each row of the betas.

    Tokens are centred by the means over the training images. Returned beside the scores: all tokens
    (I, T, W), float16, of the streams that readouts read; none unless it keeps them.

    Memory, beside what is kept: predicted tokens of QUERY_BYTES, those of one stream in
    float64, and of each stream true ones of
    GALLERY_BYTES beside the cache's own, whatever the number of images.
    """
    n_images = len(truth.nsd_id_I)
    similarities = {stream: np.zeros((n_images, n_images)) for stream in targets}
    kept: dict[str, list[Array]] = {}
    # A picture has hundreds of tokens, as wide as an embedding each: block by block, only the small
    # matrices of similarities grow with the number of images.
    for blocks in _gather(decode_tokens(model, subject, betas_IV, n_repeats)):
        for _, tokens in blocks:
            for stream in choose_streams(tokens).values() if keeps else ():
                kept.setdefault(stream, []).append(tokens[stream].astype(np.float16))
        for stream, target in targets.items():
            mean_TW = required(model, f"mean_predicted_tokens_{stream}_TW")
            queries = [(rows, _centre_tokens(tokens[stream], mean_TW)) for rows, tokens in blocks]
            for columns, gallery_JX in target.centre_blocks():
                for rows, query_IX in queries:
                    similarities[stream][rows, columns] = similarity(query_IX, gallery_JX)
    scored = [
        score_tokens(matrix, truth.galleries, stream) for stream, matrix in similarities.items()
    ]
    scores = Scores(
        nsd_id_I=truth.nsd_id_I, per_image={k: v for part in scored for k, v in part.items()}
    )
    return scores, {stream: np.concatenate(blocks) for stream, blocks in kept.items()}


def _gather(
    blocks: Iterable[tuple[slice, dict[str, Array]]],
) -> Iterator[list[tuple[slice, dict[str, Array]]]]:
    """Lists of blocks that take QUERY_BYTES together, or a little more."""
    found: list[tuple[slice, dict[str, Array]]] = []
    n_bytes = 0
    for block in blocks:
        found.append(block)
        n_bytes += sum(array.nbytes for array in block[1].values())
        if n_bytes >= QUERY_BYTES:
            yield found
            found = []
            n_bytes = 0
    if found:
        yield found


def _centre_tokens(tokens_ITW: Array, mean_TW: Array) -> Array:
    """One centred vector of norm 1 an image."""
    return centre(tokens_ITW.reshape(len(tokens_ITW), -1), mean_TW.reshape(-1))


def make_prediction(model: Model, decoded: Mapping[str, Array]) -> Prediction:
    """Centred predictions; the embedding is also the text embedding of a decoder without one."""
    image_ID = text_ID = None
    own_text = "text_embedding_ID" in decoded
    # By the mean prediction, not by the mean target: a contrastive decoder is free in the offset of
    # what it predicts. The mean is of training images, so the score of a test image does not depend
    # on which others are tested.
    if "embedding_ID" in decoded:
        image_ID = text_ID = centre(
            decoded["embedding_ID"], required(model, "mean_predicted_image_D")
        )
        # A decoder may give one embedding under both names: that is no text embedding of its own.
        own_text = own_text and not np.array_equal(
            decoded["embedding_ID"], decoded["text_embedding_ID"]
        )
    if own_text:
        text_ID = centre(decoded["text_embedding_ID"], required(model, "mean_predicted_text_D"))
    return Prediction(
        image_ID=image_ID, text_ID=text_ID, logits_IC=decoded.get("logits_IC"), own_text=own_text
    )


def find_unseen(model: Model, clip: Mapping[str, Array], nsd_id_I: Array) -> Unseen | None:
    """What the subject's training has left out, categories or test images; None if nothing."""
    candidates_C: Array | None = None
    held_out_I: Array | None = None
    if model.split.get("unseen_categories"):
        candidates_C = np.isin(clip["category_C"].astype(str), model.split["unseen_categories"])
    # Training leaves out clusters of its own images; a test image belongs to the nearest of them.
    if "centroids_KD" in model.inputs:
        row_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache of the test images")
        cluster_I = assign_clusters(clip["image_embedding_ID"][row_I], model.inputs["centroids_KD"])
        held_out_I = np.isin(cluster_I, model.inputs["heldout_clusters"])
    if candidates_C is None and held_out_I is None:
        return None
    return Unseen(candidates_C=candidates_C, held_out_I=held_out_I)
