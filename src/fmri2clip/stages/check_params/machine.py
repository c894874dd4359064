"""What a machine has, and how fast it is taken to be. Units are bytes, seconds and FLOP."""

from __future__ import annotations

import configparser
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GB = 1e9
TERA = 1e12
# Control groups, version 2 and 1: where they lie, and the file with a group's limit of memory.
LIMITS = {
    "": (Path("/sys/fs/cgroup"), "memory.max"),
    "memory": (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
}
OWN_GROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True, kw_only=True)
class Device:
    """Declared speed of a kind of machine; nothing of it is measured on the machine at hand."""

    title: str
    source: str  # where the numbers come from
    single: float  # FLOP/s of products of large matrices in float32
    half: float  # the same in bf16 or fp16
    eigen: float  # FLOP/s of an eigendecomposition, counted as 9 n^3
    traffic: float  # bytes/s between memory and processor
    disk: float  # bytes/s
    network: float  # bytes/s
    gpu_memory: float  # bytes; 0 without a GPU


DEVICES = {
    "gpu24": Device(
        title="a 24-GB GPU",
        source="assumed: a third of what cards such as an RTX 3090 or 4090 have on paper",
        single=10 * TERA,
        half=50 * TERA,
        eigen=1 * TERA,
        traffic=600 * GB,
        disk=1 * GB,
        network=0.05 * GB,
        gpu_memory=24 * GB,
    ),
    "cpu2": Device(
        title="2 CPU cores",
        source="assumed; the step of benchmarks/train_step.json comes out 14 % high",
        single=0.15 * TERA,
        half=0.15 * TERA,
        eigen=0.05 * TERA,
        traffic=10 * GB,
        disk=1 * GB,
        network=0.05 * GB,
        gpu_memory=0,
    ),
}
CPU = DEVICES["cpu2"]  # what a stage without use for a GPU runs on, whatever the device


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a plan must fit into."""

    memory: float  # bytes of RAM
    disk: float  # bytes free, and those of outputs that are there already
    gpu_memory: float  # bytes; 0 without a GPU
    links: bool  # DVC's cache takes files in by links, without a copy


def find_machine(root: Path, gpu_memory: float) -> Machine:
    """The machine at hand. root: of the project; gpu_memory: of its GPU, or of one to plan for."""
    there = sum(count_bytes(root / name) for name in ("data", "models"))
    return Machine(
        memory=find_memory(),
        disk=shutil.disk_usage(root).free + there,
        gpu_memory=gpu_memory,
        links=makes_links(root),
    )


def find_memory() -> float:
    """Bytes of RAM that a process here may use: the machine's, or less where its container, its
    control group or one above it, or SLURM has a limit.
    """
    found = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for path in list_limits():
        with suppress(OSError, ValueError):  # no such file, or "max"
            found.append(float(path.read_text()))
    with suppress(KeyError, ValueError):
        found.append(2**20 * float(os.environ["SLURM_MEM_PER_NODE"]))
    return min(amount for amount in found if amount > 0)  # SLURM's 0 is all of the node


def list_limits() -> set[Path]:
    """Files with the limits of this process' control groups and of those above them."""
    paths = {top / name for top, name in LIMITS.values()}
    with suppress(OSError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, kinds, place = line.split(":", 2)
            for kind in set(kinds.split(",")) & set(LIMITS):
                top, name = LIMITS[kind]
                group = top / place.lstrip("/")
                paths |= {folder / name for folder in (group, *group.parents)}
    return {path for path in paths if any(path.is_relative_to(top) for top, _ in LIMITS.values())}


def count_cores() -> int:
    """Cores that this process may use, as SLURM or taskset has it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_gpu_memory() -> float:
    """Bytes of the first GPU that torch finds; 0 without one."""
    import torch

    if not torch.cuda.is_available():
        return 0.0
    return float(torch.cuda.get_device_properties(0).total_memory)


def count_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; 0 if it does not exist."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files)


def makes_links(root: Path) -> bool:
    """Whether a way of `cache.type` other than copying works between the project and DVC's cache.

    Tried with a small file of its own, which is removed again.
    """
    config = configparser.ConfigParser(strict=False)
    config.read([root / ".dvc/config", root / ".dvc/config.local"])
    kinds = config.get("cache", "type", fallback="reflink,copy").replace(" ", "").split(",")
    cache = root / ".dvc" / config.get("cache", "dir", fallback="cache")
    places = [_existing(folder) for folder in (root / "data", cache)]
    try:
        with (
            tempfile.TemporaryDirectory(dir=places[0]) as one,
            tempfile.TemporaryDirectory(dir=places[1]) as two,
        ):
            source = Path(one) / "file"
            source.write_bytes(b"x")
            return any(_links(kind, source, Path(two) / kind) for kind in kinds)
    except OSError:
        return False


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def _links(kind: str, source: Path, link: Path) -> bool:
    """Whether a link of this kind can be made."""
    with suppress(OSError):
        if kind == "hardlink":
            os.link(source, link)
            return True
        if kind == "symlink":
            os.symlink(source, link)
            return True
        if kind == "reflink":
            from dvc_objects.fs.system import reflink  # what DVC itself calls

            reflink(str(source), str(link))
            return True
    return False
