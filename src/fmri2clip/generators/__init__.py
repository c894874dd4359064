"""Generators, one file a family of diffusers pipelines. The file's name is the generator's name.

A generator file defines `CITATION`, `Config` (frozen dataclass) and `Generator`, which paints what
CLIP features say:

    Generator(config, device)       loads the pipeline from a hub name or a folder
    needs: tuple[str, ...]          arrays of Conditioning that it reads; 'a|b' is the first of them
                                    that is given
    check(conditioning)             ValueError for features of another CLIP model, width or number
                                    of tokens
    generate(conditioning, seeds_I) pictures (I, H, W, C) uint8; that of an image depends on its own
                                    features and seed
    image_shape: (H, W, C)          of a picture, in pixels

Files whose names start with '_' hold what the families share. Axis letters: I images, T image
tokens (class token first), U text tokens, W token width, D embedding width, H W C height, width and
channels of a picture.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.strict import suggest

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What pictures are generated from: CLIP features of one model, a row an image, None where
    there is nothing.

    clip_model: open_clip's name of the model. Features are in the scale of the CLIP cache:
    embeddings and class tokens have norm 1; generators bring them to it if they have not.
    """

    clip_model: str
    embedding_ID: Array | None = None
    tokens_ITW: Array | None = None
    text_tokens_IUW: Array | None = None

    def __post_init__(self) -> None:
        shapes = {name: array.shape for name, array in self.arrays().items()}
        if not shapes:
            raise ValueError(
                "there is nothing to generate from; pass embedding_ID, tokens_ITW or "
                "text_tokens_IUW"
            )
        for name, shape in shapes.items():
            axes = name.rsplit("_", 1)[1]
            if len(shape) != len(axes):
                raise ValueError(f"{name} has shape {shape}, expected the axes {', '.join(axes)}")
        if len({shape[0] for shape in shapes.values()}) > 1:
            counts = ", ".join(f"{shape[0]} in {name}" for name, shape in shapes.items())
            raise ValueError(f"the numbers of images differ: {counts}; pass a row for each image")

    def arrays(self) -> dict[str, Array]:
        """The features that are there, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "clip_model"}
        return {name: value for name, value in values.items() if value is not None}

    def take(self, rows: slice | Array) -> Conditioning:
        """The same features of some of the images."""
        return Conditioning(
            clip_model=self.clip_model, **{name: a[rows] for name, a in self.arrays().items()}
        )

    def __len__(self) -> int:
        return len(next(iter(self.arrays().values())))


class Generator(Protocol):
    """What the file of a family defines; see the docstring of this package."""

    config: Any

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the arrays of Conditioning that it reads; 'a|b' is the first that is given."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a picture, in pixels."""
        ...

    def check(self, conditioning: Conditioning) -> None:
        """Raise ValueError for features of another CLIP model, width or number of tokens."""
        ...

    def generate(
        self, conditioning: Conditioning, seeds_I: Sequence[int] | Array
    ) -> NDArray[np.uint8]:
        """Pictures (I, H, W, C); that of an image depends on its own features and seed only."""
        ...


def names() -> list[str]:
    """Names of all generators: the files of this folder."""
    return sorted(
        module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")
    )


def load_family(name: str) -> ModuleType:
    """Module of a family; only its own file is imported, and diffusers not before a pipeline is
    loaded.

    Raises ValueError if no such family exists.
    """
    if name not in names():
        raise ValueError(
            f"generator {name!r} does not exist{suggest(name, names())}; choose from "
            f"{', '.join(names())}"
        )
    return importlib.import_module(f"{__name__}.{name}")


def load(name: str, config: Any, device: str = "cpu") -> Generator:
    """The generator of a family, ready to paint. config: of the family's class Config; device: cpu
    or cuda.

    Raises ValueError for an unknown family and for a pipeline that cannot be loaded.
    """
    module = load_family(name)
    assert isinstance(config, module.Config), (
        f"a {type(config).__module__}.{type(config).__name__} for {name}"
    )
    generator: Generator = module.Generator(config, device)
    return generator


def draw_seeds(seed: int, ids_I: Sequence[int] | Array, n_candidates: int = 1) -> NDArray[np.int64]:
    """Seeds (I, N): that of candidate n of image i is a function of seed, ids_I[i] and n alone."""
    words = [
        [np.random.SeedSequence((seed, int(i), n)).generate_state(1) for n in range(n_candidates)]
        for i in ids_I
    ]
    return np.array(words, dtype=np.int64).reshape(len(ids_I), n_candidates)
