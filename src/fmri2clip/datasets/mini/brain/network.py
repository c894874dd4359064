"""The network behind the simulated category areas: it recognises what a picture shows.

Its task is its own: which categories, which kind of place, whether faces, bodies and printed words
are there, how many people and what they do. It was trained on scenes of other seeds than any
simulated picture, has no part in CLIP, and rebuilds no pixels, so that its late maps keep what an
object is and lose where it is, how large and of which colour. Its weights are an asset
(``assets/mini/areas``), trained once. Two architectures exist: one for development worlds, one
for those that verdicts come from.

Letters: I images, U units of the late maps, M units of the middle maps.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

INPUT_SIDE = 96
DOMAINS = ("faces", "words", "places", "bodies")  # in the order of the floc volumes
MIDDLE_PLACES = 8  # middle maps are averaged to so many places a side
LATE_SIDE = 6


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Architecture: residual 3 x 3 convolutions, or depthwise 5 x 5 ones between linear layers."""

    kind: Literal["residual", "depthwise"]
    stem: int  # channels at half the picture's side
    middle: int  # at a quarter
    narrow: int  # at an eighth
    late: int  # at a sixteenth: the units
    tasks: dict[str, int]  # head -> logits


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(x + self.body(x))


class _Depthwise(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, 2 * width, 1),
            nn.GELU(),
            nn.Conv2d(2 * width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _down(n_in: int, n_out: int, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(n_in, n_out, kernel, stride=2, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.GELU())


class AreaNetwork(nn.Module):
    """96 x 96 x 3 -> middle maps 24 x 24 x M -> late maps 6 x 6 x U (0 or more), and task heads.

    A head reads the mean and the maximum of each unit over the picture.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        block = _Residual if shape.kind == "residual" else _Depthwise
        self.early = nn.Sequential(_down(3, shape.stem, 5), _down(shape.stem, shape.middle))
        self.late = nn.Sequential(
            _down(shape.middle, shape.narrow),
            block(shape.narrow),
            _down(shape.narrow, shape.late),
            block(shape.late),
            nn.ReLU(),
        )
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * shape.late, n) for name, n in shape.tasks.items()}
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (I, 3, 96, 96) in [0, 1] to middle (I, M, 24, 24) and late maps (I, U, 6, 6)."""
        middle = self.early(images * 2 - 1)
        return middle, self.late(middle)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of every task, (I, n)."""
        late = self.encode(images)[1]
        pooled = torch.cat([late.mean(dim=(2, 3)), late.amax(dim=(2, 3))], dim=1)
        return {name: head(pooled) for name, head in self.heads.items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class Areas:
    """A trained network, and selectivity_KU: d' of each unit's mean for each of DOMAINS."""

    network: AreaNetwork
    selectivity_KU: np.ndarray


def to_float(images_IHWC: np.ndarray) -> Tensor:
    """uint8 (I, H, W, 3) to float (I, 3, 96, 96) in [0, 1]; other sizes are resampled with
    antialiasing.
    """
    images = torch.from_numpy(np.ascontiguousarray(images_IHWC)).permute(0, 3, 1, 2).float() / 255
    if images.shape[-1] != INPUT_SIDE:
        images = nn.functional.interpolate(
            images, INPUT_SIDE, mode="bilinear", antialias=True, align_corners=False
        )
    return images


def save_areas(path: Path, areas: Areas) -> None:
    """Weights in float16, with the shape in the file's header; one metadata key, so equal bytes."""
    state = {name: value.contiguous() for name, value in areas.network.state_dict().items()}
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    halves["selectivity_KU"] = torch.from_numpy(areas.selectivity_KU).float()
    save_file(halves, path, metadata={"shape": json.dumps(asdict(areas.network.shape))})


def load_areas(path: Path) -> Areas:
    """The trained network; raises ValueError if the asset is missing."""
    if not path.exists():
        raise ValueError(
            f"{path} is missing; restore it with git, or rebuild it with `make asset NAME=areas`"
        )
    with safe_open(path, "pt") as file:
        shape = Shape(**json.loads(file.metadata()["shape"]))
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    selectivity_KU = state.pop("selectivity_KU").numpy()
    network = AreaNetwork(shape)
    network.load_state_dict(state)
    return Areas(network=network.eval(), selectivity_KU=selectivity_KU)


@torch.no_grad()
def area_maps(
    network: AreaNetwork, images_IHWC: np.ndarray, block: int = 250
) -> tuple[np.ndarray, np.ndarray]:
    """Middle maps (I, M, 8, 8), averaged, and late maps (I, U, 6, 6), float32, block by block."""
    middles = []
    lates = []
    for start in range(0, len(images_IHWC), block):
        middle, late = network.encode(to_float(images_IHWC[start : start + block]))
        middles.append(nn.functional.adaptive_avg_pool2d(middle, MIDDLE_PLACES))
        lates.append(late)
    return torch.cat(middles).numpy(), torch.cat(lates).numpy()
