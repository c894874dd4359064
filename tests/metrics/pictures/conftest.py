"""Stand-ins for the networks of the protocols, small enough to run at every size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fmri2clip.metrics.pictures.networks import Network, NetworkInfo, from_module
from fmri2clip.metrics.pictures.protocols import SLOTS


class SmallNetwork(nn.Module):
    """Two convolutions, ReLU in place as in AlexNet, and the mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 7, stride=4),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 24, 5, stride=3),
            nn.ReLU(inplace=True),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        pooled_IF: Tensor = self.avgpool(self.features(images)).flatten(1)
        return pooled_IF


def make_info(**changes: object) -> NetworkInfo:
    info = {
        "name": "small network",
        "kind": "classifier",
        "weights": "random",
        "sha256": "0" * 64,
        "stand_in": True,
    }
    return NetworkInfo(**(info | changes))


def make_network(seed: int = 0, size: int | None = None, **changes: object) -> Network:
    torch.manual_seed(seed)
    layers = {"features.4": "features.1", "features.11": "features.3"}
    colours = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    return from_module(
        SmallNetwork(), make_info(**changes), layers=layers, size=size, batch_size=5, **colours
    )


def from_function(
    function: Callable[[np.ndarray], np.ndarray], info: NetworkInfo, size: int | None = None
) -> Network:
    """A network of one layer: function(images_IHWC in [0, 1]) -> features (I, F)."""

    def maps(images_IHWC: np.ndarray, layers: Sequence[str]) -> dict[str, np.ndarray]:
        return dict.fromkeys(layers, np.asarray(function(images_IHWC), dtype=np.float32))

    return Network(maps=maps, info=info, size=size)


@pytest.fixture(scope="session")
def networks() -> dict[str, Network]:
    """One network a slot, which takes pictures of any size."""
    return {slot: make_network(seed) for seed, slot in enumerate(SLOTS)}
