"""A local S3 service for tests: moto behind a server that counts what it sends and fails on demand.

Moto says what there is, who may read it and what its ETag is; the content of objects is sent from
here, by ranges, so that every byte is counted and large files are not copied for every part. By
hand, until killed:

    python tests/datasets/s3_service.py <folder> [--bucket natural-scenes-dataset] [--port 0]
    [--coco-zip <file>]
"""

from __future__ import annotations

import argparse
import functools
import logging
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import urllib3
from moto.server import ThreadedMotoServer

COCO_PATH = "/annotations/annotations_trainval2017.zip"
CHUNK = 1 << 16  # bytes of a body sent at once
SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code>"
    b"<Message>Please reduce your request rate.</Message></Error>"
)
Content = Path | bytes


@dataclass
class Request:
    """One request for the content of an object or a plain file."""

    key: str
    start: int
    stop: int
    status: int = 0
    sent: int = 0  # bytes of the body, 0 for anything but a 200 or 206


@dataclass
class Fault:
    """What happens to the next n requests for a key ('': any)."""

    kind: str  # fail, reset, truncate, stall, corrupt
    n: int
    key: str = ""
    after: int = 0  # bytes of the body that are sent before
    status: int = 503
    retry_after: str = ""


class Service:
    """What a test sees: where the service is, what was asked of it, and what it shall do wrong
    next.
    """

    def __init__(self, bucket: str, moto: str, port: int) -> None:
        self.bucket, self.moto = bucket, moto
        self.contents: dict[str, Content] = {}
        self.plain: dict[str, Content] = {}  # by path of the URL
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.rate = 0  # bytes a second of each body, 0: unlimited
        self.ranges = True  # False: plain files come whole, whatever range is asked for
        self.lock, self.closing = threading.Lock(), threading.Event()
        self.server = _Server(("127.0.0.1", port), _Handler)
        self.server.service, self.server.reset = self, set()
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._client = boto3.client(
            "s3",
            endpoint_url=moto,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        self._client.create_bucket(Bucket=bucket, ACL="public-read")

    def put(self, key: str, content: Content, public: bool = True) -> None:
        """Make or replace an object.

        A path is read again whenever it is asked for, so it must not change.
        """
        acl = "public-read" if public else "private"
        if isinstance(content, bytes):
            self._client.put_object(Bucket=self.bucket, Key=key, Body=content, ACL=acl)
        else:
            with content.open("rb") as file:
                self._client.put_object(Bucket=self.bucket, Key=key, Body=file, ACL=acl)
        self.contents[key] = content

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=key)
        del self.contents[key]

    def serve(self, path: str, content: Content) -> str:
        """Offer a plain file beside the bucket; the URL is returned."""
        self.plain[path] = content
        return self.endpoint + path

    def fail_next(
        self, n: int = 1, *, status: int = 503, retry_after: str = "", key: str = ""
    ) -> None:
        """Answer with an error; 503 is S3's SlowDown."""
        self.faults.append(Fault("fail", n, key, status=status, retry_after=retry_after))

    def reset_next(self, n: int = 1, *, after: int = 0, key: str = "") -> None:
        """Reset the connection in a body (what the client has not read yet is lost with it)."""
        self.faults.append(Fault("reset", n, key, after))

    def truncate_next(self, n: int = 1, *, after: int = 0, key: str = "") -> None:
        """End a body early, under a Content-Length that promises all of it."""
        self.faults.append(Fault("truncate", n, key, after))

    def stall_next(self, n: int = 1, *, after: int = 0, key: str = "") -> None:
        """Send nothing more until the service closes."""
        self.faults.append(Fault("stall", n, key, after))

    def corrupt_next(self, n: int = 1, *, key: str = "") -> None:
        """Flip the bits of the first byte of a body."""
        self.faults.append(Fault("corrupt", n, key))

    def bytes_sent(self, key: str = "") -> int:
        """Bytes of bodies sent so far, of one key or of all."""
        return sum(request.sent for request in self.requests if key in ("", request.key))

    def take_fault(self, key: str) -> Fault:
        with self.lock:
            for fault in self.faults:
                if fault.n > 0 and fault.key in ("", key):
                    fault.n -= 1
                    return fault
        return Fault("", 0)

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        for key in list(self.contents):
            self.delete(key)
        self._client.delete_bucket(Bucket=self.bucket)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    service: Service
    reset: set[Any]  # sockets that end without a goodbye

    def shutdown_request(self, request: Any) -> None:
        if request in self.reset:
            self.reset.discard(request)
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        service = self.server.service
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        key = path.removeprefix(f"/{service.bucket}/")
        if path in service.plain:
            content = service.plain[path]
            size, etag = _size(content), f'"{_size(content):x}-plain"'
            if self.headers.get("If-Match", etag) != etag:
                self._send(412, {}, b"")
            else:
                self._content(path, content, {"ETag": etag}, size, service.ranges)
        elif key in service.contents and (found := self._ask("HEAD")).status == 200:
            content = service.contents[key]
            headers = {name: found.headers[name] for name in ("ETag", "Last-Modified")}
            self._content(key, content, headers, int(found.headers["Content-Length"]), True)
        else:
            answer = self._ask(self.command)
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name in ("Content-Type", "ETag")
            }
            self._send(answer.status, kept, answer.data)

    def _ask(self, method: str) -> urllib3.BaseHTTPResponse:
        """Moto's answer to the same request, without its range."""
        headers = {
            name: value for name, value in self.headers.items() if name not in ("Host", "Range")
        }
        return _pool().request(method, self.server.service.moto + self.path, headers=headers)

    def _content(
        self, key: str, content: Content, headers: dict[str, str], size: int, ranges: bool
    ) -> None:
        service = self.server.service
        if self.command == "HEAD":
            self._send(200, headers, b"", size)
            return
        first, _, last = (
            self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            if ranges
            else ("", "", "")
        )
        start, stop = (int(first), min(int(last) + 1, size)) if first else (0, size)
        if first and start >= size:
            self._send(416, {}, b"")
            return
        request, fault = Request(key, start, stop), service.take_fault(key)
        service.requests.append(request)
        if fault.kind == "fail":
            request.status = fault.status
            wish = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self._send(fault.status, wish, SLOW_DOWN)
            return
        request.status = 206 if first else 200
        if first:
            headers = headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        self._send(request.status, headers, None, stop - start)
        with suppress(ConnectionError):
            self._body(content, request, fault)

    def _body(self, content: Content, request: Request, fault: Fault) -> None:
        service = self.server.service
        early = fault.kind in ("reset", "truncate", "stall")
        stop = min(request.start + fault.after, request.stop) if early else request.stop
        chunk = max(1, min(CHUNK, service.rate // 50)) if service.rate else CHUNK
        for position in range(request.start, stop, chunk):
            block = _slice(content, position, min(position + chunk, stop))
            if fault.kind == "corrupt" and position == request.start:
                block = bytes([block[0] ^ 255]) + block[1:]
            self.wfile.write(block)
            request.sent += len(block)
            if service.rate:
                time.sleep(len(block) / service.rate)
        if fault.kind == "stall":
            service.closing.wait()
        if fault.kind == "reset":
            self.server.reset.add(self.connection)
        self.close_connection = self.close_connection or early

    def _send(
        self, status: int, headers: dict[str, str], body: bytes | None, length: int = -1
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(length if length >= 0 else len(body or b"")))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def s3_service(
    folder: Path | None = None, bucket: str = "natural-scenes-dataset", port: int = 0
) -> Iterator[Service]:
    """Serve every file of a folder as an object of a public bucket, the path relative to the folder
    being its key.
    """
    service = Service(bucket, _moto(), port)
    thread = threading.Thread(
        target=service.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    try:
        for path in sorted(folder.rglob("*")) if folder else []:
            if path.is_file():
                service.put(path.relative_to(folder).as_posix(), path)  # type: ignore[arg-type]
        thread.start()
        yield service
    finally:
        if not thread.is_alive():
            thread.start()  # shutdown() waits for a server that runs
        service.close()


@functools.cache
def _moto() -> str:
    """URL of the one moto server of this process; it takes a second to start and ends with the
    process.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    return f"http://127.0.0.1:{server.get_host_and_port()[1]}"


@functools.cache
def _pool() -> urllib3.PoolManager:
    return urllib3.PoolManager(maxsize=16, retries=False)


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _slice(content: Content, start: int, stop: int) -> bytes:
    if isinstance(content, bytes):
        return content[start:stop]
    with content.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Serve a folder as a public S3 bucket until killed."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bucket", default="natural-scenes-dataset")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--coco-zip", type=Path, help=f"file to offer at {COCO_PATH}")
    options = parser.parse_args()
    with s3_service(options.folder, options.bucket, options.port) as service:
        if options.coco_zip:
            print(f"coco_url: {service.serve(COCO_PATH, options.coco_zip)}")
        print(f"endpoint: {service.endpoint}\nbucket: {service.bucket}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
