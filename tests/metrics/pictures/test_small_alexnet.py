"""The stand-in classifier: its layers lie where AlexNet's do, and its file is read as it was
trained.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import alexnet

from fmri2clip.metrics.pictures import small_alexnet
from fmri2clip.metrics.pictures.networks import OUTPUT
from fmri2clip.metrics.pictures.protocols import find_protocol

LAYERS = ("features.4", "features.11")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with random weights in half precision, as the asset keeps them."""
    torch.manual_seed(0)
    state = small_alexnet.SmallAlexNet(7).state_dict()
    save_file(
        {name: value.half() for name, value in state.items()}, tmp_path / small_alexnet.WEIGHTS
    )
    return tmp_path


def test_layers_have_the_types_of_alexnet() -> None:
    with torch.device("meta"):
        published, own = alexnet().features, small_alexnet.SmallAlexNet(2).features
    assert [type(layer) for layer in own] == [type(layer) for layer in published]


def test_the_protocols_layers_are_the_second_and_fifth_convolution_after_relu(folder: Path) -> None:
    metric = next(
        metric for metric in find_protocol("strict-v1").networks if metric.slot == "alexnet"
    )
    assert tuple(metric.layers.values()) == LAYERS
    images_IHWC = np.random.default_rng(0).random(
        (2, small_alexnet.SIDE, small_alexnet.SIDE, 3), dtype=np.float32
    )
    found = small_alexnet.load(folder).maps(images_IHWC, [*LAYERS, OUTPUT])
    module = small_alexnet.SmallAlexNet(7)
    module.load_state_dict({n: v.half().float() for n, v in _state(folder).items()})
    convolutions = [layer for layer in module.features if isinstance(layer, torch.nn.Conv2d)]
    x, after = (torch.from_numpy(images_IHWC).permute(0, 3, 1, 2) - 0.5) / 0.5, []
    with torch.no_grad():
        for n, convolution in enumerate(convolutions):
            x = convolution(x).clamp(min=0)
            after.append(x.numpy())
            if n in (0, 1, 4):
                x = torch.nn.functional.max_pool2d(x, 3, 2, 1)
    np.testing.assert_allclose(found["features.4"], after[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["features.11"], after[4], rtol=1e-4, atol=1e-5)
    assert found[OUTPUT].shape == (2, 7) and found["features.11"].std() > 0


def _state(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / small_alexnet.WEIGHTS)


def test_to_input_is_what_the_loaded_network_computes_on(folder: Path) -> None:
    images = torch.randint(
        0,
        256,
        (3, small_alexnet.SIDE, small_alexnet.SIDE, 3),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )
    module = small_alexnet.SmallAlexNet(7).eval()
    module.load_state_dict({name: value.float() for name, value in _state(folder).items()})
    with torch.no_grad():
        expected = module(small_alexnet.to_input(images)).numpy()
    found = small_alexnet.load(folder).maps(images.numpy().astype(np.float32) / 255, [OUTPUT])[
        OUTPUT
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-4


def test_it_is_declared_a_stand_in(folder: Path) -> None:
    network = small_alexnet.load(folder)
    info = network.info
    assert info.stand_in and info.kind == "classifier" and network.size == 96
    assert info.sha256 == hashlib.sha256((folder / small_alexnet.WEIGHTS).read_bytes()).hexdigest()


def test_missing_weights_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is missing; .*`make asset NAME=classifier`, or set pictures\.classifier"
    ):
        small_alexnet.load(tmp_path)


def test_the_asset_loads(root: Path) -> None:
    network = small_alexnet.load(root / "assets" / "mini" / "classifier")
    assert (
        network.maps(
            np.zeros((1, small_alexnet.SIDE, small_alexnet.SIDE, 3), np.float32), [OUTPUT]
        )[OUTPUT].shape[1]
        > 2
    )
