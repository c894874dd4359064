from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

from fmri2clip import decoders
from fmri2clip.artefacts.model import load, save
from fmri2clip.core.params import Compute
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.stages.train.run import fit_decoder
from tests.decoders.settings import make_config

AREAS = "V1, V2, floc-faces, floc-bodies, rest"
SMALL = {
    "aligned": {"components": 4, "hidden": 8, "n_alphas": 3},
    "brainmclip": {"hidden": 16, "blocks": 1, "token_rank": 3},
    "brainmclip_plus": {"hidden": 16, "blocks": 1},
    "clip_mused": {"areas": AREAS, "components": 4, "width": 8, "layers": 1, "heads": 2},
    "encoding": {"components": 4, "max_rank": 8, "n_alphas": 3},
    "label_ridge": {"areas": AREAS, "components": 4, "n_folds": 2},
    "mindeye": {"hidden": 16, "blocks": 1, "projector": 12},
}


def small_config(name: str) -> Any:
    return make_config(name, **SMALL.get(name, {}))


def model_config(name: str) -> dict:
    n_voxels = 30 if decoders.load_decoder(name).Decoder.per_subject else {"subj01": 30}
    return {
        "run": "demo",
        "decoder": name,
        "clip": "mini",
        "digests": {},
        "config": asdict(small_config(name)),
        "n_voxels": n_voxels,
        "width_D": 8,
        "seed": 3,
    }


def test_every_folder_with_a_decoder_is_one() -> None:
    folder = Path(decoders.__file__).parent
    found = {path.name for path in folder.iterdir() if (path / "decoder.py").is_file()}
    published = {"ridge", "brainclip", "brainmclip", "clip_mused", "label_ridge"}
    published |= {"aligned", "encoding", "mindeye", "brainmclip_plus"}
    assert set(decoders.names()) == found >= published


@pytest.mark.parametrize("name", decoders.names())
def test_decoder_keeps_the_protocol(name: str, tiny: TrainingData) -> None:
    module = decoders.load_decoder(name)
    assert isinstance(module.CITATION, str) and isinstance(module.Decoder.targets, tuple)
    assert isinstance(module.Decoder.per_subject, bool)
    assert issubclass(module.Decoder, decoders.Decoder)
    own = {key for key in ("fit", "loss") if key in vars(module.Decoder)}
    assert own == ({"fit"} if module.Decoder.closed_form else {"loss"})
    config = small_config(name)
    assert set(module.Decoder.select_targets(config)) <= set(module.Decoder.targets)
    decoder = module.Decoder.from_data(config, [tiny], 0)
    assert set(decoder.n_parameters()) == {"trained", "deployed"}


@pytest.mark.parametrize("name", decoders.names())
def test_decoding_needs_no_gradients_and_leaves_the_mode(name: str, tiny: TrainingData) -> None:
    """Called while training is on: twice the same, as nothing is dropped."""
    decoder = decoders.load_decoder(name).Decoder.from_data(small_config(name), [tiny], 0)
    for training in (True, False):
        decoder.train(training)
        decoded = [decoder.decode(tiny.mean_betas_IV, "subj01") for _ in range(2)]
        assert decoder.training is training
        for field in ("embedding_ID", "text_embedding_ID", "logits_IC"):
            one, two = (getattr(found, field) for found in decoded)
            assert one is None or (torch.equal(one, two) and not one.requires_grad)


@pytest.mark.parametrize("name", decoders.names())
def test_saved_model_decodes_the_same_from_its_folder_alone(
    name: str, tmp_path: Path, tiny: TrainingData
) -> None:
    module = decoders.load_decoder(name)
    decoder = module.Decoder.from_data(small_config(name), [tiny], 3)
    if decoder.closed_form:
        decoder.fit(tiny)
    save(tmp_path / "a", decoder, model_config(name))
    save(tmp_path / "b", decoder, model_config(name))
    loaded, config = load(tmp_path / "a")
    expected, found = (d.decode(tiny.mean_betas_IV, "subj01") for d in (decoder.eval(), loaded))
    offered = [
        n
        for n in ("embedding_ID", "text_embedding_ID", "logits_IC")
        if getattr(expected, n) is not None
    ]
    assert offered and all(
        torch.equal(getattr(expected, name), getattr(found, name)) for name in offered
    )
    assert {key: value for key, value in config.items() if key != "sizes"} == model_config(name)
    assert config.get("sizes") == decoder.sizes
    if decoder.offers_tokens:
        expected, found = (
            d.decode_tokens(tiny.mean_betas_IV, "subj01").tokens for d in (decoder, loaded)
        )
        assert all(torch.equal(expected[stream], found[stream]) for stream in expected)
    for file in ("weights.safetensors", "config.yaml"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def list_choices() -> list[Any]:
    """Decoder, setting and value, for every setting that has a list of values."""
    found = []
    for name in decoders.names():
        for setting, kind in get_type_hints(decoders.load_decoder(name).Config).items():
            values = (True, False) if kind is bool else get_args(kind)
            found += [
                pytest.param(name, setting, value, id=f"{name}-{setting}-{value}")
                for value in values
            ]
    return found


@pytest.mark.parametrize(("name", "setting", "value"), list_choices())
def test_every_choice_trains_and_decodes(
    name: str, setting: str, value: Any, tmp_path: Path, tiny: TrainingData
) -> None:
    """With all else as params.yaml has it, or it is refused in a line before anything is trained.

    A choice that nothing trains in the default run, nor in a study, breaks unseen.
    """
    # Read whole by one choice alone.
    tiny.features["block_1_ITW"] = torch.ones(60, 5, 6)
    module = decoders.load_decoder(name)
    short = {"max_epochs": 1} if "max_epochs" in get_type_hints(module.Config) else {}
    try:
        config = replace(small_config(name), **short, **{setting: value})
        decoder = module.Decoder.from_data(config, [tiny], 0)
    except ValueError as error:
        pytest.skip(f"refused: {error}")
    rows = fit_decoder(decoder, [tiny], 0, Compute(device="cpu", threads=1), tmp_path)
    assert math.isfinite(rows[-1]["val_mean"])
    decode = decoder.decode_tokens if decoder.offers_tokens else decoder.decode
    decoded = decode(tiny.mean_betas_IV, "subj01")
    arrays = [decoded.embedding_ID, decoded.logits_IC, *decoded.tokens.values()]
    assert all(torch.isfinite(array).all() for array in arrays if array is not None)


def test_unknown_decoder_is_refused_with_a_hint() -> None:
    with pytest.raises(
        ValueError, match=r"'brainclp' does not exist \(did you mean brainclip\?\); choose from"
    ):
        decoders.load_decoder("brainclp")


def test_incomplete_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.yaml"):
        load(tmp_path)


def test_means_over_repeats_and_captions_match_loops(tiny: TrainingData) -> None:
    for i in (0, 17, 59):
        assert torch.allclose(
            tiny.mean_betas_IV[i], tiny.betas_NV[tiny.image_N == i].mean(0), atol=1e-6
        )
        mean_D = tiny.text_embedding_KD[tiny.caption_image_K == i].mean(0)
        assert torch.allclose(tiny.mean_text_ID[i], mean_D / mean_D.norm(), atol=1e-6)


def test_moving_keeps_every_field(tiny: TrainingData) -> None:
    tiny.features["block_1_ITW"] = torch.ones(60, 2, 3)
    moved = tiny.to("cpu")
    assert moved.caption_K == tiny.caption_K and torch.equal(moved.betas_NV, tiny.betas_NV)
    assert torch.equal(moved.features["block_1_ITW"], torch.ones(60, 2, 3))


def test_package_and_closed_form_decoder_do_not_import_lightning_or_mlflow() -> None:
    code = (
        "import sys, fmri2clip.decoders as d, fmri2clip.stages.train.run; d.load_decoder('ridge'); "
        "heavy = ('lightning_fabric', 'mlflow', 'himalaya', 'sklearn', 'matplotlib', 'open_clip'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment()
    )
    assert out.stdout.strip() == "[]"


def _environment() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": str(Path(decoders.__file__).parents[2])}
