"""Stage report: tables, curves and pictures of all runs, as one page for offline reading and as
Markdown.
"""

from __future__ import annotations

from fmri2clip.datasets.nsd import layout
from fmri2clip.params import Params
from fmri2clip.report import write_report
from pipeline import _stage


def report(params: Params) -> None:
    """Write reports/index.html, reports/summary.md and reports/figures."""
    reports = _stage.REPORTS
    write_report(
        params,
        stimuli_path=layout.stimuli_path(_stage.RAW),
        runs_dir=reports / "runs",
        references_dir=reports / "references",
        studies_dir=reports / "studies",
        rois_dir=reports / "rois",
        world_json=reports / "world.json",
        hierarchy_dir=reports / "hierarchy",
        parameters_json=reports / "parameters.json",
        tokens_json=reports / "tokens.json",
        reconstructions_dir=_stage.DATA / "reconstructions",
        pictures_dir=reports / "pictures",
        picture_scores_dir=_stage.DATA / "picture_scores",
        predictions_dir=_stage.PREDICTIONS,
        clip_dir=_stage.CLIP,
        out_html=reports / "index.html",
        out_summary=reports / "summary.md",
        figures_dir=reports / "figures",
    )


if __name__ == "__main__":
    _stage.run(report)
