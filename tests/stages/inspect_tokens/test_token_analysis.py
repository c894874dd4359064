"""Token swap, attention and RSA of a made-up decoder, against scikit-learn, SciPy and
rsatoolbox.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from fmri2clip import decoders
from fmri2clip.artefacts.model import Model
from fmri2clip.core.params import Evaluation
from fmri2clip.decoders.batches import Decoded
from fmri2clip.metrics import similarity
from fmri2clip.stages.inspect_tokens import token_analysis

N_IMAGES, N_VOXELS, N_CLASSES = 40, 6, 3
SUBJECTS = ("subj01", "subj02", "subj05")
EVALUATION = Evaluation(n_way=10, n_draws=2, n_hard=3, n_bootstrap=50, seed=0)


class Decoder(decoders.Decoder):
    """Logits are the first voxels; another subject's tokens turn them round. Token outputs: other
    voxels.
    """

    roi_names = ("V1", "floc-faces")
    subjects = SUBJECTS
    n_tokens = 2
    knows_subject = True

    def decode_as(self, betas_IV: torch.Tensor, subject: str, token_subject: str) -> Decoded:
        sign = 1.0 if subject == token_subject else -1.0
        return Decoded(logits_IC=sign * betas_IV[:, :N_CLASSES])

    def read_tokens(self, betas_IV: torch.Tensor, subject: str) -> dict[str, torch.Tensor]:
        return {"high": betas_IV[:, :4], "low": betas_IV[:, 2:]}

    def read_attention(self, betas_IV: torch.Tensor, subject: str, rollout: bool) -> torch.Tensor:
        return torch.tensor([[0.2, 0.6], [0.3, 0.1]]).expand(len(betas_IV), -1, -1)


def make_cases(decoder: Any = None) -> dict[str, token_analysis.Case]:
    rng = np.random.default_rng(0)
    label_IC = rng.random((N_IMAGES, N_CLASSES)) < 0.4
    cases = {}
    for subject in SUBJECTS:
        mean_IV = rng.standard_normal((N_IMAGES, N_VOXELS)).astype(np.float32)
        mean_IV[:, :N_CLASSES] += label_IC
        truth = SimpleNamespace(
            nsd_id_I=np.arange(N_IMAGES), label_IC=label_IC, present_C=np.ones(N_CLASSES, bool)
        )
        model = Model(decoder=decoder or Decoder(), description={}, inputs={}, split={})
        cases[subject] = token_analysis.Case(
            model=model, mean_IV=mean_IV, nsd_id_I=np.arange(N_IMAGES), truth=truth
        )
    return cases


def make_blocks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.standard_normal((N_IMAGES, 5)) for name in ("block_1", "block_2", "final")}


def test_swap_loses_what_scikit_learn_says() -> None:
    cases = make_cases()
    tree = token_analysis.swap_tokens(cases, EVALUATION)
    lost = []
    for subject, case in cases.items():
        label, score = case.truth.label_IC, case.mean_IV[:, :N_CLASSES]
        own, other = (
            average_precision_score(label, sign * score, average="macro") for sign in (1, -1)
        )
        assert tree["map"][subject][subject]["value"] == pytest.approx(own, abs=1e-5)
        for token_subject in set(SUBJECTS) - {subject}:
            assert tree["map"][subject][token_subject]["value"] == pytest.approx(other, abs=1e-5)
        lost.append(own - other)
    assert tree["lost"]["map"]["value"] == pytest.approx(np.mean(lost), abs=1e-5)
    assert tree["lost"]["map"]["low"] > 0


def test_rsa_is_the_spearman_correlation_of_scipy_and_rsatoolbox() -> None:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm, compare

    cases, blocks = make_cases(), make_blocks()
    tree = token_analysis.compare_blocks(cases, blocks, np.arange(N_IMAGES), EVALUATION)

    def distances(x_IF: np.ndarray) -> np.ndarray:
        return pdist(x_IF - x_IF.mean(axis=0), "correlation")

    def rdm(x_IF: np.ndarray) -> Any:
        return calc_rdm(Dataset(x_IF - x_IF.mean(axis=0)), method="correlation")

    tokens = {"high": slice(0, 4), "low": slice(2, N_VOXELS)}
    for token, columns in tokens.items():
        for name, block in blocks.items():
            outputs = [case.mean_IV[:, columns].astype(float) for case in cases.values()]
            by_scipy = np.mean(
                [spearmanr(distances(x), distances(block)).statistic for x in outputs]
            )
            by_rsatoolbox = np.mean(
                [compare(rdm(x), rdm(block), method="spearman")[0, 0] for x in outputs]
            )
            assert tree[token][name]["value"] == pytest.approx(by_scipy, abs=2e-3)
            assert tree[token][name]["value"] == pytest.approx(by_rsatoolbox, abs=2e-3)
    contrast = [
        tree[token]["final"]["value"] - tree[token]["block_1"]["value"] for token in ("high", "low")
    ]
    assert tree["high_minus_low"]["value"] == pytest.approx(contrast[0] - contrast[1], abs=3e-6)


def test_a_resample_leaves_pairs_of_copies_out() -> None:
    """A resample in which every image comes twice holds each pair four times: the correlation
    stays.
    """
    rng = np.random.default_rng(2)
    brain_P, model_P = (
        similarity.rank_pairs(pdist(rng.standard_normal((12, 4)))) for _ in range(2)
    )
    weight_RI = np.stack([np.ones(12), np.full(12, 2.0)]).astype(np.float32)
    moments = similarity.rank_moments(model_P[None], weight_RI)
    value_RL = token_analysis.correlate(brain_P, model_P[None], moments, weight_RI)
    np.testing.assert_allclose(value_RL[1], value_RL[0], atol=1e-6)
    assert value_RL[0, 0] == pytest.approx(np.corrcoef(brain_P, model_P)[0, 1], abs=1e-5)


def test_images_that_one_subject_lacks_are_left_out_of_rsa() -> None:
    cases, blocks = make_cases(), make_blocks()
    fewer = cases["subj02"]
    cases["subj02"] = token_analysis.Case(
        model=fewer.model, mean_IV=fewer.mean_IV[5:], nsd_id_I=fewer.nsd_id_I[5:], truth=fewer.truth
    )
    tree = token_analysis.compare_blocks(cases, blocks, np.arange(N_IMAGES), EVALUATION)
    assert tree["n_images"] == N_IMAGES - 5


def test_attention_is_described_by_roi_and_token() -> None:
    tree = token_analysis.describe_attention(make_cases(), EVALUATION)
    assert tree["last_layer"]["subj01"]["high"] == pytest.approx({"V1": 0.25, "floc-faces": 0.75})
    assert tree["rollout"]["subj05"]["low"] == pytest.approx({"V1": 0.75, "floc-faces": 0.25})
    assert tree["early"]["low_minus_high"]["value"] == pytest.approx(0.5)
    assert tree["early_chance"] == 0.5


def test_a_run_without_subjects_or_tokens_has_no_part_that_needs_them() -> None:
    plain = SimpleNamespace(subjects=SUBJECTS, n_tokens=0, knows_subject=False)
    assert (
        token_analysis.analyse_run(
            make_cases(plain), make_blocks(), np.arange(N_IMAGES), EVALUATION
        )
        == {}
    )
    tree = token_analysis.analyse_run(make_cases(), make_blocks(), np.arange(N_IMAGES), EVALUATION)
    assert set(tree) == {"swap", "attention", "rsa"}
