"""Writes the report: index.html (one file, readable offline), summary.md and the figures they
show.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmri2clip import store
from fmri2clip.datasets.nsd import layout, stimuli
from fmri2clip.params import Params
from fmri2clip.report import (
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
from fmri2clip.report.document import Report, Section
from fmri2clip.report.inputs import Inputs, read_inputs
from fmri2clip.report.labels import is_simulated, label_data

TITLE = "fmri2clip: decoding report"


def write_report(
    params: Params,
    *,
    stimuli_path: Path,
    runs_dir: Path = Path("reports/runs"),
    references_dir: Path = Path("reports/references"),
    studies_dir: Path = Path("reports/studies"),
    rois_dir: Path = Path("reports/rois"),
    world_json: Path = Path("reports/world/world.json"),
    hierarchy_dir: Path = Path("reports/hierarchy"),
    parameters_json: Path = Path("reports/parameters.json"),
    tokens_json: Path = Path("reports/tokens.json"),
    reconstructions_dir: Path = Path("data/reconstructions"),
    pictures_dir: Path = Path("reports/pictures"),
    picture_scores_dir: Path = Path("data/picture_scores"),
    predictions_dir: Path = Path("data/predictions"),
    models_dir: Path = Path("models"),
    clip_dir: Path = Path("data/clip"),
    out_html: Path = Path("reports/index.html"),
    out_summary: Path = Path("reports/summary.md"),
    figures_dir: Path = Path("reports/figures"),
) -> None:
    """Read all results of the runs in params and write the report.

    stimuli_path: nsd_stimuli.hdf5 inside an NSD tree. models_dir: only the training means beside
    the weights are read. Files of a run, clip, subject or reconstruction that are missing raise
    ValueError; studies, world figures, pictures of the world, hierarchy and token analyses and
    counts of weights may be missing, and the report says so; numbers of the stimuli may be missing
    too. figures_dir belongs to the report: PNG files in it that are not of this report are deleted.
    """
    inputs = read_inputs(
        params,
        runs_dir=runs_dir,
        references_dir=references_dir,
        studies_dir=studies_dir,
        rois_dir=rois_dir,
        world_json=world_json,
        hierarchy_dir=hierarchy_dir,
        parameters_json=parameters_json,
        tokens_json=tokens_json,
        reconstructions_dir=reconstructions_dir,
        pictures_dir=pictures_dir,
        picture_scores_dir=picture_scores_dir,
        predictions_dir=predictions_dir,
        models_dir=models_dir,
        clip_dir=clip_dir,
        stimuli_path=stimuli_path,
    )
    figures_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=figures_dir.parent, prefix=".figures_") as folder:
        report = make_report(inputs, Path(folder))
        with store.replacing(out_html, out_summary) as (page, summary):
            page.write_text(html.render(report), encoding="utf-8")
            final = {path: figures_dir / path.name for path in Path(folder).iterdir()}
            summary.write_text(markdown.render(report, out_summary.parent, final), encoding="utf-8")
            _publish(final, figures_dir)


def make_report(inputs: Inputs, figures_dir: Path) -> Report:
    """All sections; draws the figures into figures_dir."""
    params = inputs.params
    n_images, n_captions = _count_test(inputs)
    found = differences.compare_all(inputs)
    load = make_loader(params, inputs.stimuli_path)
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
    """Number of test images that any subject of any run was scored on, and of their captions in
    the cache.
    """
    ids = [
        store.read(result.predictions, "predictions", ["nsd_id_I"], subject)["nsd_id_I"]
        for result in inputs.runs.values()
        for subject in store.groups(result.predictions, "predictions")
    ]
    clip = next(iter(inputs.references))
    shared = store.read(inputs.shared_path(clip), "clip", ["nsd_id_I", "caption_image_K"])
    scored_I = np.isin(shared["nsd_id_I"], np.unique(np.concatenate(ids)))
    return int(scored_I.sum()), int(scored_I[shared["caption_image_K"]].sum())


def make_loader(params: Params, stimuli_path: Path) -> Callable[[int], NDArray[np.uint8] | None]:
    """Function NSD id -> picture.

    NSD's terms forbid passing its pictures on: for real data it returns None.
    """
    root = stimuli_path.parents[3]
    if layout.stimuli_path(root) != stimuli_path:
        raise ValueError(
            f"stimuli_path is {stimuli_path}; it must end as "
            f"{layout.stimuli_path(Path('<NSD tree>'))}"
        )
    if not is_simulated(params):
        return lambda nsd_id: None
    return lambda nsd_id: stimuli.read_images(root, [nsd_id])[0]


def _publish(final: Mapping[Path, Path], figures_dir: Path) -> None:
    """Move figures to their final place and delete those of earlier reports, such as of runs
    that are gone.
    """
    figures_dir.mkdir(exist_ok=True)
    for source, target in final.items():
        os.replace(source, target)
    for path in set(figures_dir.glob("*.png")) - set(final.values()):
        path.unlink()
