"""What is installed is what is imported: pyproject.toml, requirements.txt and requirements.lock."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fmri2clip.core.closure import find_closure

OWN = {"fmri2clip", "pipeline"}


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def named(requirements: Iterable[str]) -> dict[str, Requirement]:
    found = [Requirement(text) for text in requirements]
    return {canonicalize_name(one.name): one for one in found}


def imported(files: Iterable[Path]) -> set[str]:
    """Names on the index of what these files import, inside functions too."""
    modules: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    known = packages_distributions()
    others = modules - set(sys.stdlib_module_names) - OWN
    return {canonicalize_name(min(known.get(name, [name]), key=len)) for name in others}


# Parts of packages that are asked for: botocore's errors are boto3's, file systems DVC's.
PARTS = {"botocore": "boto3", "dvc-objects": "dvc", "ruamel-yaml-clib": "ruamel-yaml"}


def test_what_decodes_is_installed_without_extras(root: Path, project: dict[str, Any]) -> None:
    """Painting apart, which is asked for and wants [pictures]."""
    files = find_closure(root / "src/fmri2clip/cli.py")
    needed = imported(file for file in files if "generators" not in file.parts)
    assert needed <= set(named(project["dependencies"]))


@pytest.mark.parametrize(
    ("extras", "stages"),
    [
        (("pipeline",), "*"),
        (("pipeline", "pictures"), "reconstruct"),
    ],
)
def test_extras_hold_what_stages_import(
    root: Path, project: dict[str, Any], extras: tuple[str, ...], stages: str
) -> None:
    """All stages but the one that paints do without [pictures]."""
    scripts = [p for p in (root / "pipeline").glob(f"{stages}.py") if p.stem != "reconstruct"]
    scripts = scripts or [root / "pipeline" / f"{stages}.py"]
    files = find_closure(*scripts)
    if stages == "*":
        files = {file for file in files if "generators" not in file.parts}
    allowed = set(named(project["dependencies"]))
    for extra in extras:
        allowed |= set(named(project["optional-dependencies"][extra]))
    needed = {PARTS.get(name, name) for name in imported(files)}
    assert needed <= allowed, needed - allowed


def test_the_tested_set_lies_in_the_ranges_and_its_hashes_are_locked(
    root: Path, project: dict[str, Any]
) -> None:
    asked = named(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        asked |= named(extra)
    lines = (root / "requirements.txt").read_text().splitlines()
    pinned = named(line for line in lines if not line.startswith("#"))
    assert set(pinned) == set(asked), "run make requirements"
    lock = (root / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.]+) ", lock, re.MULTILINE))
    for name, one in pinned.items():
        (pin,) = one.specifier
        assert pin.version in asked[name].specifier, one
        assert locked[name] == pin.version, one
    assert lock.count("==") <= lock.count("--hash=sha256:") and "http" not in lock.split("\n")[0]
