"""Fetch NSD from its public bucket: what is needed, what is there, and a manifest of the result.

The bucket `natural-scenes-dataset` (region us-east-2) is open to everybody without credentials, and
asks that its terms are accepted first (NSD manual, How to get the data). COCO's annotations are not
in it and come from COCO's own address (Lin et al. 2014; CC BY 4.0). Quirks of the release: subjects
3, 4, 6 and 8 have 32, 30, 32 and 30 sessions, the others 40; the last three sessions of everybody
came in August 2023; large objects have ETags that are no MD5.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fmri2clip.core.files import check_inside
from fmri2clip.core.params import Dataset, Download
from fmri2clip.datasets.nsd import layout, manifest
from fmri2clip.datasets.nsd.bucket import open_bucket, require_terms
from fmri2clip.datasets.nsd.manifest import Entry
from fmri2clip.stages.download import coco_archive, inventory, wanted_files
from fmri2clip.stages.download.wanted_files import Prefix, WantedFile
from fmri2clip.transfer import transfer
from fmri2clip.transfer.remotes import RemoteFile, S3Remote

GB = 1e9
Print = Callable[[str], None]


class Target(NamedTuple):
    """What one stage answers for."""

    name: str  # as the plan prints it
    root: Path
    folders: tuple[Path, ...]
    manifest: Path


def fetch_stimuli(
    root: Path, dataset: Dataset, download: Download, *, dry_run: bool = False, say: Print = print
) -> None:
    """Pictures, design and COCO annotations. dry_run: print the plan, fetch and move nothing.

    Raises ValueError if the terms are not accepted, a file is not in the bucket, the disk is full,
    or the connection fails for good; what was fetched by then is kept, and the next call goes on
    from there.
    """
    target = Target(
        "pictures and design",
        root,
        layout.stimuli_folders(root),
        layout.stimuli_manifest_path(root),
    )
    files = wanted_files.stimuli_files(
        _list(open_bucket(download), wanted_files.stimuli_prefixes())
    )
    _fetch(target, files, dataset, download, dry_run, say, also=coco_archive.keys(root))
    coco_archive.fetch(root, download, _journal(target), dry_run=dry_run, say=say)
    if not dry_run:
        _finish(target)


def fetch_subject(
    root: Path,
    subject: str,
    n_sessions: int,
    dataset: Dataset,
    download: Download,
    *,
    dry_run: bool = False,
    say: Print = print,
) -> None:
    """Betas of the first sessions, masks, ROIs and behaviour of a subject; arguments and errors as
    fetch_stimuli.

    With `dataset.keep_raw` false the betas are named in the manifest and stay in the bucket.
    """
    target = Target(
        subject, root, layout.subject_folders(root, subject), layout.manifest_path(root, subject)
    )
    listing = _list(
        open_bucket(download), wanted_files.subject_prefixes(subject, dataset.preparation)
    )
    files = wanted_files.subject_files(listing, subject, dataset, n_sessions)
    streamed = [item for item in files if item.is_betas and not dataset.keep_raw]
    # Masks of the user's own lie in a folder that this stage answers for: kept, not moved aside.
    own = _own_masks(root, subject, listing)
    fetched = [item for item in files if item not in streamed]
    _fetch(
        target,
        fetched,
        dataset,
        download,
        dry_run,
        say,
        also=[path.relative_to(root).as_posix() for path in own],
    )
    if streamed:
        total = sum(item.file.size for item in streamed) / GB
        say(
            f"{subject}: {len(streamed)} sessions ({total:.1f} GB) stay in the bucket until "
            "extract_rois"
        )
    if not dry_run:
        kept = [manifest.describe(root, path) for path in own]
        _finish(target, [*kept, *(_entry(item.file, local=False) for item in streamed)])


def _own_masks(root: Path, subject: str, listing: Container[str]) -> list[Path]:
    """ROI volumes in the tree that are not NSD's: `rois` may name them as file:NAME."""
    paths = layout.find_volumes(layout.roi_dir(root, subject))
    return [path for path in paths if path.relative_to(root).as_posix() not in listing]


def _list(remote: S3Remote, prefixes: Iterable[Prefix]) -> dict[str, RemoteFile]:
    files = [
        file
        for prefix in prefixes
        for file in remote.list_files(prefix.key, recursive=prefix.recursive)
    ]
    for file in files:
        if not file.key.endswith("/"):
            manifest.check_key(file.key)
    return {file.key: file for file in files}


def _fetch(
    target: Target,
    files: Sequence[WantedFile],
    dataset: Dataset,
    download: Download,
    dry_run: bool,
    say: Print,
    also: Iterable[str] = (),
) -> None:
    """Bring the files into the tree and keep the journal; `also`: keys that somebody else
    brings.
    """
    if not dry_run:
        require_terms(dataset)
        check_inside(target.root, target.folders)
    journal = _journal(target)
    # What an interrupted run learnt is newer than the manifest of the run before it.
    recorded: dict[str, Entry] = {}
    for known in (target.manifest, journal):
        if known.is_file():
            recorded |= manifest.by_key(manifest.read(known))
    stock = inventory.take_stock(
        target.root, [item.file for item in files], recorded, quick=dry_run
    )
    say(_plan(target, files, stock, download))
    for note in stock.notes:
        say(note)
    if dry_run:
        return
    keys = [item.file.key for item in files] + list(also)
    for note in inventory.move_aside(target.root, target.folders, keys):
        say(note)
    learnt = {key: entry for key, entry in recorded.items() if key in also} | stock.there
    manifest.write(journal, learnt.values())

    # Written after every file: a kill then costs the file that was on its way, no more.
    def keep(item: transfer.Item, sha256: str) -> None:
        learnt[item.file.key] = _entry(item.file, sha256)
        manifest.write(journal, learnt.values())

    transfer.fetch(
        open_bucket(download),
        [transfer.Item(file=file, path=target.root / file.key) for file in stock.missing],
        connections=download.connections,
        part_bytes=download.part_mib * 2**20,
        retries=download.retries,
        label=target.name,
        on_done=keep,
    )


def _journal(target: Target) -> Path:
    return inventory.journal_path(target.manifest)


def _finish(target: Target, further: Iterable[Entry] = ()) -> None:
    """The journal becomes the manifest, with entries that nobody had to fetch."""
    journal = _journal(target)
    entries = manifest.by_key(manifest.read(journal)) | manifest.by_key(further)
    for entry in entries.values():
        # A kill may have left the log of a finished file.
        transfer.discard(manifest.local_path(target.root, entry))
    manifest.write(target.manifest, entries.values())
    journal.unlink()


def _entry(file: RemoteFile, sha256: str = "", local: bool = True) -> Entry:
    return Entry(key=file.key, bytes=file.size, etag=file.etag, sha256=sha256, local=local)


def _plan(
    target: Target, files: Sequence[WantedFile], stock: inventory.Inventory, download: Download
) -> str:
    """Table of what is needed, there and missing, in files and GB."""
    lines = [
        f"{target.name}: from {download.endpoint or 's3:/'}/{download.bucket} to {target.root}"
    ]
    missing = {file.key for file in stock.missing}
    for purpose in dict.fromkeys(item.purpose for item in files):
        group = [item.file for item in files if item.purpose == purpose]
        lines.append(_row(purpose, group, [file for file in group if file.key in missing]))
    lines.append(_row("all", [item.file for item in files], stock.missing))
    folder = next(path for path in (target.root, *target.root.absolute().parents) if path.exists())
    lines.append(f"  free on this disk: {shutil.disk_usage(folder).free / GB:.1f} GB")
    return "\n".join(lines)


def _row(purpose: str, files: Sequence[RemoteFile], missing: Sequence[RemoteFile]) -> str:
    total = sum(file.size for file in files) / GB
    rest = sum(file.size for file in missing) / GB
    return (
        f"  {purpose:<12} {len(files):>5} files {total:>9.3f} GB, there: "
        f"{len(files) - len(missing):>5} files "
        f"{total - rest:>9.3f} GB, to fetch: {len(missing):>5} files {rest:>9.3f} GB"
    )
