"""Captions of the simulated world: five or six sentences that each name part of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fmri2clip.datasets.mini.shapes import Instance

PLACES = {
    "street": ("on a street", "in the city", "near some houses"),
    "field": ("in a field", "on green grass", "in a meadow"),
    "beach": ("on a beach", "by the sea", "on the sand"),
    "sky": ("in the sky", "under a blue sky", "among the clouds"),
    "snow": ("in the snow", "on a snowy hill", "in winter"),
    "forest": ("in a forest", "among the trees", "in the woods"),
    "kitchen": ("in a kitchen", "near a tiled wall", "on a kitchen counter"),
    "room": ("in a room", "inside a house", "in front of a striped wall"),
}
UNINFORMATIVE = (
    "a picture of something",
    "this is a photo",
    "an image that somebody took",
    "a photograph taken some time ago",
    "something can be seen here",
    "one of many pictures",
    "a view of a place",
    "a photo with some things in it",
)
# fraction of the picture above and below which an object is called large or small
LARGE = 0.16
SMALL = 0.05
P_SIXTH = 0.01  # a few COCO pictures have six captions


def write_captions(
    rng: np.random.Generator, background: str, instances: Sequence[Instance], captions: str
) -> list[str]:
    """Five (rarely six) captions; raises ValueError for an unknown kind of captions."""
    count = 5 + int(rng.random() < P_SIXTH)
    if captions == "uninformative":
        return [str(text) for text in rng.choice(UNINFORMATIVE, size=count)]
    if captions != "informative":
        raise ValueError(f"world.captions is {captions!r}; choose informative or uninformative")
    return [_caption(rng, background, instances) for _ in range(count)]


def _caption(rng: np.random.Generator, background: str, instances: Sequence[Instance]) -> str:
    place = str(rng.choice(PLACES[background]))
    if not instances:
        return str(rng.choice((f"an empty scene {place}", f"nothing but a view {place}")))
    named = list(rng.permutation(len(instances))[: 1 + int(rng.integers(len(instances)))])
    phrases = [_noun_phrase(rng, instances[i]) for i in sorted(named)]
    joined = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    opening = str(rng.choice(("", "", "a photo of ", "a picture of ", "there is ")))
    where = f" {place}" if rng.random() < 0.7 else ""
    side = f" {_side(instances[named[0]])}" if len(named) == 1 and rng.random() < 0.25 else ""
    return f"{opening}{joined}{side}{where}"


def _noun_phrase(rng: np.random.Generator, instance: Instance) -> str:
    words = [instance.colour] if rng.random() < 0.75 else []
    share = instance.bbox[2] * instance.bbox[3] / (480 * 480)
    if rng.random() < 0.25 and not SMALL < share < LARGE:
        words.insert(0, "large" if share >= LARGE else "small")
    words.append(instance.category)
    article = "an" if words[0][0] in "aeiou" else "a"
    return f"{article} {' '.join(words)}"


def _side(instance: Instance) -> str:
    if instance.centre[0] < 0.4:
        return "on the left"
    return "on the right" if instance.centre[0] > 0.6 else "in the middle"
