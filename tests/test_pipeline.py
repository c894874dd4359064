"""The whole DAG at smoke size in a temporary clone: it runs, a second time nothing does; mistakes
end in one line.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fmri2clip.artefacts.reconstructions import read_reconstructions
from fmri2clip.artefacts.scores import list_groups

pytestmark = pytest.mark.slow
STAGES = [
    "check_params",
    "check_data",
    "extract_rois@subj01",
    "train@ridge",
    "train@brainclip",
    "reconstruct",
    "score_pictures",
    "report",
]
# Those of the first `dvc repro` that begin with nothing imported: an import that is missing would
# not show in the others, which begin with everything (fork_server.py). Trainings of that kind are
# in test_a_parameter_edited_... and in test_cluster.py.
FRESH = (
    "extract_rois subj01",
    "cache_clip mini",
    "evaluate ridge",
    "reconstruct",
    "score_pictures",
    "report",
)
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
        "  threads: 1",
        "  thraeds: 1",
        "compute.thraeds is not a field of Compute (did you mean threads?)",
    ),
    ("voxels: high}", "voxels: hihg}", "runs.brainclip.voxels: 'hihg' is not known"),
    (
        "    max_epochs: 2",
        "    max_epochs: two",
        "decoders.brainclip.max_epochs is 'two' (str), expected int",
    ),
    (
        "reads: fused",
        "reads: fsued",
        "reconstructions.brainmclip.reads is 'fsued' (str), expected one of",
    ),
    (
        "source: brainmclip",
        "source: brainmclp",
        "reconstructions.brainmclip.source: 'brainmclp' is not a key of",
    ),
]


def make_environment(clone: Path, forks: bool = False) -> dict[str, str]:
    """That of a person who works in the clone; forks: whose stages a fork_server.py runs, if it
    does.
    """
    folders = [os.environ["FORKS"]] if forks and "FORKS" in os.environ else []
    path = os.pathsep.join([*folders, str(Path(sys.executable).parent), os.environ["PATH"]])
    store = f"sqlite:///{clone}/mlflow.db"
    dropped = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTEST_XDIST_WORKER")
    # Without PYTHONDONTWRITEBYTECODE: a clone's code is compiled once, not by each stage.
    prefixes = ("COV_", "PYTHON")
    environment = {
        k: v for k, v in os.environ.items() if k not in dropped and not k.startswith(prefixes)
    }
    return environment | {"PATH": path, "MLFLOW_TRACKING_URI": store}


def call(
    clone: Path, *command: str, forks: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command in the clone, and what it printed; forks: see make_environment."""
    return subprocess.run(
        command,
        cwd=clone,
        text=True,
        capture_output=True,
        check=False,
        env=make_environment(clone, forks) | variables,
    )


def make_clone(source: Path, target: Path, preset: str = "smoke") -> None:
    """A repository of its own with the working tree's files, committed, at a preset."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source,
        capture_output=True,
        check=True,
    )
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
    result = call(target, "python", "-m", "pipeline.preset", preset)
    assert result.returncode == 0, result.stderr
    # The other core runs other tests, and two threads that wait for one core are slower than one.
    params = target / "params.yaml"
    params.write_text(params.read_text().replace("  threads: 2", "  threads: 1", 1))


@pytest.fixture(scope="module")
def clone(root: Path, forks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("clone")
    make_clone(root, target)
    return target


@pytest.fixture(scope="module")
def first(clone: Path) -> subprocess.CompletedProcess[str]:
    """Output of the first `dvc repro` in the clone."""
    result = call(clone, "dvc", "repro", FRESH=",".join(FRESH))
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result


def test_every_stage_runs(clone: Path, first: subprocess.CompletedProcess[str]) -> None:
    for stage in STAGES:
        assert f"Running stage '{stage}'" in first.stdout
    left = {p.relative_to(clone) for p in clone.glob(".resume/**/*") if p.is_file()}
    left = {path for path in left if path.suffix != ".lock"}
    assert all(path.is_relative_to(Path(".resume/made")) for path in left)


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
    page = (clone / "reports" / "html" / "index.html").read_text()
    assert "brainclip" in page and 'src="http' not in page
    assert not list(clone.glob("data/**/*.tmp")) and not list(clone.glob("reports/**/.*.tmp"))


def test_every_reconstruction_is_painted_and_measured(
    clone: Path, first: subprocess.CompletedProcess[str]
) -> None:
    """One picture of each test image, for each subject where it decodes and once for all where
    nothing is decoded.
    """
    found = {
        name: read_reconstructions(clone / "data" / "reconstructions" / f"{name}.h5")
        for name in PICTURES
    }
    for name, n_sets in PICTURES.items():
        assert found[name]["image_INHWC"].shape[:2] == (n_sets * N_PICTURES, 1)
        assert ("subject_I" in found[name]) is (n_sets == 2)
        np.testing.assert_array_equal(
            np.unique(found[name]["nsd_id_I"]), found["null_mean"]["nsd_id_I"]
        )
        tree = json.loads((clone / "reports" / "pictures" / f"{name}.json").read_text())
        assert set(tree) == {"strict-v1", "mindeye-2023", "subjects"}
        assert set(tree["subjects"]) == {"subj01", "subj02"}
        assert -1 <= tree["strict-v1"]["pixcorr"] <= 1
        assert {"alexnet2", "alexnet5", "clip", "ssim", "brain_correlation"} <= set(
            tree["strict-v1"]
        )
        groups = list_groups(clone / "data" / "picture_scores" / f"{name}.h5")
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
    again = call(clone, "python", "-m", "pipeline.reconstruct", "brainclip")
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
        "print(sorted(r.data.tags['run'] + '/' + r.info.run_name for r in c.search_runs(e)))"
    )
    listed = call(clone, sys.executable, "-c", script)
    below = {run: {"subj01", "subj02", *models} for run, models in MODELS.items()}
    expected = sorted(f"{run}/{name}" for run, names in below.items() for name in (run, *names))
    assert listed.stdout.strip() == str(expected), listed.stderr[-2000:]


def test_every_run_has_a_summary(clone: Path, first: subprocess.CompletedProcess[str]) -> None:
    shown = call(clone, "dvc", "metrics", "show", "--json")
    files = json.loads(shown.stdout)[""]["data"]
    assert set(files) == {f"reports/summary/{run}.json" for run in MODELS}
    assert set(files["reports/summary/brainclip.json"]["data"]) >= {"image_top1", "painted_clip"}


LIBRARY = Path("src/fmri2clip")
RETRIEVAL = LIBRARY / "metrics" / "decoding" / "retrieval.py"
WORDS = LIBRARY / "stages" / "report" / "overview.py"


@contextmanager
def edited(clone: Path, *names: Path) -> Iterator[None]:
    """Files with a comment more, as an edit that changes no result."""
    before = {clone / name: (clone / name).read_text() for name in names}
    try:
        for path, content in before.items():
            path.write_text(f"{content}\n# edited\n")
        yield
    finally:
        for path, content in before.items():
            path.write_text(content)


def running(clone: Path, *options: str) -> set[str]:
    """Stages that `dvc repro` runs, or with --dry would run by their direct deps."""
    result = call(clone, "dvc", "repro", *options)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return set(re.findall(r"^Running stage '([^']+)'", result.stdout, re.MULTILINE))


def trainings(stages: set[str]) -> set[str]:
    return {stage for stage in stages if stage.startswith("train@")}


@pytest.mark.parametrize("name", ["ridge", "brainclip", "brainmclip", "clip_mused", "label_ridge"])
def test_an_edited_decoder_retrains_exactly_its_runs(
    clone: Path, first: subprocess.CompletedProcess[str], name: str
) -> None:
    """The preset smoke has one run of each decoder, by its name."""
    with edited(clone, LIBRARY / "decoders" / name / "decoder.py"):
        assert trainings(running(clone, "--dry")) == {f"train@{name}"}


def test_an_edited_word_of_the_report_runs_the_report_alone(
    clone: Path, first: subprocess.CompletedProcess[str]
) -> None:
    with edited(clone, WORDS):
        assert running(clone, "--dry") == {"report"}


def test_an_edited_metric_trains_and_paints_nothing(
    clone: Path, first: subprocess.CompletedProcess[str]
) -> None:
    with edited(clone, RETRIEVAL):
        planned = running(clone, "--dry")
    assert "evaluate@ridge" in planned
    assert not trainings(planned) and "reconstruct" not in planned


@pytest.mark.parametrize(("right", "wrong", "message"), MISTAKES)
def test_a_typo_stops_the_first_stage(
    clone: Path, first: subprocess.CompletedProcess[str], right: str, wrong: str, message: str
) -> None:
    params = clone / "params.yaml"
    content = params.read_text()
    assert right in content
    params.write_text(content.replace(right, wrong, 1))
    result = call(clone, "python", "-m", "pipeline.check_params")
    params.write_text(content)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_subject_is_named(clone: Path, first: subprocess.CompletedProcess[str]) -> None:
    result = call(clone, "python", "-m", "pipeline.extract_rois", "subj09")
    assert result.returncode == 1
    assert result.stderr.startswith(
        "extract_rois subj09: params.yaml: subjects: 'subj09' is not known"
    )


def test_edits_run_for_real_what_the_plans_say(
    clone: Path, first: subprocess.CompletedProcess[str]
) -> None:
    """`--dry` looks at direct deps only; here what follows from them runs as well.

    A decoder of the same weights changes nothing behind its own evaluation, and no picture.
    """
    picture = clone / "data" / "reconstructions" / "brainclip.h5"
    painted = picture.stat().st_mtime_ns
    with edited(clone, WORDS):
        assert running(clone) == {"report"}
    with edited(clone, RETRIEVAL):  # two evaluations stand for all, and for what lies upstream
        metric = running(clone, "evaluate@ridge", "evaluate@brainclip", "reconstruct")
    # A card says what no brain scores, so that the references come first.
    assert metric == {"evaluate@ridge", "evaluate@brainclip", "references@mini"}
    with edited(clone, LIBRARY / "decoders" / "ridge" / "decoder.py"):
        decoder = running(clone)
    assert trainings(decoder) == {"train@ridge"}
    assert picture.stat().st_mtime_ns == painted
    running(clone)


@contextmanager
def replaced(path: Path, old: str, new: str) -> Iterator[None]:
    """A file with one text in the place of another."""
    content = path.read_text()
    assert old in content
    try:
        path.write_text(content.replace(old, new, 1))
        yield
    finally:
        path.write_text(content)


def test_a_parameter_edited_while_a_stage_runs_is_not_recorded_as_used(
    clone: Path, first: subprocess.CompletedProcess[str]
) -> None:
    """The stage fails; undoing the edit and running again gives what was there before.

    In processes of their own, which write the same as one that was forked.
    """
    before = (clone / "dvc.lock").read_text()
    command = ("dvc", "repro", "--force", "--single-item", "train@ridge")
    with started(clone, *command) as process:
        while not list(clone.glob(".resume/train/ridge/*")):
            assert process.poll() is None
            time.sleep(0.01)
        with replaced(clone / "params.yaml", "n_folds: 2", "n_folds: 3"):
            output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "decoders.ridge.n_folds (2 to 3) of params.yaml changed while train ridge ran" in output
    assert not (clone / "models/ridge").exists() and (clone / "dvc.lock").read_text() == before
    assert list(clone.glob(".resume/train/ridge/*/finished/*"))
    again = call(clone, *command, forks=False)
    assert again.returncode == 0, again.stderr
    assert (clone / "dvc.lock").read_text() == before
    assert not list(clone.glob(".resume/train/ridge/*"))


@contextmanager
def started(clone: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A command in the clone, which is over at the end of the block; see call."""
    environment = make_environment(clone)
    process = subprocess.Popen(
        command,
        cwd=clone,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


PLS = '''"""Partial least squares from voxels to the image embedding."""

from dataclasses import dataclass

import torch
from sklearn.cross_decomposition import PLSRegression

from fmri2clip import decoders
from fmri2clip.decoders.batches import Decoded

CITATION = "H. Wold, 1975."


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings."""

    n_components: int


class Decoder(decoders.Decoder):
    """One linear map."""

    closed_form = True

    def __init__(self, config, n_voxels, width_D, seed):
        super().__init__()
        self.config = config
        self.register_buffer("weight_VD", torch.zeros(n_voxels, width_D))
        self.register_buffer("bias_D", torch.zeros(width_D))

    def fit(self, data):
        """Solve on the training images."""
        x_IV = data.mean_betas_IV[~data.is_validation_I].numpy()
        y_ID = data.image_embedding_ID[~data.is_validation_I].numpy()
        model = PLSRegression(self.config.n_components, scale=False).fit(x_IV, y_ID)
        self.weight_VD.copy_(torch.from_numpy(model.coef_.T))
        self.bias_D.copy_(torch.from_numpy(model.predict(0 * x_IV[:1])[0]))
        return {"n_components": self.config.n_components}

    def predict(self, betas_IV, subject, n_repeats=1):
        """Predicted image embedding."""
        return Decoded(embedding_ID=betas_IV @ self.weight_VD + self.bias_D)
'''
ITERATING = (  # tests that go through decoders, parameters and the graph
    "tests/decoders/test_decoders.py",
    "tests/core/test_closure.py",
    "tests/core/test_params.py",
    "tests/test_presets.py",
    "tests/test_graph.py",
)


def add_decoder(root: Path) -> None:
    """One folder with one file, and in params.yaml a section of settings and a run."""
    folder = root / LIBRARY / "decoders" / "pls"
    folder.mkdir()
    (folder / "decoder.py").write_text(PLS)
    path = root / "params.yaml"
    content = path.read_text()
    for table, line in (
        ("decoders", "  # Partial least squares\n  pls: {n_components: 4}\n"),
        ("runs", "  # Partial least squares\n  pls: {<<: *run, decoder: pls}\n"),
    ):
        content = content.replace(f"\n{table}:\n", f"\n{table}:\n{line}", 1)
    path.write_text(content)


def test_a_new_decoder_is_one_file_and_one_entry(
    clone: Path, first: subprocess.CompletedProcess[str]
) -> None:
    """Trained, evaluated and reported; no file but these two changes."""
    subprocess.run(["git", "add", "-A"], cwd=clone, check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, "commit", "-qm", "results"], cwd=clone, check=True)
    add_decoder(clone)
    ran = running(clone, "report")
    assert {"train@pls", "evaluate@pls", "report"} <= ran and trainings(ran) == {"train@pls"}
    metrics = json.loads((clone / "reports" / "runs" / "pls" / "metrics.json").read_text())
    assert 0 <= metrics["retrieval"]["image_given_brain"]["top1"] <= 1
    assert "pls" in (clone / "reports" / "summary.md").read_text()
    listed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True
    )
    changed = {line[3:] for line in listed.stdout.splitlines()}
    own = {"params.yaml", "dvc.lock", f"{LIBRARY.as_posix()}/decoders/pls/"}
    assert not {name for name in changed - own if not name.startswith("reports/")}


def test_a_subject_more_trains_only_the_runs_that_name_it(
    clone: Path, first: subprocess.CompletedProcess[str]
) -> None:
    """For real: `--dry` does not follow what a stage upstream would change.

    Last in this clone, which is left with what the subject brought.
    """
    params = clone / "params.yaml"
    listed = "subjects:\n- subj01\n- subj02\n"
    run = "ridge: {<<: *run, decoder: ridge}"
    cached = clone / "data/clip/mini/train/subj01.h5"
    before = cached.stat().st_mtime_ns
    with replaced(params, listed, f"{listed}- subj05\n"):
        ran = running(clone, "train")
        assert {"download@subj05", "extract_rois@subj05", "cache_clip@mini", "select@ridge"} <= ran
        assert not trainings(ran) and "extract_rois@subj01" not in ran
        assert "download@subj01" not in ran and cached.stat().st_mtime_ns == before
        named = "ridge: {<<: *run, decoder: ridge, subjects: [subj01, subj02, subj05]}"
        with replaced(params, run, named):
            assert trainings(running(clone, "train")) == {"train@ridge"}
        assert (clone / "models/ridge/subj05/weights.safetensors").is_file()


def test_a_new_decoder_passes_the_tests_that_iterate(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_clone(root, other, preset="default")
    add_decoder(other)
    command = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly")
    tested = call(other, sys.executable, *command, *ITERATING)
    assert tested.returncode == 0, tested.stdout[-3000:]
