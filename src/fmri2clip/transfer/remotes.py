"""Where files come from: an S3 bucket read without an account, or a plain web server; both by
ranges of bytes.

A remote never writes to disk and never waits and tries again in the middle of a file: it raises
`Transient` where trying again may help and `Changed` where the file is no longer the one that was
listed, and `transfer.py` decides. Requests for content go through urllib3 for both kinds, as
botocore's reader loses what has arrived when a connection drops; boto3 lists buckets and knows the
address of a key.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

BLOCK = 1 << 18  # bytes handed on at most at once
TIMEOUT = urllib3.Timeout(connect=10, read=60)  # seconds; read: between two pieces of a body
ATTEMPTS = 5  # at listing a bucket and at asking for a size; those at reading are the caller's
BACKOFF = 0.5  # seconds, doubled each time, for the same two
RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
# Of S3's XML.
TRANSIENT_CODES = frozenset({"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"})
NO_FILE = "no file of that name can be read without an account"
WHAT_TO_DO = (
    "check download.bucket, download.region, download.endpoint and download.coco_url in params.yaml"
)


class Transient(Exception):
    """Trying again may help.

    pause: seconds that the server asked to wait, 0 where it did not say.
    """

    def __init__(self, message: str, pause: float = 0) -> None:
        super().__init__(message)
        self.pause = pause


class Changed(Exception):
    """The file at the source is another one than that which was listed."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of a remote, and what tells whether it is still the same."""

    key: str  # of the bucket, or a URL
    size: int  # bytes
    # without quotes; what a web server says instead ('' for nothing): equal only while the content
    # is equal
    etag: str


class Remote(Protocol):
    """Where files come from: a web server or an S3 bucket."""

    def read(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        """Bytes start to stop - 1 in pieces of at most BLOCK.

        Raises Transient (5xx, throttling, dropped or truncated), Changed (etag is another one now)
        and ValueError (no such file, no access, no ranges).
        """

    def stat(self, key: str) -> RemoteFile:
        """Size and etag as they are now."""

    def content_md5(self, file: RemoteFile) -> str:
        """MD5 of the content (32 hex digits) where the etag is known to be that, else ''."""


class HttpRemote:
    """Files of web servers; the key is the URL. Proxies are taken from http_proxy, https_proxy and
    no_proxy.
    """

    def __init__(self, connections: int = 8) -> None:
        self.connections = connections
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._encrypted: set[str] = set()  # keys whose etag is no MD5 although it looks like one

    def stat(self, key: str) -> RemoteFile:
        """Size and etag from a HEAD request. ValueError for a server that refuses or does not say
        the size.
        """
        retries = urllib3.Retry(
            ATTEMPTS - 1,
            backoff_factor=BACKOFF,
            backoff_jitter=BACKOFF,
            status_forcelist=RETRY_STATUS,
            raise_on_status=False,
        )
        try:
            response = self._pool(key).request(
                "HEAD", key, headers={"Accept-Encoding": "identity"}, retries=retries
            )
        except HTTPError as error:
            raise ValueError(
                f"{key} cannot be reached ({_reason(error)}); {WHAT_TO_DO}, or try later"
            ) from error
        size = response.headers.get("Content-Length", "")
        if response.status != 200 or not size.isdecimal():
            why = NO_FILE if response.status != 200 else "without the file's size"
            raise _refusal(key, response.status, "", why)
        return RemoteFile(key=key, size=int(size), etag=_identity(response.headers))

    def read(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        """Bytes start to stop - 1 from a GET with Range, on condition that the etag is the same."""
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        # If-Match never holds for weak ETags and dates, says RFC 9110; _check_answer compares them.
        if etag and not etag.startswith(("W/", "modified ")):
            headers["If-Match"] = f'"{etag}"'
        # Three redirects and nothing else: trying again is the caller's, who knows what arrived.
        retries = urllib3.Retry(
            3, connect=0, read=0, status=0, other=0, respect_retry_after_header=False
        )
        try:
            answer = self._pool(key).request(
                "GET", key, headers=headers, preload_content=False, retries=retries
            )
            with closing(answer) as response:
                _check_answer(key, response, start, stop, etag)
                if response.headers.get("x-amz-server-side-encryption", "AES256") != "AES256":
                    self._encrypted.add(key)
                yield from _body(key, response, start, stop)
        except (HTTPError, OSError) as error:
            raise Transient(
                f"connection to {urlsplit(key).netloc} failed: {_reason(error)}"
            ) from error

    def content_md5(self, file: RemoteFile) -> str:
        """Always '': nothing is known of the content."""
        return ""  # a web server is free in what it calls an ETag

    def is_encrypted(self, key: str) -> bool:
        """True where an answer said that the file lies encrypted with a managed key: S3's ETag is
        then no MD5.
        """
        return key in self._encrypted

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        scheme = parts.scheme
        host = parts.hostname or ""
        if scheme not in ("http", "https") or not host:
            raise ValueError(
                f"{url!r} is no address of a file, http://... or https://...; {WHAT_TO_DO}"
            )
        proxy = (
            "" if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(scheme, "")
        )
        if proxy not in self._pools:
            options: dict[str, Any] = {"maxsize": self.connections, "timeout": TIMEOUT}
            if proxy:
                auth = urllib3.util.parse_url(proxy).auth
                options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=auth)
            self._pools[proxy] = (
                urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
            )
        return self._pools[proxy]


class S3Remote:
    """A bucket that anyone may read. endpoint: URL of an S3 service, '' for AWS in the region."""

    def __init__(self, bucket: str, endpoint: str, region: str, connections: int) -> None:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        self.bucket = bucket
        self.endpoint = endpoint
        config = Config(
            signature_version=UNSIGNED,
            s3={"addressing_style": "path" if endpoint else "virtual"},
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=connections,
            connect_timeout=TIMEOUT.connect_timeout,
            read_timeout=TIMEOUT.read_timeout,
            response_checksum_validation="when_required",
        )
        try:
            self._client = boto3.client(
                "s3", region_name=region, endpoint_url=endpoint or None, config=config
            )
        except ValueError as error:
            message = f"download.endpoint {endpoint!r}, download.region {region!r}: {error}"
            raise ValueError(
                f"{message}; an endpoint looks like http://localhost:9000, '' is AWS"
            ) from error
        self._http = HttpRemote(connections)

    def list_files(self, prefix: str, recursive: bool = True) -> list[RemoteFile]:
        """Every file whose key starts with the prefix, sorted by key; not recursive: only up to the
        next slash.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        options = {} if recursive else {"Delimiter": "/"}
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, **options
        )
        where = f"bucket {self.bucket!r} at {self._client.meta.endpoint_url}"
        try:
            found = [entry for page in pages for entry in page.get("Contents", ())]
        except ClientError as error:
            raise ValueError(
                f"{where} refuses to list {prefix!r} ({error}); {WHAT_TO_DO}"
            ) from error
        except (BotoCoreError, ResponseParserError) as error:
            raise ValueError(
                f"{where} cannot be listed ({error}); {WHAT_TO_DO}, or try later"
            ) from error
        files = [RemoteFile(key=e["Key"], size=e["Size"], etag=e["ETag"].strip('"')) for e in found]
        # A key that ends with a slash stands for a folder and has no content.
        contents = [file for file in files if not file.key.endswith("/")]
        return sorted(contents, key=lambda file: file.key)

    def stat(self, key: str) -> RemoteFile:
        """Size and etag as they are now."""
        found = self._http.stat(self._url(key))
        return RemoteFile(key=key, size=found.size, etag=found.etag)

    def read(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        """Bytes start to stop - 1 of an object, as HttpRemote reads them."""
        return self._http.read(self._url(key), start, stop, etag)

    def content_md5(self, file: RemoteFile) -> str:
        """The etag, unless the file was uploaded in parts or lies encrypted with a managed key."""
        # The etag of an upload in parts ends with their number, as in '...-7'.
        if not re.fullmatch("[0-9a-f]{32}", file.etag):
            return ""
        return "" if self._http.is_encrypted(self._url(file.key)) else file.etag

    def _url(self, key: str) -> str:
        url: str = self._client.generate_presigned_url(
            "get_object", Params={"Bucket": self.bucket, "Key": key}
        )
        return url  # without a signature, as the client has none


def _identity(headers: Mapping[str, str]) -> str:
    """A strong ETag bare, a weak one as it is, else the date of the last change, else ''."""
    etag = headers.get("ETag", "")
    date = headers.get("Last-Modified", "")
    if etag:
        return etag if etag.startswith("W/") else etag.strip('"')
    return f"modified {date}" if date else ""


def _check_answer(
    key: str, response: urllib3.BaseHTTPResponse, start: int, stop: int, etag: str
) -> None:
    """Raise unless the body that follows begins at byte start of the file that was listed."""
    if response.status in (412, 416):
        raise Changed(f"the server answers {response.status} for ETag {etag!r}")
    if response.status not in (200, 206):
        raise _error(key, response)
    if etag and _identity(response.headers) != etag:
        raise Changed(f"ETag is {_identity(response.headers)!r} now, it was {etag!r}")
    asked = re.match(rf"bytes {start}-", response.headers.get("Content-Range", ""))
    if not (asked if response.status == 206 else start == 0):
        raise ValueError(
            f"{key}: the server ignores ranges of bytes (asked for {start} to {stop - 1}, answer "
            f"{response.status}); "
            "use another address, or set download.part_mib so large that the file comes in one part"
        )


def _body(key: str, response: urllib3.BaseHTTPResponse, start: int, stop: int) -> Iterator[bytes]:
    position = start
    while position < stop:
        block = response.read1(BLOCK, decode_content=False)[: stop - position]
        if not block:
            raise Transient(f"the body ended at byte {position}, before {stop}")
        position += len(block)
        yield block


def _error(key: str, response: urllib3.BaseHTTPResponse) -> Exception:
    """Transient or ValueError for an answer that holds no content."""
    found = re.search(rb"<Code>(\w+)</Code>", response.read(4096))
    code = found.group(1).decode() if found else ""
    if response.status in RETRY_STATUS or response.status >= 500 or code in TRANSIENT_CODES:
        retry_after = response.headers.get("Retry-After", "")
        return Transient(
            f"the server answers {response.status} {code}".rstrip(), _seconds(retry_after)
        )
    return _refusal(key, response.status, code, NO_FILE)


def _refusal(key: str, status: int, code: str, why: str) -> ValueError:
    return ValueError(
        f"{key}: the server answers {status}{f' ({code})' if code else ''}; {why}: {WHAT_TO_DO}"
    )


def _seconds(retry_after: str) -> float:
    """Seconds of a Retry-After header, which holds a number or a date; 0 where it makes no
    sense.
    """
    try:
        return urllib3.Retry().parse_retry_after(retry_after) if retry_after else 0
    except HTTPError:
        return 0


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)
