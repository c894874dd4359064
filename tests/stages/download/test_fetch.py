"""fetch.py and sessions.py against a local S3 service that holds a simulated tree under NSD's
keys.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.params import Dataset, Download, Norm
from fmri2clip.datasets.nsd import bucket, layout, manifest, sessions
from fmri2clip.datasets.nsd.recordings import NsdRecordings
from fmri2clip.stages.download import coco_archive, fetch, inventory
from fmri2clip.stages.extract_rois.extract import extract_subject
from fmri2clip.transfer import transfer
from tests.nsd_world import PREPARATION, SUBJECT, WORLD, write_tree
from tests.transfer.s3_service import COCO_PATH, Service, s3_service

ACCEPTED = Dataset(source="s3", accept_terms=True)
N_SESSIONS = WORLD.n_sessions
ROIS = {"low": ["prf-visualrois"], "all": ["nsdgeneral"]}


@pytest.fixture(scope="module")
def bucket_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the bucket holds: a simulated tree, without the two things that NSD does not have."""
    root = tmp_path_factory.mktemp("bucket")
    write_tree(root)
    layout.noise_free_path(root, SUBJECT, PREPARATION).unlink()
    return root


@pytest.fixture(scope="module")
def coco_zip(bucket_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("coco") / "annotations.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in coco_archive.files(bucket_dir):
            archive.write(file, f"annotations/{file.name}")
            file.unlink()
        archive.writestr("annotations/person_keypoints_train2017.json", "{}")
    return path


@pytest.fixture(scope="module")
def service(bucket_dir: Path, coco_zip: Path) -> Iterator[Service]:
    with s3_service(bucket_dir) as running:
        running.serve(COCO_PATH, coco_zip)
        yield running


@pytest.fixture
def download(service: Service, monkeypatch: pytest.MonkeyPatch) -> Download:
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    bucket.open_bucket.cache_clear()
    url = service.endpoint + COCO_PATH
    return Download(endpoint=service.endpoint, coco_url=url, connections=3, part_mib=1, retries=4)


def digests(root: Path) -> dict[str, str]:
    paths = manifest.list_files([root])
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths
    }


def test_a_subject_comes_complete_and_only_what_is_needed(
    bucket_dir: Path, tmp_path: Path, download: Download, service: Service
) -> None:
    fetch.fetch_subject(tmp_path, SUBJECT, N_SESSIONS, ACCEPTED, download)
    there, offered = digests(tmp_path), digests(bucket_dir)
    assert all(offered[key] == digest for key, digest in there.items())
    mine = [key for key in offered if f"/{SUBJECT}/" in key and "betas_session" not in key]
    betas = [
        f"nsddata_betas/ppdata/{SUBJECT}/func1pt8mm/{PREPARATION}/betas_session0{s}.hdf5"
        for s in (1, 2)
    ]
    assert sorted(there) == sorted([*mine, *betas])  # no NIfTI betas, no picture
    entries = manifest.by_key(manifest.read(layout.manifest_path(tmp_path, SUBJECT)))
    assert {key: entry.sha256 for key, entry in entries.items()} == there
    assert not inventory.journal_path(layout.manifest_path(tmp_path, SUBJECT)).exists()
    before = service.bytes_sent()
    fetch.fetch_subject(tmp_path, SUBJECT, N_SESSIONS, ACCEPTED, download)
    assert service.bytes_sent() == before  # nothing is fetched twice


def test_pictures_and_annotations(
    bucket_dir: Path, tmp_path: Path, download: Download, service: Service
) -> None:
    fetch.fetch_stimuli(tmp_path, ACCEPTED, download)
    there, offered = digests(tmp_path), digests(bucket_dir)
    own = coco_archive.keys(tmp_path)[:4]
    assert {key for key in there if key not in own} == {
        key for key in offered if "/ppdata/" not in key and "free" not in key
    }
    assert all((tmp_path / key).read_bytes().startswith(b"{") for key in own)
    entries = manifest.by_key(manifest.read(layout.stimuli_manifest_path(tmp_path)))
    assert {key: entry.sha256 for key, entry in entries.items()} == there
    before = service.bytes_sent()
    (tmp_path / own[0]).write_bytes(b"{}")  # damaged: fetched again, and only the archive
    fetch.fetch_stimuli(tmp_path, ACCEPTED, download)
    assert digests(tmp_path) == there
    assert service.bytes_sent() - before == service.bytes_sent(COCO_PATH) // 2


def test_nothing_comes_without_the_terms(
    tmp_path: Path, download: Download, service: Service
) -> None:
    before = service.bytes_sent()
    refused = dataclasses.replace(ACCEPTED, accept_terms=False)
    for call in (
        lambda: fetch.fetch_subject(tmp_path, SUBJECT, N_SESSIONS, refused, download),
        lambda: fetch.fetch_stimuli(tmp_path, refused, download),
        lambda: sessions.session_source(
            tmp_path, SUBJECT, dataclasses.replace(refused, keep_raw=False), download
        ),
    ):
        with pytest.raises(
            ValueError, match=r"terms .*slite\.page.*set dataset\.accept_terms to true"
        ):
            call()
    assert not digests(tmp_path) and service.bytes_sent() == before


def test_a_dry_run_prints_the_plan_and_does_nothing(
    tmp_path: Path, download: Download, service: Service
) -> None:
    before, said = service.bytes_sent(), []
    undecided = dataclasses.replace(ACCEPTED, accept_terms=False)
    fetch.fetch_subject(
        tmp_path, SUBJECT, N_SESSIONS, undecided, download, dry_run=True, say=said.append
    )
    fetch.fetch_stimuli(tmp_path, undecided, download, dry_run=True, say=said.append)
    text = "\n".join(said)
    assert (
        "betas            2 files" in text
        and "to fetch:     2 files" in text
        and "free on this disk" in text
    )
    assert "COCO annotations: instances_train2017.json, captions_train2017.json" in text
    assert not digests(tmp_path) and service.bytes_sent() == before


def test_damage_is_found_and_only_that_is_fetched(
    tmp_path: Path, download: Download, service: Service
) -> None:
    fetch.fetch_subject(tmp_path, SUBJECT, N_SESSIONS, ACCEPTED, download)
    good = digests(tmp_path)
    path = layout.betas_path(tmp_path, SUBJECT, PREPARATION, 2)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    before, said = service.bytes_sent(), []
    fetch.fetch_subject(tmp_path, SUBJECT, N_SESSIONS, ACCEPTED, download, say=said.append)
    assert digests(tmp_path) == good
    assert service.bytes_sent() - before == len(content)
    assert any("SHA-256 differs" in line and "betas_session02" in line for line in said)


def test_fewer_sessions_move_files_aside_and_more_bring_them_back(
    tmp_path: Path, download: Download, service: Service
) -> None:
    root, said = tmp_path / "nsd", []
    fetch.fetch_subject(root, SUBJECT, N_SESSIONS, ACCEPTED, download)
    good = digests(root)
    fetch.fetch_subject(root, SUBJECT, 1, ACCEPTED, download, say=said.append)
    gone = {key for key in good if "session02" in key}
    assert digests(root) == {key: value for key, value in good.items() if key not in gone}
    assert len([line for line in said if "moved to" in line]) == len(gone) == 2
    before = service.bytes_sent()
    fetch.fetch_subject(root, SUBJECT, N_SESSIONS, ACCEPTED, download)
    assert digests(root) == good and service.bytes_sent() == before


def test_a_mask_of_the_user_stays(tmp_path: Path, download: Download) -> None:
    fetch.fetch_subject(tmp_path, SUBJECT, N_SESSIONS, ACCEPTED, download)
    own = layout.roi_path(tmp_path, SUBJECT, "my-roi")
    own.write_bytes(b"mask")
    fetch.fetch_subject(tmp_path, SUBJECT, N_SESSIONS, ACCEPTED, download)
    assert own.read_bytes() == b"mask"
    entries = manifest.by_key(manifest.read(layout.manifest_path(tmp_path, SUBJECT)))
    assert (
        entries[own.relative_to(tmp_path).as_posix()].sha256 == hashlib.sha256(b"mask").hexdigest()
    )


def test_what_an_interrupted_download_finished_is_kept(
    tmp_path: Path, download: Download, service: Service
) -> None:
    key = f"nsddata_betas/ppdata/{SUBJECT}/func1pt8mm/{PREPARATION}/betas_session02.hdf5"
    service.fail_next(99, key=key)
    with pytest.raises(ValueError, match="betas_session02"):
        fetch.fetch_subject(tmp_path, SUBJECT, N_SESSIONS, ACCEPTED, download)
    service.faults.clear()
    assert not layout.manifest_path(tmp_path, SUBJECT).exists()
    learnt = manifest.read(inventory.journal_path(layout.manifest_path(tmp_path, SUBJECT)))
    before = {entry.key: service.bytes_sent(entry.key) for entry in learnt}
    fetch.fetch_subject(tmp_path, SUBJECT, N_SESSIONS, ACCEPTED, download)
    assert {key: service.bytes_sent(key) for key in before} == before


def test_a_hostile_listing_writes_nothing(
    tmp_path: Path, download: Download, service: Service
) -> None:
    key = f"nsddata/ppdata/{SUBJECT}/func1pt8mm/roi/../../../../../escaped.nii.gz"
    service.put(key, b"x")
    try:
        with pytest.raises(ValueError, match="is not a plain path below nsddata/"):
            fetch.fetch_subject(tmp_path / "tree", SUBJECT, N_SESSIONS, ACCEPTED, download)
    finally:
        service.delete(key)
    assert not digests(tmp_path)


def extract(
    root: Path, out: Path, dataset: Dataset, source: sessions.SessionSource
) -> dict[str, str]:
    paths = Paths(out, nsd=root)
    extract_subject(
        paths,
        SUBJECT,
        recordings=NsdRecordings(root, SUBJECT, dataset, source),
        rois=ROIS,
        norm=Norm(),
        workers=1,
        resume_root=out / "resume",
    )
    files = {
        "train": paths.train_betas(SUBJECT),
        "test": paths.test_betas(SUBJECT),
        "voxels": paths.voxels(SUBJECT),
    }
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


@pytest.mark.parametrize("container", ["hdf5", "nifti"])
def test_streaming_gives_the_same_files_and_keeps_nothing(
    tmp_path: Path, download: Download, service: Service, container: str
) -> None:
    kept, streamed = (
        dataclasses.replace(ACCEPTED, container=container, keep_raw=keep) for keep in (True, False)
    )
    roots = {"kept": tmp_path / "kept" / "nsd", "streamed": tmp_path / "streamed" / "nsd"}
    for root in roots.values():
        fetch.fetch_stimuli(root, ACCEPTED, download)
    fetch.fetch_subject(roots["kept"], SUBJECT, N_SESSIONS, kept, download)
    fetch.fetch_subject(roots["streamed"], SUBJECT, N_SESSIONS, streamed, download)
    assert not list(roots["streamed"].rglob("betas_session*"))
    expected = extract(
        roots["kept"],
        tmp_path / "out",
        kept,
        sessions.session_source(roots["kept"], SUBJECT, kept, download),
    )
    source = sessions.StreamingSource(
        roots["streamed"], SUBJECT, PREPARATION, download, tmp_path / "scratch"
    )
    assert extract(roots["streamed"], tmp_path / "out2", streamed, source) == expected
    assert not [path for path in tmp_path.rglob("*") if "scratch" in path.parts and path.is_file()]


def test_a_streamed_extraction_goes_on_at_the_session(
    tmp_path: Path, download: Download, service: Service
) -> None:
    streamed = dataclasses.replace(ACCEPTED, keep_raw=False)
    fetch.fetch_stimuli(tmp_path, ACCEPTED, download)
    fetch.fetch_subject(tmp_path, SUBJECT, N_SESSIONS, streamed, download)
    source = sessions.StreamingSource(
        tmp_path, SUBJECT, PREPARATION, download, tmp_path / "scratch"
    )
    keys = [
        f"nsddata_betas/ppdata/{SUBJECT}/func1pt8mm/{PREPARATION}/betas_session0{s}.hdf5"
        for s in (1, 2)
    ]
    before = [service.bytes_sent(key) for key in keys]
    service.fail_next(99, key=keys[1])
    with pytest.raises(ValueError, match="betas_session02"):
        extract(tmp_path, tmp_path / "out", streamed, source)
    service.faults.clear()
    assert not list((tmp_path / "out").glob("*.h5"))
    extract(tmp_path, tmp_path / "out", streamed, source)
    size = layout.betas_path(service_root(service), SUBJECT, PREPARATION, 1).stat().st_size
    assert [service.bytes_sent(key) - b for key, b in zip(keys, before, strict=True)] == [
        size,
        size,
    ]


def service_root(service: Service) -> Path:
    """Folder that the service holds."""
    key, path = next(iter(service.contents.items()))
    assert isinstance(path, Path)
    return path.parents[len(Path(key).parts) - 1]


def test_a_manifest_without_the_session_is_an_error(tmp_path: Path, download: Download) -> None:
    manifest.write(layout.manifest_path(tmp_path, SUBJECT), [])
    source = sessions.StreamingSource(
        tmp_path, SUBJECT, PREPARATION, download, tmp_path / "scratch"
    )
    with pytest.raises(ValueError, match=r"manifest\.json does not name session 2"), source.open(2):
        SimpleNamespace()


@pytest.mark.parametrize("place", ["data/raw/nsd", "data", "data/raw/nsd/nsddata"])
def test_a_tree_behind_a_link_is_left_alone(
    download: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A lab's own files lie in its shared copy, under whatever part of the tree is a link."""
    root = Path("data/raw/nsd")
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    shared = tmp_path / "shared"
    notes = shared / layout.ppdata_dir(root, SUBJECT).relative_to(place) / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("of the lab")
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).symlink_to(shared)
    before = sorted(shared.rglob("*"))
    with pytest.raises(ValueError, match=r"lies outside of the project, in .*shared"):
        fetch.fetch_subject(root, SUBJECT, N_SESSIONS, ACCEPTED, download)
    assert sorted(shared.rglob("*")) == before and not (root.parent / "aside").exists()
