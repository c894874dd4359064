"""check_report.py and the stage: the table, the repairs that it names, and nothing written after a
failure.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import h5py
import pytest

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import params as parameters
from fmri2clip.core.params import Dataset
from fmri2clip.datasets.nsd import layout
from fmri2clip.stages.check_data import check_report, check_stimuli
from fmri2clip.stages.check_data.check import check_tree
from fmri2clip.stages.check_data.outcomes import Check
from pipeline.check_data import check_data
from tests.stages.check_data.check_world import SUBJECT, write_manifests, write_tree

PREPARATION = Dataset().preparation

RAW = Paths().raw


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("intact")
    write_tree(root)
    write_manifests(root)
    return root


@pytest.fixture
def checkout(intact: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tree at data/raw/nsd, which is made the working directory."""
    shutil.copytree(intact, tmp_path / RAW)
    text = (root / "params.yaml").read_text()
    start, stop = text.index("\nsubjects:"), text.index("\nworld:")
    (tmp_path / "params.yaml").write_text(f"{text[:start]}\nsubjects:\n- {SUBJECT}\n{text[stop:]}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_stage_writes_verdict_and_table(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_data(parameters.load())
    report = json.loads((checkout / "reports" / "data_checks.json").read_text())
    assert report["design.tables"] == {
        "status": "PASS",
        "detail": "2 sessions, 500 pictures each, 30 shared",
    }
    assert report[f"files.{SUBJECT}"]["status"] == report["files.stimuli"]["status"] == "PASS"
    assert report["near_duplicates"].keys() >= {"n_pairs", "pairs", "threshold"}
    assert "holds" in (checkout / "data" / "raw_checked.txt").read_text()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("python ") and lines[3] == "tree: data/raw/nsd, simulated"
    assert f"PASS  {SUBJECT}.nsdgeneral" in " ".join(
        line for line in lines if "nsdgeneral  " in line
    )
    again = (checkout / "reports" / "data_checks.json").read_bytes()
    check_data(parameters.load())
    assert (checkout / "reports" / "data_checks.json").read_bytes() == again


def test_a_failure_runs_all_checks_and_writes_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    betas = layout.betas_path(RAW, SUBJECT, PREPARATION, 2)
    betas.write_bytes(betas.read_bytes()[:5000])
    layout.captions_path(RAW, "val2017").unlink()
    layout.stim_info_path(RAW).write_text("<html>gone</html>")
    with pytest.raises(ValueError) as error:
        check_data(parameters.load())
    failed = (
        f"files.stimuli, files.{SUBJECT}, stimuli.table, stimuli.duplicates, coco, "
        f"{SUBJECT}.volumes, {SUBJECT}.betas"
    )
    assert str(error.value).startswith("7 of ") and f"checks failed: {failed}; see" in str(
        error.value
    )
    assert "\n" not in str(error.value)
    out = capsys.readouterr().out
    assert sum(line.startswith(("PASS", "WARN", "SKIP", "FAIL")) for line in out.splitlines()) > 15
    assert f"  rm {betas}\n" in out and f"  rm {layout.stim_info_path(RAW)}\n" in out
    assert f"rm {layout.captions_path(RAW, 'val2017')}" not in out, "it is not there"
    assert out.index("dvc repro -f -s download_stimuli") < out.index(
        f"dvc repro -f -s download@{SUBJECT}"
    )
    assert (
        not (checkout / "reports").exists() and not (checkout / "data" / "raw_checked.txt").exists()
    )


def test_damaged_bytes_are_found_through_the_manifest(checkout: Path) -> None:
    path = layout.roi_path(RAW, SUBJECT, "streams", "lh")
    content = bytearray(path.read_bytes())
    content[4] ^= 1  # the date in gzip's header: still readable
    path.write_bytes(content)
    failed = [check for check in check_tree(RAW, [SUBJECT], Dataset()) if not check.passed]
    assert [check.name for check in failed] == [f"files.{SUBJECT}"]
    assert check_report.list_repairs(RAW, failed) == [
        f"rm {path}",
        f"dvc repro -f -s download@{SUBJECT}",
    ]


def test_what_a_download_would_bring_again_is_to_be_reported(checkout: Path) -> None:
    """A file with the bytes of its manifest that a check refuses is not removed; a session that no
    manifest names is, and so is a file of a stage with a damaged one.
    """
    sound = {layout.stim_info_path(RAW), layout.betas_path(RAW, SUBJECT, PREPARATION, 1)}
    other = layout.betas_path(RAW, SUBJECT, PREPARATION, 1, ".nii.gz")
    other.touch()
    checks = check_tree(RAW, [SUBJECT], Dataset())
    assert {c.status for c in checks if c.name.startswith("files.")} == {"PASS", "WARN"}
    failed = [Check("x", "FAIL", f"{path} is odd") for path in (*sound, other)]
    stages = [f"rm {other}", f"dvc repro -f -s download@{SUBJECT}"]
    assert check_report.list_repairs(RAW, [*checks, *failed]) == stages
    text = check_report.format_summary(RAW, [*checks, *failed])
    lines = [line for line in text.splitlines() if line.endswith("please report this")]
    assert [line.partition(": the file is as ")[0] for line in lines] == sorted(map(str, sound))
    layout.valid_path(RAW, SUBJECT).write_bytes(b"")
    checks = [c for c in check_tree(RAW, [SUBJECT], Dataset()) if c.name.startswith("files.")]
    found = check_report.list_repairs(RAW, [*checks, *failed])
    assert f"rm {layout.betas_path(RAW, SUBJECT, PREPARATION, 1)}" in found
    assert f"rm {layout.stim_info_path(RAW)}" not in found


def test_a_copy_of_the_pictures_that_was_interrupted_is_fetched_again(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken in by its size, it has its own SHA-256 in the manifest. The simulation may be flat."""
    path = layout.stimuli_path(RAW)
    with h5py.File(path, "r+") as file:
        file["imgBrick"][-40:] = 0
    monkeypatch.setattr(check_stimuli, "FEW_FLAT", 2)
    write_manifests(RAW)
    status = {}
    for source in ("simulated", "s3"):
        checks = check_tree(RAW, [SUBJECT], Dataset(source=source))
        status[source] = next(c.status for c in checks if c.name == "stimuli.duplicates")
    assert status == {"simulated": "WARN", "s3": "FAIL"}
    assert {c.status for c in checks if c.name == "files.stimuli"} == {"PASS"}
    failed = [c for c in checks if c.name in ("files.stimuli", "stimuli.duplicates")]
    assert "single colour" in failed[1].detail and "run download_stimuli again" in failed[1].detail
    stages = [f"rm {path}", "dvc repro -f -s download_stimuli"]
    assert check_report.list_repairs(RAW, failed) == stages
    assert "please report" not in check_report.format_summary(RAW, failed)


def test_repairs_without_a_path_follow_the_name(tmp_path: Path) -> None:
    checks = [
        Check("subj03.rois", "FAIL", "odd"),
        Check("coco", "FAIL", "odd"),
        Check("subj04.grid", "WARN", "odd"),
    ]
    assert check_report.list_repairs(tmp_path, checks) == [
        "dvc repro -f -s download_stimuli",
        "dvc repro -f -s download@subj03",
    ]


def test_paths_in_a_sentence() -> None:
    root = Path("data/raw/nsd")
    text = (
        f"{root}/nsddata/a.nii.gz, {root}/nsddata/lh.b-1.nii.gz: differ "
        f"(see other/data/raw/nsd/c). Or {root}/d.tsv."
    )
    assert check_report.find_paths(root, text) == [
        root / "nsddata/a.nii.gz",
        root / "nsddata/lh.b-1.nii.gz",
        root / "d.tsv",
    ]


def test_summary_counts(tmp_path: Path) -> None:
    text = check_report.format_summary(
        tmp_path, [Check("a", "PASS", ""), Check("b", "SKIP", ""), Check("c", "PASS", "")]
    )
    assert (
        "3 checks: 2 PASS, 0 WARN, 1 SKIP, 0 FAIL" in text
        and "rm" not in text
        and "dvc" not in text
    )


@pytest.mark.parametrize("kind", ["betas", "stimuli"])
def test_a_locked_file_is_not_called_damaged(
    checkout: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Another program holds it: no advice to remove it, and the second run finds it sound."""
    path = layout.stimuli_path(RAW)
    if kind == "betas":
        path = layout.betas_path(RAW, SUBJECT, PREPARATION, 2)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="checks failed"):
            check_data(parameters.load())
    out = capsys.readouterr().out
    assert f"{path} cannot be opened (Resource temporarily unavailable)" in out
    assert "another process has locked it" in out
    assert "rm " not in out and "delete it" not in out
    check_data(parameters.load())


def test_repairs_are_of_nsds_files_in_the_project_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask of the user's own cannot be fetched again, nor what lies behind a link."""
    monkeypatch.chdir(tmp_path)
    roi = layout.roi_dir(RAW, SUBJECT)
    roi.mkdir(parents=True)
    shared = tmp_path.with_name(f"{tmp_path.name}_shared")
    shared.mkdir()
    behind = RAW / "nsddata/experiments"
    behind.symlink_to(shared)
    names = (roi / "floc-faces.nii.gz", roi / "my-roi.nii.gz", behind / "table.csv")
    for path in names:
        path.touch()
    checks = [Check("a", "FAIL", f"{path} is odd") for path in names]
    checks.append(Check("b", "FAIL", f"{roi / 'streams.nii.gz'} is locked", is_read=False))
    found = [c for c in check_report.list_repairs(RAW, checks) if c.startswith("rm")]
    assert found == [f"rm {roi / 'floc-faces.nii.gz'}"]


def test_notes_of_other_programs_block_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are named once, by the check of files, as what no manifest names."""
    for name in ("floc-faces", "nsdgeneral"):
        (layout.roi_dir(RAW, SUBJECT) / f"._{name}.nii.gz").write_bytes(b"\0\5\x16\7")
    check_data(parameters.load())
    lines = [line for line in capsys.readouterr().out.splitlines() if "._" in line]
    assert len(lines) == 1 and lines[0].startswith(f"WARN  files.{SUBJECT}")
    assert "2 files that" in lines[0]
