"""What the bands are measured on, against loops and the author of the scenes."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import sobel
from skimage.color import rgb2lab

from fmri2clip.core.params import World
from fmri2clip.datasets.mini.pictures.scene import make_scene
from fmri2clip.stages.describe_data import gather, scenes


def test_places_are_means_of_blocks(rng: np.random.Generator) -> None:
    map_IHWC = rng.random((3, 13, 13, 2))  # a last row and column are left over
    found = gather.pool(map_IHWC, 4).reshape(3, 4, 4, 2)
    for y in range(4):
        for x in range(4):
            block = map_IHWC[:, 3 * y : 3 * y + 3, 3 * x : 3 * x + 3]
            np.testing.assert_allclose(found[:, y, x], block.mean(axis=(1, 2)))


def test_edges_are_those_of_one_picture_at_a_time(rng: np.random.Generator) -> None:
    luminance_IHW = rng.random((3, 20, 24))
    found = gather.find_edges(luminance_IHW)
    for picture, expected in zip(luminance_IHW, found, strict=True):
        np.testing.assert_allclose(np.hypot(sobel(picture, 0), sobel(picture, 1)), expected)


def test_captions_of_a_picture_are_averaged(rng: np.random.Generator) -> None:
    text_KD = rng.standard_normal((7, 3)).astype(np.float16)
    image_K = np.array([0, 0, 1, 1, 1, 2, 2])
    found = gather.average_captions(text_KD, image_K)
    expected = [text_KD[image_K == i].astype(float).mean(axis=0) for i in range(3)]
    np.testing.assert_allclose(found, expected)


def test_the_author_knows_places_and_what_no_label_names() -> None:
    world = World(seed=7, image_size=64)
    ids = np.arange(40)
    author = scenes.ask_author(world, ids, threads=1)
    drawn = [make_scene(7, int(i), 64) for i in ids]
    np.testing.assert_array_equal(author.member_KI[0], [s.n_faces > 0 for s in drawn])
    np.testing.assert_array_equal(author.member_KI[1], [s.n_words > 0 for s in drawn])
    people = [[i for i in s.instances if i.category == "person"] for s in drawn]
    bodies = np.array([any(i.view != "portrait" for i in those) for those in people])
    assert author.member_KI[3].any() and not (author.member_KI[3] & ~bodies).any()
    places = sorted({s.place for s in drawn})
    n = len(places)
    shown = author.background_IF[:, :n].argmax(axis=1)
    assert [places[k] for k in shown] == [s.place for s in drawn]
    unpainted = make_scene(7, 5, 64, without_objects=True)
    assert [i.bbox for i in unpainted.instances] == [i.bbox for i in drawn[5].instances]
    bare = unpainted.image
    assert (bare != drawn[5].image).any()
    expected = gather.pool(rgb2lab(bare)[None], 4)[0]
    np.testing.assert_allclose(author.background_IF[5, n:], expected)
