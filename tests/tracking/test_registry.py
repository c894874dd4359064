"""Registered models: MLflow's own loader and server give what the model folder gives."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import uvicorn
from mlflow import MlflowClient
from mlflow.pyfunc import scoring_server
from typer.testing import CliRunner

import fmri2clip
from fmri2clip.artefacts.paths import Paths
from fmri2clip.cli import app
from fmri2clip.core.params import Params, Run
from fmri2clip.tracking import record, registry
from fmri2clip.use.model import Decoding
from tests.model_folder import CATEGORIES, N_VOXELS, write_ridge, write_shared
from tests.tracking.trained_run import load_params, write

NAMES = ("embedding", "text_embedding", "probabilities")


@pytest.fixture(scope="module")
def registered(
    store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Params, Paths, list[str]]:
    """A linear run of one subject and one decoder for two, on record; their new versions."""
    paths = Paths(tmp_path_factory.mktemp("registered"))
    write_ridge(paths.model("ridge") / "subj01")
    write_shared(paths.model("both"))
    runs = {
        "ridge": Run(decoder="ridge", clip="mini", subjects=("subj01",), voxels="all", seed=0),
        "both": Run(
            decoder="clip_mused", clip="mini", subjects=("subj01", "subj02"), voxels="all", seed=0
        ),
    }
    params = dataclasses.replace(load_params(), runs=runs)
    for run in runs:
        write(paths.curve(run), "subject,epoch,val_mean\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        record.sync(params, paths, store)
        return params, paths, registry.register_models(params, paths, store)


@pytest.fixture(autouse=True)
def here(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")


def draw_betas() -> np.ndarray:
    return np.random.default_rng(4).standard_normal((5, N_VOXELS)).astype(np.float32)


def check_equal(found: dict[str, np.ndarray], expected: Decoding) -> None:
    arrays = {name: getattr(expected, name) for name in NAMES}
    assert set(found) == {name for name, array in arrays.items() if array is not None}
    for name, array in found.items():
        np.testing.assert_allclose(array, arrays[name], rtol=1e-5)


def test_every_subject_has_a_version_once(
    registered: tuple[Params, Paths, list[str]], store: Path
) -> None:
    params, paths, created = registered
    assert created == [
        "fmri2clip-ridge-subj01/1",
        "fmri2clip-both-subj01/1",
        "fmri2clip-both-subj02/1",
    ]
    assert registry.register_models(params, paths, store) == []
    version = MlflowClient().get_model_version("fmri2clip-ridge-subj01", "1")
    assert "decoder    ridge" in version.description and "terms      " in version.description
    run = MlflowClient().get_run(version.run_id)
    assert run.info.run_name == "subj01" and run.info.end_time is None
    model = MlflowClient().get_logged_model(run.outputs.model_outputs[0].model_id)
    assert model.artifact_location.startswith((store / "mlruns/fmri2clip").as_uri())


def test_a_version_says_what_goes_in_and_what_it_needs(
    registered: tuple[Params, Paths, list[str]],
) -> None:
    model = mlflow.pyfunc.load_model("models:/fmri2clip-ridge-subj01/1")
    assert model.metadata.get_input_schema().inputs[0].shape == (-1, N_VOXELS)
    assert set(model.metadata.get_output_schema().input_names()) == set(NAMES)
    assert model.metadata.metadata["categories"] == list(CATEGORIES)
    uri = "models:/fmri2clip-ridge-subj01/1"
    needed = Path(mlflow.pyfunc.get_model_dependencies(uri)).read_text().split()
    assert {line.partition("==")[0] for line in needed} == {
        *("mlflow", "torch", "numpy", "scipy", "h5py", "safetensors", "filelock"),
        *("huggingface_hub", "ruamel.yaml", "ruamel.yaml.clib", "scikit-learn"),
    }
    z_IV = draw_betas()
    folder = registered[1].model("ridge") / "subj01"
    check_equal(
        model.predict(z_IV, params={"n_repeats": 3}), fmri2clip.load(folder).decode(z_IV, 3)
    )
    with pytest.raises(mlflow.MlflowException, match="shape"):
        model.predict(z_IV[:, 1:])


def test_the_example_of_the_page_runs_as_written(
    registered: tuple[Params, Paths, list[str]], root: Path
) -> None:
    (block,) = re.findall(r"```py\n(.*?)```", (root / "docs/use.md").read_text(), re.DOTALL)
    said: dict[str, Any] = {"z_NV": draw_betas()}
    exec(block, said)
    folder = registered[1].model("ridge") / "subj01"
    check_equal(said["decoded"], fmri2clip.load(folder).decode(said["z_NV"]))


def test_a_decoder_for_several_subjects_decodes_each(
    registered: tuple[Params, Paths, list[str]],
) -> None:
    z_IV = np.random.default_rng(4).standard_normal((5, 30)).astype(np.float32)
    for subject in ("subj01", "subj02"):
        model = mlflow.pyfunc.load_model(f"models:/fmri2clip-both-{subject}/1")
        expected = fmri2clip.load(registered[1].model("both") / subject).decode(z_IV)
        check_equal(model.predict(z_IV), expected)


def test_a_served_model_answers_over_http(registered: tuple[Params, Paths, list[str]]) -> None:
    """What `mlflow models serve` runs, on loopback."""
    app = scoring_server.init(mlflow.pyfunc.load_model("models:/fmri2clip-ridge-subj01/1"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    z_IV = draw_betas()
    body = json.dumps({"inputs": z_IV.tolist(), "params": {"n_repeats": 2}}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.loads(answer.read())["predictions"]
    server.should_exit = True
    thread.join()
    expected = fmri2clip.load(registered[1].model("ridge") / "subj01").decode(z_IV, 2)
    check_equal({name: np.array(rows) for name, rows in found.items()}, expected)


def test_the_folder_of_a_version_is_the_model(registered: tuple[Params, Paths, list[str]]) -> None:
    folder = registry.find_folder("models:/fmri2clip-both-subj02/1")
    own = registered[1].model("both")
    for name in ("subj02/inputs.safetensors", "shared/weights.safetensors"):
        assert (folder.parent / name).read_bytes() == (own / name).read_bytes()
    assert {path.name for path in folder.parent.iterdir()} == {"subj02", "shared"}
    shown = CliRunner().invoke(app, ["info", "models:/fmri2clip-both-subj02/1"])
    assert "decoder    clip_mused" in shown.output and "subject    subj02" in shown.output
    with pytest.raises(ValueError, match=r"models:/nobody/1 is not in sqlite"):
        registry.find_folder("models:/nobody/1")


@pytest.mark.slow
def test_a_version_decodes_without_the_project(
    registered: tuple[Params, Paths, list[str]], tmp_path: Path
) -> None:
    """In a process that cannot see this checkout, by the code that the version brings."""
    z_IV = draw_betas()
    np.save(tmp_path / "betas.npy", z_IV)
    code = (
        "import mlflow, numpy as np; "
        "model = mlflow.pyfunc.load_model('models:/fmri2clip-ridge-subj01/1'); "
        "found = model.predict(np.load('betas.npy')); np.savez('found.npz', **found); "
        "import fmri2clip; print(fmri2clip.__file__)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not Path(done.stdout.strip()).is_relative_to(Path(fmri2clip.__file__).parents[2])
    with np.load(tmp_path / "found.npz") as found:
        folder = registered[1].model("ridge") / "subj01"
        check_equal(dict(found), fmri2clip.load(folder).decode(z_IV))
