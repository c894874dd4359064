"""Are the files of a tree those that the download stages wrote? Sizes and SHA-256 against the
manifests.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fmri2clip.core.files import sha256_file
from fmri2clip.datasets.nsd import manifest
from fmri2clip.stages.check_data.outcomes import Outcome, passed, require, shorten, skipped

THREADS = 2  # hashing is as fast as two cores and a disk
GB = 1e9


def check_files(root: Path, manifest_path: Path, folders: Sequence[Path]) -> Outcome:
    """Every file that a manifest names is there with its size and SHA-256; files that it does not
    name: a warning.

    folders: what the stage that wrote the manifest answers for. Files that are fetched when needed
    are not looked at.
    """
    if not manifest_path.is_file():
        return skipped(
            f"{manifest_path} does not exist, so the files cannot be compared with what was "
            "downloaded"
        )
    entries = manifest.read(manifest_path)
    local = [entry for entry in entries if entry.local]
    with ThreadPoolExecutor(THREADS) as pool:
        problems = [problem for problem in pool.map(partial(_examine, root), local) if problem]
    require(not problems, f"{len(problems)} of {len(local)} files: {shorten(problems, 10)}")
    named = {manifest.local_path(root, entry) for entry in local}
    others = [path for path in manifest.list_files(folders) if path not in named]
    warnings = (
        [f"{len(others)} files that {manifest_path} does not name: {shorten(others)}"]
        if others
        else []
    )
    n_unknown = sum(not entry.sha256 for entry in local)
    n_bytes = sum(entry.bytes for entry in local)
    detail = f"{len(local)} files, {n_bytes / GB:.3f} GB, size and SHA-256 as recorded"
    detail += f"; no SHA-256 recorded for {n_unknown}" if n_unknown else ""
    detail += (
        f"; {len(entries) - len(local)} files stay in the bucket"
        if len(local) < len(entries)
        else ""
    )
    return passed(detail, warnings)


def _examine(root: Path, entry: manifest.Entry) -> str:
    """What is wrong with a file, '' for nothing."""
    path = manifest.local_path(root, entry)
    if not path.is_file():
        return f"{path} does not exist"
    size = path.stat().st_size
    if size != entry.bytes:
        return f"{path} has {size} bytes instead of {entry.bytes}"
    if entry.sha256 and sha256_file(path) != entry.sha256:
        return f"{path} has another SHA-256 than when it was written"
    return ""
