"""Stage report: what was found, for people."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.report.write import write_report


def report(params: Params) -> None:
    """Write reports/html/, and beside it what stays in git: summary.md, figures and JSON files."""
    write_report(params, Paths())


if __name__ == "__main__":
    stage.run(report)
