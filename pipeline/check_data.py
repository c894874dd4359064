"""Stage check_data: what every NSD tree must hold before anything is computed from it."""

from __future__ import annotations

import json

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.files import replacing
from fmri2clip.core.params import Params
from fmri2clip.stages.check_data import check_report
from fmri2clip.stages.check_data.check import iterate_checks


def check_data(params: Params) -> None:
    """Print one line for each check of data/raw/nsd; a failed one ends the stage after the last.

    Writes reports/data_checks.json and a verdict that later stages wait for, if nothing failed.
    """
    paths = Paths()
    root = paths.raw
    checks = []
    print(check_report.format_header(root, params.subjects, params.dataset), flush=True)
    for check in iterate_checks(root, params.subjects, params.dataset):
        print(check_report.format_check(check), flush=True)
        checks.append(check)
    print(check_report.format_summary(root, checks), flush=True)
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}; see above for "
            "repairs"
        )
    with replacing(paths.root / "data/raw_checked.txt", paths.reports / "data_checks.json") as (
        verdict,
        table,
    ):
        verdict.write_text("every property of the NSD files holds\n")
        table.write_text(json.dumps(check_report.make_report(checks), indent=1) + "\n")


if __name__ == "__main__":
    stage.run(check_data)
