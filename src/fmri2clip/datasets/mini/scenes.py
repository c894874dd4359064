"""Scenes of the simulated world: a background and up to three objects, with COCO-style annotations
and captions.

A scene is drawn from one seed and is the same on every machine. It has an original, usually oblong
picture in which boxes, polygons and captions are given, and a square crop, as NSD's pictures have;
only the crop is rendered. The caption generator draws from a stream of its own, so that a world
with uninformative captions has the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from PIL import Image, ImageDraw

from fmri2clip.datasets.mini.captions import write_captions
from fmri2clip.datasets.mini.shapes import PALETTE, SHAPES, Instance, outline, tint

SUPERSAMPLING = 2  # the picture is painted this many times larger, then reduced
ORIGINAL_SIDE = 480  # shorter side of the original picture in annotation pixels
ASPECTS = ((640, 480), (480, 640), (480, 480))
ASPECT_WEIGHTS = (0.6, 0.25, 0.15)
N_OBJECTS_WEIGHTS = (0.03, 0.42, 0.35, 0.20)  # a few pictures show no annotated object, as in COCO
CATEGORY_DECAY = 0.93  # base frequency of the k-th most frequent category is CATEGORY_DECAY**k
OUT_OF_PLACE = 0.06  # weight of a category on a background where it does not belong

# Categories from frequent to rare; the order is ours.
BY_FREQUENCY = (
    "person",
    "car",
    "dog",
    "cat",
    "chair",
    "bird",
    "bottle",
    "cup",
    "bus",
    "bicycle",
    "boat",
    "horse",
    "umbrella",
    "train",
    "clock",
    "airplane",
    "pizza",
    "kite",
    "traffic light",
    "sports ball",
    "elephant",
    "giraffe",
    "banana",
    "stop sign",
)


@dataclass(frozen=True, kw_only=True)
class Background:
    """Colours of the upper and lower part, where they meet, the decoration, and the categories at
    home there.
    """

    upper: tuple[int, int, int]
    lower: tuple[int, int, int]
    horizon: tuple[float, float]
    decoration: str
    home: tuple[str, ...]


BACKGROUNDS: dict[str, Background] = {
    "street": Background(
        upper=(150, 160, 176),
        lower=(92, 92, 98),
        horizon=(0.5, 0.7),
        decoration="houses",
        home=(
            "person",
            "car",
            "bus",
            "bicycle",
            "traffic light",
            "stop sign",
            "train",
            "dog",
            "umbrella",
            "clock",
        ),
    ),
    "field": Background(
        upper=(150, 196, 236),
        lower=(98, 160, 70),
        horizon=(0.4, 0.6),
        decoration="none",
        home=(
            "horse",
            "dog",
            "person",
            "elephant",
            "giraffe",
            "bird",
            "kite",
            "sports ball",
            "airplane",
        ),
    ),
    "beach": Background(
        upper=(128, 190, 228),
        lower=(226, 204, 150),
        horizon=(0.55, 0.7),
        decoration="sea",
        home=(
            "person",
            "umbrella",
            "boat",
            "kite",
            "bird",
            "dog",
            "chair",
            "sports ball",
            "bottle",
        ),
    ),
    "sky": Background(
        upper=(96, 156, 230),
        lower=(170, 206, 240),
        horizon=(0.8, 1.0),
        decoration="clouds",
        home=("airplane", "bird", "kite", "clock"),
    ),
    "snow": Background(
        upper=(196, 208, 222),
        lower=(240, 244, 248),
        horizon=(0.4, 0.6),
        decoration="hills",
        home=("person", "dog", "horse", "train", "car", "bird"),
    ),
    "forest": Background(
        upper=(58, 96, 56),
        lower=(84, 72, 42),
        horizon=(0.6, 0.75),
        decoration="trees",
        home=("bird", "elephant", "giraffe", "cat", "horse", "bicycle", "person", "dog"),
    ),
    "kitchen": Background(
        upper=(236, 226, 200),
        lower=(178, 132, 90),
        horizon=(0.5, 0.7),
        decoration="tiles",
        home=("cup", "bottle", "pizza", "banana", "cat", "clock", "chair", "person"),
    ),
    "room": Background(
        upper=(196, 150, 142),
        lower=(122, 90, 78),
        horizon=(0.6, 0.75),
        decoration="stripes",
        home=("chair", "cat", "dog", "clock", "person", "bottle", "cup", "umbrella"),
    ),
}

_BASE = {name: CATEGORY_DECAY**k for k, name in enumerate(BY_FREQUENCY)}
_NATURAL_BACKGROUNDS = tuple(BACKGROUNDS)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A rendered crop with everything that COCO and NSD would say about it."""

    image: np.ndarray  # (H, W, 3) uint8, the square crop
    width: int
    height: int
    crop_box: tuple[float, float, float, float]  # top, bottom, left, right fractions removed
    background: str
    instances: list[Instance]
    captions: list[str]


@dataclass(frozen=True, kw_only=True)
class _Painted:
    colours: list[tuple[int, int, int]]
    polygons: list[np.ndarray]
    line_widths: list[float]
    instance: Instance


def make_scene(
    seed: int,
    index: int,
    image_size: int = 64,
    captions: str = "informative",
    n_objects: int | None = None,
) -> Scene:
    """Scene number ``index`` of the world ``seed``.

    seed, index: the scene is a function of these two (and of nothing else but the options below).
    image_size: side of the rendered crop in pixels.
    captions: ``informative`` or ``uninformative`` (captions that say nothing about the picture).
    n_objects: fixed number of objects; drawn if None.
    """
    layout_seed, caption_seed = np.random.SeedSequence((seed, index)).spawn(2)
    rng = np.random.default_rng(layout_seed)
    width, height = ASPECTS[rng.choice(len(ASPECTS), p=ASPECT_WEIGHTS)]
    background = str(rng.choice(_NATURAL_BACKGROUNDS))
    count = n_objects
    if count is None:
        count = int(rng.choice(len(N_OBJECTS_WEIGHTS), p=N_OBJECTS_WEIGHTS))
    painted = [
        _place(rng, name, width, height, count, slot)
        for slot, name in enumerate(_draw(rng, background, count))
    ]
    # Nearer objects stand lower and cover others.
    painted.sort(key=lambda p: p.instance.bbox[1] + p.instance.bbox[3])
    instances = [p.instance for p in painted]
    crop_box, corner, side = _choose_crop(rng, width, height, instances)
    image = _render(rng, background, painted, corner, side, image_size)
    texts = write_captions(np.random.default_rng(caption_seed), background, instances, captions)
    return Scene(
        image=image,
        width=width,
        height=height,
        crop_box=crop_box,
        background=background,
        instances=instances,
        captions=texts,
    )


def render_many(
    seed: int,
    indices: Sequence[int],
    image_size: int = 64,
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


def _draw(rng: np.random.Generator, background: str, count: int) -> list[str]:
    """Category names: long-tailed, and mostly those that belong to the background."""
    home = BACKGROUNDS[background].home
    weights = np.array([_BASE[name] * (1.0 if name in home else OUT_OF_PLACE) for name in SHAPES])
    return [str(name) for name in rng.choice(list(SHAPES), size=count, p=weights / weights.sum())]


def _place(
    rng: np.random.Generator, name: str, width: int, height: int, count: int, slot: int
) -> _Painted:
    """Size, position, flip, tilt and colour of one object, and its outlines in original pixels."""
    shape = SHAPES[name]
    largest = 0.92 if count == 1 else 0.72 if count == 2 else 0.6
    scale = ORIGINAL_SIDE * largest * rng.uniform(0.55, 1.0)
    # `scale` is the longer side, whatever the shape.
    if shape.aspect <= 1:
        box = np.array((scale, scale * shape.aspect))
    else:
        box = np.array((scale / shape.aspect, scale))
    box *= rng.uniform(0.88, 1.12, size=2)
    lane = 0.5 if count == 1 else (slot + 0.5) / count
    centre = np.array((lane + rng.normal(0, 0.13), 0.56 + rng.normal(0, 0.11))) * (width, height)
    centre = np.clip(centre, 0.35 * box, (width, height) - 0.35 * box)
    angle = rng.normal(0, 0.12)
    flip = rng.choice((-1.0, 1.0))
    turn = np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))

    colour = str(rng.choice(shape.colours))
    jitter = rng.integers(-18, 19, size=3)
    main = tuple(int(c) for c in np.clip(np.array(PALETTE[colour]) + jitter, 0, 255))
    accent = PALETTE[str(rng.choice(sorted(PALETTE)))]
    polygons = []
    widths = []
    colours = []
    stretch = np.array((flip, 1.0)) * box
    thickness = box.min()
    for part in shape.parts:
        points, line = outline(part)
        polygons.append(((points - 0.5) * stretch) @ turn.T + centre)
        widths.append(line * thickness)
        colours.append(tint(part[1], main, accent))  # type: ignore[arg-type]
    instance = _annotate(name, colour, polygons, widths, width, height)
    return _Painted(colours=colours, polygons=polygons, line_widths=widths, instance=instance)


def _annotate(
    name: str, colour: str, polygons: list[np.ndarray], widths: list[float], width: int, height: int
) -> Instance:
    """COCO box, polygons and area; the area is that of the object's silhouette inside the
    picture.
    """
    # The silhouette is counted on a grid this many times coarser than the annotation pixels.
    grain = 8
    mask = Image.new("1", (width // grain, height // grain))
    pen = ImageDraw.Draw(mask)
    for points, line in zip(polygons, widths, strict=True):
        _paint(pen, points / grain, line / grain, 1)
    area = float(np.asarray(mask).sum()) * grain**2
    everything = np.concatenate(polygons)
    low = np.clip(everything.min(0), 0, (width, height))
    high = np.clip(everything.max(0), 0, (width, height))
    x, y, w, h = (round(float(v), 2) for v in (*low, *(high - low)))
    borders = np.cumsum([len(p) for p in polygons])[:-1]
    inside = np.split(np.clip(everything, 0, (width, height)), borders)
    filled = [p.ravel().tolist() for p, line in zip(inside, widths, strict=True) if line == 0]
    return Instance(
        category=name,
        category_id=SHAPES[name].category_id,
        colour=colour,
        bbox=(x, y, w, h),
        segmentation=[[round(v, 1) for v in xy] for xy in filled],
        area=max(min(area, w * h), float(grain**2)),
        centre=((x + w / 2) / width, (y + h / 2) / height),
    )


def _choose_crop(
    rng: np.random.Generator, width: int, height: int, instances: list[Instance]
) -> tuple[tuple[float, float, float, float], np.ndarray, int]:
    """Square crop with the least loss of objects among start, middle and end, as NSD chose its
    crops.
    """
    side = min(width, height)
    spare = abs(width - height)
    axis = 0 if width >= height else 1
    starts = np.array((0.0, 0.5, 1.0)) * spare
    low = np.array([i.bbox[axis] for i in instances])
    high = low + np.array([i.bbox[axis + 2] for i in instances])
    lost = [float(np.sum(np.maximum(0, s - low) + np.maximum(0, high - s - side))) for s in starts]
    best = int(rng.choice(np.flatnonzero(np.isclose(lost, min(lost)))))
    first = starts[best] / max(width, height)
    last = (spare - starts[best]) / max(width, height)
    corner = np.zeros(2)
    corner[axis] = starts[best]
    crop_box = (0.0, 0.0, first, last) if axis == 0 else (first, last, 0.0, 0.0)
    return tuple(round(float(v), 7) for v in crop_box), corner, side  # type: ignore[return-value]


def _render(
    rng: np.random.Generator,
    background: str,
    painted: list[_Painted],
    corner: np.ndarray,
    side: int,
    image_size: int,
) -> np.ndarray:
    canvas = image_size * SUPERSAMPLING
    image = _paint_background(rng, BACKGROUNDS[background], canvas)
    pen = ImageDraw.Draw(image)
    zoom = canvas / side
    for item in painted:
        for points, line, colour in zip(item.polygons, item.line_widths, item.colours, strict=True):
            _paint(pen, (points - corner) * zoom, line * zoom, colour)
    fine = np.asarray(image, dtype=np.float32)
    step = SUPERSAMPLING
    rows = reduce(np.add, (fine[k::step] for k in range(step)))
    pixels = reduce(np.add, (rows[:, k::step] for k in range(step))) / step**2
    light = rng.uniform(0.82, 1.12) * pixels + rng.normal(0, 3.0, size=pixels.shape)
    return np.clip(light, 0, 255).astype(np.uint8)


def _paint(
    pen: ImageDraw.ImageDraw, points: np.ndarray, line: float, colour: int | tuple[int, int, int]
) -> None:
    xy = points.ravel().tolist()
    if line > 0:
        pen.line(xy, fill=colour, width=max(1, round(line)), joint="curve")
    else:
        pen.polygon(xy, fill=colour)


def _paint_background(rng: np.random.Generator, style: Background, canvas: int) -> Image.Image:
    """Two shaded halves, a decoration and a smooth texture."""
    horizon = rng.uniform(*style.horizon)
    shade = rng.integers(-16, 17, size=(2, 3))
    rows = np.linspace(0, 1, canvas)[:, None]
    upper = np.array(style.upper) + shade[0]
    lower = np.array(style.lower) + shade[1]
    column = np.where(rows < horizon, upper + 24 * (rows - 0.3), lower - 24 * (rows - 0.7))
    tile = canvas // 8  # columns of a tile are the same, so one of them is shaded
    texture = np.repeat(rng.normal(0, 6.0, size=(8, 8, 1)), tile, axis=0)
    shaded = np.clip(column[:, None, :] + texture, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.repeat(shaded, tile, axis=1))
    _decorate(rng, ImageDraw.Draw(image), style.decoration, horizon * canvas, canvas)
    return image


def _decorate(
    rng: np.random.Generator, pen: ImageDraw.ImageDraw, kind: str, horizon: float, canvas: int
) -> None:
    def at(low: float, high: float) -> float:
        return float(rng.uniform(low, high)) * canvas

    def tone(colour: tuple[int, int, int]) -> tuple[int, ...]:
        return tuple(
            int(c) for c in np.clip(np.array(colour) + rng.integers(-14, 15, size=3), 0, 255)
        )

    if kind == "houses":
        for k in range(4):
            left = (k + rng.uniform(-0.1, 0.1)) * canvas / 4
            top = at(0.05, 0.35)
            pen.rectangle((left, top, left + at(0.16, 0.26), horizon), fill=tone((150, 118, 104)))
    elif kind == "sea":
        pen.rectangle((0, horizon - at(0.1, 0.2), canvas, horizon), fill=tone((46, 110, 168)))
    elif kind == "clouds":
        for _ in range(4):
            x = at(0, 1)
            y = at(0, 0.8)
            r = at(0.05, 0.12)
            pen.ellipse((x - 2 * r, y - r, x + 2 * r, y + r), fill=tone((236, 240, 244)))
    elif kind == "hills":
        for _ in range(2):
            x = at(0, 1)
            r = at(0.2, 0.4)
            pen.ellipse(
                (x - 1.5 * r, horizon - r / 2, x + 1.5 * r, horizon + r), fill=tone((222, 230, 240))
            )
    elif kind == "trees":
        for _ in range(5):
            x = at(0, 1)
            w = at(0.02, 0.05)
            pen.rectangle((x, 0, x + w, horizon + at(0, 0.1)), fill=tone((80, 58, 36)))
            pen.ellipse((x - 4 * w, -2 * w, x + 5 * w, 5 * w), fill=tone((40, 84, 42)))
    elif kind == "tiles":
        for k in range(1, 6):
            pen.line((k * canvas / 6, 0, k * canvas / 6, horizon), fill=(214, 200, 172), width=2)
            pen.line((0, k * canvas / 6, canvas, k * canvas / 6), fill=(214, 200, 172), width=1)
    elif kind == "stripes":
        for k in range(0, 8, 2):
            pen.rectangle(
                (k * canvas / 8, 0, (k + 1) * canvas / 8, horizon), fill=tone((178, 128, 128))
            )
