"""The stand-in for AlexNet in the simulated world: the same row of layers, narrower and for 96
pixels.

Five convolutions whose places in `features` are those of torchvision's AlexNet, so that the
protocols' layer names (`features.4`, `features.11`) mean the second and the fifth convolution after
their ReLU here too. It names the objects of simulated scenes and never saw CLIP, captions, a
picture of a simulated subject, or the network behind the category areas. Its weights are an asset
(assets/mini/classifier), trained once.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from fmri2clip.core.files import sha256_file
from fmri2clip.metrics.pictures.networks import Network, NetworkInfo, from_module

SIDE = 96
POOLED = 4
WEIGHTS = "model.safetensors"


class SmallAlexNet(nn.Module):
    """Pictures (I, 3, 96, 96), scaled to about [-1, 1], to logits (I, C)."""

    def __init__(self, n_categories: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(32, 96, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(96, 128, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(128, 96, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(96, 96, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(POOLED)
        self.classifier = nn.Sequential(
            nn.Dropout(0.3),
            nn.Linear(96 * POOLED**2, 256),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(256, n_categories),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (I, C) of normalised pictures (I, 3, H, W)."""
        logits_IC: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits_IC


def load(folder: Path, device: str = "cpu") -> Network:
    """The trained classifier as a stand-in. Raises ValueError if the folder holds no weights."""
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(
            f"{path} is missing; restore it with git, rebuild it with `make asset "
            "NAME=classifier`, or set pictures.classifier to '' for the published networks"
        )
    state = {name: value.float() for name, value in load_file(path).items()}
    module = SmallAlexNet(state["classifier.4.bias"].numel())
    module.load_state_dict(state)
    info = NetworkInfo(
        name=f"small AlexNet of {folder.name}",
        kind="classifier",
        weights=str(path),
        sha256=sha256_file(path),
        stand_in=True,
    )
    return from_module(
        module, info, mean=(0.5,) * 3, std=(0.5,) * 3, size=SIDE, device=device, batch_size=128
    )


def to_input(images: Tensor) -> Tensor:
    """uint8 (I, H, W, 3) to what the classifier reads, as `load` does."""
    return (images.float() / 255 - 0.5).div(0.5).permute(0, 3, 1, 2).contiguous()
