"""The training of assets/mini/generator at a tiny scale."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def train(root: Path) -> ModuleType:
    """train.py as a module, and training.py under it; the import path is left as it was."""
    folder, path = root / "assets" / "mini" / "generator", list(sys.path)
    spec = importlib.util.spec_from_file_location("mini_generator_train", folder / "train.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = path
    return module


def fit(train: ModuleType, folder: Path, die_at: int = -1) -> torch.nn.Module:
    """A linear regression through the loop; dies before a step."""
    torch.manual_seed(0)
    model, calls = torch.nn.Linear(3, 1), 0

    def loss_of(rng: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls - 1 == die_at:
            raise Killed
        x = torch.from_numpy(rng.normal(size=(4, 3))).float() + torch.randn(4, 3, generator=noise)
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    folder.mkdir(exist_ok=True)
    return train.fit(model, loss_of, "", {"steps": 12, "lr": 0.1, "seed": 5}, folder)


def test_a_killed_training_goes_on_to_the_same_weights(
    train: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(train.fit.__globals__, "CHECKPOINT_S", -1)
    whole = fit(train, tmp_path / "whole")
    with pytest.raises(Killed):
        fit(train, tmp_path / "killed", die_at=7)
    resumed = fit(train, tmp_path / "killed")
    assert "unet goes on at step 7" in capsys.readouterr().out
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_networks_of_the_params_fit_together(
    train: ModuleType, root: Path, tmp_path: Path
) -> None:
    """One step of each network at the size of params.yaml, on noise; the pipeline paints pictures
    of 96 px.
    """
    folder = root / "assets" / "mini" / "generator"
    params: dict[str, Any] = YAML(typ="safe").load(folder / "params.yaml")
    params |= {"autoencoder_steps": 1, "steps": 1, "batch_size": 2, "autoencoder_batch_size": 2}
    rng = np.random.default_rng(0)
    images_IHWC = rng.integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
    tokens_ITD = rng.normal(size=(4, 65, 128)).astype(np.float16)
    vae = train.train_autoencoder(images_IHWC, params, tmp_path)
    latents_ICHW = train.encode_latents(vae, images_IHWC)
    assert latents_ICHW.shape == (4, train.LATENT_CHANNELS, 24, 24)
    unet = train.make_unet(params, latents_ICHW.shape[-1], tokens_ITD.shape[-1])
    both = (tokens_ITD, tokens_ITD)
    unet = train.train_unet(unet, latents_ICHW, both, vae, None, params, tmp_path)
    pipe = train.make_pipeline(vae, unet)
    assert train.generate(pipe, tokens_ITD[:2], steps=2).shape == (2, 96, 96, 3)
    assert (
        sum(p.numel() for part in (vae, unet) for p in part.parameters()) * 2 < 20e6
    )  # bytes of float16


def test_a_generator_goes_on_from_another_clip(train: ModuleType, root: Path) -> None:
    """New tokens are the known ones, turned and shifted: attention reads what it read before."""
    params: dict[str, Any] = YAML(typ="safe").load(
        (root / "assets" / "mini" / "generator" / "params.yaml").read_text()
    )
    rng = np.random.default_rng(0)
    known_ITD = rng.normal(size=(12, 65, 128)).astype(np.float32)
    turn_DD = np.linalg.qr(rng.normal(size=(128, 128)))[0]
    new_ITD = (known_ITD @ turn_DD + rng.normal(size=128)).astype(np.float32)
    start = train.make_unet(params, 24, 128)
    unet = train.make_unet(params | {"seed": 7}, 24, 128)
    train.take_over(unet, start, new_ITD, known_ITD, penalty=1e-9)
    found, expected = (
        model.encoder_hid_proj(torch.from_numpy(train.add_places(tokens)))
        for model, tokens in ((unet, new_ITD), (start, known_ITD))
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(unet.conv_in.weight, start.conv_in.weight)
