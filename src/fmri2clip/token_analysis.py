"""What the subject tokens of trained decoders do, on the sealed test images; nothing is chosen by
it.

swap        categories of one subject decoded with the tokens (or the embedding) of another; input map, projection and
            network stay as they are. lost: own minus other, over all pairs of subjects, on the same
            images
attention   share of each token's attention that each ROI gets, last layer and rollout (attention.py)
rsa         Spearman correlation over pairs of images between the distances (1 - Pearson) of a token's outputs and of
            the features of a CLIP block (mean of its patch tokens), and of the final image
            embedding (`final`)
late        rsa with `final` minus rsa with block 1, the difference of that between tokens: high_minus_low

Intervals: 95 % bootstrap over images, the same for all subjects; for rsa the ranks are those of the
whole sample and pairs of an image with its own copy are left out, as in metrics/similarity.py. A
run without tokens, or one that does not know the subject, lacks the parts that do not apply to it.

Letters: I images, V voxels, R resamples (row 0 is the sample), L blocks, P pairs of images, T
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmri2clip import store
from fmri2clip.attention import early_columns, read_shares, score_attention
from fmri2clip.clip.encoder import Encoder
from fmri2clip.evaluation import Model, load_model, required, select_voxels
from fmri2clip.hierarchy_inputs import summarise_blocks
from fmri2clip.metrics import similarity
from fmri2clip.metrics.scoring import Prediction, find_rows, score_labels
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
from fmri2clip.params import Evaluation
from fmri2clip.testset import CLIP_NAMES, make_truth, read_test_betas

Array = NDArray[Any]
Tree = dict[str, Any]
TOKENS = ("high", "low")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One subject of a run: its model, mean pattern (I, V) of each test image, and what is in
    the pictures.
    """

    model: Model
    mean_IV: Array
    nsd_id_I: Array
    truth: Any


def read_case(
    models_dir: Path,
    subject: str,
    test_path: Path,
    voxels_path: Path,
    clip: Mapping[str, Array],
    evaluation: Evaluation,
) -> Case:
    """The test images of one subject as its model of a run sees them; models_dir: folder of the
    run.
    """
    model = load_model(models_dir, subject)
    betas = read_test_betas(test_path, select_voxels(model, voxels_path))
    means = required(model, "mean_image_D"), required(model, "mean_text_D")
    truth = make_truth(clip, betas.nsd_id_I, *means, evaluation)
    return Case(model=model, mean_IV=betas.mean_IV, nsd_id_I=betas.nsd_id_I, truth=truth)


def analyse_run(
    cases: Mapping[str, Case], blocks: Mapping[str, Array], ids: Array, evaluation: Evaluation
) -> Tree:
    """swap, attention and rsa of one run, as nested numbers; empty where the decoder has nothing of
    a subject.

    blocks: name -> features (I, F) of the images `ids`, earliest first.
    """
    tree: Tree = {}
    decoder = next(iter(cases.values())).model.decoder
    if getattr(decoder, "knows_subject", False) and len(decoder.subjects) > 1:
        tree["swap"] = swap_tokens(cases, evaluation)
    if getattr(decoder, "n_tokens", 0):
        tree["attention"] = describe_attention(cases, evaluation)
        tree["rsa"] = compare_blocks(cases, blocks, ids, evaluation)
    return tree


def swap_tokens(cases: Mapping[str, Case], evaluation: Evaluation) -> Tree:
    """map of every subject (outer) with the tokens of every subject (inner), and what is lost
    with another's.
    """
    names = list(cases)
    scores = {(s, t): _score_as(cases[s], s, t) for s in names for t in names}
    own: Run = {s: scores[s, s] for s in names}
    others = [
        {s: scores[s, names[(i + k) % len(names)]] for i, s in enumerate(names)}
        for k in range(1, len(names))
    ]
    tree: Tree = {"map": {}, "lost": {}, "n_subjects": len(names)}
    n, seed = evaluation.n_bootstrap, evaluation.seed
    memo: Memo = {}
    for (subject, token_subject), found in scores.items():
        one = mean_score([{subject: found}], "classification.map", n, seed, memo=memo)
        tree["map"].setdefault(subject, {})[token_subject] = _numbers(one)
    for name in ("map", "auc"):
        lost = paired_difference(
            [(own, other) for other in others], f"classification.{name}", n, seed, memo=memo
        )
        tree["lost"][name] = _difference(lost)
    return tree


def _score_as(case: Case, subject: str, token_subject: str) -> Scores:
    betas = torch.from_numpy(np.ascontiguousarray(case.mean_IV))
    decoded = case.model.decoder.decode_as(betas, subject, token_subject)
    return score_labels(Prediction(logits_IC=decoded.logits_IC.numpy()), case.truth)


def describe_attention(cases: Mapping[str, Case], evaluation: Evaluation) -> Tree:
    """Mean shares by subject, token and ROI, and the share of early areas with its interval,
    over all subjects.
    """
    decoder = next(iter(cases.values())).model.decoder
    early_R = early_columns(decoder.roi_names)
    tree: Tree = {"early_chance": float(early_R.mean())}
    tree["is_early"] = dict(zip(decoder.roi_names, early_R.astype(float).tolist(), strict=True))
    for kind in ("last_layer", "rollout"):
        for subject, case in cases.items():
            share_ITR = read_shares(decoder, case.mean_IV, subject, kind == "rollout")
            assert share_ITR is not None, "decoders without tokens do not come here"
            tree.setdefault(kind, {})[subject] = {
                token: dict(
                    zip(decoder.roi_names, np.round(share_R, DECIMALS).tolist(), strict=True)
                )
                for token, share_R in zip(_names(share_ITR), share_ITR.mean(axis=0), strict=True)
            }
    run = {s: score_attention(decoder, case.mean_IV, s, case.nsd_id_I) for s, case in cases.items()}
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
    """rsa by token and block, means over subjects, on the images that all subjects saw; late
    and its contrast.
    """
    common = np.asarray(
        sorted(set.intersection(*(set(case.nsd_id_I.tolist()) for case in cases.values())))
    )
    row_I = find_rows(ids, common, "the features of the CLIP blocks")
    model_LP = np.stack([_rank(feature_IF[row_I]) for feature_IF in blocks.values()])
    weight_RI = similarity.resample_images(
        len(common), evaluation.n_bootstrap, np.random.default_rng(evaluation.seed)
    )
    moments = similarity.rank_moments(model_LP, weight_RI)
    found: dict[str, list[Array]] = {}
    for subject, case in cases.items():
        images_I = find_rows(case.nsd_id_I, common, f"the test images of {subject}")
        outputs = case.model.decoder.read_tokens(torch.from_numpy(case.mean_IV[images_I]), subject)
        for token, output_IE in outputs.items():
            value_RL = correlate(_rank(output_IE.double().numpy()), model_LP, moments, weight_RI)
            found.setdefault(token, []).append(value_RL)
    mean = {token: np.mean(values, axis=0) for token, values in found.items()}
    tree: Tree = {"n_images": len(common)}
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
    """Pearson correlation (R, L) of ranks over pairs of images, in every resample; moments: of
    the models' ranks.
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
    """Ranks of the distances between images, features centred over the images as in
    hierarchy.py.
    """
    return similarity.rank_pairs(
        similarity.correlation_distances(feature_IF - feature_IF.mean(axis=0))
    )


def read_blocks(
    model: Encoder, root: Path, shared_path: Path, threads: int
) -> tuple[dict[str, Array], Array]:
    """Features (I, F) of every block and of the final embedding for all test images, and their ids.

    Raises ValueError if the cache was made with other weights.
    """
    clip = store.read(shared_path, "clip", CLIP_NAMES)
    if clip.attrs.get("weights_sha256", model.weights_sha256) != model.weights_sha256:
        raise ValueError(
            f"{shared_path} was cached with other weights than the encoder's; run cache_clip again"
        )
    patch_means = summarise_blocks(model, root, clip["nsd_id_I"], threads)["patch_mean"]
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
