from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from fmri2clip.artefacts.model import load, save
from fmri2clip.decoders import load_decoder
from fmri2clip.decoders.parts.routing import group_names, match, route, route_data
from tests.decoders.settings import make_config
from tests.tiny_subject import make_tiny

N = 600


@dataclass(frozen=True)
class Settings:
    detail_rois: str = "low_high"
    semantic_rois: str = "high"
    routing: str = "paper"
    match_caliper: float = 0.02


@pytest.fixture
def groups() -> dict[str, np.ndarray]:
    """Voxels 0 to 199 are early, 180 to 449 category voxels: 20 are both."""
    voxel = np.arange(N)
    return {
        "low": voxel < 200,
        "high": (voxel >= 180) & (voxel < 450),
        "all": voxel >= 0,
        "none": voxel < 0,
    }


@pytest.fixture
def ncsnr_V(rng: np.random.Generator) -> np.ndarray:
    """Early voxels respond better, as in some subjects; two have no number."""
    values = np.abs(rng.normal(np.where(np.arange(N) < 200, 0.5, 0.35), 0.15)).astype(np.float32)
    values[[3, 300]] = np.nan
    return values


def test_the_default_detail_set_is_the_union_and_holds_the_semantic_one(groups, ncsnr_V) -> None:
    detail, semantic = route(groups, ncsnr_V, Settings(), 0, "subj01")
    assert detail.tolist() == list(range(450)) and semantic.tolist() == list(range(180, 450))
    assert set(semantic) <= set(detail) and len(detail) == (groups["low"] | groups["high"]).sum()
    assert (
        len(detail) < groups["low"].sum() + groups["high"].sum()
    )  # voxels of both groups count once, in both
    low, _ = route(groups, ncsnr_V, Settings(detail_rois="low"), 0, "subj01")
    assert set(low) & set(semantic) == set(range(180, 200))


def test_other_routings_of_the_same_sets(groups, ncsnr_V) -> None:
    paper = route(groups, ncsnr_V, Settings(), 0, "subj01")
    swapped = route(groups, ncsnr_V, Settings(routing="swapped"), 0, "subj01")
    assert np.array_equal(swapped[0], paper[1]) and np.array_equal(swapped[1], paper[0])
    everything = route(groups, ncsnr_V, Settings(routing="none"), 0, "subj01")
    assert [rows.tolist() for rows in everything] == [list(range(N))] * 2
    random = route(groups, ncsnr_V, Settings(routing="random"), 0, "subj01")
    assert [len(rows) for rows in random] == [450, 270] and set(random[0]) == set(paper[0])
    assert (
        len(np.intersect1d(*random)) == 270 and 60 < np.sum(random[1] < 180) < 150
    )  # a fair share of early voxels
    again, other = (
        route(groups, ncsnr_V, Settings(routing="random"), seed, "subj01") for seed in (0, 1)
    )
    assert np.array_equal(random[1], again[1]) and not np.array_equal(random[1], other[1])


def test_disjoint_sets_are_equal_in_number_and_ncsnr(groups, ncsnr_V) -> None:
    detail, semantic = route(groups, ncsnr_V, Settings(routing="disjoint"), 0, "subj01")
    assert len(detail) == len(semantic) > 100
    assert detail.max() < 180 and semantic.min() >= 200  # no voxel of both groups on either side
    assert (
        np.nanmean(ncsnr_V[:180]) - np.nanmean(ncsnr_V[200:450]) > 0.1
    )  # what matching has to undo
    assert abs(ncsnr_V[detail].mean() - ncsnr_V[semantic].mean()) < 0.005
    assert ks_2samp(ncsnr_V[detail], ncsnr_V[semantic]).pvalue > 0.9


def test_disjoint_routings_share_the_matched_sets(groups, ncsnr_V) -> None:
    low, high = route(groups, ncsnr_V, Settings(routing="disjoint"), 0, "subj01")
    found = {
        kind: route(groups, ncsnr_V, Settings(routing=f"disjoint_{kind}"), 0, "subj01")
        for kind in ("swapped", "random", "none")
    }
    union = np.union1d(low, high)
    assert np.array_equal(found["swapped"][0], high) and np.array_equal(found["swapped"][1], low)
    assert np.array_equal(found["none"][0], union) and np.array_equal(found["none"][1], union)
    one, two = found["random"]
    assert len(one) == len(two) == len(low) and np.array_equal(np.union1d(one, two), union)


def test_matching_takes_each_row_once_within_the_caliper(rng: np.random.Generator) -> None:
    one, two = rng.normal(0, 1, 50), rng.normal(0.3, 1, 90)
    for a, b in ((one, two), (two, one)):
        pairs = match(a, b, 0.1, np.random.default_rng(0))
        assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs) > 25
        assert np.abs(a[pairs[:, 0]] - b[pairs[:, 1]]).max() <= 0.1
    first = match(one[:1], two, 1.0, rng)
    assert first.tolist() == [[0, int(np.abs(two - one[0]).argmin())]]
    own = match(one, one, 0.0, rng)
    assert len(own) == 50 and np.array_equal(own[:, 0], own[:, 1])
    assert len(match(one, two + 100, 0.1, rng)) == 0


@pytest.mark.parametrize("name", ["brainmclip", "brainmclip_plus"])
def test_a_decoder_has_the_voxels_that_its_own_seed_matches(name: str, tmp_path: Path) -> None:
    """0.03 may take the 0.018 that alone is near 0, or leave it: one pair or two, by the order."""
    tiny = make_tiny()
    ncsnr_V = torch.arange(30).float()
    ncsnr_V[:2] = torch.tensor([0.0, 0.03])
    ncsnr_V[14:16] = torch.tensor([0.018, 0.045])
    tiny.ncsnr_V = ncsnr_V
    small = {"hidden": 8, "blocks": 1, "detail_rois": "low_high", "semantic_rois": "high"}
    config = make_config(name, routing="disjoint", match_caliper=0.02, **small)
    kind = load_decoder(name).Decoder
    found = {}
    for seed in range(6):
        decoder = kind.from_data(config, [tiny], seed)
        detail, semantic = route_data(config, tiny, seed)
        assert decoder.detail_rows.tolist() == detail.tolist()
        assert decoder.semantic_rows.tolist() == semantic.tolist()
        found[len(detail)] = decoder
    assert set(found) == {1, 2}
    for n, decoder in found.items():
        config_yaml = {"decoder": name, "run": "r", "clip": "c", "digests": {}, "width_D": 8}
        config_yaml |= {"n_voxels": 30, "seed": 0, "config": asdict(config)}
        save(tmp_path / str(n), decoder, config_yaml)
        again, _ = load(tmp_path / str(n))
        assert again.detail_rows.tolist() == decoder.detail_rows.tolist()
        own = decoder.decode(tiny.betas_NV, "subj01").embedding_ID
        torch.testing.assert_close(again.decode(tiny.betas_NV, "subj01").embedding_ID, own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"semantic_rois": "floc"}, r"subj05 has no ROI group 'floc'; it has low, high, all, none"),
        (
            {"semantic_rois": "none"},
            r"ROI group 'none' of subj05 has no voxel among the voxels of the run",
        ),
        ({"detail_rois": "low+none"}, r"ROI group 'none' of subj05 has no voxel"),
        (
            {"routing": "disjoint", "match_caliper": 0.0, "detail_rois": "low"},
            r"subj05.*raise match_caliper",
        ),
    ],
)
def test_a_set_that_cannot_be_is_refused_by_name(groups, rng, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        route(groups, rng.random(N), Settings(**change), 0, "subj05")


def test_names_of_unions() -> None:
    assert group_names("low_high") == group_names("low+high") == ("low", "high")
    assert group_names("high") == ("high",)
