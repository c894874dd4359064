"""The whole DAG at smoke size in a temporary clone: it runs, a second time nothing does;
mistakes end in one line.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fmri2clip import store

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]
STAGES = [
    "check_params", "check_data", "extract_rois@subj01", "train@ridge", "train@brainclip", "reconstruct",
    "score_pictures", "report",
]  # fmt: skip
MODELS = {  # of each run of the preset smoke
    **dict.fromkeys(("brainclip", "brainmclip", "label_ridge", "ridge"), ("subj01", "subj02")),
    "clip_mused": ("shared",),
}
PICTURES = {
    "brainmclip": 2,
    "brainclip": 2,
    "reference_tokens": 1,
    "null_mean": 1,
}  # sets of N_PICTURES test images
N_PICTURES = 10
MISTAKES = [
    (
        "  threads: 2",
        "  thraeds: 2",
        "compute.thraeds is not a field of Compute (did you mean threads?)",
    ),
    ("    voxels: high", "    voxels: hihg", "runs.brainclip.voxels: 'hihg' is not known"),
    (
        "    max_epochs: 2",
        "    max_epochs: two",
        "decoders.brainclip.max_epochs is 'two' (str), expected int",
    ),
    (
        "    reads: fused",
        "    reads: fsued",
        "reconstructions.brainmclip.reads is 'fsued' (str), expected one of",
    ),
    (
        "    source: brainmclip",
        "    source: brainmclp",
        "reconstructions.brainmclip.source: 'brainmclp' is not a key of",
    ),
]


def call(clone: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    store = f"sqlite:///{clone}/mlflow.db"
    dropped = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTEST_XDIST_WORKER")
    environment = {
        k: v for k, v in os.environ.items() if k not in dropped and not k.startswith("COV_")
    }
    return subprocess.run(
        command, cwd=clone, text=True, capture_output=True, check=False,
        env=environment | {"PATH": path, "MLFLOW_TRACKING_URI": store},
    )  # fmt: skip


def make_clone(source: Path, target: Path) -> None:
    """A repository of its own with the working tree's files, committed, at the preset smoke."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source, capture_output=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        is_result = name == "dvc.lock" or (
            name.startswith("reports/") and not name.startswith("reports/studies/")
        )
        if (source / name).is_file() and not is_result:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "clone"]):
        subprocess.run(["git", *command], cwd=target, check=True)
    for preset in ("default", "smoke"):
        result = call(target, sys.executable, "-m", "pipeline.preset", preset)
        assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def clone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("clone")
    make_clone(root, target)
    return target


@pytest.fixture(scope="module")
def first(clone: Path) -> subprocess.CompletedProcess[str]:
    """Output of the first `dvc repro` in the clone."""
    result = call(clone, "dvc", "repro")
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result


def test_every_stage_runs(clone: Path, first: subprocess.CompletedProcess[str]) -> None:
    for stage in STAGES:
        assert f"Running stage '{stage}'" in first.stdout
    assert not (clone / ".resume").exists() or not any(
        path.is_file() for path in (clone / ".resume").rglob("*")
    )


def test_outputs_are_there_and_complete(
    clone: Path, first: subprocess.CompletedProcess[str]
) -> None:
    for run, models in MODELS.items():
        metrics = json.loads((clone / "reports" / "runs" / run / "metrics.json").read_text())
        is_labelled = run in ("clip_mused", "label_ridge")
        assert (
            ("hamming" in metrics["classification"]) is is_labelled is ("retrieval" not in metrics)
        )
        assert 0 <= metrics["classification"]["map"] <= 1
        assert set(metrics["subjects"]) == {"subj01", "subj02"}
        assert all(
            (clone / "models" / run / model / "weights.safetensors").is_file() for model in models
        )
    assert set(json.loads((clone / "reports" / "tokens.json").read_text())) == {"clip_mused"}
    page = (clone / "reports" / "index.html").read_text()
    assert "brainclip" in page and 'src="http' not in page
    assert not list(clone.glob("data/**/*.tmp")) and not list(clone.glob("reports/**/.*.tmp"))


def test_every_reconstruction_is_painted_and_measured(
    clone: Path, first: subprocess.CompletedProcess[str]
) -> None:
    """One picture of each test image, for each subject where it decodes and once for all where
    nothing is decoded.
    """
    found = {
        name: store.read(clone / "data" / "reconstructions" / f"{name}.h5", "reconstructions")
        for name in PICTURES
    }
    for name, n_sets in PICTURES.items():
        assert found[name]["image_INHWC"].shape[:2] == (n_sets * N_PICTURES, 1)
        assert ("subject_I" in found[name]) is (n_sets == 2)
        np.testing.assert_array_equal(
            np.unique(found[name]["nsd_id_I"]), found["null_mean"]["nsd_id_I"]
        )
        tree = json.loads((clone / "reports" / "pictures" / f"{name}.json").read_text())
        assert set(tree) == {"strict-v1", "mindeye-2023", "true_cortex_correlation", "subjects"}
        assert set(tree["subjects"]) == {"subj01", "subj02"}
        assert -1 <= tree["strict-v1"]["pixcorr"] <= 1
        assert {"alexnet2", "alexnet5", "clip", "ssim", "brain_correlation"} <= set(
            tree["strict-v1"]
        )
        groups = store.groups(clone / "data" / "picture_scores" / f"{name}.h5", "predictions")
        assert groups == ["subj01", "subj02"]
    record = json.loads((clone / "reports" / "pictures" / "record.json").read_text())
    assert set(record) == {"strict-v1", "mindeye-2023"}
    assert all(
        {"inception", "effnet", "swav"} <= set(missing)
        for missing in record["strict-v1"]["missing"].values()
    )


def test_pictures_that_are_there_are_not_painted_again(
    clone: Path, first: subprocess.CompletedProcess[str]
) -> None:
    path = clone / "data" / "reconstructions" / "brainclip.h5"
    before = path.stat().st_mtime_ns
    again = call(clone, sys.executable, "-m", "pipeline.reconstruct", "brainclip")
    assert again.returncode == 0, again.stderr
    assert "holds these pictures already" in again.stdout
    assert path.stat().st_mtime_ns == before


def test_second_time_nothing_runs(clone: Path, first: subprocess.CompletedProcess[str]) -> None:
    lock = (clone / "dvc.lock").read_text()
    again = call(clone, "dvc", "repro")
    assert again.returncode == 0, again.stderr
    assert "Running stage" not in again.stdout
    assert (clone / "dvc.lock").read_text() == lock


def test_every_model_is_in_mlflow(clone: Path, first: subprocess.CompletedProcess[str]) -> None:
    script = (
        "import mlflow; c = mlflow.MlflowClient(); e = [e.experiment_id for e in "
        "c.search_experiments()];"
        "print(sorted(r.data.tags['run'] + '/' + r.data.tags['subject'] for r in c.search_runs(e)))"
    )
    listed = call(clone, sys.executable, "-c", script)
    expected = sorted(f"{run}/{model}" for run, models in MODELS.items() for model in models)
    assert listed.stdout.strip() == str(expected), listed.stderr[-2000:]


def test_an_edited_decoder_retrains_only_its_runs(
    clone: Path, first: subprocess.CompletedProcess[str]
) -> None:
    decoder = clone / "src" / "fmri2clip" / "decoders" / "ridge.py"
    content = decoder.read_text()
    decoder.write_text(content + "\n# edited\n")
    plan = call(clone, "dvc", "repro", "--dry")
    decoder.write_text(content)
    assert "Running stage 'train@ridge'" in plan.stdout
    assert "train@brainclip" not in plan.stdout.replace("Stage 'train@brainclip' didn't change", "")


@pytest.mark.parametrize(("right", "wrong", "message"), MISTAKES)
def test_a_typo_stops_the_first_stage(
    clone: Path, first: subprocess.CompletedProcess[str], right: str, wrong: str, message: str
) -> None:
    params = clone / "params.yaml"
    content = params.read_text()
    assert right in content
    params.write_text(content.replace(right, wrong, 1))
    result = call(clone, sys.executable, "-m", "pipeline.check_params")
    params.write_text(content)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_subject_is_named(clone: Path, first: subprocess.CompletedProcess[str]) -> None:
    result = call(clone, sys.executable, "-m", "pipeline.extract_rois", "subj09")
    assert result.returncode == 1
    assert result.stderr.startswith(
        "extract_rois subj09: params.yaml: subjects: 'subj09' is not known"
    )
