"""Captions by COCO's habit: who does what, next to what, where.

Five or six a picture, each of which names one to three things; colours, sizes and sides are rarely
told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.wording import (
    COUNTS,
    DOING,
    FORMS,
    HABITS,
    HELD,
    NAMES,
    NOUNS,
    PERSON_WORDS,
    PLURALS,
    SIGNS,
    UNINFORMATIVE,
    WHERE,
)

if TYPE_CHECKING:
    from fmri2clip.datasets.mini.pictures.scene import Instance

P_SIXTH = 0.01  # a few COCO pictures have six captions
P_COLOUR = 0.15  # noun phrases of one thing with a colour word
P_SIZE = 0.04
P_SIDE = 0.06  # captions of one thing that tell the side
P_WHERE = 0.55  # captions that name the place
P_FORM = 0.5  # things that are called by their kind
LARGE = 0.2  # fraction of the picture above which a thing is called large
SMALL = 0.05

Group = list["Instance"]  # instances of one category


def write_captions(
    dice: Dice, place: str, instances: Sequence[Instance], signs: Sequence[str], captions: str
) -> list[str]:
    """Five (rarely six) captions; raises ValueError for an unknown kind of captions."""
    count = 5 + int(dice.chance(P_SIXTH))
    if captions == "uninformative":
        return [dice.pick(UNINFORMATIVE) for _ in range(count)]
    if captions != "informative":
        raise ValueError(f"world.captions is {captions!r}; choose informative or uninformative")
    groups: dict[str, Group] = {}
    for instance in instances:
        groups.setdefault(instance.category, []).append(instance)
    order = dice.shuffled(_by_size(groups))
    texts = []
    for k in range(count):
        # Every caption starts with another group, so that together they name most things.
        turned = order[k % len(order) :] + order[: k % len(order)] if order else []
        texts.append(_caption(dice, place, turned, signs))
    return texts


def _by_size(groups: dict[str, Group]) -> list[Group]:
    """The groups, those that fill much of the picture twice."""
    found = []
    for group in groups.values():
        found.append(group)
        if sum(i.area for i in group) > 0.12 * 480 * 480:
            found.append(group)
    return found


def _caption(dice: Dice, place: str, order: Sequence[Group], signs: Sequence[str]) -> str:
    if not order or dice.chance(0.05):
        return _view(dice, place, order, signs)
    first = order[0]
    others = [group for group in order[1:] if group is not first]
    unique = [group for k, group in enumerate(others) if group not in others[:k]]
    if signs and dice.chance(0.3):
        return f"{_phrase(dice, first)} {_next_to(dice)} {dice.pick(SIGNS[signs[0]])}"
    if first[0].view in ("portrait", "face") and len(first) == 1 and dice.chance(0.35):
        return _close_up(dice, place, first[0])
    chosen = dice.random()
    if not unique or chosen < 0.3:
        return _one(dice, place, first)
    if chosen < 0.85 or len(unique) < 2:
        return _two(dice, place, first, unique[0])
    second = _phrase(dice, unique[0])
    third = _phrase(dice, unique[1])
    if dice.chance(0.5):
        return f"{_phrase(dice, first)}, {second} and {third}{_where(dice, place)}"
    return f"{_phrase(dice, first)} and {second} {_next_to(dice)} {third}"


def _view(dice: Dice, place: str, order: Sequence[Group], signs: Sequence[str]) -> str:
    """A caption about the place."""
    name = dice.pick(NAMES[place])
    if signs and dice.chance(0.5):
        return f"{dice.pick(SIGNS[signs[0]])} {dice.pick(WHERE[place])}"
    if order:
        plain = dice.pick([name for name in NAMES[place] if " with " not in name])
        return f"a view of {plain} with {_phrase(dice, order[0])}"
    return dice.pick((f"a view of {name}", f"a photo of {name}", f"{name} with nobody around"))


def _close_up(dice: Dice, place: str, instance: Instance) -> str:
    noun = _phrase(dice, [instance])
    if instance.category == "person":
        mood = dice.pick(("looking at the camera", "posing for a photo", "in the picture"))
        return dice.pick(
            (
                f"a close up of {noun}",
                f"a portrait of {noun}",
                f"the face of {noun}",
                f"{noun} {mood}",
            )
        )
    return dice.pick(
        (f"a close up of {noun}", f"the head of {noun}", f"the face of {noun}{_where(dice, place)}")
    )


def _one(dice: Dice, place: str, group: Group) -> str:
    noun = _phrase(dice, group)
    doing = _doing(dice, group)
    if len(group) == 1 and dice.chance(P_SIDE):
        return f"{noun} {doing} {_side(group[0])}"
    where = f" {dice.pick(WHERE[place])}" if dice.chance(0.75) else ""
    opening = dice.random()
    if group[0].view == "back" and dice.chance(0.3):
        return f"{noun} from behind{where}"
    if opening < 0.12:
        return f"there {'are' if len(group) > 1 else 'is'} {noun} {_participle(dice, group)}{where}"
    if opening < 0.2:
        return f"a photo of {noun}{where}"
    return f"{noun} {doing}{where}"


def _two(dice: Dice, place: str, first: Group, second: Group) -> str:
    one = _phrase(dice, first)
    other = _phrase(dice, second)
    if first[0].category == "person" and second[0].category in HELD and _touch(first[0], second[0]):
        holds = "hold" if len(first) > 1 else "holds"
        return f"{one} {dice.pick((holds, 'holding'))} {other}{_where(dice, place)}"
    chosen = dice.random()
    if chosen < 0.2:
        return f"{one} and {other}{_where(dice, place)}"
    if chosen < 0.3:
        return f"{one} with {other}{_where(dice, place)}"
    relation = _relation(dice, first[0], second[0])
    if dice.chance(0.2):
        relation = _next_to(dice)
    tail = _where(dice, place) if dice.chance(0.6) else ""
    return f"{one} {_doing(dice, first)} {relation} {other}{tail}"


def _where(dice: Dice, place: str) -> str:
    return f" {dice.pick(WHERE[place])}" if dice.chance(P_WHERE) else ""


def _next_to(dice: Dice) -> str:
    return dice.pick(("next to", "near", "beside"))


def _touch(first: Instance, second: Instance) -> bool:
    """Do the boxes overlap?"""
    x0, y0, w0, h0 = first.bbox
    x1, y1, w1, h1 = second.bbox
    return x0 < x1 + w1 and x1 < x0 + w0 and y0 < y1 + h1 and y1 < y0 + h0


def _relation(dice: Dice, first: Instance, second: Instance) -> str:
    """Where the first is, seen from the second."""
    y0, h0 = first.bbox[1], first.bbox[3]
    y1, h1 = second.bbox[1], second.bbox[3]
    if y0 + h0 < y1 + 0.25 * h1:
        return dice.pick(("above", "over"))
    if y0 > y1 + 0.75 * h1:
        return dice.pick(("below", "under"))
    if _touch(first, second):
        return "in front of" if y0 + h0 > y1 + h1 else "behind"
    return _next_to(dice)


def _pose(group: Group) -> str:
    """What the first of the group does, or what such things usually do."""
    return group[0].pose or HABITS.get(group[0].category, "")


def _doing(dice: Dice, group: Group) -> str:
    """A verb; a participle where it would have to agree with a plural."""
    finite, participle = dice.pick(DOING[_pose(group)])
    return participle if len(group) > 1 or dice.chance(0.5) else finite


def _participle(dice: Dice, group: Group) -> str:
    return dice.pick(DOING[_pose(group)])[1]


def _phrase(dice: Dice, group: Group) -> str:
    """Noun phrase with article or count."""
    if len(group) > 1:
        return _many(dice, group)
    instance = group[0]
    if instance.category == "person":
        words = [dice.pick(PERSON_WORDS[instance.form])]
    else:
        form = FORMS.get((instance.category, instance.form))
        if form is not None and dice.chance(P_FORM):
            return form
        words = [dice.pick(NOUNS[instance.category])]
    # The colour of a person is that of the clothes, which a caption tells otherwise.
    if instance.category != "person" and dice.chance(P_COLOUR):
        words.insert(0, instance.colour)
    share = instance.bbox[2] * instance.bbox[3] / (480 * 480)
    if dice.chance(P_SIZE) and not SMALL < share < LARGE:
        words.insert(0, "large" if share >= LARGE else "small")
    article = "an" if words[0][0] in "aeiou" else "a"
    phrase = f"{article} {' '.join(words)}"
    if instance.category == "person" and dice.chance(0.05):
        phrase += f" in {instance.colour}"
    return phrase


def _many(dice: Dice, group: Group) -> str:
    category = group[0].category
    if category == "person":
        kinds = {instance.form for instance in group}
        noun = dice.pick((kinds.pop(), "person")) if len(kinds) == 1 else "person"
    else:
        noun = dice.pick(NOUNS[category])
    plural = PLURALS.get(noun, f"{noun}s")
    if len(group) > 2 and dice.chance(0.4):
        return f"a group of {plural}"
    return f"{dice.pick((COUNTS.get(len(group), 'several'), 'some'))} {plural}"


def _side(instance: Instance) -> str:
    if instance.centre[0] < 0.4:
        return "on the left"
    return "on the right" if instance.centre[0] > 0.6 else "in the middle"
