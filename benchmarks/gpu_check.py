"""One command that says whether this machine's GPU trains, caches and paints at NSD's real size.

    python benchmarks/gpu_check.py                # at most 9 minutes on one GPU of 24 GB or more
    python benchmarks/gpu_check.py --out FOLDER   # results there, not in benchmarks/
    python benchmarks/gpu_check.py --toy          # everything small, on the CPU, under a minute

Needs torch 2.11 or newer with CUDA, torchvision, numpy, h5py, safetensors, lightning_fabric,
open_clip and ruamel.yaml; a part whose further package is missing is skipped and says so. Nothing
is downloaded: data and weights are random, their shapes are those of presets/nsd.yaml (15,724
voxels, 257 x 768 image and 77 x 768 text tokens). Each part is a process of its own with a limit of
its own. Results are one JSON (gpu_check.json) and one table (gpu_check.md); the exit code is 1 if
any part failed.

A part fails where it stops with an error or at its limit, where a loss is not finite, where the
first losses differ from those of the CPU by more than FP32 (both in float32) or BF16 (bfloat16
against float32; both in gpu_parts.py), where 24 GB would not hold a real subject, where memory of a
subject survives it, or where a training that was killed ends with other bytes. Speed is printed and
fails nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic, before cuBLAS starts

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402
from gpu_parts import PARTS, run_ddp  # noqa: E402
from gpu_tools import GB, REAL, TOY, Size, start  # noqa: E402

BUDGET_S = 530.0  # of all parts together


def main() -> None:
    """Run all parts and write what they found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--toy", action="store_true", help="everything small, on the CPU")
    parser.add_argument("--out", type=Path, help="folder of the results; default: benchmarks/")
    parser.add_argument("--only", default="", help="parts, separated by commas; default: all")
    parser.add_argument("--ddp", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ddp:
        run_ddp(given.ddp)
        return
    size = TOY if given.toy else REAL
    wanted = [name for name in given.only.split(",") if name] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        parser.error(f"part {unknown[0]!r} does not exist; choose from {', '.join(PARTS)}")
    if size.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no GPU; --toy runs every part small on the CPU")
    if size.device == "cpu":
        preload()
    table = run_parts(wanted, size)
    report(table, given.out or (None if given.toy else ROOT / "benchmarks"))
    sys.exit(any(part["status"] == "failed" for part in table["parts"].values()))


def run_parts(wanted: Sequence[str], size: Size) -> dict[str, Any]:
    """Rows of the parts, one after the other; a line for each as it ends."""
    started = time.monotonic()
    parts: dict[str, dict[str, Any]] = {}
    table: dict[str, Any] = {"size": size.name, "parts": parts}
    with tempfile.TemporaryDirectory() as folder:
        found = run_part("machine", 60.0, size, Path(folder))
        table["machine"] = {k: v for k, v in found.items() if k not in ("seconds", "limit_s")}
        for name in wanted:
            left = BUDGET_S - (time.monotonic() - started)
            limit_s = min(PARTS[name][1], left)
            if limit_s < 1:
                parts[name] = {"status": "skipped", "seconds": 0.0, "note": "no time is left"}
            else:
                parts[name] = run_part(name, limit_s, size, Path(folder))
            row = parts[name]
            seconds = row["seconds"]
            print(f"{name:17} {row['status']:8} {seconds:6.1f} s  {row['note']}", flush=True)
    table["seconds"] = round(time.monotonic() - started, 1)
    return table


def run_part(name: str, limit_s: float, size: Size, folder: Path) -> dict[str, Any]:
    """Row of one part: status (ok, failed or skipped), seconds, note, numbers."""
    path = folder / f"{name}.json"
    started = time.monotonic()
    process = start(run_child, name, size, path)
    process.join(limit_s)
    late = process.is_alive()
    if late:
        end_group(process)
    process.join()
    row: dict[str, Any] = {"status": "failed", "note": f"ended with {process.exitcode}"}
    if late:
        row["note"] = f"stopped at its limit of {limit_s:.0f} s"
    elif path.is_file():
        row = json.loads(path.read_text())
    return row | {"seconds": round(time.monotonic() - started, 1), "limit_s": round(limit_s)}


def preload() -> None:
    """Import once, for all the processes that are forked, what the parts import."""
    for name in (
        "fmri2clip.stages.train.run",
        "fmri2clip.stages.train.trainer",
        "fmri2clip.clip.encoder",
        "diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet",
    ):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)


def end_group(process: Any) -> None:
    """SIGKILL for a process and those that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def run_child(name: str, size: Size, path: Path) -> None:
    """Do one part in this process and write its row."""
    os.setpgid(0, 0)
    function = describe_machine if name == "machine" else PARTS[name][0]
    try:
        with quiet():
            row = function(size)
        if "skipped" in row:
            row = {"status": "skipped", "note": row["skipped"]}
        else:
            problem = row.pop("problem", "")
            row["status"] = "failed" if problem else "ok"
            if problem:
                row["note"] = f"{problem}. {row['note']}"
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        row = {"status": "skipped", "note": f"package {package} is missing"}
    except BaseException as error:
        traceback.print_exc()
        row = {"status": "failed", "note": f"{type(error).__name__}: {error}"[:400]}
    path.write_text(json.dumps(rounded(row)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without warnings of libraries: a line a part is what is read."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rounded(value: Any) -> Any:
    """The same tree with four digits of every number."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return value


def describe_machine(size: Size) -> dict[str, Any]:
    """What the numbers were measured on."""
    found: dict[str, Any] = {"note": "", "cores": os.cpu_count(), "cpu": platform.machine()}
    found |= {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("lightning_fabric", "open_clip", "diffusers"):
        try:
            found[name] = importlib.import_module(name).__version__
        except ModuleNotFoundError:
            found[name] = "missing"
    if size.device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
        found["n_gpus"] = torch.cuda.device_count()
        found["gpu_gb"] = torch.cuda.get_device_properties(0).total_memory / GB
    return found


def report(table: Mapping[str, Any], folder: Path | None) -> None:
    """Print the table; write both files where there is a folder for them."""
    machine = table["machine"]
    where = machine.get("gpu", f"{machine.get('cores')} cores, no GPU")
    lines = [
        f"gpu_check, {table['size']} size, {where}, torch {machine.get('torch')}: "
        f"{table['seconds']:.0f} s",
        "",
        "| part | result | s | what was found |",
        "| --- | --- | ---: | --- |",
    ]
    for name, row in table["parts"].items():
        lines.append(f"| {name} | {row['status']} | {row['seconds']:.0f} | {row['note']} |")
    text = "\n".join(lines) + "\n"
    print(f"\n{text}")
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu_check.json").write_text(json.dumps(table, indent=1) + "\n")
        (folder / "gpu_check.md").write_text(text)


if __name__ == "__main__":
    main()
