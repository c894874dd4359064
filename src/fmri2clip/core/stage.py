"""What all stages share: parameters, threads, command line, one line instead of a traceback."""

from __future__ import annotations

import argparse
import inspect
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from fmri2clip.core import watch
from fmri2clip.core.params import Params, load
from fmri2clip.core.strict import check_known

TRACEBACK = "FMRI2CLIP_TRACEBACK"
SILENCE = (
    60.0  # seconds after which a server that sends nothing is given up, where nobody says else
)
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def run(stage: Callable[..., None]) -> None:
    """Call `stage(params, *arguments)`, the arguments taken from the command line.

    A parameter with the default False becomes an option: dry_run is `--dry-run`. One with the
    default '' may be left out. Errors end in one line (`ends_in_one_line`). So does a change of
    what the stage reads while it runs (watch.py).
    """
    name = stage.__name__
    arguments = list(inspect.signature(stage).parameters.values())[1:]
    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline.{name}", description=inspect.getdoc(stage)
    )
    for argument in arguments:
        if argument.default is False:
            parser.add_argument(f"--{argument.name.replace('_', '-')}", action="store_true")
        elif argument.default == "":
            parser.add_argument(argument.name, nargs="?", default="")
        else:
            parser.add_argument(argument.name)
    given = vars(parser.parse_args())
    named = [value for value in given.values() if value and isinstance(value, str)]
    socket.setdefaulttimeout(SILENCE)
    with ends_in_one_line(" ".join([name, *named])):
        watch.begin(name, named)
        params = load()
        set_threads(params.compute.threads)
        stage(params, **given)
        watch.check()


@contextmanager
def ends_in_one_line(name: str) -> Iterator[None]:
    """Any exception ends the process with a line that begins with the name, and exit code 1.

    ValueError and OSError are written for people; of the rest the line says what it was.
    FMRI2CLIP_TRACEBACK=1 shows where it rose.
    """
    try:
        yield
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        if isinstance(error, ValueError | OSError):
            sys.exit(f"{name}: {error}")
        said = " ".join([type(error).__name__, *str(error).split()])
        sys.exit(f"{name}: {said}; set {TRACEBACK}=1 to see where, and please report it")


def set_threads(n: int) -> None:
    """Limit numerical libraries to n threads: those loaded now, and those still to come.

    The latter read the environment.
    """
    from threadpoolctl import threadpool_limits

    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n)))
    threadpool_limits(n)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)


def check_named(name: str, table: Iterable[str], key: str) -> None:
    """Raise ValueError unless params.yaml has `name` in the table of that key."""
    check_known(name, table, "params.yaml", key)


def device(params: Params) -> str:
    """'cpu' or 'cuda': compute.device with auto resolved; see resolve_device."""
    return resolve_device(params.compute.device)


def resolve_device(name: str) -> str:
    """'cpu' or 'cuda' for auto, cpu or cuda.

    Raises ValueError if cuda is asked for and absent.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ValueError("compute.device is cuda, but torch finds no GPU; set it to auto or cpu")
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"compute.device is {name!r}; choose from auto, cpu, cuda")
    return "cuda" if has_cuda and name != "cpu" else "cpu"
