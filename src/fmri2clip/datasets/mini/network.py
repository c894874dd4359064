"""The network behind the simulated category areas: a small convolutional autoencoder that also
names objects.

It has a task and seeds of its own: it never saw CLIP, a caption, or a picture of any simulated
subject. Its code is a distributed 4 x 4 map in which objects compete for units, so that much of it
is named by no label. Its weights are an asset (``assets/mini/cortex``), trained once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

CODE_CHANNELS = 64
CODE_SIDE = 4
MIDDLE_CHANNELS = 48
MIDDLE_SIDE = 16
INPUT_SIDE = 64


class CortexNetwork(nn.Module):
    """Encoder 64 x 64 x 3 -> 16 x 16 x 48 -> 4 x 4 x 64, decoder back to the picture, and a head
    that names objects.
    """

    def __init__(self, n_categories: int) -> None:
        super().__init__()
        self.early = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(32, MIDDLE_CHANNELS, 3, stride=2, padding=1),
            nn.GELU(),
        )
        self.late = nn.Sequential(
            nn.Conv2d(MIDDLE_CHANNELS, 96, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(96, 96, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(96, CODE_CHANNELS, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(CODE_CHANNELS, 96, 4, stride=2, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(96, 64, 4, stride=2, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1),
        )
        self.head = nn.Linear(CODE_CHANNELS, n_categories)

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (I, 3, 64, 64) in [0, 1] to the middle maps (I, 48, 16, 16) and the code (I, 64,
        4, 4).
        """
        middle = self.early(images * 2 - 1)
        return middle, self.late(middle)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Reconstructed pictures and category logits (the head sees the mean over positions)."""
        code = self.encode(images)[1]
        return self.decoder(code), self.head(code.mean(dim=(2, 3)))


def to_float(images_IHWC: np.ndarray) -> torch.Tensor:
    """uint8 (I, H, W, 3) to float (I, 3, 64, 64) in [0, 1]; other sizes are resampled with
    antialiasing.
    """
    images = torch.from_numpy(np.ascontiguousarray(images_IHWC)).permute(0, 3, 1, 2).float() / 255
    if images.shape[-1] != INPUT_SIDE:
        images = nn.functional.interpolate(
            images, INPUT_SIDE, mode="bilinear", antialias=True, align_corners=False
        )
    return images


def load_network(weights: Path) -> CortexNetwork:
    """The trained network; raises ValueError if the asset is missing."""
    if not weights.exists():
        raise ValueError(
            f"{weights} is missing; restore it with git, or rebuild it with `make asset "
            "NAME=cortex`"
        )
    state = {name: value.float() for name, value in load_file(weights).items()}
    network = CortexNetwork(n_categories=state["head.bias"].numel())
    network.load_state_dict(state)
    return network.eval()


@torch.no_grad()
def network_maps(
    network: CortexNetwork, images_IHWC: np.ndarray, block: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """Middle maps (I, 48, 16, 16) and code maps (I, 64, 4, 4), float32, computed in blocks."""
    parts = [
        network.encode(to_float(images_IHWC[i : i + block]))
        for i in range(0, len(images_IHWC), block)
    ]
    return torch.cat([p[0] for p in parts]).numpy(), torch.cat([p[1] for p in parts]).numpy()
