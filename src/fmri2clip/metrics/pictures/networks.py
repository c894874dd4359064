"""Networks whose features the protocols compare: any module with named layers, or the CLIP encoder.

A network says what it is (`NetworkInfo`), so that a stand-in of the simulated world is never taken
for the published one. Letters: I images, H W C height, width and colours of a picture, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmri2clip.core.store import MappedRows
from fmri2clip.metrics.pictures.resizing import Images

if TYPE_CHECKING:
    from fmri2clip.clip.encoder import Encoder

Floats = NDArray[np.floating]
Maps = Callable[[NDArray[np.float32], Sequence[str]], dict[str, Floats]]
OUTPUT = "output"  # layer name of what a network returns


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """What stands beside a number that a network gave."""

    name: str
    kind: Literal["classifier", "self-supervised", "clip"]
    weights: str  # tag, or where they come from
    sha256: str  # of the weights file
    stand_in: bool  # takes the place of the network that the protocol names
    precision: str = "fp32"  # of the computation
    # the published file's name holds the first digits of its sha256, and they agree
    verified: bool = False


@dataclass(frozen=True, kw_only=True)
class Network:
    """maps(images_IHWC, layers): float32 pictures in [0, 1] of one size -> layer -> its output (I,
    ...), float32.

    size: side of the pictures that it needs, None where it takes those of the protocol; only a
    stand-in or a CLIP model may name one. batch_size: pictures at once.
    """

    maps: Maps
    info: NetworkInfo
    size: int | None = None
    batch_size: int = 32

    def record(self) -> dict[str, str | bool]:
        """Its fields as plain values."""
        return asdict(self.info)


def flatten(maps_Ixx: Floats) -> Floats:
    """(I, ...) -> (I, F)."""
    return maps_Ixx.reshape(len(maps_Ixx), -1)


def extract(
    network: Network,
    images_IHWC: Images | MappedRows,
    layers: Sequence[str],
    prepare: Callable[[Images], NDArray[np.float32]],
    reduce: Callable[[Floats], Floats] = flatten,
) -> dict[str, Floats]:
    """Features (I, F) of each layer; prepare: resizes one batch of pictures; reduce: one batch of
    maps to (I, F).
    """
    parts: dict[str, list[Floats]] = {layer: [] for layer in layers}
    for start in range(0, len(images_IHWC), network.batch_size):
        batch = prepare(images_IHWC[start : start + network.batch_size])
        for layer, maps_Ixx in network.maps(batch, layers).items():
            if len(maps_Ixx) != len(batch):
                raise ValueError(
                    f"{network.info.name} gave {len(maps_Ixx)} rows for {len(batch)} pictures at "
                    f"{layer}; its first axis must be pictures"
                )
            parts[layer].append(reduce(maps_Ixx))
    return {layer: np.concatenate(found) for layer, found in parts.items()}


def from_module(
    module: nn.Module,
    info: NetworkInfo,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    layers: Mapping[str, str] | None = None,
    size: int | None = None,
    device: str | torch.device = "cpu",
    batch_size: int = 32,
) -> Network:
    """A network of PyTorch, in evaluation mode on the device; mean, std: of each colour, in [0, 1].

    layers: the protocol's layer -> this module's name for it, where they differ. size: as in
    Network. Raises ValueError for a layer that the module does not have.
    """
    known = dict(module.named_modules())
    names = dict(layers or {})
    for layer in names.values():
        _check_layer(layer, known, info.name)
    module = module.eval().requires_grad_(False).to(device)
    shift = torch.tensor(mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)
    scale = torch.tensor(std, dtype=torch.float32, device=device).view(1, 3, 1, 1)

    def maps(images_IHWC: NDArray[np.float32], wanted: Sequence[str]) -> dict[str, Floats]:
        own = {layer: _check_layer(names.get(layer, layer), known, info.name) for layer in wanted}
        images = torch.from_numpy(images_IHWC).to(device).permute(0, 3, 1, 2).contiguous()
        # Two layers of the protocol may be one of the module: it is copied once.
        found = _run(module, known, (images - shift) / scale, set(own.values()))
        return {layer: found[name] for layer, name in own.items()}

    return Network(maps=maps, info=info, size=size, batch_size=batch_size)


def _check_layer(layer: str, known: Mapping[str, nn.Module], name: str) -> str:
    if layer != OUTPUT and layer not in known:
        # However far: a network has many layers, and none may resemble what came.
        near = get_close_matches(layer, known, 3, 0.0)
        raise ValueError(
            f"{name} has no layer {layer!r}; map it to {OUTPUT!r} or to a module such as "
            f"{', '.join(near)}"
        )
    return layer


@torch.no_grad()
def _run(
    module: nn.Module, known: Mapping[str, nn.Module], images: Tensor, names: set[str]
) -> dict[str, Floats]:
    """Outputs of the named layers; TF32 is off, as it would cost half of float32's digits."""
    found: dict[str, Tensor] = {}
    # Deterministic and without a benchmark: the same picture gives the same features in every run.
    exact = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    with exact, _tap({name: known[name] for name in names - {OUTPUT}}, found):
        output = module(images)
    if OUTPUT in names:
        found[OUTPUT] = output
    return {name: value.float().cpu().numpy() for name, value in found.items()}


@contextmanager
def _tap(layers: Mapping[str, nn.Module], found: dict[str, Tensor]) -> Iterator[None]:
    """Copy the outputs of layers while a module runs; a copy, since the next layer may overwrite
    them in place.
    """

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found[name] = output.clone()

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _ImageTower(nn.Module):
    """encode_image of an open_clip model as forward; not normalised, which a correlation does not
    see.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.model = encoder.model
        self.dtype = encoder.dtype

    def forward(self, images: Tensor) -> Tensor:
        embedding_ID: Tensor = self.model.encode_image(images.to(self.dtype)).float()
        return embedding_ID


def from_encoder(encoder: Encoder, *, stand_in: bool, weights: str = "") -> Network:
    """The project's CLIP encoder in the slot `clip`; the protocol resizes, not open_clip.

    weights: tag of a local copy of published weights, by default the encoder's model/pretrained.
    """
    clip = encoder.clip
    visual = encoder.model.visual
    info = NetworkInfo(
        name=f"open_clip {clip.model}",
        kind="clip",
        weights=weights or f"{clip.model}/{clip.pretrained}",
        sha256=encoder.weights_sha256,
        stand_in=stand_in,
        precision=clip.precision,
    )
    return from_module(
        _ImageTower(encoder),
        info,
        mean=visual.image_mean,
        std=visual.image_std,
        size=encoder.image_size,
        device=encoder.device,
        batch_size=clip.batch_size,
    )
