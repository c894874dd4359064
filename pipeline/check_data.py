"""Stage check_data: what the data must hold before anything is computed from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.files import replacing
from fmri2clip.core.params import Params
from fmri2clip.stages.check_data import check_report
from fmri2clip.stages.check_data.check import iterate_checks
from fmri2clip.stages.check_data.check_folder import digest_folder, iterate_folder_checks
from fmri2clip.stages.check_data.outcomes import Check


def check_data(params: Params) -> None:
    """Print one line for each check of data/raw/nsd, or of the folder that dataset.source asks for;
    a failed one ends the stage after the last.

    Writes reports/data_checks.json and a verdict that later stages wait for, if nothing failed.
    """
    paths = Paths()
    is_folder = params.dataset.source == "folder"
    root = Path(params.dataset.folder) if is_folder else paths.raw
    checks = []
    print(check_report.format_header(root, params.subjects, params.dataset), flush=True)
    for check in _iterate(params, root):
        print(check_report.format_check(check), flush=True)
        checks.append(check)
    print(check_report.format_summary(root, checks, repairs=not is_folder), flush=True)
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}; see above for "
            f"{'what to change' if is_folder else 'repairs'}"
        )
    said = "every property of the NSD files holds\n"
    if is_folder:
        # Later stages list this file, and the folder only through its digest.
        said = f"the folder is laid out as docs/own_data.md says; sha256 {digest_folder(root)}\n"
    with replacing(paths.root / "data/raw_checked.txt", paths.reports / "data_checks.json") as (
        verdict,
        table,
    ):
        verdict.write_text(said)
        table.write_text(json.dumps(check_report.make_report(checks), indent=1) + "\n")


def _iterate(params: Params, root: Path) -> Iterator[Check]:
    if params.dataset.source == "folder":
        return iterate_folder_checks(root, params.subjects, params.rois, params.norm)
    return iterate_checks(root, params.subjects, params.dataset)


if __name__ == "__main__":
    stage.run(check_data)
