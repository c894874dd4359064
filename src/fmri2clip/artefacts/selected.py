"""What a run is trained on: data/selected/<run>.json, subject -> file -> sha256.

{"subj01": {"betas": "0f3a...", "clip": "77b1...", "voxels": "c94e..."}, ...}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.files import sha256_file, write_json

Digests = Mapping[str, Mapping[str, str]]  # subject -> kind of file -> sha256


def find_files(
    clip: str, subject: str, paths: Paths, library: Sequence[Path] = ()
) -> dict[str, Path]:
    """The files of one subject that training with this CLIP model reads; components of tokens where
    they were found. library: parts of the library that is weighed.
    """
    files = {
        "betas": paths.train_betas(subject),
        "clip": paths.clip_train(clip, subject),
        "voxels": paths.voxels(subject),
    }
    if paths.clip_basis(clip).is_file():
        files["basis"] = paths.clip_basis(clip)
        files["components"] = paths.clip_components(clip, subject)
    return files | {f"library_{path.stem}": path for path in library}


def digest_files(
    clip: str,
    subjects: Sequence[str],
    paths: Paths,
    threads: int = 1,
    libraries: Mapping[str, Sequence[Path]] | None = None,
) -> dict[str, dict[str, str]]:
    """sha256 of every file of the subjects. Raises ValueError for one that does not exist.

    libraries: subject -> parts of the library that its model weighs.
    """
    libraries = libraries or {}
    files = {
        (subject, kind): path
        for subject in subjects
        for kind, path in find_files(clip, subject, paths, libraries.get(subject, ())).items()
    }
    with ThreadPoolExecutor(threads) as pool:
        digests = list(pool.map(sha256_file, files.values()))
    found: dict[str, dict[str, str]] = {subject: {} for subject in subjects}
    for (subject, kind), digest in zip(files, digests, strict=True):
        found[subject][kind] = digest
    return found


def write_selected(path: Path, digests: Digests) -> None:
    """Write such a file; it appears when it is complete."""
    write_json(path, digests)


def read_selected(path: Path) -> dict[str, dict[str, str]]:
    """Content of such a file. Raises ValueError if it does not exist."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the stage that writes it (dvc repro)")
    content: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return content


def check_selected(
    path: Path,
    clip: str,
    subjects: Sequence[str],
    paths: Paths,
    threads: int = 1,
    libraries: Mapping[str, Sequence[Path]] | None = None,
) -> dict[str, dict[str, str]]:
    """The digests of a file, after comparing them with the files that are there.

    Raises ValueError if one of these is not the one that was selected.
    """
    wanted = read_selected(path)
    libraries = libraries or {}
    found = digest_files(clip, subjects, paths, threads, libraries)
    for subject, kinds in found.items():
        for kind, digest in kinds.items():
            if wanted.get(subject, {}).get(kind) != digest:
                file = find_files(clip, subject, paths, libraries.get(subject, ()))[kind]
                raise ValueError(f"{file} is not the file that {path} names; run dvc repro")
    return found
