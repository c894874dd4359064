"""Free space on disks: checked before something large is written, named in the error when a disk
is full.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

RESERVE = 256 * 2**20  # bytes left free on a file system, or 1 % of a small one


def check_space(folder: Path, n_bytes: int) -> None:
    """ValueError if the file system of a folder, which need not exist yet, cannot take n_bytes and
    a small reserve.
    """
    there = _existing(folder)
    total, _, free = shutil.disk_usage(there)
    needed = n_bytes + min(RESERVE, total // 100)
    if n_bytes > 0 and free < needed:
        raise ValueError(
            f"{folder}: {_size(n_bytes)} are still to come, but the disk of {there} has "
            f"{_size(free)} free of {_size(total)}; free at least {_size(needed - free)}, or put "
            "the folder on a larger disk"
        )


def check_each_disk(n_bytes_by_folder: Iterable[tuple[Path, int]]) -> None:
    """check_space for the sum over the folders on each file system."""
    needed: dict[int, tuple[Path, int]] = {}
    for folder, n_bytes in n_bytes_by_folder:
        device = _existing(folder).stat().st_dev
        first, sum_so_far = needed.get(device, (folder, 0))
        needed[device] = first, sum_so_far + n_bytes
    for folder, n_bytes in needed.values():
        check_space(folder, n_bytes)


def disk_full(folder: Path, n_bytes: int, advice: str) -> ValueError:
    """The error to raise when a disk is full while n_bytes are still to come."""
    there = _existing(folder)
    free = shutil.disk_usage(there).free
    return ValueError(
        f"{folder}: no space left on the disk of {there}: {_size(n_bytes)} are still to come and "
        f"{_size(free)} are free; free at least {_size(n_bytes - free)}; {advice}"
    )


def _existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _size(n_bytes: int) -> str:
    return f"{tqdm.format_sizeof(max(n_bytes, 0))}B"
