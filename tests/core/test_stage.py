"""What every stage's command does with errors."""

from __future__ import annotations

import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fmri2clip.core import stage

ERRORS = (
    (ValueError("a is 1, expected 2"), "own: a is 1, expected 2"),
    (PermissionError(13, "Permission denied", "x.h5"), "own: [Errno 13] Permission denied: 'x.h5'"),
    (
        KeyError(22),
        "own: KeyError 22; set FMRI2CLIP_TRACEBACK=1 to see where, and please report it",
    ),
    (MemoryError(), "own: MemoryError; set FMRI2CLIP_TRACEBACK=1 to see where, and please report"),
    (RuntimeError("two\nlines"), "own: RuntimeError two lines; set"),
    (AssertionError(), "own: AssertionError; set"),
    (RecursionError("deep"), "own: RecursionError deep; set"),
)


@pytest.fixture
def command(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs a stage that raises this error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["own"])
    monkeypatch.delenv("FMRI2CLIP_TRACEBACK", raising=False)
    (tmp_path / "params.yaml").symlink_to(root / "params.yaml")

    def run(error: BaseException) -> None:
        def own(params: Any) -> None:
            raise error

        stage.run(own)

    yield run
    socket.setdefaulttimeout(None)


@pytest.mark.parametrize(("error", "line"), ERRORS)
def test_every_error_is_one_line(command: Any, error: Exception, line: str) -> None:
    with pytest.raises(SystemExit) as caught:
        command(error)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_the_traceback_is_there_for_who_asks(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMRI2CLIP_TRACEBACK", "1")
    with pytest.raises(KeyError):
        command(KeyError(22))


def test_an_interrupt_is_no_error(command: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        command(KeyboardInterrupt())


@pytest.mark.parametrize("content", [b"note: '\x07'\n", "note: 'ü'".encode("latin-1")])
def test_params_that_cannot_be_read_are_named(command: Any, tmp_path: Path, content: bytes) -> None:
    """Also where dvc.yaml is there, which is read first."""
    (tmp_path / "dvc.yaml").write_text("stages: {own: {params: [note]}}")
    (tmp_path / "params.yaml").unlink()
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(SystemExit, match=r"own: params\.yaml is not"):
        command(AssertionError("not reached"))


def test_a_silent_server_is_given_up(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """urllib, by which open_clip and torch fetch weights, has no limit of its own."""
    monkeypatch.setattr(stage, "SILENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/weights"
        monkeypatch.setattr(stage, "load", lambda: urllib.request.urlopen(url))
        with pytest.raises(SystemExit, match=r"own: .*timed out"):
            command(AssertionError("not reached"))
