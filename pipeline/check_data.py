"""Stage check_data: the properties that every NSD tree has, real or simulated, before anything is computed from it."""

from __future__ import annotations

import json

from fmri2clip import store
from fmri2clip.datasets.nsd.check import check_tree
from fmri2clip.params import Params
from pipeline import _stage


def check_data(params: Params) -> None:
    """Write reports/data_checks.json (name -> 1) and a verdict that later stages wait for; a failure ends it."""
    checks = check_tree(_stage.RAW, params.subjects, params.dataset)
    failed = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
    if failed:
        raise ValueError(f"{len(failed)} of {len(checks)} checks of {_stage.RAW} failed\n  " + "\n  ".join(failed))
    with store.replacing(_stage.DATA / "raw_checked.txt", _stage.REPORTS / "data_checks.json") as (verdict, table):
        verdict.write_text("every property of the NSD files holds\n")
        table.write_text(json.dumps({check.name: 1 for check in checks}, indent=1) + "\n")


if __name__ == "__main__":
    _stage.run(check_data)
