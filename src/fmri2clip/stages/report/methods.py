"""The methods text, ready to paste: one template, printed as Markdown, HTML and LaTeX, with a .bib
made from CITATION.cff.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fmri2clip.stages.report.inputs import Inputs

CITED = {  # decoder -> key in CITATION.cff, as make_keys gives them
    "ridge": "hoerl1970",
    "brainclip": "liu2025",
    "brainmclip": "xia2025",
    "brainmclip_plus": "xia2025",
    "clip_mused": "zhou2024",
    "label_ridge": "platt1999",
    "aligned": "wolpert1992",
    "encoding": "kay2008",
    "mindeye": "scotti2023",
}
IN_WORDS = {
    "ridge": "ridge regression to CLIP's embeddings",
    "brainclip": "a network with image- and text-contrastive terms in the style of BrainCLIP",
    "brainmclip": "a network from early and category areas to intermediate and final CLIP tokens "
    "in the style of BrainMCLIP",
    "brainmclip_plus": "ridges of two sets of areas to components of intermediate and final CLIP "
    "tokens, and a network for what they leave, after BrainMCLIP",
    "clip_mused": "one network for all subjects, trained on category labels, in the style of "
    "CLIP-MUSED",
    "label_ridge": "ridge regression to category labels with calibrated outputs",
    "aligned": "one network for all subjects behind a ridge of each",
    "encoding": "an encoding model turned round",
    "mindeye": "a residual network with regressed and projected tokens in the style of MindEye1",
}
BIBTEX = {"article": "article", "conference-paper": "inproceedings"}  # type in CFF -> in BibTeX
CITE = re.compile(r"\[@(\w+)\]")
LATEX = str.maketrans({c: f"\\{c}" for c in "%&_#$"})
References = Mapping[str, Mapping[str, Any]]


def read_references(path: Path) -> dict[str, dict[str, Any]]:
    """Key -> entry of the references of a CITATION.cff; a key is the first author and the year."""
    from ruamel.yaml import YAML

    entries = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["references"]
    return {f"{_first(entry).lower()}{entry['year']}": entry for entry in entries}


def _first(entry: Mapping[str, Any]) -> str:
    return re.sub(r"\W", "", entry["authors"][0]["family-names"])


def describe_decoders(inputs: Inputs) -> dict[str, str]:
    """Decoders of the runs, in words; one that is unknown here by its name alone."""
    names = dict.fromkeys(
        inputs.params.runs[run].decoder for run in inputs.runs if inputs.kind(run) != "null"
    )
    return {name: IN_WORDS.get(name, name) for name in names}


def list_decoders(inputs: Inputs) -> str:
    """Decoders of the runs in words, each with its citation."""
    said = []
    for name, words in describe_decoders(inputs).items():
        cite = f" [@{CITED[name]}]" if name in CITED else ""
        said.append(f"{words}{cite}")
    return "; ".join(said)


def count(inputs: Inputs) -> dict[str, str]:
    """Numbers of the methods text: of voxels, of training and test pictures, of trials of one."""
    counts = inputs.rois.values()
    shown = [int(k) for tree in counts for k, n in tree["test"]["shown"].items() if n]
    return {
        "n_voxels": _list_numbers([tree["voxels"]["kept"] for tree in counts]),
        "n_training": _list_each([tree["train"]["images"] for tree in counts]),
        "n_tests": _list_each([tree["test"]["images"] for tree in counts]),
        "n_trials": f"{max(shown, default=0)}",
    }


def _list_each(numbers: Sequence[int]) -> str:
    """One number where all subjects have the same."""
    return _list_numbers(numbers[:1] if len(set(numbers)) == 1 else numbers)


def _list_numbers(numbers: Sequence[int]) -> str:
    """'1', '1 and 2', '1, 2 and 3', with commas between thousands."""
    *first, last = (f"{n:,}" for n in numbers)
    return f"{', '.join(first)} and {last}" if first else last


def to_html(text: str, references: References) -> str:
    """Paragraphs with names and years in place of the citations."""

    def cite(match: re.Match[str]) -> str:
        entry = references[match[1]]
        more = " et al." if len(entry["authors"]) > 1 else ""
        return f"({escape(entry['authors'][0]['family-names'])}{more} {entry['year']})"

    paragraphs = [escape(part.strip(), quote=False) for part in text.split("\n\n") if part.strip()]
    return "\n".join(f"<p>{CITE.sub(cite, part)}</p>" for part in paragraphs)


def to_latex(text: str) -> str:
    """The same with \\citep, special characters escaped."""
    text = text.translate(LATEX).replace("\N{MINUS SIGN}", "$-$").replace("\N{NO-BREAK SPACE}", "~")
    return CITE.sub(r"\\citep{\1}", text)


def to_bibtex(references: References) -> str:
    """Every reference as a BibTeX entry."""
    return "\n".join(_make_entry(key, entry) for key, entry in references.items())


def _make_entry(key: str, entry: Mapping[str, Any]) -> str:
    pages = [str(entry[end]) for end in ("start", "end") if end in entry]
    kind = BIBTEX.get(entry["type"], "misc")
    names = [f"{a['family-names']}, {a['given-names']}" for a in entry["authors"]]
    fields = {
        "title": f"{{{entry['title']}}}",
        "author": " and ".join(names),
        "journal": entry.get("journal"),
        "booktitle": entry.get("collection-title"),
        "volume": entry.get("volume"),
        "number": entry.get("issue"),
        "pages": "--".join(pages),
        "year": entry["year"],
        "doi": entry.get("doi"),
        "note": entry.get("notes"),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"]) + "\n"


def read_versions(path: Path) -> dict[str, str]:
    """Package -> pinned version, of a requirements file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = [re.match(r"([\w.-]+)==([\w.+]+)", line) for line in lines]
    return {match[1]: match[2] for match in found if match}
