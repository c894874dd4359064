"""Tables of an exchange folder: dataset.json, trials.tsv, captions.tsv, labels.tsv.

docs/own_data.md is the format. Tables are tab-separated with one line of names, as in BIDS, where a
quotation mark is a character like any other; text is UTF-8. Columns that the format does not name
are left alone. Letters: N trials.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri2clip.core.strict import build, suggest

DESCRIPTION = "dataset.json"
TRIALS = "trials.tsv"
CAPTIONS = "captions.tsv"
LABELS = "labels.tsv"
BETAS = "betas"
MASKS = "masks"
PICTURES = "pictures"
NOTHING = ("", "n/a")  # what stands in a cell without content, as BIDS writes it
# Of subjects and sessions: they are parts of file names, whose parts `_` separates.
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


@dataclass(frozen=True, kw_only=True)
class Description:
    """Content of dataset.json."""

    name: str
    licence: str
    test: tuple[str, ...]  # pictures of the test set, as in trials.tsv
    betas_scale: float = 1.0  # stored numbers are betas times this
    preparation: str = ""  # what was done to the betas, in a word
    picture_size: int = (
        0  # pixels of a side that pictures are cropped and resized to; 0: as they are
    )
    categories: tuple[str, ...] = ()  # names of labels in the order wanted; (): sorted

    def __post_init__(self) -> None:
        if not self.test:
            raise ValueError("test is empty; name the pictures of the test set")
        if self.betas_scale <= 0:
            raise ValueError(f"betas_scale is {self.betas_scale}, expected a number above 0")
        if self.picture_size < 0:
            raise ValueError(f"picture_size is {self.picture_size}, expected 0 or pixels")


def read_description(root: Path) -> Description:
    """dataset.json; a missing file, an unknown or missing key raises ValueError."""
    path = root / DESCRIPTION
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; set dataset.folder to yours (docs/own_data.md)")
    if not path.is_file():
        raise ValueError(f"{path} does not exist; write one (docs/own_data.md)")
    try:
        # Editors of Windows put a byte order mark in front.
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); mend it") from None
    if isinstance(content, Mapping) and isinstance(content.get("test"), list):
        # Rows of pictures.h5 are numbers here and text in a table.
        content = {**content, "test": [str(name) for name in content["test"]]}
    return build(Description, content, str(path))


def read_table(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """A table of text; a missing file or column, or a line of another length, raises ValueError."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; write one (docs/own_data.md)")
    try:
        table = pd.read_csv(
            path,
            sep="\t",
            dtype=str,
            keep_default_na=False,
            encoding="utf-8",
            quoting=csv.QUOTE_NONE,
        )
    except (ValueError, csv.Error) as error:
        said = " ".join(str(error).split())  # of pandas it ends in a new line
        raise ValueError(f"{path} is no tab-separated table ({said}); mend it") from None
    table = table.map(_unquote).rename(columns=lambda name: _unquote(str(name)))
    if len(table.columns) == 1 and "," in table.columns[0]:
        raise ValueError(f"{path} has commas between its columns; write it with tabs")
    for name in needed:
        if name not in table.columns:
            near = suggest(name, [str(column) for column in table.columns])
            raise ValueError(
                f"{path} has no column {name!r}; it has {', '.join(map(str, table.columns))}{near}"
            )
    return table


def read_filled(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """The same; nothing in a cell of the columns needed raises ValueError, too."""
    table = read_table(path, needed)
    check_filled(table, needed, path)
    return table


def check_filled(table: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Raise ValueError for nothing in a cell of these columns."""
    for name in names:
        lines = np.flatnonzero(~is_filled(table[name])) + 2
        if len(lines):
            raise ValueError(
                f"{path}: {name} in line {lines[0]} is empty; fill it in, or leave the line out"
            )


def is_filled(column: pd.Series) -> pd.Series:
    """Cells with content."""
    return ~column.str.strip().isin(NOTHING)


def _unquote(text: str) -> str:
    """The text of a cell that a spreadsheet has put into quotation marks, doubling those inside."""
    inner = text[1:-1]
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return inner.replace('""', '"') if is_quoted and '"' not in inner.replace('""', "") else text


def read_trials(root: Path) -> pd.DataFrame:
    """trials.tsv: a row a trial, in time order within a session; those without a picture, too."""
    path = root / TRIALS
    table = read_table(path, ["subject", "session", "picture"])
    check_filled(table, ["subject", "session"], path)
    for name in ("subject", "session"):
        wrong = [label for label in table[name].unique() if not LABEL.fullmatch(label)]
        if wrong:
            raise ValueError(
                f"{path}: {name} {wrong[0]!r} is no label; use letters, digits and hyphens"
            )
    return table


def read_numbers(table: pd.DataFrame, name: str, path: Path, otherwise: float) -> list[float]:
    """A column of numbers; `otherwise` for each row where the table does not have it."""
    if name not in table.columns:
        return [otherwise] * len(table)
    return [_to_number(text, name, row, path) for row, text in enumerate(table[name], start=2)]


def _to_number(text: Any, name: str, row: int, path: Path) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{path}: {name} in line {row} is {text!r}, expected a number") from None


def subject_rows(table: pd.DataFrame, subject: str, path: Path) -> pd.DataFrame:
    """Trials of one subject, sessions one after the other in the order of the table."""
    own = table[table["subject"] == subject]
    if own.empty:
        known = sorted(table["subject"].unique())
        raise ValueError(
            f"{path} has no trial of subject {subject!r}; it has {', '.join(known) or 'none'}"
            f"{suggest(subject, known)}"
        )
    order = pd.Categorical(own["session"], categories=own["session"].unique())
    return own.iloc[order.codes.argsort(kind="stable")].reset_index(drop=True)
