"""Writes the report: index.html (one file, readable offline), summary.md and their figures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.scores import list_groups, read_predictions
from fmri2clip.artefacts.stimuli import TEST, read_images
from fmri2clip.core.files import replacing
from fmri2clip.core.params import Params
from fmri2clip.stages.report import (
    ablations,
    data,
    differences,
    hierarchy,
    html,
    markdown,
    parameters,
    reconstructed,
    sections,
    studies,
    subjects,
    texts,
)
from fmri2clip.stages.report.document import Report, Section
from fmri2clip.stages.report.inputs import Inputs, read_inputs
from fmri2clip.stages.report.labels import is_simulated, label_data
from fmri2clip.stages.report.publish import publish

TITLE = "fmri2clip: decoding report"


def write_report(params: Params, paths: Paths) -> None:
    """Read all results of the runs in params and write index.html, summary.md and figures/, and
    copies of the numbers (publish.py).

    Of the models only the training means beside the weights are read. Files of a run, clip, subject
    or reconstruction that are missing raise ValueError; studies, world figures, pictures of the
    world, hierarchy and token analyses and counts of weights may be missing, and the report says
    so; numbers of the stimuli may be missing too. figures/ belongs to the report: PNG files in it
    that are not of this report are deleted.
    """
    inputs = read_inputs(params, paths)
    figures_dir = paths.reports / "figures"
    out_summary = paths.reports / "summary.md"
    paths.reports.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.reports, prefix=".figures_") as folder:
        report = make_report(inputs, Path(folder))
        with replacing(paths.reports / "index.html", out_summary) as (page, summary):
            page.write_text(html.render(report), encoding="utf-8")
            final = {path: figures_dir / path.name for path in Path(folder).iterdir()}
            copies = {
                picture: paths.reports / "hierarchy" / picture.name
                for picture in inputs.hierarchy_pictures.values()
            }
            text = markdown.render(report, out_summary.parent, final | copies)
            summary.write_text(text, encoding="utf-8")
            _place(final, figures_dir)
    publish(params, paths)


def make_report(inputs: Inputs, figures_dir: Path) -> Report:
    """All sections; draws the figures into figures_dir."""
    params = inputs.params
    n_images, n_captions = _count_test(inputs)
    found = differences.compare_all(inputs)
    load = make_loader(params, inputs.paths)
    parts = (
        sections.make_overview(inputs, found, n_images, figures_dir),
        Section("about", "What this is, and what it is not", texts.make_frame()),
        Section(
            "protocols",
            "How the scores are defined",
            texts.make_protocols(params, n_images, n_captions),
        ),
        sections.make_results(inputs, n_images),
        sections.make_differences(inputs, found),
        sections.make_unseen(inputs),
        sections.make_curves(inputs, figures_dir),
        sections.make_pictures(inputs, load, figures_dir),
        *reconstructed.make_reconstructed(inputs, load, figures_dir),
        hierarchy.make_hierarchy(inputs),
        parameters.make_weights(inputs),
        subjects.make_subjects(inputs, figures_dir),
        ablations.make_ablations(inputs),
        studies.make_studies(inputs, figures_dir),
        data.make_data(inputs),
        data.make_world(inputs),
    )
    return Report(title=TITLE, subtitle=f"{params.note} {label_data(params)}.", sections=parts)


def _count_test(inputs: Inputs) -> tuple[int, int]:
    """Numbers of test images that any run was scored on, and of their captions in the cache."""
    ids = [
        read_predictions(result.predictions, ["nsd_id_I"], subject)["nsd_id_I"]
        for result in inputs.runs.values()
        for subject in list_groups(result.predictions)
    ]
    clip = next(iter(inputs.references))
    shared = read_cache(inputs.paths.clip_shared(clip), ["nsd_id_I", "caption_image_K"])
    scored_I = np.isin(shared["nsd_id_I"], np.unique(np.concatenate(ids)))
    return int(scored_I.sum()), int(scored_I[shared["caption_image_K"]].sum())


def make_loader(params: Params, paths: Paths) -> Callable[[int], NDArray[np.uint8] | None]:
    """Function NSD id -> picture; None in its place for real data."""
    # NSD's terms forbid passing its pictures on.
    if not is_simulated(params):
        return lambda nsd_id: None
    return lambda nsd_id: read_images(paths.stimuli(TEST), [nsd_id])[0]


def _place(final: Mapping[Path, Path], figures_dir: Path) -> None:
    """Move figures to their final place and delete those of earlier reports."""
    figures_dir.mkdir(exist_ok=True)
    for source, target in final.items():
        os.replace(source, target)
    # Figures of runs that are gone would otherwise stay beside a report that does not show them.
    for path in set(figures_dir.glob("*.png")) - set(final.values()):
        path.unlink()
