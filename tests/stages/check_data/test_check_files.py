"""check_files.py: what a manifest names is compared byte for byte, and what it does not name is
reported.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fmri2clip.datasets.nsd import manifest
from fmri2clip.datasets.nsd.manifest import Entry
from fmri2clip.stages.check_data.check_files import check_files

CONTENT = {"a.nii.gz": b"mask", "roi/b.nii.gz": b"region", "c.tsv": b""}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, content in CONTENT.items():
        path = tmp_path / "nsddata" / "ppdata" / "subj01" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    manifest.record(_manifest(tmp_path), tmp_path, _folders(tmp_path))
    return tmp_path


def _folders(root: Path) -> list[Path]:
    return [root / "nsddata" / "ppdata" / "subj01"]


def _manifest(root: Path) -> Path:
    return root / "nsddata" / "ppdata" / "subj01" / "manifest.json"


def _check(root: Path) -> tuple[str, str]:
    finding = check_files(root, _manifest(root), _folders(root))
    return finding.status, finding.detail


def test_intact_files(tree: Path) -> None:
    assert _check(tree) == ("PASS", "3 files, 0.000 GB, size and SHA-256 as recorded")


def test_no_manifest(tree: Path) -> None:
    _manifest(tree).unlink()
    status, detail = _check(tree)
    assert status == "SKIP" and f"{_manifest(tree)} does not exist" in detail


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"Mask", "another SHA-256"), (b"ma", "2 bytes instead of 4"), (None, "does not exist")],
)
def test_damage(tree: Path, content: bytes | None, problem: str) -> None:
    path = tree / "nsddata" / "ppdata" / "subj01" / "a.nii.gz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"1 of 3 files: {path} .*{problem}"):
        _check(tree)


def test_files_without_an_entry_are_reported(tree: Path) -> None:
    extra = tree / "nsddata" / "ppdata" / "subj01" / "old.nii.gz"
    extra.write_bytes(b"left over")
    status, detail = _check(tree)
    assert status == "WARN" and detail.startswith(
        f"1 files that {_manifest(tree)} does not name: {extra}"
    )


def test_streamed_files_and_unknown_checksums(tree: Path) -> None:
    entries = [
        Entry(key=e.key, bytes=e.bytes) if e.bytes == 4 else e
        for e in manifest.read(_manifest(tree))
    ]
    streamed = Entry(
        key="nsddata_betas/ppdata/subj01/betas_session01.hdf5", bytes=10**9, local=False
    )
    manifest.write(_manifest(tree), [*entries, streamed])
    status, detail = _check(tree)
    assert status == "PASS"
    assert detail.startswith("3 files, 0.000 GB") and detail.endswith(
        "no SHA-256 recorded for 1; 1 files stay in the bucket"
    )


def test_a_hostile_manifest_is_refused(tree: Path) -> None:
    content = json.loads(_manifest(tree).read_text())
    content["files"][0]["key"] = "nsddata/../../outside"
    _manifest(tree).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"key 'nsddata/\.\./\.\./outside' is not a plain path"):
        _check(tree)
