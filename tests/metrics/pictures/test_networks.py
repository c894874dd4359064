"""Features against torchvision's own extractor; weights from files, and what is said where they
cannot be had.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from fmri2clip.metrics.pictures import networks_torchvision
from fmri2clip.metrics.pictures.networks import (
    OUTPUT,
    extract,
    from_encoder,
    from_module,
)
from fmri2clip.metrics.pictures.networks_torchvision import SOURCES, Source
from fmri2clip.metrics.pictures.protocols import PROTOCOLS
from tests.metrics.pictures.conftest import SmallNetwork, from_function, make_info, make_network

ALEXNET = "AlexNet_Weights.IMAGENET1K_V1"
MINDEYE = PROTOCOLS["mindeye-2023"]


@pytest.fixture
def pictures(rng: np.random.Generator) -> np.ndarray:
    return rng.random((7, 40, 40, 3), np.float32)


def test_layers_equal_torchvision_extractor(pictures: np.ndarray) -> None:
    """Outputs before a ReLU in place are kept from being overwritten."""
    torch.manual_seed(3)
    module = SmallNetwork()
    names = ["features.0", "features.3", "avgpool"]
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    found = from_module(module, make_info(), mean=mean, std=std).maps(pictures, [*names, OUTPUT])
    images = torch.from_numpy((pictures - np.float32(mean)) / np.float32(std)).permute(0, 3, 1, 2)
    expected = create_feature_extractor(
        module, return_nodes=[n for n in names if n != "features.0"]
    )(images)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(
        found["features.0"], module.features[0](images).detach().numpy(), atol=1e-6
    )
    assert found["features.0"].min() < 0
    np.testing.assert_allclose(found[OUTPUT], module(images).detach().numpy(), atol=1e-6)


def test_batches_do_not_matter(pictures: np.ndarray) -> None:
    network = make_network()
    found = extract(network, pictures, ["features.4", "avgpool"], lambda x: x)
    assert network.batch_size < len(pictures)
    assert found["avgpool"].shape == (7, 24) and found["avgpool"].dtype == np.float32
    whole = network.maps(pictures, ["features.4"])["features.4"]
    np.testing.assert_allclose(found["features.4"], whole.reshape(7, -1), atol=1e-6)


def test_wrong_layers_and_rows_are_named(pictures: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"small network has no layer 'features.9'.*features\.\d"):
        make_network().maps(pictures, ["features.9"])
    with pytest.raises(ValueError, match="has no layer 'conv2'"):
        from_module(
            SmallNetwork(),
            make_info(),
            mean=(0, 0, 0),
            std=(1, 1, 1),
            layers={"features.4": "conv2"},
        )
    averaged = from_function(lambda x: x.mean(axis=0), make_info())
    with pytest.raises(ValueError, match="its first axis must be pictures"):
        extract(averaged, pictures, [OUTPUT], lambda x: x)


@pytest.mark.parametrize("tag", list(SOURCES))
def test_published_networks_have_the_layers_of_the_protocols(tag: str) -> None:
    source = SOURCES[tag]
    with torch.device("meta"):
        module = get_model(source.model, weights=None, **source.options)
    known = dict(module.named_modules())
    rows = [
        row for protocol in PROTOCOLS.values() for row in protocol.networks if row.weights == tag
    ]
    assert rows and all(layer in known for row in rows for layer in row.layers.values())
    if source.model == "alexnet":
        for layer, n_convolutions in (("features.4", 2), ("features.11", 5)):
            before = list(module.features)[: int(layer.split(".")[1]) + 1]
            assert isinstance(before[-1], nn.ReLU) and isinstance(before[-2], nn.Conv2d)
            assert sum(isinstance(part, nn.Conv2d) for part in before) == n_convolutions
    if source.model == "inception_v3":
        assert module.transform_input


def test_every_network_of_a_protocol_has_a_source() -> None:
    for protocol in PROTOCOLS.values():
        assert {row.weights for row in protocol.networks} - set(SOURCES) == {
            "ViT-L-14-quickgelu/openai"
        }


@pytest.fixture
def small_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of a small torchvision model under AlexNet's tag, in place of 230 MB."""
    monkeypatch.setitem(SOURCES, ALEXNET, Source(model="squeezenet1_1"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_weights_are_loaded_and_hashed(
    small_source: None, tmp_path: Path, suffix: str
) -> None:
    torch.manual_seed(1)
    module = get_model("squeezenet1_1", weights=None)
    path = tmp_path / f"weights{suffix}"
    save_file(module.state_dict(), path) if suffix == ".safetensors" else torch.save(
        module.state_dict(), path
    )
    network = networks_torchvision.load(ALEXNET, path)
    assert network.info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (
        network.info.weights == ALEXNET and not network.info.stand_in and not network.info.verified
    )
    pictures = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)
    mean, std = networks_torchvision.IMAGENET_MEAN, networks_torchvision.IMAGENET_STD
    images = torch.from_numpy((pictures - np.float32(mean)) / np.float32(std)).permute(0, 3, 1, 2)
    expected = module.eval()(images).detach().numpy()
    np.testing.assert_allclose(network.maps(pictures, [OUTPUT])[OUTPUT], expected, atol=1e-5)


def test_digits_in_the_name_of_the_published_file_are_verified(
    small_source: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(get_model("squeezenet1_1", weights=None).state_dict(), path)
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    assert networks_torchvision.find_digits(networks_torchvision.find_url(ALEXNET)) == "7be5be79"
    assert networks_torchvision.find_digits(SOURCES["swav_800ep_pretrain"].url) == ""
    monkeypatch.setattr(networks_torchvision, "find_digits", lambda url: digits)
    assert networks_torchvision.load(ALEXNET, path).info.verified


def test_published_names_are_mapped_and_unused_parts_dropped() -> None:
    """As SwAV's file: names begin with 'module.', its own heads come along, the classifier's head
    is not there.
    """
    own, other = (nn.ModuleDict({"body": nn.Linear(2, 3), "fc": nn.Linear(3, 1)}) for _ in range(2))
    state = {
        f"module.{name}": value
        for name, value in other.state_dict().items()
        if name.startswith("body")
    }
    state["module.prototypes.weight"] = torch.ones(4)
    source = Source(model="resnet50", prefix="module.", unused=("fc.", "prototypes."))
    networks_torchvision.fill(own, state, source, Path("x"))
    assert torch.equal(own["body"].weight, other["body"].weight)
    with pytest.raises(
        ValueError, match=r"x holds no weights of resnet50: 3 names .*\(first fc.bias\)"
    ):
        networks_torchvision.fill(own, state, Source(model="resnet50", prefix="module."), Path("x"))
    with pytest.raises(ValueError, match=r"1 names or shapes differ \(first body.weight\)"):
        networks_torchvision.fill(
            own, state | {"module.body.weight": torch.ones(5)}, source, Path("x")
        )


def test_missing_weights_have_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    found, missing = networks_torchvision.load_networks(MINDEYE, {}, download=False)
    assert not found and set(missing) == {"alexnet", "inception", "efficientnet", "swav"}
    assert "downloads are off; give the path of a local copy of https://" in missing["alexnet"]

    def fail(*args: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    _, missing = networks_torchvision.load_networks(MINDEYE, {}, download=True)
    assert all("no route to host" in reason for reason in missing.values()) and len(missing) == 4


def test_a_wrong_path_stops_the_run(tmp_path: Path) -> None:
    """It is a mistake, not a network that cannot be had."""
    with pytest.raises(ValueError, match="does not exist; give a local copy of https"):
        networks_torchvision.load_networks(
            MINDEYE, {ALEXNET: str(tmp_path / "no.pth")}, download=False
        )
    with pytest.raises(
        ValueError, match=r"weights 'alexnet' are of no protocol; choose from AlexNet_Weights"
    ):
        networks_torchvision.load_networks(MINDEYE, {"alexnet": "x.pth"}, download=False)


def test_clip_encoder_gives_its_embedding(tmp_path: Path, rng: np.random.Generator) -> None:
    """As the encoder itself on 8-bit pictures of its size."""
    import open_clip

    from fmri2clip.clip import encoder
    from fmri2clip.core import params

    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = tmp_path / "metric-vit.json"
    config.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(config)
    weights = tmp_path / "weights.safetensors"
    save_file(
        {k: v.contiguous() for k, v in open_clip.create_model("metric-vit").state_dict().items()},
        weights,
    )
    clip = encoder.load(
        params.Clip(model="metric-vit", config=str(config), pretrained=str(weights), batch_size=4)
    )
    network = from_encoder(clip, stand_in=True)
    pictures = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found_ID = network.maps(pictures.astype(np.float32) / 255, [OUTPUT])[OUTPUT]
    found_ID /= np.linalg.norm(found_ID, axis=1, keepdims=True)
    np.testing.assert_allclose(found_ID, clip.images(pictures), atol=1e-6)
    assert (
        network.size == 32
        and network.info.kind == "clip"
        and network.info.sha256 == clip.weights_sha256
    )
