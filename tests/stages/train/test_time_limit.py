"""SIGTERM, which clusters send before a time limit: the training saves at the next epoch border and
ends with one line; started again it ends with the bytes of an undisturbed one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import params
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.decoders.brainclip.decoder import Config, Decoder
from fmri2clip.stages.select.select import select
from fmri2clip.stages.train import run as run_module
from fmri2clip.stages.train import trainer
from fmri2clip.stages.train.run import train_run
from tests.decoders.settings import make_config
from tests.scoring_world import CLIP, write_world

ROOT = Path(__file__).resolve().parents[3]
N_EPOCHS = 5
SMALL = {"network": "mlp", "hidden": 8, "batch_size": 16}
# `python -m pipeline.train`, but that it tells each step and waits in one epoch until its input
# ends, and that MLflow, which takes longer than the training, hears nothing.
TRAINING = """
import functools
import os
import runpy
import sys

import pipeline
from fmri2clip.stages.train import run as run_module
from fmri2clip.stages.train import trainer
from fmri2clip.tracking import record

def tell(epoch, loss, optimizer):
    print("step in epoch", epoch, flush=True)
    if str(epoch) == os.environ["WAIT_IN_EPOCH"]:
        sys.stdin.read()

record.log_training = lambda *arguments: None
trainer.fit = functools.partial(trainer.fit, on_step=tell)
runpy.run_module("pipeline.train", run_name="__main__", alter_sys=True)
"""


def write_inputs(root: Path, n_epochs: int = N_EPOCHS, **runs: dict[str, Any]) -> None:
    """What training reads of one tiny subject, and a params.yaml; runs: name -> what differs."""
    write_world(root)
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    run = {"decoder": "brainclip", "clip": CLIP, "voxels": "part", "subjects": ["subj01"]}
    content["compute"] |= {"threads": 1, "device": "cpu"}
    content["split"] |= {"n_validation": 10}
    content["decoders"]["brainclip"] |= SMALL | {"max_epochs": n_epochs, "patience": n_epochs}
    content |= {
        "subjects": ["subj01"],
        "clips": {CLIP: {"model": "ViT-tiny", "pretrained": ""}},
        "runs": {name: run | differs for name, differs in runs.items()},
        "reconstructions": {},
    }
    with (root / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(content, file)
    for name in runs:
        select(name, CLIP, content["runs"][name]["subjects"], Paths(root), 1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Inputs of a run called `brainclip`, and a working directory."""
    root = tmp_path / "tree"
    write_inputs(root, brainclip={})
    return root


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, bytes]:
    """What the run writes if nothing happens."""
    root = tmp_path / "undisturbed"
    write_inputs(root, brainclip={})
    settings = params.load(root / "params.yaml")
    train_run("brainclip", settings, Paths(root), resume_root=root / ".resume")
    return written(root)


def written(root: Path) -> dict[str, bytes]:
    """Name and content of every file that the training of `brainclip` wrote."""
    folders = (root / "models" / "brainclip", root / "reports")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def stop_training(root: Path, epoch: int) -> subprocess.CompletedProcess[str]:
    """Start a training, send it SIGTERM behind the first step of an epoch, and see how it ends."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WAIT_IN_EPOCH": str(epoch)}
    command = [sys.executable, "-c", TRAINING, "brainclip"]
    output = ""
    with subprocess.Popen(command, cwd=root, env=environment, text=True, **pipes) as process:
        while f"step in epoch {epoch}\n" not in output:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            output += line
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, output + rest, errors)


def test_it_saves_in_an_epoch_goes_on_and_finishes_in_the_last(
    tree: Path, undisturbed: dict[str, bytes]
) -> None:
    """Two processes, each of which gets SIGTERM; together they write what one writes in peace."""
    stopped = stop_training(tree, 2)
    assert stopped.returncode == 1
    assert stopped.stderr == (
        "train brainclip: stopped by SIGTERM after epoch 3 of 5; run again to go on from there\n"
    )
    assert "epoch 3" not in stopped.stdout
    assert not written(tree)
    assert len(list(tree.glob(".resume/train/brainclip/*/checkpoint_subj01/last.ckpt"))) == 1
    finished = stop_training(tree, N_EPOCHS - 1)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "epoch 2" not in finished.stdout
    assert written(tree) == undisturbed
    assert not list(tree.glob(".resume/train/*"))


CONFIG = make_config("brainclip", **SMALL, max_epochs=N_EPOCHS, patience=N_EPOCHS)


def train(
    data: TrainingData, folder: Path, stop_in: int = -1, config: Config = CONFIG
) -> tuple[bytes, list[dict[str, float]]]:
    """Train in this process, which sends itself SIGTERM behind the first step of an epoch."""
    left = {stop_in}

    def stop(epoch: int, loss: Tensor, optimizer: Optimizer) -> None:
        if epoch in left:
            left.remove(epoch)
            os.kill(os.getpid(), signal.SIGTERM)

    decoder = Decoder(config, 30, 8, 0)
    options: dict[str, Any] = {"seed": 0, "device": "cpu", "progress": None, "on_step": stop}
    rows = trainer.fit(decoder, data, config, resume_dir=folder, **options)
    return save(dict(decoder.state_dict())), rows


@pytest.mark.parametrize("epochs", [[0], [0, 1, 3]])
def test_stopped_again_and_again_it_ends_with_the_same_bytes(
    epochs: list[int], tiny: TrainingData, tmp_path: Path
) -> None:
    expected = train(tiny, tmp_path / "whole")
    for epoch in epochs:
        with pytest.raises(ValueError, match=f"by SIGTERM after epoch {epoch + 1} of 5; run"):
            train(tiny, tmp_path / "stopped", epoch)
    assert train(tiny, tmp_path / "stopped", N_EPOCHS - 1) == expected


def test_sigterm_does_afterwards_what_it_did_before(tiny: TrainingData, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="stopped by SIGTERM"):
        train(tiny, tmp_path, 1)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_training_in_a_thread_leaves_signals_alone(tiny: TrainingData, tmp_path: Path) -> None:
    expected = train(tiny, tmp_path / "main")
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(train(tiny, tmp_path / "thread")))
    thread.start()
    thread.join()
    assert found == [expected]


BOTH = ("subj01", "subj02")


def stop_in_first_model(root: Path, decoder: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a run of two subjects ends that gets SIGTERM when the first model is trained.

    Behind the last epoch, where the first model has nothing left to stop.
    """
    write_inputs(root, brainclip={"decoder": decoder, "subjects": list(BOTH)})
    settings = params.load(root / "params.yaml")
    fit = run_module.fit_decoder

    def fit_and_signal(*arguments: Any) -> Any:
        rows = fit(*arguments)
        if arguments[1][0].subject == "subj01":
            os.kill(os.getpid(), signal.SIGTERM)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "fit_decoder", fit_and_signal)
        with pytest.raises(ValueError, match="stopped by SIGTERM") as stopped:
            train_run("brainclip", settings, Paths(root), resume_root=root / ".resume")
    train_run("brainclip", settings, Paths(root), resume_root=root / ".resume")
    return str(stopped.value)


@pytest.mark.parametrize(
    ("decoder", "message"), [("brainclip", "after epoch 1 of 5"), ("ridge", "before subj02")]
)
def test_a_signal_between_two_models_is_heard(
    decoder: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert message in stop_in_first_model(tmp_path / "stopped", decoder, monkeypatch)
    write_inputs(tmp_path / "whole", brainclip={"decoder": decoder, "subjects": list(BOTH)})
    settings = params.load(tmp_path / "whole" / "params.yaml")
    at = Paths(tmp_path / "whole")
    train_run("brainclip", settings, at, resume_root=tmp_path / "whole" / ".resume")
    assert written(tmp_path / "stopped") == written(tmp_path / "whole")


def test_a_signal_behind_the_checkpoint_waits_for_the_next_one(
    tiny: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the message would name an epoch that is not saved."""
    expected = train(tiny, tmp_path / "whole")
    looks = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.watch, "check", look)
        with pytest.raises(ValueError, match="stopped by SIGTERM after epoch 3 of 5"):
            train(tiny, tmp_path / "stopped")
    assert (tmp_path / "stopped" / "last.ckpt").exists()
    assert train(tiny, tmp_path / "stopped") == expected
