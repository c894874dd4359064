"""The table that check_data prints, made to be pasted into an issue, and what it says about
repairs.
"""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fmri2clip.core import store
from fmri2clip.core.files import check_inside
from fmri2clip.core.params import Dataset
from fmri2clip.datasets.nsd import layout, manifest
from fmri2clip.stages.check_data.check import describe_kind
from fmri2clip.stages.check_data.outcomes import Check

STIMULI = "download_stimuli"


def format_header(root: Path, subjects: Sequence[str], dataset: Dataset) -> str:
    """What was checked, with which versions."""
    if dataset.source == "folder":
        about = f"dataset: source folder, {root}"
        tree = "format: docs/own_data.md"
    else:
        keep_raw = str(dataset.keep_raw).lower()
        about = (
            f"dataset: source {dataset.source}, container {dataset.container}, keep_raw "
            f"{keep_raw}, {dataset.preparation}, sessions {dataset.sessions}"
        )
        tree = f"tree: {root}, {describe_kind(root, subjects, dataset)}"
    versions = [f"python {platform.python_version()}"]
    versions += [f"{name} {version(name)}" for name in ("numpy", "h5py", "nibabel")]
    lines = (
        f"{', '.join(versions)} (HDF5 {store.HDF5_VERSION})",
        about,
        f"subjects: {', '.join(subjects)}",
        tree,
    )
    return "\n".join(lines) + "\n"


def format_check(check: Check) -> str:
    """One line: status, name and detail in columns."""
    return f"{check.status}  {check.name:<20}  {check.detail}"


def format_summary(root: Path, checks: Sequence[Check], repairs: bool = True) -> str:
    """Numbers of checks by status and, where something failed, commands that repair it, if there
    are any, and the files that no download repairs.
    """
    counts = Counter(check.status for check in checks)
    line = ", ".join(f"{counts[status]} {status}" for status in ("PASS", "WARN", "SKIP", "FAIL"))
    text = f"\n{len(checks)} checks: {line}\n"
    commands = list_repairs(root, checks) if repairs else []
    if commands:
        text += "\nTo repair, remove what is damaged and download again; what is sound is not "
        text += "fetched a second time:\n" + "".join(f"  {command}\n" for command in commands)
    for path in sorted(list_intact(root, checks)) if repairs else ():
        text += f"\n{path}: the file is as its source (the bucket, COCO or the simulation) has it; "
        text += "please report this\n"
    return text


def list_repairs(root: Path, checks: Sequence[Check]) -> list[str]:
    """Commands for the files that failed checks name: remove those that are ours to remove, run
    their stage again. None for files that could not be opened, as they may be sound, nor for those
    that a download would bring once more as they are.
    """
    damaged: set[Path] = set()
    stages: set[str] = set()
    intact = list_intact(root, checks)
    for check in checks:
        if not check.passed and check.is_read:
            named = _list_failed(root, check)
            paths = [path for path in named if path not in intact]
            damaged.update(path for path in paths if path.is_file() and _is_ours(root, path))
            stages.update(_stage_of_path(root, path) for path in paths)
            stages.update([] if named else [_stage_of_check(check.name)])
    in_order = sorted(stages, key=lambda stage: (stage != STIMULI, stage))
    return [
        *(f"rm {path}" for path in sorted(damaged)),
        *(f"dvc repro -f -s {stage}" for stage in in_order),
    ]


def list_intact(root: Path, checks: Sequence[Check]) -> set[Path]:
    """Files that failed checks name although size and SHA-256 of all files of their stage are those
    of its manifest. None of the user's own.
    """
    # A copy that was taken in by its size has the manifest that was made of it: pictures that were
    # not copied show in the pictures only.
    checks = [check for check in checks if check.name != "stimuli.duplicates"]
    manifests = {f"files.{s}": layout.manifest_path(root, s) for s in layout.SUBJECTS}
    manifests["files.stimuli"] = layout.stimuli_manifest_path(root)
    entries = [
        entry
        for check in checks
        if check.name in manifests and check.status in ("PASS", "WARN")
        for entry in manifest.read(manifests[check.name])
    ]
    known = {manifest.local_path(root, entry) for entry in entries if entry.sha256}
    named = {path for check in checks for path in _list_failed(root, check)}
    return {path for path in known & named if _is_of_nsd(path)}


def _list_failed(root: Path, check: Check) -> list[Path]:
    """Files that a failed check read and names."""
    return find_paths(root, check.detail) if not check.passed and check.is_read else []


def find_paths(root: Path, text: str) -> list[Path]:
    """Paths below the root that a message names."""
    found = re.findall(rf"(?<![\w./-]){re.escape(str(root))}(/[\w./+-]+)", text)
    return [root / name.strip("/").rstrip(".") for name in found]


def _is_ours(root: Path, path: Path) -> bool:
    """Whether NSD names the file and it lies inside the project: then it can be fetched again."""
    try:
        check_inside(root, [path.parent])
    except ValueError:
        return False
    return _is_of_nsd(path)


def _is_of_nsd(path: Path) -> bool:
    return path.parent.name != "roi" or layout.is_nsd_roi(path)


def make_report(checks: Sequence[Check]) -> dict[str, Any]:
    """Content of reports/data_checks.json: status and detail by name, and the near-duplicate
    pictures.
    """
    report: dict[str, Any] = {
        check.name: {"status": check.status, "detail": check.detail} for check in checks
    }
    for check in checks:
        if check.name == "dataset" and check.data:
            report["dataset"] |= check.data  # name and licence, for the report
    duplicates = next((check.data for check in checks if check.name == "stimuli.duplicates"), None)
    return report | {"near_duplicates": duplicates}


def _stage_of_path(root: Path, path: Path) -> str:
    parts = path.relative_to(root).parts
    subject = next((part for part in parts if part in layout.SUBJECTS), "")
    return f"download@{subject}" if subject else STIMULI


def _stage_of_check(name: str) -> str:
    subject = next((part for part in name.split(".") if part in layout.SUBJECTS), "")
    return f"download@{subject}" if subject else STIMULI
