"""Stages of test clones without the start of Python: forked off a process that has the libraries.

`python -m pipeline.<stage>` takes up to seconds of a core for the imports of torch, scikit-learn,
diffusers, MLflow and their like, and the tests start some hundred stages. Here one process imports
the third-party libraries once. Of this project it imports nothing, since each clone runs its own.
For each stage it forks a child, which takes over arguments, folder, environment and standard
streams of its caller, and runs the module as `python -m` does.

The callers are two scripts, `python` and `dvc`, which stand first in the PATH of a clone. They ask
the server over a Unix socket and end as the child ends; when a caller is killed, so is its child.
What is no stage they leave to the real program; so they do with the stages in the variable FRESH
("report,evaluate ridge"), and when Python is to start with settings of its own (PYTHON... in the
environment).

A child differs from a process of its own: all libraries are there already, hashes of strings are
the same in all children of a server, its session and process group are the server's, and what is
left in memory at its end is not taken apart, which takes seconds. So what is stopped by a signal,
measured, or watched at its imports is started as a real process.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import gc
import marshal
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
OWN = {"fmri2clip", "pipeline"}
# What libraries import only when they are used; a module that is missing here costs time alone.
LATE = (
    "dvc.__main__",
    "dvc.commands.repro",
    "dvc.repo.reproduce",
    "matplotlib.backends.backend_agg",
    "mlflow.store.tracking.sqlalchemy_store",
    "torch._dynamo",
)
# Of the server while it imports; its children have the environment of their callers.
SETTINGS = {
    "OMP_NUM_THREADS": "1",  # a process with threads must not fork
    "OPENBLAS_NUM_THREADS": "1",
    "OPENBLAS_THREAD_TIMEOUT": "4",  # as in pipeline/__init__.py
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # a look for GPUs that leaves CUDA to the children
}
CALLER = '''#!{python} -IS
"""Of the tests: stages are run by the server of fork_server.py, all else by the real program."""

import os
import sys

REAL = {real!r}
given = sys.argv[1:]
command = {prefix!r} + given
is_stage = len(command) > 1 and command[0] == "-m" and command[1].startswith({served!r})
is_fresh = " ".join(command[1:]).removeprefix("pipeline.") in os.environ.get("FRESH", "").split(",")
if not is_stage or is_fresh or any(name.startswith("PYTHON") for name in os.environ):
    os.execv(REAL, [REAL, *given])

import marshal
import signal
import socket
import struct

request = marshal.dumps((command[1], command[2:], os.getcwd(), dict(os.environb)))
server = socket.socket(socket.AF_UNIX)
answer = server.makefile("rb")
try:
    server.connect({address!r})
    socket.send_fds(server, [struct.pack("i", len(request))], [0, 1, 2])
    server.sendall(request)
    struct.unpack("i", answer.read(4))  # the number of the child that has begun
except (OSError, struct.error):  # the server has ended
    os.execv(REAL, [REAL, *given])
(status,) = struct.unpack("i", answer.read(4))  # of the child, when it has ended
if os.WIFSIGNALED(status):
    number = os.WTERMSIG(status)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
os._exit(os.WEXITSTATUS(status))
'''


@contextlib.contextmanager
def fork_server() -> Iterator[Path]:
    """A folder with the two scripts in it and, until the end of the block, a server for them."""
    with tempfile.TemporaryDirectory(prefix="forks") as name:
        folder = Path(name)
        write_callers(folder)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "server"))
            listener.listen()  # a caller that comes before the server is ready waits
            own = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
            server = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno())],
                stdin=subprocess.PIPE,  # closed when this process ends, and then the server ends
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C is for the callers
                env=own | SETTINGS,
            )
        try:
            yield folder
        finally:
            assert server.stdin is not None
            server.stdin.close()
            server.wait()


def write_callers(folder: Path) -> None:
    """`python` and `dvc`, for a server that listens in the folder."""
    programs = Path(sys.executable).parent
    for name, prefix in (("python", []), ("dvc", ["-m", "dvc"])):
        text = CALLER.format(
            python=sys.executable,
            real=str(programs / name),
            prefix=prefix,
            served=("pipeline.", "dvc"),
            address=str(folder / "server"),
        )
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


# The server


@dataclass(frozen=True)
class Request:
    """A module to run, and from where."""

    module: str
    arguments: list[str]
    folder: str
    environment: dict[bytes, bytes]
    streams: list[int]


def import_libraries(root: Path) -> None:
    """Every import of a third-party library that stands in src/ and pipeline/, wherever it does."""
    statements = {f"import {name}" for name in LATE}
    for path in [*root.glob("src/**/*.py"), *root.glob("pipeline/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [str(node.module)]
            else:
                continue
            tops = {name.partition(".")[0] for name in modules}
            if not tops & OWN and not tops <= sys.stdlib_module_names:
                statements.add(ast.unparse(node))
    for statement in sorted(statements):
        with contextlib.suppress(ImportError):  # of an optional library
            exec(statement, {})


def serve(listener: socket.socket) -> Request | None:
    """Fork a child for each caller. Returns in the child, with what it has to run; in the server
    when stdin ends, with None.
    """
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    callers: dict[int, socket.socket] = {}  # by their child
    while True:
        ready, _, _ = select.select([0, listener, ended, *callers.values()], [], [])
        if 0 in ready:
            for child in callers:
                os.kill(child, signal.SIGKILL)
            return None
        for child in [child for child, caller in callers.items() if caller in ready]:
            # A caller has nothing more to say: it is gone.
            os.kill(child, signal.SIGKILL)
            callers.pop(child).close()
        if ended in ready:
            os.read(ended, 1024)
            report_ends(callers)
        if listener in ready:
            caller, _ = listener.accept()
            request = receive(caller)
            if request is None:
                continue
            child = os.fork()
            if not child:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (listener, caller, *callers.values()):
                    one.close()
                os.close(ended)
                os.close(wake)
                return request
            for stream in request.streams:
                os.close(stream)
            callers[child] = caller
            tell(caller, child)


def report_ends(callers: dict[int, socket.socket]) -> None:
    """Tell the callers of children that have ended how they did."""
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        if child in callers:
            with callers.pop(child) as caller:
                tell(caller, status)


def tell(caller: socket.socket, number: int) -> None:
    """Send one number to a caller that may be gone."""
    with contextlib.suppress(OSError):
        caller.sendall(struct.pack("i", number))


def receive(caller: socket.socket) -> Request | None:
    """What a caller asks for; None if it has gone."""
    head, streams, _, _ = socket.recv_fds(caller, 4, 3)
    if len(head) == 4:
        with caller.makefile("rb") as file:
            content = file.read(struct.unpack("i", head)[0])
        with contextlib.suppress(EOFError, ValueError):
            return Request(*marshal.loads(content), streams)
    caller.close()
    return None


def run(request: Request, added: dict[bytes, bytes]) -> NoReturn:
    """`python -m module arguments` as the caller would; added: variables that libraries set."""
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # libraries wrap them
    os.chdir(request.folder)
    os.environb.clear()
    os.environb.update(added | request.environment)
    set_threads()
    sys.path.insert(0, request.folder)
    sys.argv = ["-m", *request.arguments]
    sys.modules["__main__"] = types.ModuleType("__main__")
    status = 0
    try:
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    # What Python does at its end, as far as others see it.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def set_threads() -> None:
    """As many as libraries take when they are loaded: the server loaded them with one, because a
    process with threads must not fork.
    """
    import torch
    from threadpoolctl import threadpool_limits

    n_cores = len(os.sched_getaffinity(0))
    n_openmp = min(n_cores, int(os.environ.get("OMP_NUM_THREADS") or n_cores))
    n_blas = min(n_cores, int(os.environ.get("OPENBLAS_NUM_THREADS") or n_openmp))
    threadpool_limits({"blas": n_blas, "openmp": n_openmp})
    torch.set_num_threads(n_openmp)


def main() -> None:
    """The server, and behind `serve` each of its children."""
    before = dict(os.environb)
    del sys.path[0]  # of this file, whose neighbours have names of libraries
    import_libraries(ROOT)
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads must not fork"
    gc.freeze()  # else a child copies what its first collection looks at
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        request = serve(listener)
    if request:
        run(request, {name: os.environb[name] for name in os.environb if name not in before})


if __name__ == "__main__":
    main()
