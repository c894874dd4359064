"""The scene types: how each is painted, where its horizon may lie and which categories are at home
there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fmri2clip.datasets.mini.pictures import outdoors, rooms, shores
from fmri2clip.datasets.mini.pictures.canvas import Canvas
from fmri2clip.datasets.mini.pictures.dice import Dice


@dataclass(frozen=True, kw_only=True)
class Place:
    """One scene type."""

    draw: Callable[[Canvas, Dice, float], None]
    horizon: tuple[float, float]  # range, as a fraction of the picture's height
    home: tuple[str, ...]
    banned: tuple[str, ...] = ()  # categories that are hardly ever there


_LARGE = ("train", "airplane", "bus", "boat")

PLACES: dict[str, Place] = {
    "street": Place(
        draw=outdoors.street,
        horizon=(0.42, 0.72),
        home=("car", "bus", "bicycle", "traffic light", "stop sign", "person", "umbrella", "dog"),
    ),
    "field": Place(
        draw=outdoors.field,
        horizon=(0.38, 0.68),
        home=("horse", "dog", "elephant", "giraffe", "bird", "sports ball", "person"),
        banned=("traffic light",),
    ),
    "beach": Place(
        draw=shores.beach,
        horizon=(0.38, 0.66),
        home=("person", "umbrella", "boat", "bird", "dog", "chair", "sports ball"),
        banned=("train", "bus"),
    ),
    "mountains": Place(
        draw=outdoors.mountains,
        horizon=(0.45, 0.75),
        home=("person", "dog", "horse", "train", "car", "bird", "bicycle"),
        banned=("boat",),
    ),
    "forest": Place(
        draw=outdoors.forest,
        horizon=(0.5, 0.75),
        home=("bird", "elephant", "giraffe", "cat", "horse", "bicycle", "person"),
        banned=("bus", "airplane"),
    ),
    "harbour": Place(
        draw=shores.harbour,
        horizon=(0.4, 0.68),
        home=("boat", "bird", "person", "car", "bicycle", "clock"),
        banned=("elephant", "giraffe"),
    ),
    "station": Place(
        draw=outdoors.station,
        horizon=(0.42, 0.7),
        home=("train", "person", "clock", "bicycle", "book", "cup", "bus", "traffic light"),
        banned=("boat",),
    ),
    "sky": Place(
        draw=shores.sky,
        horizon=(0.72, 0.95),
        home=("airplane", "bird", "traffic light", "clock", "person", "stop sign"),
    ),
    "kitchen": Place(
        draw=rooms.kitchen,
        horizon=(0.55, 0.78),
        home=("cup", "bottle", "pizza", "banana", "cat", "clock", "chair", "person", "book"),
        banned=(*_LARGE, "stop sign"),
    ),
    "living room": Place(
        draw=rooms.living_room,
        horizon=(0.52, 0.78),
        home=("chair", "cat", "dog", "clock", "person", "bottle", "cup", "book", "pizza"),
        banned=(*_LARGE, "traffic light"),
    ),
    "bathroom": Place(
        draw=rooms.bathroom,
        horizon=(0.52, 0.76),
        home=("bottle", "cup", "person", "cat", "book", "chair"),
        banned=(*_LARGE, "giraffe"),
    ),
    "office": Place(
        draw=rooms.office,
        horizon=(0.52, 0.78),
        home=("chair", "book", "cup", "clock", "bottle", "person", "umbrella", "banana"),
        banned=(*_LARGE, "giraffe"),
    ),
}
