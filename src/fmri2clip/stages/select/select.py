"""Which files a run is trained on, by their digests.

DVC takes no list of deps from an item of foreach, so train could only depend on whole folders, and
one subject more would train every run again. Instead this stage, of seconds, depends on the
folders, and train on what it writes: it stays the same as long as the run's own files do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.selected import digest_files, write_selected


def select(
    run: str,
    clip: str,
    subjects: Sequence[str],
    paths: Paths,
    threads: int,
    libraries: Mapping[str, Sequence[Path]] | None = None,
) -> None:
    """Write data/selected/<run>.json for a run of these subjects and this CLIP model.

    libraries: subject -> parts of the library that its model weighs. Raises ValueError for a file
    that does not exist.
    """
    write_selected(paths.selected(run), digest_files(clip, subjects, paths, threads, libraries))
