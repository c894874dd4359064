"""Voxel groups in words: 'nsdgeneral and not (streams/early or prf-visualrois)'.

    expression = term {'or' term}        term = factor {'and' factor}
    factor     = 'not' factor | '(' expression ')' | ROI

Words instead of signs, because names of ROIs contain '-', '+', '.' and '/'. Every ROI is meant
inside nsdgeneral, and `not X` is the rest of nsdgeneral. Letters: V voxels of nsdgeneral.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.nsd import layout

TOKEN = re.compile(r"[()]|[^\s()]+")
WORDS = ("and", "or", "not", "(", ")")
MAX_DEPTH = 100  # of parentheses and 'not', well below Python's own limit


@dataclass(frozen=True)
class Roi:
    """An ROI, one label of it, or one hemisphere of either."""

    name: str  # as written: 'floc-faces', 'lh.streams/ventral', 'streams/5', 'file:my-roi/2'


@dataclass(frozen=True)
class Not:
    """The voxels that an expression leaves out."""

    item: Expression


@dataclass(frozen=True)
class And:
    """The voxels that all expressions have in common."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Or:
    """The voxels that any of the expressions has."""

    items: tuple[Expression, ...]


Expression: TypeAlias = Roi | Not | And | Or


def parse_groups(groups: Mapping[str, Sequence[str]]) -> dict[str, Expression]:
    """Each group as one expression, the union of its entries; ValueError names the group and the
    wrong entry.

    Checks the spelling of every ROI and label that NSD has; whether a subject has the file shows
    when it is read.
    """
    parsed: dict[str, Expression] = {}
    for group, entries in groups.items():
        if not entries:
            raise ValueError(
                f"rois.{group} is empty; list at least one ROI, or nsdgeneral for all voxels"
            )
        try:
            parsed[group] = Or(tuple(parse(entry) for entry in entries))
            for name in names(parsed[group]):
                layout.split_roi_name(name)
        except ValueError as error:
            raise ValueError(f"rois.{group}: {error}") from None
    return parsed


def parse(text: str) -> Expression:
    """Tree of one entry; a syntax error raises ValueError with the text and the place.

    Names are not checked.
    """
    return _Parser(text).parse()


def names(expression: Expression) -> list[str]:
    """The ROIs that the expression names, as written, in order and each once."""
    if isinstance(expression, Roi):
        return [expression.name]
    items = (expression.item,) if isinstance(expression, Not) else expression.items
    return list(dict.fromkeys(name for item in items for name in names(item)))


def evaluate(expression: Expression, columns: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Members (V) of the expression. columns: name as written -> members (V) of that ROI."""
    if isinstance(expression, Roi):
        return columns[expression.name]
    if isinstance(expression, Not):
        return ~evaluate(expression.item, columns)
    combine = np.logical_and if isinstance(expression, And) else np.logical_or
    return combine.reduce([evaluate(item, columns) for item in expression.items])


class _Parser:
    """Recursive descent over the tokens of one text, one method a rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0
        self.tokens = [(match[0], match.start()) for match in TOKEN.finditer(text)]
        self.tokens.append(("", len(text)))
        self.tokens.reverse()

    def parse(self) -> Expression:
        tree = self.expression()
        self.take("", "'and', 'or' or the end")
        return tree

    def expression(self) -> Expression:
        items = [self.term()]
        while self.next == "or":
            self.tokens.pop()
            items.append(self.term())
        return items[0] if len(items) == 1 else Or(tuple(items))

    def term(self) -> Expression:
        items = [self.factor()]
        while self.next == "and":
            self.tokens.pop()
            items.append(self.factor())
        return items[0] if len(items) == 1 else And(tuple(items))

    def factor(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"at most {MAX_DEPTH} levels of 'not' and parentheses")
        tree = self.nested()
        self.depth -= 1
        return tree

    def nested(self) -> Expression:
        if self.next == "not":
            self.tokens.pop()
            return Not(self.factor())
        if self.next == "(":
            self.tokens.pop()
            tree = self.expression()
            self.take(")", "'and', 'or' or ')'")
            return tree
        if not self.next or self.next in WORDS:
            self.fail("an ROI, 'not' or '('")
        return Roi(self.tokens.pop()[0])

    @property
    def next(self) -> str:
        return self.tokens[-1][0]

    def take(self, token: str, wanted: str) -> None:
        if self.next != token:
            self.fail(wanted)
        self.tokens.pop()

    def fail(self, wanted: str) -> NoReturn:
        token, place = self.tokens[-1]
        found = repr(token) if token else "the end"
        raise ValueError(
            f"{self.text!r}: expected {wanted} at character {place + 1}, found {found}; "
            "ROIs are combined by the words and, or, not and by parentheses"
        )
