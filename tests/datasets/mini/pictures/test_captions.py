"""Captions: COCO's habits, counted over several hundred of them."""

from __future__ import annotations

import re

from fmri2clip.datasets.mini.pictures.colours import PALETTE
from fmri2clip.datasets.mini.pictures.scene import render_many
from fmri2clip.datasets.mini.pictures.wording import (
    DOING,
    HABITS,
    NOUNS,
    PERSON_WORDS,
    PLURALS,
    SIGNS,
    WHERE,
)

SCENES = render_many(7, range(150), image_size=64, threads=1)
CAPTIONS = [caption for scene in SCENES for caption in scene.captions]
ARTICLES = re.compile(r"\b(a|an|two|three|four|several|some)\b")


def _words() -> list[str]:
    return [word for caption in CAPTIONS for word in re.findall(r"[a-z]+", caption)]


def test_five_or_six_captions() -> None:
    assert {len(scene.captions) for scene in SCENES} <= {5, 6}
    assert len(CAPTIONS) >= 400


def test_colours_sizes_and_sides_are_rarely_told() -> None:
    phrases = sum(len(ARTICLES.findall(caption)) for caption in CAPTIONS)
    words = _words()
    coloured = sum(word in PALETTE for word in words)
    sized = sum(word in ("large", "small") for word in words)
    sides = sum(len(re.findall("on the left|on the right|in the middle", c)) for c in CAPTIONS)
    assert 0.02 < coloured / phrases <= 0.12
    assert 0.0 < (sized + sides) / phrases <= 0.08


def test_vocabulary_is_moderate() -> None:
    assert 120 < len(set(_words())) <= 250


def test_captions_of_a_picture_differ_and_name_several_things() -> None:
    distinct = [len(set(scene.captions)) for scene in SCENES if scene.instances]
    assert sum(distinct) / len(distinct) > 4
    first_words = [
        {caption.split()[1] for caption in scene.captions}
        for scene in SCENES
        if len({i.category for i in scene.instances}) >= 2
    ]
    assert sum(len(words) > 1 for words in first_words) > 0.9 * len(first_words)


def test_only_categories_of_the_picture_are_named() -> None:
    people = {w for words in PERSON_WORDS.values() for w in words}
    people |= {PLURALS.get(w, f"{w}s") for w in people}
    # words that places, signs and poses use too
    shared = {"train", "person", "cup", "office", "sign"}
    for scene in SCENES:
        present = {i.category for i in scene.instances}
        text = set(re.findall(r"[a-z]+", " ".join(scene.captions)))
        for category, nouns in NOUNS.items():
            if category not in present:
                single = {n for n in nouns if " " not in n} - shared
                assert not single & text, (category, scene.captions)
        if "person" not in present:
            assert not people & text


def test_place_and_verb_are_told_often() -> None:
    told = 0
    for scene in SCENES:
        told += any(phrase in c for c in scene.captions for phrase in WHERE[scene.place])
    assert told > 0.7 * len(SCENES)
    verbs = {form for doing in DOING.values() for pair in doing for form in pair}
    acting = sum(any(verb in caption for verb in verbs) for caption in CAPTIONS)
    assert acting > 0.5 * len(CAPTIONS)


def test_every_pose_and_sign_has_words() -> None:
    poses = {i.pose for scene in SCENES for i in scene.instances}
    assert poses | set(HABITS.values()) <= set(DOING)
    assert all(SIGNS.values())
