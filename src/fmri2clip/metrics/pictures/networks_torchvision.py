"""The published networks of the protocols, by weights tag: from a local file, or by torchvision's
download.

Which weights a protocol needs stands in its table; here stands how a tag becomes a network. The
tags are torchvision's enums, and `swav_800ep_pretrain` for the file that facebookresearch/swav
loads into torchvision's ResNet-50.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fmri2clip.core.files import sha256_file
from fmri2clip.metrics.pictures.networks import Network, NetworkInfo, from_module
from fmri2clip.metrics.pictures.protocols import Protocol

# of all torchvision classifiers, and SwAV
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Source:
    """How the weights of a tag are read."""

    model: str  # name in torchvision.models
    url: str = ""  # '': that of torchvision's enum
    kind: Literal["classifier", "self-supervised"] = "classifier"
    options: Mapping[str, Any] = field(default_factory=dict)  # of the model
    prefix: str = ""  # before every name in the file
    unused: tuple[str, ...] = ()  # parts that file or model may have alone: no metric reads them


SOURCES: Mapping[str, Source] = {
    "AlexNet_Weights.IMAGENET1K_V1": Source(model="alexnet"),
    # transform_input is what torchvision sets with its own weights: they expect inputs in [-1, 1].
    "Inception_V3_Weights.IMAGENET1K_V1": Source(
        model="inception_v3",
        options={"transform_input": True, "aux_logits": True, "init_weights": False},
    ),
    "EfficientNet_B1_Weights.IMAGENET1K_V1": Source(model="efficientnet_b1"),
    "EfficientNet_B1_Weights.IMAGENET1K_V2": Source(model="efficientnet_b1"),
    "swav_800ep_pretrain": Source(
        model="resnet50",
        url="https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
        kind="self-supervised",
        prefix="module.",
        unused=("fc.", "projection_head.", "prototypes."),
    ),
}


def load_networks(
    protocol: Protocol, local: Mapping[str, str], *, download: bool, device: str = "cpu"
) -> tuple[dict[str, Network], dict[str, str]]:
    """Networks of the protocol by slot, and by slot why one cannot be had; CLIP is not
    torchvision's, hence not here.

    local: weights tag -> path of its state dict. download: fetch the others into torch's hub cache;
    they are taken from there without it. Raises ValueError for an unknown tag, a missing file and
    one of another network.
    """
    unknown = [tag for tag in local if tag not in SOURCES]
    if unknown:
        raise ValueError(
            f"weights {unknown[0]!r} are of no protocol; choose from {', '.join(SOURCES)}"
        )
    networks: dict[str, Network] = {}
    missing: dict[str, str] = {}
    for metric in protocol.networks:
        if metric.weights in SOURCES:
            # A network that cannot be had leaves its metrics out; a wrong file is an error.
            try:
                path = local.get(metric.weights) or fetch(metric.weights, download)
            except OSError as error:
                missing[metric.slot] = str(error)
            else:
                networks[metric.slot] = load(metric.weights, path, device)
    return networks, missing


def find_url(tag: str) -> str:
    """Address of the published file."""
    from torchvision.models import get_weight

    return SOURCES[tag].url or str(get_weight(tag).url)


def fetch(tag: str, download: bool) -> str:
    """Path of the published file in torch's hub cache.

    Raises OSError with the reason where it cannot be had.
    """
    url = find_url(tag)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    advice = f"give the path of a local copy of {url}"
    if not path.is_file() and not download:
        raise OSError(f"{tag} is not at {path} and downloads are off; {advice}")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), find_digits(url) or None)
        except (OSError, RuntimeError) as error:  # no connection; a wrong hash
            raise OSError(f"{tag} could not be downloaded ({error}); {advice}") from error
    return str(path)


def find_digits(url: str) -> str:
    """First digits of the sha256 that torchvision puts into file names; '' where there are none."""
    found = re.search(r"-([0-9a-f]{8,})\.", url)
    return found.group(1) if found else ""


def load(tag: str, path: str | Path, device: str = "cpu") -> Network:
    """The network of a tag with the weights of a file (.pth, .tar or .safetensors).

    Raises ValueError if there is no such file or its state dict is of another network.
    """
    from torchvision.models import get_model

    source = SOURCES[tag]
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"weights of {tag}: {path} does not exist; give a local copy of {find_url(tag)}"
        )
    sha256 = sha256_file(path)
    module = get_model(source.model, weights=None, **source.options)
    fill(module, read_state(path), source, path)
    # A local copy is believed to be the published file only if its hash begins as the name says.
    digits = find_digits(find_url(tag))
    info = NetworkInfo(
        name=f"torchvision {source.model}",
        kind=source.kind,
        weights=tag,
        sha256=sha256,
        stand_in=False,
        verified=bool(digits) and sha256.startswith(digits),
    )
    return from_module(module, info, mean=IMAGENET_MEAN, std=IMAGENET_STD, device=device)


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict; nothing but tensors is unpickled."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def fill(module: nn.Module, state: Mapping[str, Tensor], source: Source, path: Path) -> None:
    """Copy a state dict into the module; names and shapes must agree outside the unused parts."""
    state = {name.removeprefix(source.prefix): value for name, value in state.items()}
    own = module.state_dict()
    # '\0' begins no name: a network without unused parts has none that may be missing.
    odd = sorted(
        name for name in set(state) ^ set(own) if not name.startswith(source.unused or ("\0",))
    )
    odd += [name for name in own if name in state and state[name].shape != own[name].shape]
    if odd:
        raise ValueError(
            f"{path} holds no weights of {source.model}: {len(odd)} names or shapes differ (first "
            f"{odd[0]}); give its state dict"
        )
    module.load_state_dict(
        {name: value for name, value in state.items() if name in own}, strict=False
    )
