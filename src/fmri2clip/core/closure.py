"""Which files of this project a file imports, at any depth: the code that a result depends on.

The one place that knows. `make deps` writes the code deps of dvc.yaml from it, the resume folders
and the pictures carry its digest, and a test compares. Imports are read from the source, inside
functions too; those under TYPE_CHECKING do not count. Decoders and generators are loaded by name:
whoever calls `load_decoder` or `load_family` depends on every one of them, or on the one decoder
that is named.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parents[1]
OBSERVER = PACKAGE / "tracking"  # watches and never changes a result
LOADERS = {"load_decoder": "decoders/*/decoder.py", "load_family": "generators/*.py"}
ANY = "*"


@cache
def _module_file(name: str) -> Path | None:
    """File of a module of this project; None for other modules and for names inside a module."""
    first = name.split(".")[0]
    if first not in (PACKAGE.name, "pipeline"):
        return None
    base = (PACKAGE.parent if first == PACKAGE.name else ROOT).joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


class _Imports(ast.NodeVisitor):
    """Dotted names that a file imports, and which of LOADERS it uses."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.loaders: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.names.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "the project imports absolutely"
        self.names.add(node.module or "")
        self.names.update(f"{node.module}.{alias.name}" for alias in node.names)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).rpartition(".")[2]
        self.loaders |= {called} & set(LOADERS)
        self.generic_visit(node)


@cache
def _visit(file: Path) -> _Imports:
    visitor = _Imports()
    visitor.visit(ast.parse(file.read_text(encoding="utf-8")))
    return visitor


def list_packages(file: Path) -> set[str]:
    """Top-level packages that one file imports and that are neither Python's nor this project's."""
    own = {PACKAGE.name, "pipeline", *sys.stdlib_module_names}
    return {name.split(".")[0] for name in _visit(file).names} - own


@cache
def imports(file: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """Files of this project that one file imports, their packages too, and the LOADERS it calls."""
    visitor = _visit(file)
    parents = {
        ".".join(parts[:i])
        for parts in (name.split(".") for name in visitor.names)
        for i in range(1, len(parts) + 1)
    }
    found = frozenset(path for name in parents if (path := _module_file(name)))
    return found, frozenset(visitor.loaders)


@cache
def decides_nothing(file: Path) -> bool:
    """Whether a file holds no more than a docstring, as most `__init__.py` do."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def find_closure(*files: Path, decoder: str = ANY) -> set[Path]:
    """Everything that importing these files can run, themselves included.

    Files without code are left out; one that gets code is found again, and `make deps` asks for it.
    decoder: name of the only one that is loaded; '*' for all.
    """
    seen: set[Path] = set()
    queue = list(files)
    while queue:
        current = queue.pop()
        if current in seen or current.is_relative_to(OBSERVER):
            continue
        seen.add(current)
        found, loaders = imports(current)
        queue.extend(found)
        for loader in loaders:
            pattern = LOADERS[loader]
            if loader == "load_decoder":
                pattern = pattern.replace(ANY, decoder)
            loaded = list(PACKAGE.glob(pattern))
            queue.extend(
                path.parent / "__init__.py"
                for path in loaded
                if (path.parent / "__init__.py").is_file()
            )
            queue.extend(loaded)
    return {file for file in seen if not decides_nothing(file)}


def code_digest(*modules: str, decoder: str = ANY) -> str:
    """sha256 of the source behind modules such as 'fmri2clip.stages.train.run', at any depth."""
    files = [_module_file(module) for module in modules]
    assert None not in files, f"{modules} are no modules of this project"
    digest = hashlib.sha256()
    for path in sorted(find_closure(*(file for file in files if file), decoder=decoder)):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
