"""What the subject tokens of trained decoders do; nothing is chosen by it.

All on the sealed test images:

swap        categories of one subject decoded with the tokens (or the embedding) of another; input
            map, projection and network stay as they are. lost: own minus other, over all pairs of
            subjects, on the same images
attention   share of each token's attention that each ROI gets, last layer and rollout
            (attention.py)
rsa         Spearman correlation over pairs of images between the distances (1 - Pearson) of a
            token's outputs and of the features of a CLIP block (mean of its patch tokens), and of
            the final image embedding (`final`)
late        rsa with `final` minus rsa with block 1, the difference of that between tokens:
            high_minus_low

Intervals: 95 % bootstrap over images, the same for all subjects; for rsa the ranks are those of the
whole sample and pairs of an image with its own copy are left out, as in metrics/similarity.py. A
run without tokens, or one that does not know the subject, lacks the parts that do not apply to it.

Letters: I images, V voxels, R resamples (row 0 is the sample), L blocks, P pairs of images, T
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import TEST_NAMES, read_cache
from fmri2clip.artefacts.model import (
    Model,
    decode_as,
    load_model,
    read_attention,
    read_subject_tokens,
    required,
    select_voxels,
)
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, iterate_images
from fmri2clip.artefacts.trials import read_test_betas
from fmri2clip.clip import encoder
from fmri2clip.clip.blocks import summarise_blocks
from fmri2clip.clip.encoder import Encoder
from fmri2clip.core.params import Evaluation, Params
from fmri2clip.core.rows import find_rows
from fmri2clip.decoders import load_decoder
from fmri2clip.metrics import similarity
from fmri2clip.metrics.decoding.attention import (
    early_chance,
    early_columns,
    score_attention,
    shares,
)
from fmri2clip.metrics.decoding.scoring import Prediction, score_labels
from fmri2clip.metrics.decoding.truth import make_truth
from fmri2clip.metrics.statistics import (
    Difference,
    Estimate,
    Memo,
    Run,
    Scores,
    estimate,
    mean_score,
    paired_difference,
)
from fmri2clip.metrics.summary import DECIMALS

Array = NDArray[Any]
Tree = dict[str, Any]
TOKENS = ("high", "low")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One subject of a run: its model, mean pattern of each test image, and what it shows."""

    model: Model
    mean_IV: Array
    nsd_id_I: Array
    truth: Any


def read_case(
    run: str, subject: str, paths: Paths, clip: Mapping[str, Array], evaluation: Evaluation
) -> Case:
    """The test images of one subject as its model of a run sees them."""
    model = load_model(paths.model(run), subject)
    rows_V = select_voxels(model, paths.voxels(subject))
    betas = read_test_betas(paths.test_betas(subject), rows_V)
    truth = make_truth(
        clip,
        betas.nsd_id_I,
        required(model, "mean_image_D"),
        required(model, "mean_text_D"),
        evaluation,
    )
    return Case(model=model, mean_IV=betas.mean_IV, nsd_id_I=betas.nsd_id_I, truth=truth)


def inspect_runs(params: Params, paths: Paths, device: str) -> Tree:
    """Run -> swap, attention and rsa, for the runs whose decoder knows subjects."""
    tree: Tree = {}
    blocks: dict[str, tuple[dict[str, Array], Array]] = {}
    for name, run in params.runs.items():
        # A decoder of one subject has no tokens of subjects that could be looked at.
        if load_decoder(run.decoder).Decoder.per_subject:
            continue
        clip = read_cache(paths.clip_shared(run.clip), TEST_NAMES)
        cases = {s: read_case(name, s, paths, clip, params.evaluation) for s in run.subjects}
        # The blocks of a CLIP model are the same for all runs that use it.
        if run.clip not in blocks:
            model = encoder.load(params.clips[run.clip], device)
            blocks[run.clip] = read_blocks(model, paths, run.clip, params.compute.threads)
        features, ids = blocks[run.clip]
        if found := analyse_run(cases, features, ids, params.evaluation):
            tree[name] = found
    return tree


def analyse_run(
    cases: Mapping[str, Case], blocks: Mapping[str, Array], ids: Array, evaluation: Evaluation
) -> Tree:
    """swap, attention and rsa of one run; empty where the decoder has nothing of a subject.

    blocks: name -> features (I, F) of the images `ids`, earliest first.
    """
    tree: Tree = {}
    decoder = next(iter(cases.values())).model.decoder
    if decoder.knows_subject and len(decoder.subjects) > 1:
        tree["swap"] = swap_tokens(cases, evaluation)
    if decoder.n_tokens:
        tree["attention"] = describe_attention(cases, evaluation)
        tree["rsa"] = compare_blocks(cases, blocks, ids, evaluation)
    return tree


def swap_tokens(cases: Mapping[str, Case], evaluation: Evaluation) -> Tree:
    """map of every subject (outer) with every subject's tokens (inner), and what it costs."""
    names = list(cases)
    scores = {(s, t): _score_as(cases[s], s, t) for s in names for t in names}
    own: Run = {s: scores[s, s] for s in names}
    # Each entry gives every subject the tokens of the one k places on: together they are all pairs,
    # and each is compared with `own` subject by subject, on the same images.
    others = [
        {s: scores[s, names[(i + k) % len(names)]] for i, s in enumerate(names)}
        for k in range(1, len(names))
    ]
    tree: Tree = {"map": {}, "lost": {}, "n_subjects": len(names)}
    n_bootstrap = evaluation.n_bootstrap
    seed = evaluation.seed
    memo: Memo = {}
    for (subject, token_subject), found in scores.items():
        one = mean_score([{subject: found}], "classification.map", n_bootstrap, seed, memo=memo)
        tree["map"].setdefault(subject, {})[token_subject] = _numbers(one)
    for name in ("map", "auc"):
        pairs = [(own, other) for other in others]
        lost = paired_difference(pairs, f"classification.{name}", n_bootstrap, seed, memo=memo)
        tree["lost"][name] = _difference(lost)
    return tree


def _score_as(case: Case, subject: str, token_subject: str) -> Scores:
    logits_IC = decode_as(case.model, subject, token_subject, case.mean_IV)
    return score_labels(Prediction(logits_IC=logits_IC), case.truth)


def describe_attention(cases: Mapping[str, Case], evaluation: Evaluation) -> Tree:
    """Mean shares by subject, token and ROI, and the share of early areas over all subjects."""
    decoder = next(iter(cases.values())).model.decoder
    early_R = early_columns(decoder.roi_names)
    # The share that early areas would get if all ROIs got the same, mean over subjects.
    chances = [
        early_chance(attention_ITR, decoder.roi_names)
        for subject, case in cases.items()
        if (attention_ITR := read_attention(case.model, subject, case.mean_IV)) is not None
    ]
    tree: Tree = {"early_chance": float(np.mean(chances))}
    tree["is_early"] = dict(zip(decoder.roi_names, early_R.astype(float).tolist(), strict=True))
    for kind in ("last_layer", "rollout"):
        for subject, case in cases.items():
            attention_ITR = read_attention(case.model, subject, case.mean_IV, kind == "rollout")
            assert attention_ITR is not None, "decoders without tokens do not come here"
            share_ITR = shares(attention_ITR)
            tree.setdefault(kind, {})[subject] = {
                token: dict(
                    zip(decoder.roi_names, np.round(share_R, DECIMALS).tolist(), strict=True)
                )
                for token, share_R in zip(_names(share_ITR), share_ITR.mean(axis=0), strict=True)
            }
    run = {
        s: score_attention(
            read_attention(case.model, s, case.mean_IV), decoder.roi_names, case.nsd_id_I
        )
        for s, case in cases.items()
    }
    for metric in next(iter(run.values())).per_image:
        name = metric.removeprefix("attention.")
        tree.setdefault("early", {})[name] = _numbers(
            mean_score([run], metric, evaluation.n_bootstrap, evaluation.seed)
        )
    return tree


def _names(value_ITx: Array) -> tuple[str, ...]:
    return TOKENS if value_ITx.shape[1] == len(TOKENS) else ("both",)


def compare_blocks(
    cases: Mapping[str, Case], blocks: Mapping[str, Array], ids: Array, evaluation: Evaluation
) -> Tree:
    """rsa by token and block, means over subjects, and late with its contrast."""
    # Only the images that all subjects saw: one draw of images then serves all of them, and what is
    # averaged over subjects is of the same images.
    seen = [set(case.nsd_id_I.tolist()) for case in cases.values()]
    common = np.asarray(sorted(set.intersection(*seen)))
    row_I = find_rows(ids, common, "the features of the CLIP blocks")
    model_LP = np.stack([_rank(feature_IF[row_I]) for feature_IF in blocks.values()])
    weight_RI = similarity.resample_images(
        len(common), evaluation.n_bootstrap, np.random.default_rng(evaluation.seed)
    )
    moments = similarity.rank_moments(model_LP, weight_RI)
    found: dict[str, list[Array]] = {}
    for subject, case in cases.items():
        images_I = find_rows(case.nsd_id_I, common, f"the test images of {subject}")
        outputs = read_subject_tokens(case.model, subject, case.mean_IV[images_I])
        for token, output_IE in outputs.items():
            value_RL = correlate(_rank(output_IE), model_LP, moments, weight_RI)
            found.setdefault(token, []).append(value_RL)
    mean = {token: np.mean(values, axis=0) for token, values in found.items()}
    tree: Tree = {"n_images": len(common)}
    # `final` is the last of the blocks, block 1 the first.
    for token, value_RL in mean.items():
        tree[token] = {name: _interval(value_RL[:, b]) for b, name in enumerate(blocks)}
        tree[token]["late"] = _interval(value_RL[:, -1] - value_RL[:, 0])
    if set(mean) == set(TOKENS):
        late = {token: value_RL[:, -1] - value_RL[:, 0] for token, value_RL in mean.items()}
        tree["high_minus_low"] = _interval(late["high"] - late["low"])
    return tree


def correlate(
    brain_P: Array, model_LP: Array, moments: tuple[Array, Array], weight_RI: Array
) -> Array:
    """Pearson correlation (R, L) of ranks over pairs of images, in every resample.

    moments: of the models' ranks.
    """
    n = weight_RI.shape[1]
    brain_II = similarity.put_pairs(brain_P, n)
    mean_R = similarity.pair_means(weight_RI, brain_II)
    variance_R = similarity.pair_means(weight_RI, brain_II**2) - mean_R**2
    product_RL = np.stack(
        [
            similarity.pair_means(weight_RI, brain_II * similarity.put_pairs(m_P, n))
            for m_P in model_LP
        ],
        axis=1,
    )
    mean_RL, variance_RL = moments
    covariance_RL: Array = product_RL - mean_R[:, None] * mean_RL
    return covariance_RL / np.sqrt(variance_R[:, None] * variance_RL)


def _rank(feature_IF: Array) -> Array:
    """Ranks of the distances between images, features centred over the images (hierarchy.py)."""
    centred_IF = feature_IF - feature_IF.mean(axis=0)
    return similarity.rank_pairs(similarity.correlation_distances(centred_IF))


def read_blocks(
    model: Encoder, paths: Paths, clip_name: str, threads: int
) -> tuple[dict[str, Array], Array]:
    """Features (I, F) of every block and of the final embedding for all test images, and their ids.

    Raises ValueError if the cache was made with other weights.
    """
    shared_path = paths.clip_shared(clip_name)
    clip = read_cache(shared_path, TEST_NAMES)
    # `final` is read from the cache, the blocks are computed here: both must be of one model.
    if clip.attrs.get("weights_sha256", model.weights_sha256) != model.weights_sha256:
        raise ValueError(
            f"{shared_path} was cached with other weights than the encoder's; run cache_clip again"
        )
    batches = iterate_images(paths.stimuli(TEST), clip["nsd_id_I"], model.clip.batch_size)
    patch_means = summarise_blocks(model, batches, threads)["patch_mean"]
    blocks = {f"block_{b}": feature_IF for b, feature_IF in enumerate(patch_means, start=1)}
    return blocks | {"final": clip["image_embedding_ID"].astype(np.float64)}, clip["nsd_id_I"]


def _numbers(e: Estimate) -> dict[str, float]:
    named = {"value": e.value, "low": e.low, "high": e.high}
    return {
        name: round(float(number), DECIMALS)
        for name, number in named.items()
        if np.isfinite(number)
    }


def _interval(value_R: Array) -> dict[str, float]:
    return _numbers(estimate(float(value_R[0]), value_R[1:]))


def _difference(d: Difference) -> Tree:
    per_subject = {subject: _numbers(e) for subject, e in d.per_subject.items()}
    return {**_numbers(d.estimate), "n_positive": d.n_positive, "subjects": per_subject}
