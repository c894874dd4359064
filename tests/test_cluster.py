"""The array script of docs/cluster.md without a scheduler, and SIGTERM to a whole `dvc repro`.

In a small clone where only one run can be trained: what lies upstream of it is made up, and DVC
takes it for done.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.scoring_world import CLIP
from tests.stages.train.test_time_limit import write_inputs
from tests.test_pipeline import call, make_clone, make_environment

SCRIPT = Path("docs/cluster/train_array.sbatch")
N_EPOCHS = 150  # some seconds
NO_STORE = {"MLFLOW_TRACKING_URI": "nowhere://"}  # making one takes as long as the training
UPSTREAM = {"extract_rois": "subj01", "cache_clip": CLIP, "components": CLIP, "select": "brainclip"}
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost")


def test_the_page_shows_the_script(root: Path) -> None:
    page = (root / "docs" / "cluster.md").read_text()
    assert f"```bash\n{(root / SCRIPT).read_text()}```" in page


def test_the_script_is_valid_bash(root: Path) -> None:
    checked = subprocess.run(["bash", "-n", root / SCRIPT], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with what its run `brainclip` is trained on, in DVC's cache and in dvc.lock."""
    target = tmp_path_factory.mktemp("site") / "main"
    make_clone(root, target)
    write_inputs(target, N_EPOCHS, brainclip={})
    stages = YAML(typ="safe").load((target / "dvc.yaml").read_text())["stages"]
    for name, key in UPSTREAM.items():
        make_up(target, stages[name]["do"], key)
    names = [f"{name}@{key}" for name, key in UPSTREAM.items()]
    committed = call(target, "dvc", "commit", "--force", *names)
    assert committed.returncode == 0, committed.stderr
    for command in (["add", "-A"], ["commit", "-qm", "inputs"]):
        subprocess.run([*GIT, *command], cwd=target, check=True)
    return target


def make_up(root: Path, stage: dict[str, Any], key: str) -> None:
    """Deps and outputs of a stage that are missing, with nothing to read in them."""
    listed = [*stage["deps"], *stage["outs"], *stage.get("metrics", [])]
    paths = [entry if isinstance(entry, str) else next(iter(entry)) for entry in listed]
    for path in (root / re.sub(r"\$\{(item|key)\}", key, path) for path in paths):
        if path.exists() or "$" in str(path):
            continue
        file = path if path.suffix else path / "made_up"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"made_up": 1}))


@contextmanager
def started(root: Path, *command: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, all of which is over at the end of the block."""
    process = subprocess.Popen(
        command,
        cwd=root,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=make_environment(root) | NO_STORE | variables,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def await_path(root: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    """Return when the process has made a path."""
    while not list(root.glob(pattern)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def find_epoch(output: str) -> int:
    """Number of epochs that were done when a training was stopped."""
    found = re.search(r"train brainclip: stopped by SIGTERM after epoch (\d+) of", output)
    assert found, output
    return int(found[1])


@pytest.mark.slow
def test_a_requeued_task_goes_on_and_the_checkout_gets_the_result(
    site: Path, tmp_path: Path
) -> None:
    """The time limit is near before the first epoch begins: the training has heard of it all the
    same, the script has the task requeued, and the second time it ends.
    """
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text('#!/bin/sh\necho "scontrol $*"\n')
    scontrol.chmod(0o755)
    variables = {
        "PATH": f"{scontrol.parent}{os.pathsep}{make_environment(site)['PATH']}",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_SUBMIT_DIR": str(site),
        "CLONES": str(tmp_path / "clones"),
    }
    clone = tmp_path / "clones" / "HEAD" / "brainclip"
    command = ("bash", str(SCRIPT), "HEAD", "ridge", "brainclip")
    with started(site, *command, **variables) as process:
        await_path(clone, ".resume/train/brainclip/*", process)
        process.send_signal(signal.SIGUSR1)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 255, output
    assert find_epoch(output) < N_EPOCHS
    assert output.splitlines()[-1] == "scontrol requeue 7_1"
    with started(site, *command, **variables) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "scontrol" not in output
    assert not (site / "models" / "brainclip").exists()
    restored = call(site, "dvc", "repro", "--single-item", "train@brainclip")
    assert restored.returncode == 0, restored.stderr
    assert "Stage 'train@brainclip' is cached - skipping run" in restored.stdout
    weights = Path("models/brainclip/subj01/weights.safetensors")
    assert (site / weights).read_bytes() == (clone / weights).read_bytes()


@pytest.mark.slow
def test_sigterm_to_all_processes_of_a_step_leaves_no_lock(site: Path) -> None:
    """DVC ends at once, the training behind its epoch; the next `dvc repro` goes on from there."""
    command = ("dvc", "repro", "--single-item", "--force", "train@brainclip")
    with started(site, *command) as process:
        await_path(site, ".resume/train/brainclip/*/checkpoint_subj01", process)
        time.sleep(0.5)  # for the first epochs
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert find_epoch(output) < N_EPOCHS
    assert len(list(site.glob(".resume/train/brainclip/*/checkpoint_subj01/last.ckpt"))) == 1
    assert not (site / "models" / "brainclip").exists()
    with started(site, *command) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert (site / "models" / "brainclip" / "subj01" / "weights.safetensors").is_file()
    assert not list(site.glob(".resume/train/*"))
