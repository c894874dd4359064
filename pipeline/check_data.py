"""Stage check_data: the properties that every NSD tree has, real or simulated, before anything
is computed from it.
"""

from __future__ import annotations

import json

from fmri2clip import store
from fmri2clip.datasets.nsd import check_report
from fmri2clip.datasets.nsd.check import iterate_checks
from fmri2clip.params import Params
from pipeline import _stage


def check_data(params: Params) -> None:
    """Print one line for each check of data/raw/nsd; a failed one ends the stage after the last.

    Writes reports/data_checks.json and a verdict that later stages wait for, if nothing failed.
    """
    root, checks = _stage.RAW, []
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
    with store.replacing(_stage.DATA / "raw_checked.txt", _stage.REPORTS / "data_checks.json") as (
        verdict,
        table,
    ):
        verdict.write_text("every property of the NSD files holds\n")
        table.write_text(json.dumps(check_report.make_report(checks), indent=1) + "\n")


if __name__ == "__main__":
    _stage.run(check_data)
