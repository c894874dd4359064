"""Token losses against references written from their definitions, in NumPy and float64."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from fmri2clip.decoders.parts import mixco, token_alignment
from fmri2clip.decoders.parts.compared_tokens import Components, Tokens
from fmri2clip.decoders.parts.mixco import Mixing
from fmri2clip.decoders.parts.token_basis import TokenBasis
from tests.decoders.settings import make_config

# Temperatures are named, because expected numbers follow from them
TEMPERATURES = {
    "mixco_tau": 0.006,
    "softclip_tau_start": 0.004,
    "softclip_tau_end": 0.0075,
    "nce_tau": 0.05,
}
CONFIG = make_config("brainmclip", mixco_epochs=0.33, nce_tokens=32, loss="both", **TEMPERATURES)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def soft_clip_reference(u: np.ndarray, v: np.ndarray, tau: float) -> float:
    teacher = np.exp(log_softmax(v @ v.T / tau))
    return (
        -sum(
            (log_softmax(logits) * teacher).sum(1).mean()
            for logits in (u @ v.T / tau, v @ u.T / tau)
        )
        / 2
    )


def mixco_reference(
    u: np.ndarray, v: np.ndarray, partner: list[int], share: list[float], tau: float
) -> float:
    """Row b is share[b] of image b and the rest of its partner; columns read the same table the
    other way.
    """
    table = np.zeros((len(u), len(u)))
    for b, (p, s) in enumerate(zip(partner, share, strict=True)):
        table[b, b] += s
        table[b, p] += 1 - s
    rows = -(log_softmax(u @ v.T / tau) * table).sum(1).mean()
    columns = -(log_softmax(v @ u.T / tau) * table.T).sum(1).mean()
    return (rows + columns) / 2


@pytest.mark.parametrize("tau", [0.004, 0.0075, 0.5])
def test_soft_clip_matches_numpy(tau: float) -> None:
    u, v = normalize(draw(7, 12), dim=1), normalize(draw(7, 12, seed=1), dim=1)
    expected = soft_clip_reference(u.double().numpy(), v.double().numpy(), tau)
    assert mixco.soft_clip(u @ v.T, v @ v.T, tau).item() == pytest.approx(expected, rel=1e-4)


def test_mixco_matches_numpy_also_for_an_image_that_is_its_own_partner() -> None:
    u, v = normalize(draw(5, 12), dim=1), normalize(draw(5, 12, seed=1), dim=1)
    partner, share = [2, 1, 4, 0, 3], [0.3, 0.4, 1.0, 0.9, 0.05]
    mixing = Mixing(torch.tensor(partner), torch.tensor(share), torch.tensor(share) < 1)
    expected = mixco_reference(u.double().numpy(), v.double().numpy(), partner, share, 0.006)
    assert mixco.bimixco(u @ v.T, mixing, 0.006).item() == pytest.approx(expected, rel=1e-4)


def test_mixing_is_a_convex_sum_with_one_partner_and_one_share_for_all_voxels() -> None:
    torch.manual_seed(0)
    mixing, x = mixco.draw_mixing(200, 0.15, 0.5), draw(200, 9)
    mixed = mixing.apply(x)
    for b in range(200):
        s = float(mixing.share_B[b])
        assert torch.allclose(mixed[b], s * x[b] + (1 - s) * x[mixing.partner_B[b]], atol=1e-6)
    assert (
        torch.equal(mixed[~mixing.mixed_B], x[~mixing.mixed_B])
        and (mixing.share_B[~mixing.mixed_B] == 1).all()
    )
    assert sorted(mixing.partner_B.tolist()) == list(range(200))
    assert mixing.mixed_B.float().mean().item() == pytest.approx(0.5, abs=0.1)
    drawn = mixing.share_B[
        mixing.mixed_B
    ]  # Beta(.15, .15): mean 1/2, variance 1 / (4 (2 * .15 + 1))
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.12)
    assert drawn.var().item() == pytest.approx(1 / 5.2, rel=0.25)


@pytest.mark.parametrize("tokens", [[0, 1, 2, 3], [3, 1]])
def test_token_nce_matches_a_loop(tokens: list[int]) -> None:
    x, y = draw(6, 4, 5), draw(6, 4, 5, seed=1)
    total = 0.0
    for t in tokens:
        a, b = (z[:, t].double().numpy() for z in (x, y))
        a, b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (a, b))
        for query, gallery in ((a, b), (b, a)):
            for i in range(6):
                scores = [query[i] @ gallery[j] / 0.05 for j in range(6)]
                total += math.log(sum(math.exp(s) for s in scores)) - scores[i]
    cosine_NBB = Tokens(x).cosine_NBB(Tokens(y), torch.tensor(tokens), torch.arange(6))
    found = token_alignment.token_nce(cosine_NBB, 0.05).item()
    assert found == pytest.approx(total / (2 * 6 * len(tokens)), rel=1e-4)


def test_cosines_match_numpy() -> None:
    x, y = draw(3, 4, 5), draw(3, 4, 5, seed=1)
    a, b = x.double().numpy(), y.double().numpy()
    flat_a, flat_b = (
        z.reshape(3, -1) / np.linalg.norm(z.reshape(3, -1), axis=1, keepdims=True) for z in (a, b)
    )
    np.testing.assert_allclose(Tokens(x).cosine_BB(Tokens(y)), flat_a @ flat_b.T, atol=1e-6)
    np.testing.assert_allclose(Tokens(y).own_BB, flat_b @ flat_b.T, atol=1e-6)
    a, b = (z / np.linalg.norm(z, axis=2, keepdims=True) for z in (a, b))
    np.testing.assert_allclose(Tokens(x).cosine_BT(Tokens(y)), (a * b).sum(2), atol=1e-6)
    np.testing.assert_allclose(
        Tokens(x).first.cosine_BB(Tokens(y).first), a[:, 0] @ b[:, 0].T, atol=1e-6
    )
    found = Tokens(x).cosine_NBB(Tokens(y), torch.tensor([3, 1]), torch.tensor([0, 2]))
    for n, t in enumerate((3, 1)):
        np.testing.assert_allclose(found[n], a[[0, 2], t] @ b[[0, 2], t].T, atol=1e-6)


def test_a_batch_that_is_mixed_throughout_has_no_fine_term_and_a_finite_gradient() -> None:
    x = draw(3, 4, 5).requires_grad_()
    mixing = Mixing(torch.tensor([1, 2, 0]), torch.full((3,), 0.4), torch.ones(3, dtype=torch.bool))
    terms = token_alignment.align(Tokens(x), Tokens(draw(3, 4, 5, seed=1)), CONFIG, mixing, 0.0)
    sum(terms.values()).backward()
    assert terms["fine"].item() == 0 and torch.isfinite(x.grad).all()


def test_align_is_the_sum_of_its_parts() -> None:
    x, y = draw(6, 4, 5), draw(6, 4, 5, seed=1)
    config = make_config(
        "brainmclip",
        class_weight=0.7,
        class_contrast=0.2,
        alpha_fine=3.0,
        nce_weight=0.3,
        mixco_epochs=0.25,
        nce_tokens=32,
        loss="both",
        **TEMPERATURES,
    )
    terms = token_alignment.align(
        Tokens(x), Tokens(y), config, None, 0.25 + 0.75 / 2
    )  # halfway through SoftCLIP

    def flat(z: torch.Tensor) -> np.ndarray:
        return normalize(z.double().flatten(1), dim=1).numpy()

    cosine = (normalize(x.double(), dim=2) * normalize(y.double(), dim=2)).sum(2)
    contrast = [
        soft_clip_reference(flat(a), flat(b), 0.00575) for a, b in ((x, y), (x[:, :1], y[:, :1]))
    ]
    expected = contrast[0] + 0.2 * contrast[1] + 0.7 * (1 - cosine[:, 0].mean().item())
    assert terms["global"].item() == pytest.approx(expected, rel=1e-4)
    nce = token_alignment.token_nce(
        Tokens(x).cosine_NBB(Tokens(y), torch.arange(4), torch.arange(6)), 0.05
    ).item()
    assert terms["fine"].item() == pytest.approx(
        3 * (1 - cosine.mean().item() + 0.3 * nce), rel=1e-4
    )


def test_random_tokens_are_distinct_and_all_when_few() -> None:
    torch.manual_seed(0)
    drawn = token_alignment.draw_tokens(257, 32)
    assert len(set(drawn.tolist())) == 32 and drawn.max() > 200
    assert token_alignment.draw_tokens(5, 32).tolist() == [0, 1, 2, 3, 4]


def test_cosine_anneal_goes_from_start_to_end_with_its_middle_halfway() -> None:
    found = [mixco.cosine_anneal(0.004, 0.0075, p) for p in (-1, 0, 0.5, 1, 2)]
    assert found == pytest.approx([0.004, 0.004, 0.00575, 0.0075, 0.0075])


@pytest.mark.parametrize("mixed", [False, True])
def test_half_precision_autocast_leaves_the_losses_in_float32(mixed: bool) -> None:
    x, y = draw(8, 4, 64) + 2, draw(8, 4, 64, seed=1) + 2
    mixing = (
        Mixing(torch.arange(8).roll(1), torch.full((8,), 0.7), torch.arange(8) < 5)
        if mixed
        else None
    )
    expected = token_alignment.align(Tokens(x), Tokens(y), CONFIG, mixing, 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_alignment.align(Tokens(x), Tokens(y), CONFIG, mixing, 0.5)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_half_precision_autocast_leaves_the_norms_of_components_in_float32() -> None:
    basis = TokenBasis(6, 4, 16)
    basis.gram_PP.copy_(torch.eye(6) + 0.01 * draw(6, 6))
    basis.lean_P.copy_(draw(6))
    config = replace(CONFIG, loss="global")
    sides = [draw(8, 22, seed=seed) for seed in (0, 1)]

    def terms() -> dict[str, torch.Tensor]:
        x, y = (Components(basis, side) for side in sides)
        return token_alignment.align(x, y, config, None, 0.5)

    expected = terms()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = terms()
    assert torch.equal(found["global"], expected["global"])
