"""Pictures of many images, block by block.

A killed run goes on after its last finished block, to the same bytes.

Letters: I images (in the sense of rows: an image seen by two subjects is two rows), N candidates of
an image, H W C height, width and channels of a picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fmri2clip.artefacts.reconstructions import open_reconstructions
from fmri2clip.core import store
from fmri2clip.generators import Conditioning, Generator

BLOCK_IMAGES = 16  # images whose candidates are lost by a kill, at most

Select = Callable[[slice, NDArray[np.uint8]], NDArray[np.int64]]


def write_pictures(
    path: Path,
    generator: Generator,
    conditioning: Conditioning,
    seed_IN: NDArray[np.int64],
    rows: Mapping[str, Any],
    partial: Path,
    attrs: store.Attrs | None = None,
    label: str = "pictures",
    block_images: int = BLOCK_IMAGES,
    select: Select | None = None,
) -> None:
    """Write a file of kind 'reconstructions', which appears under its name when it is complete.

    seed_IN: of each candidate (`generators.draw_seeds`). rows: nsd_id_I, and subject_I where there
    are several. partial: folder outside the outputs that keeps finished blocks
    (`resume.resume_dir`, with the generator's Config and `fingerprint` of its folder in the key);
    blocks of other features, seeds or attributes are thrown away. label: of the progress bar.
    select(rows, candidates (I, N, H, W, C)) -> the one of N to keep of each image; None keeps all.
    Raises ValueError as the generator's `check` does, before anything is painted.
    """
    n, n_candidates = seed_IN.shape
    if n != len(conditioning):
        raise ValueError(
            f"seeds for {n} images, features of {len(conditioning)}; pass one row of seeds for "
            "each image"
        )
    generator.check(conditioning)
    # The digests say what the pictures were painted from: finished blocks of anything else do not
    # fit, and a reader of the file can tell.
    inputs = {"clip_model": conditioning.clip_model, "conditioning_sha256": digest(conditioning)}
    attrs = {
        **(attrs or {}),
        **inputs,
        "seeds_sha256": hashlib.sha256(seed_IN.tobytes()).hexdigest(),
    }
    sizes = {
        "I": n,
        "N": 1 if select else n_candidates,
        **dict(zip("HWC", generator.image_shape, strict=True)),
    }
    names = ["image_INHWC", "seed_IN"]
    stream = open_reconstructions(
        path, fixed=rows, sizes=sizes, names=names, attrs=attrs, partial=partial
    )
    with stream, tqdm(total=n * n_candidates, desc=label, unit="picture") as bar:
        done = stream.rows_done()
        bar.update(done * n_candidates)
        for start in range(done, n, block_images):
            block = slice(start, min(start + block_images, n))
            seeds = seed_IN[block]
            images = paint_candidates(generator, conditioning.take(block), seeds)
            # Only what is chosen is stored, with its seed.
            if select:
                chosen = (np.arange(len(seeds)), select(block, images))
                images = images[chosen][:, None]
                seeds = seeds[chosen][:, None]
            stream.write("image_INHWC", start, images)
            stream.write("seed_IN", start, seeds)
            bar.update((block.stop - start) * n_candidates)


def paint_candidates(
    generator: Generator, conditioning: Conditioning, seed_IN: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """All candidates (I, N, H, W, C) of each image, without resume."""
    n, n_candidates = seed_IN.shape
    repeated = conditioning.take(np.repeat(np.arange(n), n_candidates))
    images = generator.generate(repeated, seed_IN.ravel())
    return images.reshape(n, n_candidates, *images.shape[1:])


def digest(conditioning: Conditioning) -> str:
    """sha256 of the features, their names and shapes."""
    found = hashlib.sha256(conditioning.clip_model.encode())
    for name, array in conditioning.arrays().items():
        found.update(f"{name} {array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()
