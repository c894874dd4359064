"""Scenes of the simulated world: a place and up to four objects, signs, captions.

What a scene shows cannot be told from its colours, textures, sizes or positions alone: these are
drawn alike for all categories and places, instances differ in form and view, and things without a
name stand about. Layout, background, objects, light and captions draw from streams of their own, so
that the same scene can be drawn without its objects or with other captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import ImageChops

from fmri2clip.datasets.mini.pictures import colours
from fmri2clip.datasets.mini.pictures.canvas import Canvas, Look, role_colours
from fmri2clip.datasets.mini.pictures.captions import write_captions
from fmri2clip.datasets.mini.pictures.clutter import strew
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.layout import (
    ASPECT_WEIGHTS,
    ASPECTS,
    GRAIN,
    Placed,
    choose_crop,
    place,
)
from fmri2clip.datasets.mini.pictures.parts import Colour, Mark
from fmri2clip.datasets.mini.pictures.places import PLACES
from fmri2clip.datasets.mini.pictures.signs import sign
from fmri2clip.datasets.mini.pictures.textures import COAT_TEXTURES, SURFACES, grain, slope
from fmri2clip.datasets.mini.pictures.things import (
    CATEGORY_IDS,
    DRAWERS,
    LIVING,
    draw_categories,
)

SUPERSAMPLING = 2  # the picture is painted this many times larger, then reduced
N_OBJECTS_WEIGHTS = (0.03, 0.38, 0.74, 0.91, 1.0)  # cumulative, for 0 to 4 objects
P_SIGN = 0.12
FACE_HEIGHT = 0.1  # smallest height of a face that counts, as a fraction of the picture
WORD_HEIGHT = 0.035  # smallest height of a legible word
NEAR_COLOUR = 110.0  # distance below which an object would vanish before its background
_PLACE_NAMES = tuple(PLACES)
_LAYOUT, _BACKGROUND, _OBJECTS, _LIGHT, _CAPTIONS = range(5)  # streams of a scene


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One object; box, polygons and area are in pixels of the original picture."""

    category: str
    category_id: int
    colour: str  # name of the main colour (clothes of a person, coat of an animal)
    texture: str  # of the main surface
    view: str
    pose: str  # what it does, "" for most things
    form: str  # which kind of it this is, "" if nothing special
    bbox: tuple[float, float, float, float]  # x, y, width, height, inside the original picture
    segmentation: list[list[float]]
    area: float
    centre: tuple[float, float]  # fraction of the original picture's width and height


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A rendered crop with everything that COCO and NSD would say about it."""

    image: np.ndarray  # (H, W, 3) uint8, the square crop
    width: int
    height: int
    crop_box: tuple[float, float, float, float]  # top, bottom, left, right fractions removed
    background: str  # scene type
    instances: list[Instance]
    captions: list[str]
    n_faces: int  # human faces in the crop, uncovered and large enough
    n_words: int  # printed words in the crop, uncovered and large enough

    @property
    def place(self) -> str:
        """The scene type."""
        return self.background


def make_scene(
    seed: int,
    index: int,
    image_size: int = 96,
    captions: str = "informative",
    n_objects: int | None = None,
    without_objects: bool = False,
) -> Scene:
    """Scene number ``index`` of the world ``seed``.

    seed, index: the scene is a function of these two (and of nothing else but the options below).
    image_size: side of the rendered crop in pixels.
    captions: ``informative`` or ``uninformative`` (captions that say nothing about the picture).
    n_objects: fixed number of objects; drawn if None.
    without_objects: the same place, light and crop with nothing painted into it, neither objects
    nor signs; what would be there is listed without the colours and textures of its paint,
    and there are no captions.
    """
    dice = Dice(seed, index, _LAYOUT)
    width, height = ASPECTS[dice.weighted(ASPECT_WEIGHTS)]
    where = dice.pick(_PLACE_NAMES)
    low, high = PLACES[where].horizon
    horizon = dice.uniform(low, high)
    count = dice.weighted(N_OBJECTS_WEIGHTS) if n_objects is None else n_objects
    placed = _place_all(dice, where, width, height, horizon, count)
    crop_box, corner, side = choose_crop(dice, width, height, placed)

    canvas = Canvas(image_size * SUPERSAMPLING)
    background = Dice(seed, index, _BACKGROUND)
    PLACES[where].draw(canvas, background, horizon)
    strew(canvas, background, horizon)
    looks = [("", "")] * len(placed)
    if not without_objects:
        looks = _paint_all(canvas, Dice(seed, index, _OBJECTS), placed, corner, side)
    instances = [
        _annotate(item, *look, width, height)
        for item, look in zip(placed, looks, strict=True)
        if item.name != "sign"
    ]
    signs = [item.sketch.form for item in placed if item.name == "sign"]
    image = _develop(canvas, Dice(seed, index, _LIGHT), image_size)
    return Scene(
        image=image,
        width=width,
        height=height,
        crop_box=crop_box,
        background=where,
        instances=instances,
        captions=[]
        if without_objects
        else write_captions(Dice(seed, index, _CAPTIONS), where, instances, signs, captions),
        n_faces=_count_visible(placed, "faces", corner, side, FACE_HEIGHT),
        n_words=_count_visible(placed, "words", corner, side, WORD_HEIGHT),
    )


def render_many(
    seed: int,
    indices: Sequence[int],
    image_size: int = 96,
    captions: str = "informative",
    threads: int = 2,
    n_objects: int | None = None,
) -> list[Scene]:
    """``make_scene`` for many indices on ``threads`` processes, in the order of ``indices``."""
    make = partial(make_scene, seed, image_size=image_size, captions=captions, n_objects=n_objects)
    if threads <= 1 or len(indices) < 200:
        return [make(int(i)) for i in indices]
    with ProcessPoolExecutor(threads) as pool:
        return list(pool.map(make, [int(i) for i in indices], chunksize=64))


def _place_all(
    dice: Dice, where: str, width: int, height: int, horizon: float, count: int
) -> list[Placed]:
    """Sign and objects from the farthest to the nearest."""
    placed = []
    slots = dice.shuffled(range(count))
    for slot, name in zip(slots, draw_categories(dice, where, count), strict=True):
        sketch = DRAWERS[name](dice)
        placed.append(place(dice, name, sketch, width, height, horizon, slot, count))
    placed.sort(key=lambda item: item.bottom)
    if dice.chance(P_SIGN):
        spot = place(dice, "sign", sign(dice), width, height, horizon, 0, 1)
        placed.insert(0 if dice.chance(0.6) else len(placed), spot)
    return placed


def _paint_all(
    canvas: Canvas,
    dice: Dice,
    placed: Sequence[Placed],
    corner: tuple[float, float],
    side: int,
) -> list[tuple[str, str]]:
    """Paints everything and gives the name of the colour and the texture of each."""
    zoom = canvas.size / side
    looks = []
    for item in placed:
        xy_P2 = (item.xy_P2 - corner) * zoom
        x, y, w, h = item.bbox
        left = (x - corner[0]) * zoom
        top = (y - corner[1]) * zoom
        size = canvas.size
        box = (
            min(max(int(left), 0), size - 1),
            min(max(int(top), 0), size - 1),
            min(max(int(left + w * zoom), 1), size),
            min(max(int(top + h * zoom), 1), size),
        )
        behind = canvas.mean((box[0], box[1], max(box[2], box[0] + 1), max(box[3], box[1] + 1)))
        name, look = _choose_look(dice, item, behind)
        if not item.sketch.airborne and dice.chance(0.7):
            low = top + h * zoom
            wide = w * zoom * dice.uniform(0.35, 0.6)
            canvas.cast_shadow(
                left + w * zoom / 2, low, wide, 0.12 * wide + 2, dice.integer(60, 150)
            )
        canvas.thing(dice, item.sketch.parts, xy_P2, item.scale * zoom, look)
        looks.append((name, look.texture))
    return looks


def _choose_look(dice: Dice, item: Placed, behind: Colour) -> tuple[str, Look]:
    """Colours that stand out from what is behind, if a few draws find them, and a texture."""
    living = item.name in LIVING
    for _ in range(4):
        if living:
            name, main = dice.pick(colours.COATS)
            main = colours.vary(dice, main, 18)
        else:
            name, main = colours.paint(dice)
        if colours.distance(main, behind) > NEAR_COLOUR:
            break
    if living:
        texture = dice.pick(COAT_TEXTURES)
        second = dice.pick(colours.COATS)[1]
        accent = dice.pick(((222, 170, 60), (70, 62, 58), (206, 110, 70)))
    else:
        texture = dice.pick((*4 * ("plain",), "gradient", "gradient", *SURFACES))
        second = colours.any_colour(dice)
        accent = colours.paint(dice)[1]
    target = (0, 0, 0) if colours.brightness(main) > 120 else (255, 255, 255)
    second = colours.mix(second, colours.mix(main, target, 0.5), 0.6)
    look = Look(
        colours=role_colours(main, accent, colours.any_colour(dice)),
        texture=texture,
        second=second,
        shading=dice.uniform(0.1, 0.5) if dice.chance(0.7) else 0.0,
        outlined=dice.chance(0.85),
    )
    return name, look


def _develop(canvas: Canvas, dice: Dice, image_size: int) -> np.ndarray:
    """Uneven light, reduction, grading and grain."""
    image = canvas.image
    mask = slope(dice, canvas.size, canvas.size, dice.uniform(0.0, 0.36))
    image.paste(dice.pick(((0, 0, 0), (0, 0, 0), (255, 240, 210), (20, 20, 50))), (0, 0), mask)
    small = image.reduce(SUPERSAMPLING)
    noise = grain(image_size)
    x = dice.integer(0, image_size)
    y = dice.integer(0, image_size)
    small = small.point(colours.grading(dice))
    noise = noise.crop((x, y, x + image_size, y + image_size))
    return np.array(ImageChops.add(small, noise, 1, -128))


def _annotate(item: Placed, colour: str, texture: str, width: int, height: int) -> Instance:
    x, y, w, h = item.bbox
    return Instance(
        category=item.name,
        category_id=CATEGORY_IDS[item.name],
        colour=colour,
        texture=texture,
        view=item.sketch.view,
        pose=item.sketch.pose,
        form=item.sketch.form,
        bbox=item.bbox,
        segmentation=item.polygons(width, height),
        area=float(item.area),
        centre=((x + w / 2) / width, (y + h / 2) / height),
    )


def _count_visible(
    placed: Sequence[Placed], kind: str, corner: tuple[float, float], side: int, smallest: float
) -> int:
    """Faces or words whose middle lies in the crop and before all nearer things."""
    count = 0
    for k, item in enumerate(placed):
        marks: list[Mark] = getattr(item, kind)
        for mark in marks:
            inside = all(0 <= v - c < side for v, c in zip((mark.x, mark.y), corner, strict=True))
            if mark.height < smallest * side or not inside:
                continue
            cell = (int(mark.x) // GRAIN, int(mark.y) // GRAIN)
            count += not any(nearer.mask.getpixel(cell) for nearer in placed[k + 1 :])
    return count
