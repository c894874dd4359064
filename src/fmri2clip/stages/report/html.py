"""Renders a Report as one HTML file that needs nothing else: inline CSS, pictures as data URIs, no
script.
"""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path
from string import Template

from fmri2clip.stages.report.document import (
    Block,
    Bullets,
    Case,
    Cell,
    Details,
    Figure,
    Gallery,
    Item,
    Paragraph,
    Picture,
    Report,
    Row,
    Score,
    Section,
    Table,
    Verdict,
)

TEMPLATE = Path(__file__).with_name("template.html")


def render(report: Report) -> str:
    """The report as one HTML page."""
    contents = "\n".join(
        f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in report.sections
    )
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(report.title),
        subtitle=_inline(report.subtitle),
        contents=contents,
        body="\n".join(_section(section) for section in report.sections),
    )


def _section(section: Section) -> str:
    body = "\n".join(_block(block) for block in section.blocks)
    return f'<section id="{section.anchor}">\n<h2>{escape(section.title)}</h2>\n{body}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Table():
            return _table(block)
        case Paragraph():
            return f'<p class="{block.tone or "plain"}">{_inline(block.text)}</p>'
        case Bullets():
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in block.items) + "</ul>"
        case Figure():
            return _figure(block)
        case Gallery():
            return "\n".join(_case(case) for case in block.cases) + _note(block.note)
        case Details():
            body = "\n".join(_block(inner) for inner in block.blocks)
            return f"<details><summary>{_inline(block.summary)}</summary>\n{body}\n</details>"


def _inline(text: str) -> str:
    text = re.sub(
        r"(top-\d+|[\d-]+-way)", r'<span class="together">\1</span>', escape(text, quote=False)
    )
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)


def _note(text: str) -> str:
    return f'<p class="label">{_inline(text)}</p>' if text else ""


def _figure(figure: Figure) -> str:
    source = _data_uri(figure.path.read_bytes())
    return (
        f'<figure><img src="{source}" alt="{escape(figure.alt)}">'
        f"<figcaption>{_inline(figure.caption)}</figcaption></figure>"
    )


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{_align(i, table)}>{_inline(column)}</th>'
        for i, column in enumerate(table.columns)
    )
    rows = "\n".join(_row(row, table) for row in table.rows)
    return (
        f'<div class="block"><h3>{_inline(table.title)}</h3>\n'
        '<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(table.title)}"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
        f"{_note(table.label)}</div>"
    )


def _align(column: int, table: Table) -> str:
    return ' class="text"' if column < table.n_text_columns else ""


def _row(row: Row, table: Table) -> str:
    if row.kind == "heading":
        return (
            f'<tr class="heading"><th scope="rowgroup" colspan="{len(table.columns)}">'
            f"<span>{_cell(row.cells[0])}</span></th></tr>"
        )
    cells = [f'<th scope="row" class="text">{_cell(row.cells[0])}</th>']
    cells += [f"<td{_align(i, table)}>{_cell(cell)}</td>" for i, cell in enumerate(row.cells) if i]
    return f'<tr class="{row.kind}">{"".join(cells)}</tr>'


def _cell(cell: Cell) -> str:
    items = cell if isinstance(cell, tuple) else (cell,)
    return " ".join(_item(item) for item in items)


def _item(item: Item) -> str:
    if isinstance(item, Score):
        interval = f'<span class="interval">{item.interval()}</span>' if item.interval() else ""
        return f'<span class="value">{item.text()}</span>{interval}'
    if isinstance(item, Verdict):
        return f'<span class="verdict {item.tone}">{escape(item.word)}</span>'
    return _inline(item)


def _case(case: Case) -> str:
    retrieved = "\n".join(_picture(picture) for picture in case.retrieved)
    captions = "".join(
        f"<li{' class=own' if own else ''}>{escape(text)}</li>" for text, own in case.captions
    )
    return (
        f'<article class="case"><h4>{_inline(case.heading)}</h4>\n<div class="strip">\n'
        f'<div class="seen">{_picture(case.stimulus)}</div>\n<div '
        f'class="retrieved">{retrieved}</div>\n'
        f'</div>\n<ol class="captions">{captions}</ol></article>'
    )


def _picture(picture: Picture) -> str:
    image = (
        f'<img src="{_data_uri(picture.png)}" alt="{escape(picture.title)}">'
        if picture.png
        else '<div class="withheld">not shown</div>'
    )
    lines = "".join(f"<span>{_inline(line)}</span>" for line in picture.lines)
    marked = " marked" if picture.marked else ""
    return (
        f'<figure class="thumb{marked}">{image}<figcaption>'
        f"<span>{_inline(picture.title)}</span>{lines}</figcaption></figure>"
    )
