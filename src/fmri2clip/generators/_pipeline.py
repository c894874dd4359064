"""What all families share: settings, loading of a diffusers pipeline, checks of the features,
batches, seeds.

Letters: I images, B images of a batch, H W C height, width and channels of a picture.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.strict import at_least
from fmri2clip.generators import Array, Conditioning

if TYPE_CHECKING:
    import torch

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "unipc": "UniPCMultistepScheduler",
    "dpm": "DPMSolverMultistepScheduler",
}
INDEX = "model_index.json"  # of a diffusers pipeline: the class of each part
# owner/name, as the Hugging Face hub allows them
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Parameters that every family of generators has; a family's Config adds its own."""

    path: str  # hub name (owner/name) or folder of a diffusers pipeline
    revision: str = ""  # commit or branch on the hub, '' for its newest
    clip_model: str  # open_clip's name of the CLIP model whose features the pipeline reads
    steps: int = 20  # of denoising
    guidance_scale: float = 1.0  # of classifier-free guidance, 1 is none
    scheduler: Literal["as_saved", "ddim", "unipc", "dpm"] = "as_saved"
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"  # of weights and arithmetic
    # parts that wait in the CPU's memory; GPU only
    offload: Literal["none", "model", "sequential"] = "none"
    batch_size: int = 8  # pictures at once
    variant: str = ""  # of the weight files, such as 'fp16' for model.fp16.safetensors
    pickled: bool = False  # true also reads weights that are not safetensors

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "batch_size", "guidance_scale")

    def check_places(self) -> None:
        """Raise ValueError for a folder that is no pipeline, one whose weight files these settings
        do not read, and what looks like no hub name.
        """
        check_path(self.path, "path", INDEX)
        if Path(self.path).is_dir():
            check_weights(Path(self.path), self.variant, self.pickled)


class PipelineGenerator(ABC):
    """Base of all families: a family says how its pipeline is loaded, what it reads, and how it
    paints a batch.
    """

    needs: tuple[str, ...]

    def __init__(self, config: Any, device: str = "cpu") -> None:
        self.config = config
        self.device = device
        _check_hardware(config, device)
        self.pipe = place(self._load(), config, device)
        self.shapes = self._shapes()

    @abstractmethod
    def _load(self) -> Any:
        """The pipeline, on the CPU."""

    @abstractmethod
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's features, by name, for all that the family may read."""

    @abstractmethod
    def _paint(self, batch: Conditioning, noise: list[torch.Generator]) -> Array:
        """Pictures (B, H, W, 3) from 0 to 1; `noise` holds a generator an image."""

    def check(self, conditioning: Conditioning) -> None:
        """Raise ValueError for features that the pipeline was not made for, and for those that are
        no numbers.
        """
        name = self.config.path
        own = self.config.clip_model
        given = conditioning.clip_model
        if given != own:
            raise ValueError(
                f"generator {name} reads features of {own}, these are of {given}; decode to {own}, "
                f"or choose a generator whose clip_model is {given}"
            )
        for array_name in self._read(conditioning):
            array = conditioning.arrays()[array_name]
            if array.shape[1:] != self.shapes[array_name]:
                has = _describe(array_name, array.shape[1:])
                wants = _describe(array_name, self.shapes[array_name])
                raise ValueError(
                    f"generator {name} reads {wants}, {array_name} has {has}; choose a generator "
                    "for these features, or check that clip_model is what they come from"
                )
            if not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0][0])
                raise ValueError(
                    f"{array_name} holds NaN or infinity, first in row {row}; check the decoder's "
                    "output"
                )

    def _read(self, conditioning: Conditioning) -> list[str]:
        """Names of the arrays that are read; ValueError where one is missing."""
        there = conditioning.arrays()
        found = []
        for need in self.needs:
            name = next((option for option in need.split("|") if option in there), None)
            if name is None:
                wanted = need.replace("|", " or ")
                raise ValueError(
                    f"generator {self.config.path} needs {wanted}, there is only "
                    f"{', '.join(there)}; choose a decoder "
                    f"that predicts it, or a generator that does without"
                )
            found.append(name)
        return found

    def generate(
        self, conditioning: Conditioning, seeds_I: Sequence[int] | Array
    ) -> NDArray[np.uint8]:
        """Pictures (I, H, W, 3), a seed each. Raises ValueError as `check` does, and for a wrong
        number of seeds.

        A picture is a function of its own features and seed; its neighbours and the size of the
        batch change nothing but the rounding of floating-point sums, which is at most a grey level
        or two in 255.
        """
        self.check(conditioning)
        if len(seeds_I) != len(conditioning) or not len(conditioning):
            raise ValueError(
                f"{len(seeds_I)} seeds for {len(conditioning)} images; pass one seed for each image"
            )
        kept = {name: conditioning.arrays()[name] for name in self._read(conditioning)}
        conditioning = Conditioning(clip_model=conditioning.clip_model, **kept)
        step = self.config.batch_size
        painted = []
        for start in range(0, len(conditioning), step):
            batch = slice(start, start + step)
            noise = make_noise(seeds_I[batch])  # one source an image, so batches leave no trace
            painted.append(to_uint8(self._paint(conditioning.take(batch), noise)))
        return np.concatenate(painted)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a picture, in pixels."""
        # Versatile Diffusion has two U-Nets, the others one.
        unet = getattr(self.pipe, "image_unet", None) or self.pipe.unet
        size = unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return height * self.pipe.vae_scale_factor, width * self.pipe.vae_scale_factor, 3

    def tensor(self, array: Array) -> torch.Tensor:
        """An array on the device that the pipeline computes on, in its precision."""
        import torch

        # With offload, the pipeline's own device is the CPU; where it computes, it says itself.
        dtype = getattr(torch, DTYPES[self.config.precision])
        copied = torch.from_numpy(np.array(array, np.float32, order="C"))
        return copied.to(self.pipe._execution_device, dtype)


def load_pipeline(class_name: str, settings: Settings, **parts: Any) -> Any:
    """A pipeline of a diffusers class from a hub name or a folder, without its progress bar.

    parts: components to replace, such as safety_checker=None. Raises ValueError if it cannot be
    loaded.
    """
    import diffusers

    settings.check_places()
    return finish(load_part(getattr(diffusers, class_name), settings, **parts), settings)


def check_path(path: str, key: str = "path", holds: str = "") -> None:
    """Raise ValueError for what is neither a folder nor looks like a hub name.

    key: of the settings, for the message; holds: a file that the folder must have.
    """
    folder = Path(path)
    if folder.is_dir():
        if not (folder / holds).exists():
            raise ValueError(f"{key} is {path!r}, a folder without {holds}; name the folder of it")
    # 'assets/mni' looks like a hub name, but its owner is a folder here.
    elif not HUB_NAME.fullmatch(path) or folder.parent.is_dir():
        raise ValueError(
            f"{key} is {path!r}, neither a folder nor a hub name; give owner/name, or a folder "
            "that exists"
        )


def check_weights(folder: Path, variant: str, pickled: bool) -> None:
    """Raise ValueError, which names the key to set, if a pipeline's weights are all of another kind
    than the settings say.
    """
    there = {_find_variant(path) for path in folder.rglob("*.safetensors")}
    if not there and not pickled:
        raise ValueError(
            f"path is {str(folder)!r}, a pipeline without *.safetensors; pickled: true reads other "
            "weights, which run code: only from a source that you trust"
        )
    if there and variant not in there:
        kinds = " or ".join(sorted(f"variant: {kind or repr('')}" for kind in there))
        raise ValueError(
            f"variant is {variant!r}, but {folder} has no weights of that kind; set {kinds}"
        )


def _find_variant(path: Path) -> str:
    """'fp16' of model.fp16.safetensors or model.fp16-00001-of-00002.safetensors, '' of others."""
    _, _, variant = path.stem.partition(".")
    return re.sub(r"-\d+-of-\d+$", "", variant)


def load_index(cls: Any, settings: Settings) -> dict[str, Any]:
    """model_index.json: the library and class of each part. Raises ValueError if there is none."""
    try:
        index: dict[str, Any] = cls.load_config(settings.path, revision=settings.revision or None)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{settings.path} cannot be loaded as a {cls.__name__}: {error}"
        ) from error
    return index


def finish(pipe: Any, settings: Settings) -> Any:
    """The pipeline with the scheduler of the settings and without its progress bar."""
    import diffusers

    if settings.scheduler != "as_saved":
        # The noise schedule stays that of the training; only the solver changes.
        scheduler = getattr(diffusers, SCHEDULERS[settings.scheduler])
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_part(cls: Any, settings: Settings, subfolder: str = "", **parts: Any) -> Any:
    """A diffusers class by its `from_pretrained`, in the precision and from the kind of files that
    the settings name.

    Raises ValueError if it cannot be loaded.
    """
    import torch

    where = {"subfolder": subfolder} if subfolder else {}
    files = {
        "revision": settings.revision or None,
        "variant": settings.variant or None,
        "use_safetensors": None if settings.pickled else True,
    }
    try:
        return cls.from_pretrained(
            settings.path,
            dtype=getattr(torch, DTYPES[settings.precision]),
            **where,
            **files,
            **parts,
        )
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            f"{settings.path} cannot be loaded as a {cls.__name__}: {error} (is it a pipeline of "
            "another family? A hub "
            f"name needs the internet once; weights that are not safetensors need pickled: true)"
        ) from error


def place(pipe: Any, settings: Settings, device: str) -> Any:
    """The pipeline on its device, or with parts that come to the GPU only while they compute."""
    if settings.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif settings.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)
    return pipe


def make_noise(seeds: Sequence[int] | Array) -> list[torch.Generator]:
    """A source of noise for each image; on the CPU, so that a seed means the same on every
    device.
    """
    import torch

    return [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds]


def to_uint8(images_BHWC: Array) -> NDArray[np.uint8]:
    """From 0 to 1 to 0 to 255, rounded. Raises ValueError for pictures that are no numbers."""
    if not np.isfinite(images_BHWC).all():
        raise ValueError(
            "the pipeline painted NaN: its numbers overflow; set precision to bf16 or fp32"
        )
    return (images_BHWC * 255).round().astype(np.uint8)


def unit(array: Array) -> Array:
    """Embeddings (B, D) with norm 1, or tokens (B, T, W) whose class token has norm 1."""
    pooled = array if array.ndim == 2 else array[:, :1]
    norm = np.linalg.norm(pooled.astype(np.float32), axis=-1, keepdims=True)
    return array.astype(np.float32) / norm


def _check_hardware(settings: Settings, device: str) -> None:
    if not device.startswith("cuda") and settings.offload != "none":
        raise ValueError(
            f"offload is {settings.offload!r} on {device}; it needs a GPU, set it to 'none'"
        )
    if not device.startswith("cuda") and settings.precision == "fp16":
        raise ValueError(f"precision is fp16 on {device}; it needs a GPU, set it to bf16 or fp32")


def _describe(name: str, shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"width {shape[0]} in {name}"
    return f"{shape[0]} tokens of width {shape[1]} in {name}"
