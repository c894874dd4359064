"""Numbers in README.md and docs/*.md, written from the files of reports/ and compared with them.

A number in a sentence stands between two comments, which Markdown does not show:

    brainclip finds <!-- n: reports/runs/brainclip/metrics.json retrieval.image_given_brain.top1 |
    percent interval -->46.2 [43.5, 49.0]<!-- --> % of the pictures          (all on one line)

Left of the bar: a JSON file, then the way to a number in it. A step is a key, or several keys
joined by dots. In a list it is the place of an entry, counted from 0, its `title` or its `name`.
Quotes hold a step with blanks. Right of the bar: a format (numbers.FORMATS), digits after
the point, and `interval` for the 95 % interval that the file gives with the number.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; tables.py has the names.

Only the standard library is imported, so that the check takes no time.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from fmri2clip.documents.numbers import Evidence
from fmri2clip.documents.writing import write_table

NUMBER = re.compile(
    r"<!-- n: (?P<key>[^|>\n]+?) \| (?P<how>[a-z0-9 ]+) -->(?P<text>[^<\n]*)<!-- -->"
)
TABLE = re.compile(r"<!-- table: (?P<key>[^>\n]+?) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)
OPENING = re.compile(r"<!-- (?:n|table): ")


def render(text: str, evidence: Evidence, name: str) -> str:
    """The document with every marked number and table as the files have them now.

    Raises ValueError with document and line for a marker that is not closed or names nothing.
    """
    pieces: list[str] = []
    done = 0
    for match, new in _read_markers(text, evidence, name):
        pieces += [text[done : match.start("text")], new]
        done = match.end("text")
    return "".join([*pieces, text[done:]])


def find_differences(root: Path) -> list[str]:
    """One line for every marked number or table that is not as the files have it."""
    evidence = Evidence(root)
    found = []
    for path in list_documents(root):
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        for match, new in _read_markers(text, evidence, name):
            if match["text"] != new:
                where = f"{name}:{_line(text, match.start())}"
                found.append(f"{where}: {_say_difference(match, new)}")
    return found


def update(root: Path) -> list[Path]:
    """Write all documents anew; returns those that changed."""
    evidence = Evidence(root)
    changed = []
    for path in list_documents(root):
        text = path.read_text(encoding="utf-8")
        new = render(text, evidence, path.relative_to(root).as_posix())
        if new != text:
            path.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed


def list_documents(root: Path) -> list[Path]:
    """README.md and the pages of docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def _read_markers(text: str, evidence: Evidence, name: str) -> Iterator[tuple[re.Match[str], str]]:
    """Every marker in order, with what belongs between its ends."""
    for opening in OPENING.finditer(text):
        where = f"{name}:{_line(text, opening.start())}"
        is_table = opening[0].startswith("<!-- table")
        match = (TABLE if is_table else NUMBER).match(text, opening.start())
        if match is None or OPENING.search(match["text"]):
            closing = "<!-- end -->" if is_table else "'| format -->...<!-- -->' on one line"
            raise ValueError(f"{where}: the marker has no {closing}")
        try:
            if is_table:
                yield match, write_table(shlex.split(match["key"]), evidence)
            else:
                yield match, _write_number(match, evidence)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _write_number(match: re.Match[str], evidence: Evidence) -> str:
    file, *steps = shlex.split(match["key"])
    number = evidence.number(file, *steps)
    if number is None:
        raise ValueError(f"{file} has no number under {' / '.join(steps) or 'no key'}")
    return number.format(match["how"])


def _say_difference(match: re.Match[str], new: str) -> str:
    if "how" in match.re.groupindex:
        return f"{match['key']} is {new}, the text says {match['text']}"
    old_lines = match["text"].splitlines()
    new_lines = new.splitlines()
    for old, line in zip(old_lines, new_lines, strict=False):
        if old != line:
            return f"table {match['key']}: the row is {line}"
    return f"table {match['key']} has {len(new_lines)} lines, the text {len(old_lines)}"


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
