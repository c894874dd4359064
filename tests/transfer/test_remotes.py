"""remotes.py against a local S3 service: the right bytes, or an error that says which kind it is
and what to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fmri2clip.transfer import remotes
from fmri2clip.transfer.remotes import Changed, HttpRemote, RemoteFile, S3Remote, Transient
from tests.transfer.s3_service import Service

CONTENT = np.random.default_rng(0).bytes(700_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
KEY = "nsddata/a b/betas+é.hdf5"
Serve = Callable[..., Service]


@pytest.fixture
def service(serve_s3: Serve, tmp_path: Path) -> Service:
    found = serve_s3()
    found.put(KEY, CONTENT)
    return found


@pytest.fixture
def remote(service: Service) -> S3Remote:
    return S3Remote(service.bucket, service.endpoint, "us-east-2", 2)


def test_list_names_what_a_prefix_holds(service: Service, remote: S3Remote) -> None:
    for key in (
        "nsddata/x/b.mgz",
        "nsddata/x/a.mgz",
        "nsddata/x/deep/c.mgz",
        "nsddata/xy",
        "other/x",
        "nsddata/x/",
    ):
        service.put(key, key.encode())
    files = remote.list_files("nsddata/x/")
    assert [file.key for file in files] == [
        "nsddata/x/a.mgz",
        "nsddata/x/b.mgz",
        "nsddata/x/deep/c.mgz",
    ]
    assert [file.size for file in files] == [15, 15, 20]
    assert files[0].etag == hashlib.md5(b"nsddata/x/a.mgz").hexdigest()
    assert remote.list_files("nsddata/x/", recursive=False) == files[:2]
    assert remote.list_files("nothing/") == []


def test_list_walks_all_pages(
    service: Service, remote: S3Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    for i in range(5):
        service.put(f"many/{i}", b"")
    assert [file.key for file in remote.list_files("many/")] == [f"many/{i}" for i in range(5)]
    page = remote._client.list_objects_v2(Bucket=service.bucket, Prefix="many/")
    assert page["IsTruncated"]


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 700_000), (0, 1), (699_999, 700_000), (123_457, 600_001)]
)
def test_read_gives_the_bytes_of_a_range(remote: S3Remote, start: int, stop: int) -> None:
    blocks = list(remote.read(KEY, start, stop, MD5))
    assert b"".join(blocks) == CONTENT[start:stop]
    assert max(map(len, blocks)) <= remotes.BLOCK


def test_stat_and_md5(service: Service, remote: S3Remote) -> None:
    file = remote.stat(KEY)
    assert file == RemoteFile(key=KEY, size=len(CONTENT), etag=MD5)
    assert remote.content_md5(file) == MD5
    assert remote.content_md5(RemoteFile(key=KEY, size=1, etag=f"{MD5}-12")) == ""


def test_aws_address_needs_no_signature() -> None:
    remote = S3Remote("natural-scenes-dataset", "", "us-east-2", 2)
    assert (
        remote._url("nsddata/x.mat")
        == "https://natural-scenes-dataset.s3.us-east-2.amazonaws.com/nsddata/x.mat"
    )


def test_what_is_not_there_or_not_public(service: Service, remote: S3Remote) -> None:
    service.put("secret", b"x", public=False)
    with pytest.raises(
        ValueError, match=r"/nsddata/none: the server answers 404 \(NoSuchKey\).*download\.bucket"
    ):
        list(remote.read("nsddata/none", 0, 1, ""))
    with pytest.raises(ValueError, match=r"/secret: the server answers 403.*without an account"):
        list(remote.read("secret", 0, 1, ""))
    with pytest.raises(
        ValueError, match=r"/nsddata/none: the server answers 404.*without an account"
    ):
        remote.stat("nsddata/none")
    with pytest.raises(
        ValueError, match=r"bucket 'nowhere' at .* refuses to list 'nsddata/'.*NoSuchBucket"
    ):
        S3Remote("nowhere", service.endpoint, "us-east-2", 2).list_files("nsddata/")


def test_unreachable_or_senseless_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotes, "ATTEMPTS", 2)
    monkeypatch.setattr(remotes, "BACKOFF", 0.01)
    remote = S3Remote("bucket", "http://127.0.0.1:9", "us-east-2", 2)
    with pytest.raises(
        ValueError, match=r"'bucket' at http://127.0.0.1:9 cannot be listed.*download\.endpoint"
    ):
        remote.list_files("")
    with pytest.raises(ValueError, match=r"127.0.0.1:9/bucket/key cannot be reached .*refused"):
        remote.stat("key")
    with pytest.raises(Transient, match=r"127.0.0.1:9 failed: .*refused"):
        list(remote.read("key", 0, 1, ""))
    with pytest.raises(ValueError, match=r"download\.endpoint 'localhost'.*http://localhost:9000"):
        S3Remote("bucket", "localhost", "us-east-2", 2)


def test_throttling_is_transient_and_its_wish_is_passed_on(
    service: Service, remote: S3Remote
) -> None:
    service.fail_next(1, retry_after="7")
    with pytest.raises(Transient, match="answers 503 SlowDown") as caught:
        list(remote.read(KEY, 0, 10, MD5))
    assert caught.value.pause == 7
    for status in (500, 429, 408):
        service.fail_next(1, status=status)
        with pytest.raises(Transient, match=str(status)):
            list(remote.read(KEY, 0, 10, MD5))


@pytest.mark.parametrize("kind", ["truncate", "reset"])
def test_dropped_body_is_transient_after_what_arrived(
    service: Service, remote: S3Remote, kind: str
) -> None:
    getattr(service, f"{kind}_next")(1, after=100_001)
    arrived = bytearray()
    with pytest.raises(Transient):
        for block in remote.read(KEY, 10, 600_000, MD5):
            arrived += block
    assert bytes(arrived) == CONTENT[10 : 10 + len(arrived)]
    assert (
        len(arrived) == 100_001 or kind == "reset"
    )  # the kernel drops what was not read before a reset


def test_changed_object_is_noticed(service: Service, remote: S3Remote) -> None:
    service.put(KEY, CONTENT[::-1])
    with pytest.raises(Changed, match=MD5):
        list(remote.read(KEY, 0, 10, MD5))


def test_web_server(service: Service) -> None:
    url = service.serve("/annotations/x.zip", CONTENT)
    remote = HttpRemote()
    file = remote.stat(url)
    assert (file.key, file.size) == (url, len(CONTENT)) and remote.content_md5(file) == ""
    assert b"".join(remote.read(url, 5, 500_000, file.etag)) == CONTENT[5:500_000]
    service.serve("/annotations/x.zip", CONTENT[:-1])
    with pytest.raises(Changed):
        list(remote.read(url, 5, 10, file.etag))
    with pytest.raises(Changed):  # without an ETag, a range that is no longer there tells it
        service.serve("/annotations/x.zip", b"")
        list(remote.read(url, 5, 10, ""))
    with pytest.raises(ValueError, match="404"):
        remote.stat(f"{service.endpoint}/annotations/y.zip")
    with pytest.raises(ValueError, match="no address of a file"):
        list(remote.read("annotations.zip", 0, 1, ""))


def test_server_without_ranges_never_gives_wrong_bytes(service: Service) -> None:
    url = service.serve("/x.zip", CONTENT)
    service.ranges = False
    assert b"".join(HttpRemote().read(url, 0, 1000, "")) == CONTENT[:1000]
    with pytest.raises(ValueError, match=r"x\.zip: the server ignores ranges.*download\.part_mib"):
        list(HttpRemote().read(url, 1, 1000, ""))


def test_weak_tag_and_date_are_compared_but_not_sent() -> None:
    assert remotes._identity({"ETag": '"ab"', "Last-Modified": "today"}) == "ab"
    assert remotes._identity({"ETag": 'W/"ab"'}) == 'W/"ab"'
    assert remotes._identity({"Last-Modified": "today"}) == "modified today"
    assert remotes._identity({}) == ""


def test_proxy_of_the_environment_is_used(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.serve("/x.zip", CONTENT)
    monkeypatch.setenv("http_proxy", service.endpoint.replace("://", "://user:word@"))
    monkeypatch.delenv("no_proxy", raising=False)
    assert b"".join(HttpRemote().read("http://images.invalid/x.zip", 3, 9, "")) == CONTENT[3:9]
    monkeypatch.setenv("no_proxy", "images.invalid")
    with pytest.raises(Transient, match=r"images\.invalid"):
        list(HttpRemote().read("http://images.invalid/x.zip", 3, 9, ""))
