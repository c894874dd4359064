"""What only the author of a simulated scene knows: its place, its background alone, and what it
shows that no COCO label names. Scenes are drawn once more, from the world's seed.

Letters: I images, F features, K domains.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

from fmri2clip.core.params import World
from fmri2clip.stages.describe_data.gather import COLOUR_PLACES, pool
from fmri2clip.stages.describe_data.regression import Bools, Floats

BIG = 0.04  # fraction of the picture: where no object is larger, a scene is a view of a place


@dataclass(frozen=True, kw_only=True)
class Author:
    """background_IF: place as one of many, and 4 x 4 Lab of the scene without its objects.

    member_KI: which pictures show faces, printed words, hardly an object, a body (in the order of
    the floc volumes: faces, words, places, bodies).
    """

    background_IF: Floats
    member_KI: Bools


def ask_author(world: World, nsd_id_I: NDArray[np.int64], threads: int) -> Author:
    """Draw the scenes of a simulated tree again; a scene is a function of seed and NSD id."""
    ids = [int(i) for i in nsd_id_I]
    ask = partial(_ask, world.seed, world.image_size)
    if threads > 1:
        with ProcessPoolExecutor(threads) as pool_of_processes:
            answers = list(pool_of_processes.map(ask, ids, chunksize=64))
    else:
        answers = [ask(i) for i in ids]
    places = sorted({place for place, _, _ in answers})
    place_IP = np.array([[place == name for name in places] for place, _, _ in answers])
    lab_IF = np.stack([lab_F for _, lab_F, _ in answers])
    return Author(
        background_IF=np.concatenate([place_IP, lab_IF], axis=1),
        member_KI=np.array([member_K for _, _, member_K in answers]).T,
    )


def _ask(seed: int, image_size: int, nsd_id: int) -> tuple[str, Floats, list[bool]]:
    from fmri2clip.datasets.mini.pictures.scene import make_scene

    # What the objects are does not hang on their paint.
    scene = make_scene(seed, nsd_id, image_size, without_objects=True)
    top, bottom, left, right = scene.crop_box
    bodies = [
        i
        for i in scene.instances
        if i.category == "person"
        and i.view != "portrait"
        and left <= i.centre[0] <= 1 - right
        and top <= i.centre[1] <= 1 - bottom
    ]
    largest = max((i.area for i in scene.instances), default=0.0)
    member_K = [
        scene.n_faces > 0,
        scene.n_words > 0,
        largest < BIG * scene.width * scene.height,
        bool(bodies),
    ]
    return scene.place, pool(rgb2lab(scene.image)[None], COLOUR_PLACES)[0], member_K
