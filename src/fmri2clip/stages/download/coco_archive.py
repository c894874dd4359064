"""COCO's 2017 annotations, which NSD's bucket does not have: one archive from COCO's own address,
four files of it.

Lin et al. 2014; annotations are CC BY 4.0. They go where nsd_access looks for them.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from fmri2clip.core.files import replacing, sha256_file
from fmri2clip.core.params import Download
from fmri2clip.datasets.nsd import layout, manifest
from fmri2clip.datasets.nsd.manifest import Entry
from fmri2clip.transfer import transfer
from fmri2clip.transfer.remotes import HttpRemote, RemoteFile

GB = 1e9


def files(root: Path) -> list[Path]:
    """Instances and captions of both splits."""
    paths = (layout.instances_path, layout.captions_path)
    return [path(root, split) for split in layout.COCO_SPLITS for path in paths]


def archive_path(root: Path) -> Path:
    """Where the archive lies until it is unpacked."""
    return layout.annotations_dir(root) / "annotations_trainval2017.zip"


def keys(root: Path) -> list[str]:
    """Keys of all that may lie here while annotations are fetched."""
    return [path.relative_to(root).as_posix() for path in (*files(root), archive_path(root))]


def fetch(
    root: Path, download: Download, journal: Path, *, dry_run: bool, say: Callable[[str], None]
) -> None:
    """Fetch the archive unless all four files are there, unpack what is missing, and add them to
    the journal.

    A file counts as there unless its size or SHA-256 differs from what an earlier download
    recorded.
    """
    recorded = manifest.by_key(manifest.read(journal)) if journal.is_file() else {}
    missing = [path for path in files(root) if not _is_there(root, path, recorded, quick=dry_run)]
    if missing:
        remote = HttpRemote()
        archive = remote.stat(download.coco_url)
        say(
            f"COCO annotations: {', '.join(path.name for path in missing)} to fetch, in an archive "
            f"of {archive.size / GB:.3f} GB from {archive.key}"
        )
        if not dry_run:
            _fetch_archive(remote, archive, archive_path(root), download)
            _unpack(archive_path(root), missing)
    if dry_run:
        return
    entries = manifest.by_key(manifest.describe(root, path) for path in files(root))
    manifest.write(journal, (recorded | entries).values())


def _is_there(root: Path, path: Path, recorded: dict[str, Entry], *, quick: bool) -> bool:
    entry = recorded.get(path.relative_to(root).as_posix())
    if not path.is_file() or entry is None:
        return path.is_file()
    return path.stat().st_size == entry.bytes and (quick or sha256_file(path) == entry.sha256)


def _fetch_archive(remote: HttpRemote, archive: RemoteFile, path: Path, download: Download) -> None:
    if path.is_file() and path.stat().st_size == archive.size:
        return
    transfer.fetch(
        remote,
        [transfer.Item(file=archive, path=path)],
        connections=download.connections,
        part_bytes=download.part_mib * 2**20,
        retries=download.retries,
        label="COCO annotations",
    )


def _unpack(archive: Path, wanted: list[Path]) -> None:
    """Extract the wanted files by name, each complete or not at all, and delete the archive."""
    try:
        with zipfile.ZipFile(archive) as file:
            members = {Path(info.filename).name: info for info in file.infolist()}
            absent = [path.name for path in wanted if path.name not in members]
            if absent:
                raise ValueError(
                    f"{archive} has no {', '.join(absent)}; is download.coco_url COCO's archive of "
                    "2017?"
                )
            transfer.check_space(
                archive.parent, sum(members[path.name].file_size for path in wanted)
            )
            for path in wanted:
                with replacing(path) as (temporary,), file.open(members[path.name]) as packed:
                    _copy(packed, temporary)
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise ValueError(
            f"what {archive.name} holds is no ZIP archive ({error}); check download.coco_url"
        ) from None
    archive.unlink()


def _copy(packed: IO[bytes], path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(packed, file, 2**20)
