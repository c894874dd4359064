"""The categories: 24 of COCO's with COCO's ids, how common they are and where they belong."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate

from fmri2clip.datasets.mini.pictures.animals import ANIMALS
from fmri2clip.datasets.mini.pictures.crafts import CRAFTS
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.food import FOOD
from fmri2clip.datasets.mini.pictures.household import HOUSEHOLD
from fmri2clip.datasets.mini.pictures.parts import Sketch
from fmri2clip.datasets.mini.pictures.people import person
from fmri2clip.datasets.mini.pictures.places import PLACES
from fmri2clip.datasets.mini.pictures.trains import TRAINS
from fmri2clip.datasets.mini.pictures.vehicles import VEHICLES

# COCO ids; from frequent to rare, an order of our own.
CATEGORY_IDS = {
    "person": 1,
    "car": 3,
    "dog": 18,
    "cat": 17,
    "chair": 62,
    "bird": 16,
    "bottle": 44,
    "cup": 47,
    "bus": 6,
    "bicycle": 2,
    "boat": 9,
    "horse": 19,
    "umbrella": 28,
    "book": 84,
    "train": 7,
    "clock": 85,
    "airplane": 5,
    "pizza": 59,
    "traffic light": 10,
    "sports ball": 37,
    "elephant": 22,
    "giraffe": 25,
    "banana": 52,
    "stop sign": 13,
}
BY_FREQUENCY = tuple(CATEGORY_IDS)
CATEGORY_DECAY = 0.93  # base frequency of the k-th most frequent category is CATEGORY_DECAY**k
PERSON_BOOST = 3.2  # people are by far the commonest, as in COCO
ELSEWHERE = 0.42  # weight of a category in a place where it is not at home
BANNED = 0.04  # weight where it is hardly ever seen
P_SAME = 0.18  # the next object is another one of the last category
P_PARTNER = 0.1  # the next object is one that often goes with the last
PARTNERS = {
    "person": ("dog", "bicycle", "umbrella", "horse", "sports ball", "book"),
    "dog": ("person",),
    "bicycle": ("person",),
    "horse": ("person",),
    "umbrella": ("person",),
    "sports ball": ("person",),
    "cup": ("pizza", "bottle", "book"),
    "pizza": ("cup", "bottle"),
    "chair": ("cat", "person"),
    "car": ("traffic light", "bus"),
    "bus": ("car",),
    "boat": ("bird",),
}
DRAWERS: dict[str, Callable[[Dice], Sketch]] = {
    "person": person,
    **ANIMALS,
    **VEHICLES,
    **TRAINS,
    **CRAFTS,
    **HOUSEHOLD,
    **FOOD,
}
LIVING = frozenset(ANIMALS)


@lru_cache
def weights(place: str) -> tuple[float, ...]:
    """Relative frequency of the categories in a place, in the order of BY_FREQUENCY."""
    values = []
    for k, name in enumerate(BY_FREQUENCY):
        base = CATEGORY_DECAY**k * (PERSON_BOOST if name == "person" else 1.0)
        if name in PLACES[place].banned:
            base *= BANNED
        elif name not in PLACES[place].home:
            base *= ELSEWHERE
        values.append(base)
    return tuple(values)


@lru_cache
def _cumulative(place: str) -> tuple[float, ...]:
    return tuple(accumulate(weights(place)))


def draw_categories(dice: Dice, place: str, count: int) -> list[str]:
    """Names of the objects of a picture: by the place, with groups and pairs."""
    names: list[str] = []
    for _ in range(count):
        chosen = dice.random()
        number = dice.weighted(_cumulative(place))
        if names and chosen < P_SAME:
            names.append(names[-1])
        elif names and chosen < P_SAME + P_PARTNER and names[-1] in PARTNERS:
            names.append(dice.pick(PARTNERS[names[-1]]))
        else:
            names.append(BY_FREQUENCY[number])
    return names
