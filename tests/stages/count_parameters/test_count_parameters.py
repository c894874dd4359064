from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fmri2clip.core import params
from fmri2clip.decoders.brainmclip.decoder import Config, Decoder
from fmri2clip.decoders.clip_mused.config import Config as MusedConfig
from fmri2clip.stages.count_parameters import clip_mused
from fmri2clip.stages.count_parameters.brainmclip import (
    MINDEYE2,
    Sizes,
    build_empty,
    count,
    count_parts,
    parameter_table,
)
from fmri2clip.stages.count_parameters.settings import nsd_config
from pipeline import preset

MINI = Sizes(n_detail=1116, n_semantic=735, n_image_tokens=65, n_text_tokens=32, width=128)
SETTINGS = [
    {},
    {"variant": "tokens"},
    {"variant": "tokens", "token_rank": 0},
    {"variant": "pooled"},
    {"text_branch": False, "cross_rec": "none", "fusion": "mix"},
    {"voxel_pool": 512, "cross_target": "source"},
]


@pytest.fixture
def nsd(root: Path) -> Config:
    """The settings of presets/nsd.yaml."""
    return nsd_config(
        params.load(root / "params.yaml"), "brainmclip", Config, root / "presets" / "nsd.yaml"
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(
    "sizes", [MINI, Sizes(), Sizes(width_detail=1024)], ids=["mini", "real", "raw"]
)
def test_closed_form_equals_the_modules(settings: dict, sizes: Sizes, nsd: Config) -> None:
    config = replace(nsd, **settings)
    assert build_empty(config, sizes).n_parameters() == count(config, sizes)


def test_empty_modules_count_as_real_ones(nsd: Config) -> None:
    config = replace(nsd, variant="tokens", hidden=32, blocks=2, token_rank=5)
    real = Decoder(
        config, 1744, 128, 0, n_detail=1116, n_semantic=735, n_image_tokens=65, n_text_tokens=32
    )
    assert real.n_parameters() == count(config, MINI) == build_empty(config, MINI).n_parameters()
    heads = sum(
        p.numel()
        for head in (real.network.detail_head, real.network.semantic_head)
        for p in head.parameters()
    )
    assert heads == count_parts(config, MINI)["image_heads"]


def test_low_rank_heads_are_the_design_of_the_reference_table(nsd: Config) -> None:
    """Rounded figures of the design: encoders 84.3 M, image heads 202.5 M, text head 30.4 M,
    decoders 59.1 M.

    Ours adds the pooled text head (1.6 M) to the text head, and the fusion (1.2 M).
    """
    whole = replace(nsd, variant="tokens")
    parts = {name: n / 1e6 for name, n in count_parts(whole, Sizes()).items()}
    assert parts["encoders"] == pytest.approx(84.3, abs=0.1) and parts[
        "image_heads"
    ] == pytest.approx(202.5, abs=0.1)
    assert parts["text_head"] == pytest.approx(30.4 + 1.6, abs=0.1) and parts[
        "decoders"
    ] == pytest.approx(59.1, abs=0.1)


def test_table_is_plain_data_and_the_default_meets_the_claim_against_both_references(
    nsd: Config,
) -> None:
    rows = parameter_table(nsd, Sizes())
    assert json.loads(json.dumps(rows)) == rows
    default, paper = rows[0], rows[-1]
    low_rank = next(row for row in rows if row["name"] == "low-rank heads")
    assert min(low_rank["reduction_mindeye1_vae"], low_rank["reduction_mindeye2"]) >= 0.717
    # Components (P) and means of patches and caption tokens, of width 768.
    assert default["basis"] == 513 * 768 * (2 * 256 + 77) and low_rank["basis"] == 0
    assert default["deployed"] < (1 - 0.717) * min(1_200_000_000, MINDEYE2)
    assert min(default["reduction_mindeye1_vae"], default["reduction_mindeye2"]) >= 0.717
    assert (
        default["trained"] > default["deployed"]
        and "our choice" in paper["note"]
        and paper["reduction"] == 0.717
    )
    full = next(row for row in rows if row["name"] == "full-rank heads")
    assert full["reduction_mindeye1_vae"] < 0.3  # the claim rests on the rank
    assert 1 - default["reduction_mindeye2"] == pytest.approx(default["deployed"] / 2_227_294_828)


def test_weights_of_subjects_at_the_size_of_nsd_add_up(root: Path) -> None:
    config = nsd_config(
        params.load(root / "params.yaml"), "clip_mused", MusedConfig, root / "presets" / "nsd.yaml"
    )
    counts = clip_mused.count_at_nsd(config)
    voxels, rois, width, components, classes = 15_724, 9, 512, 256, 80
    input_map = voxels * components + rois * components
    block = 4 * width * width + 4 * width + 2 * 4 * width * width + 4 * width + width + 4 * width
    shared = (
        components * width
        + width
        + rois * width
        + 4 * block
        + 2 * width
        + 2 * width * classes
        + classes
    )
    found = counts["clip_mused"]
    assert (found["input_map"], found["identity"]) == (input_map, 2 * width)
    assert (found["per_subject"], found["shared"]) == (input_map + 2 * width, shared)
    assert (
        counts["label_ridge"]["per_subject"]
        == input_map + rois * components * classes + classes + 2
    )
    assert counts["mlp_single"]["shared"] == 0 < counts["mlp_shared"]["shared"]
    assert counts["mlp_shared"]["per_subject"] == input_map


def test_settings_are_those_that_the_preset_would_leave(root: Path, tmp_path: Path) -> None:
    """The preset is laid over params.yaml key by key, here as in `make preset`."""
    path, folder = tmp_path / "params.yaml", root / "presets"
    path.write_bytes((root / "params.yaml").read_bytes())
    loaded = params.load(path)
    preset.apply_preset("nsd", path, folder)
    section = params.load(path).decoders["brainmclip"]
    assert nsd_config(loaded, "brainmclip", Config, folder / "nsd.yaml") == Config(**section)


def test_a_preset_without_the_section_is_refused(root: Path, tmp_path: Path) -> None:
    loaded = params.load(root / "params.yaml")
    with pytest.raises(ValueError, match="does not exist; run from the root"):
        nsd_config(loaded, "brainmclip", Config, tmp_path / "nsd.yaml")
    (tmp_path / "nsd.yaml").write_text("decoders:\n  brainmclip:\n    hiden: 3\n")
    with pytest.raises(ValueError, match=r"decoders\.brainmclip\.hiden is not a field"):
        nsd_config(loaded, "brainmclip", Config, tmp_path / "nsd.yaml")
    with pytest.raises(ValueError, match=r"decoders\.clip_mused is not in both"):
        nsd_config(loaded, "clip_mused", MusedConfig, tmp_path / "nsd.yaml")
