"""Writes the report: reports/html/, pages that need nothing else, and what stays in git: summary.md
with its figures, claims.md, differences.json and digest.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import watch
from fmri2clip.core.closure import code_digest
from fmri2clip.core.params import Params
from fmri2clip.stages.report import (
    boards,
    brain,
    claims,
    cost,
    examples,
    methods,
    overview,
    pictures,
    quality,
    studies,
)
from fmri2clip.stages.report.differences import Differences, compare_all
from fmri2clip.stages.report.figures import draw_figures
from fmri2clip.stages.report.inputs import Inputs, read_inputs
from fmri2clip.stages.report.publish import publish
from fmri2clip.stages.report.scores import Scores, make_scores

TEMPLATES = Path(__file__).with_name("templates")
KEPT = ("summary.md", "claims.md")  # pages for the repository
SHOWN = 12  # characters of the digest: enough for git log -S


def write_report(params: Params, paths: Paths) -> None:
    """Read all results of the runs in params and write the report.

    Of the models only the training means beside the weights are read. Files of a run, clip, subject
    or reconstruction that are missing raise ValueError and nothing is written. html/ and figures/
    belong to the report: what earlier ones left there is deleted.
    """
    inputs = read_inputs(params, paths)
    scores = make_scores(inputs)
    differences = compare_all(inputs)
    digest = _to_json(make_digest(inputs))
    # DVC writes the MD5 of this file into dvc.lock, where git finds it.
    short = hashlib.md5(digest.encode(), usedforsecurity=False).hexdigest()[:SHOWN]
    context = make_common(inputs, scores, short)
    context |= make_index(inputs, scores, differences, context["studies"])
    context |= make_methods(inputs, context)
    files = {f"html/{name}": text for name, text in render_pages(context).items()}
    plain = make_environment(html=False)
    files |= {name: plain.get_template(name).render(context) for name in KEPT}
    files["digest.json"] = digest
    files["differences.json"] = _to_json(differences.to_json())
    paths.reports.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.reports, prefix=".report_") as folder:
        new = Path(folder)
        for name, text in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text(text, encoding="utf-8")
        draw_figures(context, new / "figures")
        watch.check()
        for path in sorted(new.iterdir()):
            _replace(path, paths.reports / path.name)
    publish(params, paths)


def _replace(new: Path, old: Path) -> None:
    """Put a file or folder in the place of an earlier one."""
    if old.is_dir():
        shutil.rmtree(old)
    os.replace(new, old)


def _to_json(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, indent=2, allow_nan=False) + "\n"


def make_digest(inputs: Inputs) -> dict[str, str]:
    """sha256 of the report's code and all that it imports, of the parameters, and of every number
    that the pages show.
    """
    templates = [path.read_text(encoding="utf-8") for path in sorted(TEMPLATES.iterdir())]
    parts = {
        "code": [code_digest(__name__), *templates],
        "params": dataclasses.asdict(inputs.params),
        "results": [
            inputs.runs,
            {name: table.to_csv(index=False) for name, table in inputs.curves.items()},
            inputs.references,
            inputs.rois,
            inputs.pictures,
            inputs.record,
            inputs.hierarchy,
            inputs.further,
            inputs.plans,
            inputs.studies,
        ],
    }
    return {
        name: hashlib.sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()
        for name, part in parts.items()
    }


def make_environment(*, html: bool) -> jinja2.Environment:
    """Templates of this folder; in pages whatever comes from data is escaped."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def make_common(inputs: Inputs, scores: Scores, digest: str) -> dict[str, Any]:
    """What every page has."""
    return {
        "inputs": inputs,
        "params": inputs.params,
        "scores": scores,
        "chip": overview.make_chip(inputs),
        "digest": digest,
        "n_test": int(scores.catalogue.sizes["n_images"]),
        "studies": studies.make_studies(inputs, scores),
        "claims": claims.make_claims(inputs, scores),
        "claims_chip": overview.make_chip(inputs, *claims.list_studies(inputs)),
        "counted_claims": claims.list_counted(inputs),
        "legend": list(enumerate(inputs.params.subjects)),
    }


def make_index(
    inputs: Inputs, scores: Scores, differences: Differences, pages: Sequence[studies.Study]
) -> dict[str, Any]:
    """What the index shows."""
    subject = inputs.params.subjects[0]
    cards = overview.make_cards(inputs, scores, differences)
    weights, scatter = cost.make_cost(inputs, scores)
    brief = (0.95, 0.5, 0.05)
    return {
        "cards": cards,
        "decoders_in_words": methods.describe_decoders(inputs),
        "panels": overview.make_panels(inputs, scores),
        "sentences": overview.make_sentences(inputs, scores, differences, pages),
        "brief": pictures.make_grid(inputs, subject, brief, brief=True),
        "grid": pictures.make_grid(inputs, subject),
        "picture_boards": boards.make_picture_boards(inputs, scores),
        "boards": boards.make_boards(inputs, scores),
        "further_board": boards.make_further(inputs, scores),
        "categories": boards.make_categories(inputs, scores),
        "unseen": boards.describe_unseen(inputs, scores),
        "primary": overview.make_primary(inputs, scores, cards),
        "examples": examples.make_examples(inputs, scores, subject),
        "areas": brain.make_areas(inputs, scores),
        "blocks": brain.make_blocks(inputs),
        "block_sentences": brain.describe_blocks(inputs),
        "attention": brain.make_attention(inputs),
        "token_sentences": brain.describe_tokens(inputs),
        "ceilings": brain.make_ceilings(inputs),
        "encoding": brain.make_encoding(inputs, scores),
        "weights": weights,
        "scatter": scatter,
        "cost_sentences": cost.describe_real_size(inputs),
        "ablations": studies.make_ablations(inputs, scores),
        "curves": quality.draw_curves(inputs),
        "world": quality.describe_world(inputs),
        "scenes": pictures.make_scenes(inputs),
    }


def make_methods(inputs: Inputs, common: Mapping[str, Any]) -> dict[str, Any]:
    """The methods text in its three forms, and what else the page of methods has."""
    references = methods.read_references(inputs.paths.root / "CITATION.cff")
    versions = methods.read_versions(inputs.paths.root / "requirements.txt")
    template = make_environment(html=False).get_template("methods.md")
    context = {
        **common,
        **methods.count(inputs),
        "decoders": methods.list_decoders(inputs),
        "versions": versions,
    }
    text = template.render(context)
    return {
        "versions": versions,
        "methods_md": text,
        "methods_html": methods.to_html(text, references),
        "methods_tex": methods.to_latex(text),
        "bibtex": methods.to_bibtex(references),
        "metrics": boards.list_metrics(common["scores"]),
    }


def render_pages(context: Mapping[str, Any]) -> dict[str, str]:
    """Path below html/ -> content."""
    inputs: Inputs = context["inputs"]
    scores: Scores = context["scores"]
    environment = make_environment(html=True)

    def render(template: str, **more: Any) -> str:
        return environment.get_template(template).render({**context, "up": "", **more})

    pages = {name: render(name) for name in ("index.html", "methods.html")}
    pages["claims.html"] = render("claims.html", chip=context["claims_chip"])
    pages["scores.csv"] = scores.table.to_csv(index=False)
    pages["pictures.csv"] = examples.make_table(inputs, scores).to_csv(index=False)
    pages["methods.md"] = context["methods_md"]
    pages["methods.tex"] = context["methods_tex"]
    pages["references.bib"] = context["bibtex"]
    for subject in inputs.params.subjects:
        pages[f"subjects/{subject}.html"] = render(
            "subject.html",
            up="../",
            subject=subject,
            counts=inputs.rois[subject],
            boards=boards.make_boards(inputs, scores, subject),
            picture_boards=boards.make_picture_boards(inputs, scores, subject),
            grid=pictures.make_grid(inputs, subject),
            examples=examples.make_examples(inputs, scores, subject),
            slices=brain.make_slices(inputs, subject),
            encoding=brain.make_encoding(inputs, scores, subject),
            ceiling=brain.ceiling,
        )
    for study in context["studies"]:
        chip = overview.make_chip(inputs, inputs.studies[study.name])
        pages[f"studies/{study.name}.html"] = render("study.html", up="../", study=study, chip=chip)
    return pages
