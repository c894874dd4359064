"""manifest.py, needed.py and inventory.py: hostile keys, what a choice needs, what is there,
damaged or not needed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmri2clip.core.params import Dataset
from fmri2clip.datasets.nsd import layout, manifest
from fmri2clip.datasets.nsd.manifest import Entry
from fmri2clip.stages.download import inventory, wanted_files
from fmri2clip.transfer.remotes import RemoteFile

KEY = "nsddata/ppdata/subj01/behav/responses.tsv"
PREP = "betas_fithrf_GLMdenoise_RR"


def remote(key: str, content: bytes = b"abc", etag: str = "x-2") -> RemoteFile:
    return RemoteFile(key=key, size=len(content), etag=etag)


def put(root: Path, key: str, content: bytes = b"abc") -> Path:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "key",
    [
        "../etc/passwd",
        "nsddata/../../x",
        "/nsddata/x",
        "nsddata//x",
        "nsddata/./x",
        "nsddata\\..\\x",
        "C:/nsddata/x",
        "nsddata",
        "other/x",
        "",
        "nsddata/x\0y",
        "nsddata/x\ny",
        "nsddata/",
    ],
)
def test_a_hostile_key_is_refused(tmp_path: Path, key: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"format": 1, "files": [{"key": key, "bytes": 1}]}))
    with pytest.raises(
        ValueError, match=r"manifest\.json: files\[0\].*is not a plain path below nsddata/"
    ):
        manifest.read(path)


@given(st.text(max_size=40), st.sampled_from(["", "nsddata/", "nsddata_betas/", "../"]))
def test_an_accepted_key_stays_below_the_root(text: str, prefix: str) -> None:
    try:
        manifest.check_key(prefix + text)
    except ValueError:
        return
    resolved = (Path("/tree") / PurePosixPath(prefix + text)).resolve()
    assert Path("/tree") in resolved.parents


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "no manifest of format 1"),
        ('{"format": 2, "files": []}', "no manifest of format 1"),
        ('{"format": 1, "files": [{"key": "nsddata/x"}]}', "bytes is missing"),
        ('{"format": 1, "files": [{"key": "nsddata/x", "bytes": "3"}]}', "expected int"),
        ('{"format": 1, "files": [{"key": "nsddata/x", "bytes": -3}]}', "at least 0"),
        (
            '{"format": 1, "files": [{"key": "nsddata/x", "bytes": 1}, {"key": "nsddata/x", '
            '"bytes": 1}]}',
            "twice",
        ),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        manifest.read(path)


def test_record_names_every_file_with_its_digest(tmp_path: Path) -> None:
    put(tmp_path, KEY, b"one")
    put(tmp_path, "nsddata/ppdata/subj01/func1pt8mm/roi/a.nii.gz", b"two")
    path = tmp_path / "nsddata" / "ppdata" / "subj01" / "manifest.json"
    for _ in range(2):  # the manifest itself is not in it
        manifest.record(path, tmp_path, [tmp_path / "nsddata"])
    entries = manifest.by_key(manifest.read(path))
    assert len(entries) == 2
    assert entries[KEY] == Entry(key=KEY, bytes=3, sha256=hashlib.sha256(b"one").hexdigest())


def listing(
    n_sessions: int = 3, subject: str = "subj04", suffix: str = ".hdf5"
) -> dict[str, RemoteFile]:
    root = wanted_files.ROOT
    paths = [layout.betas_path(root, subject, PREP, s, suffix) for s in range(1, n_sessions + 1)]
    paths += [layout.valid_path(root, subject, s) for s in (None, *range(1, n_sessions + 1))]
    paths += [layout.ncsnr_path(root, subject, PREP), layout.brainmask_path(root, subject)]
    paths += [layout.roi_path(root, subject, roi, "lh") for roi in ("nsdgeneral", "my-roi")]
    paths += [layout.roi_path(root, subject, "nsdgeneral"), layout.responses_path(root, subject)]
    paths += [
        layout.ctab_path(root, subject, "streams"),
        layout.volumes_dir(root, subject) / "R2_session01.nii.gz",
    ]
    return {path.as_posix(): remote(path.as_posix()) for path in paths}


def test_a_subject_needs_its_sessions_and_nothing_more() -> None:
    files = wanted_files.subject_files(listing(), "subj04", Dataset(), 2)
    keys = [item.file.key for item in files]
    assert [item.file.key for item in files if item.is_betas] == [
        f"nsddata_betas/ppdata/subj04/func1pt8mm/{PREP}/betas_session0{s}.hdf5" for s in (1, 2)
    ]
    assert set(listing()) - set(keys) == {
        f"nsddata_betas/ppdata/subj04/func1pt8mm/{PREP}/betas_session03.hdf5",
        "nsddata/ppdata/subj04/func1pt8mm/valid_session03.nii.gz",
        "nsddata/ppdata/subj04/func1pt8mm/R2_session01.nii.gz",
    }


def test_the_container_decides_and_mat_stands_in_for_hdf5() -> None:
    both = listing(2) | listing(2, suffix=".nii.gz")
    for container, suffix in (("hdf5", ".hdf5"), ("nifti", ".nii.gz")):
        files = wanted_files.subject_files(both, "subj04", Dataset(container=container), 2)
        assert all(item.file.key.endswith(suffix) for item in files if item.is_betas)
    old = wanted_files.subject_files(listing(2, suffix=".mat"), "subj04", Dataset(), 2)
    assert [item.file.key[-4:] for item in old if item.is_betas] == [".mat", ".mat"]


def test_missing_sessions_and_files_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"no hdf5 betas of subj04 for session 4-6 .* \(it has 3 of 6\)"
    ):
        wanted_files.subject_files(listing(), "subj04", Dataset(), 6)
    without = {key: file for key, file in listing().items() if "brainmask" not in key}
    with pytest.raises(ValueError, match=r"no .*brainmask\.nii\.gz; it has .*valid\.nii\.gz"):
        wanted_files.subject_files(without, "subj04", Dataset(), 2)
    with pytest.raises(
        ValueError, match=r"no nsddata_stimuli/.*nsd_stimuli\.hdf5; that folder is empty"
    ):
        wanted_files.stimuli_files({})


def stock(
    root: Path, file: RemoteFile, recorded: bytes | None = None, quick: bool = False
) -> inventory.Inventory:
    sha256 = hashlib.sha256(recorded).hexdigest() if recorded is not None else ""
    entries = {file.key: Entry(key=file.key, bytes=file.size, sha256=sha256)}
    return inventory.take_stock(root, [file], entries if recorded is not None else {}, quick=quick)


def test_a_file_is_there_if_size_and_digest_fit(tmp_path: Path) -> None:
    assert stock(tmp_path, remote(KEY)).missing == [remote(KEY)]
    put(tmp_path, KEY)
    assert (
        stock(tmp_path, remote(KEY), b"abc").there[KEY].sha256 == hashlib.sha256(b"abc").hexdigest()
    )
    damaged = stock(tmp_path, remote(KEY), b"abd")
    assert damaged.missing == [remote(KEY)] and "SHA-256 differs" in damaged.notes[0]
    assert not stock(tmp_path, remote(KEY), b"abd", quick=True).missing  # sizes only
    longer = stock(tmp_path, remote(KEY, b"abcd"))
    assert longer.missing and "has 3 bytes, the source 4" in longer.notes[0]


def test_a_file_without_record_is_taken_in_by_size_and_md5(tmp_path: Path) -> None:
    put(tmp_path, KEY)
    assert KEY in stock(tmp_path, remote(KEY, etag="no-md5-3")).there
    assert KEY in stock(tmp_path, remote(KEY, etag=hashlib.md5(b"abc").hexdigest())).there
    assert (
        "MD5 differs" in stock(tmp_path, remote(KEY, etag=hashlib.md5(b"abd").hexdigest())).notes[0]
    )


def test_what_is_not_needed_is_moved_aside_and_comes_back(tmp_path: Path) -> None:
    root = tmp_path / "nsd"
    other = KEY.replace("responses", "old")
    put(root, other, b"xyz")
    kept, unfinished = (
        put(root, KEY),
        put(root, KEY.replace("responses.tsv", ".responses.tsv.part")),
    )
    notes = inventory.move_aside(root, [root / "nsddata"], [KEY])
    assert kept.is_file() and unfinished.is_file() and not (root / other).exists()
    assert len(notes) == 1 and "moved to" in notes[0]
    assert (tmp_path / "aside" / other).read_bytes() == b"xyz"
    put(root, other, b"another")
    inventory.move_aside(root, [root / "nsddata"], [KEY])
    assert (tmp_path / "aside" / other).read_bytes() == b"xyz"
    assert (tmp_path / "aside" / f"{other}.1").read_bytes() == b"another"
    again = stock(root, remote(other, b"xyz"))
    assert not again.missing and (root / other).read_bytes() == b"xyz"
    assert not (tmp_path / "aside" / other).exists()
