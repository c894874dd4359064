"""dvc.yaml says the truth: every stage lists the code that it imports, and training sees
nothing of the test set.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = "src/fmri2clip"
OBSERVERS = {
    f"{LIBRARY}/tracking.py"
}  # watches and never changes an output, so an edit must not re-train anything
TEST_SET = (
    "data/rois/test",
    "shared.h5",
    "nsddata_stimuli",
    "data/raw",
    "data/predictions",
    "reports",
)


@pytest.fixture(scope="module")
def index() -> Any:
    from dvc.repo import Repo

    return Repo(str(ROOT)).index


@pytest.fixture(scope="module")
def stages(index: Any) -> dict[str, Any]:
    """Name -> DVC's resolved stage, of the root dvc.yaml."""
    return {stage.name: stage for stage in index.stages if stage.path == str(ROOT / "dvc.yaml")}


def paths(items: list[Any]) -> list[str]:
    return [
        Path(item.fs_path).relative_to(ROOT).as_posix()
        for item in items
        if not hasattr(item, "params")
    ]


def script(stage: Any) -> str:
    return stage.cmd.split()[2].replace(".", "/") + ".py"


@cache
def module_file(name: str) -> str | None:
    """File of a module of this project, relative to the root; None for other modules."""
    base = ROOT / ("src" if name.split(".")[0] == "fmri2clip" else "") / Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if name.split(".")[0] in ("fmri2clip", "pipeline") and path.is_file():
            return path.relative_to(ROOT).as_posix()
    return None


class _Imports(ast.NodeVisitor):
    def __init__(self) -> None:
        self.names: set[str] = set()
        self.loads_decoders = False

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.names.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "the project imports absolutely"
        self.names.add(node.module or "")
        self.names.update(f"{node.module}.{alias.name}" for alias in node.names)
        self.loads_decoders |= node.module == "fmri2clip.decoders" and any(
            alias.name in ("load", "load_decoder") for alias in node.names
        )

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.loads_decoders |= ast.unparse(node) in ("decoders.load", "decoders.load_decoder")
        self.generic_visit(node)


@cache
def imports(file: str) -> tuple[frozenset[str], bool]:
    """Files of this project that a file imports, at any depth of its code; whether it loads
    decoders by name.
    """
    visitor = _Imports()
    visitor.visit(ast.parse((ROOT / file).read_text(encoding="utf-8")))
    parents = {
        ".".join(name.split(".")[:i])
        for name in visitor.names
        for i in range(1, name.count(".") + 2)
    }
    return frozenset(
        found for name in parents if (found := module_file(name))
    ), visitor.loads_decoders


def closure(file: str) -> tuple[set[str], bool]:
    """Everything that running a file imports, itself included; whether any of it loads decoders
    by name.
    """
    seen: set[str] = set()
    queue, loads = ["pipeline/__init__.py", file], False
    while queue:
        current = queue.pop()
        if current in seen or current in OBSERVERS:
            continue
        seen.add(current)
        found, loads_here = imports(current)
        loads |= loads_here
        queue.extend(found)
    return seen, loads


def needed_by(stage_script: str) -> tuple[set[str], bool]:
    """The closure of a script, with what any decoder imports where decoders are loaded by name."""
    from fmri2clip import decoders

    files, loads = closure(stage_script)
    own = {f"{LIBRARY}/decoders/{name}.py" for name in decoders.names()}
    if loads:
        files = files.union(*(closure(file)[0] for file in own)) - own
    return files, loads


def covers(deps: list[str], file: str) -> bool:
    return any(file == dep or file.startswith(f"{dep}/") for dep in deps)


def test_every_stage_says_what_it_is_for(stages: dict[str, Any]) -> None:
    assert all(stage.desc for stage in stages.values())
    assert all((ROOT / script(stage)).is_file() for stage in stages.values())


def test_imports_are_declared(stages: dict[str, Any]) -> None:
    missing = []
    for name, stage in stages.items():
        needed, _ = needed_by(script(stage))
        missing += [
            f"{name}: {file}" for file in sorted(needed) if not covers(paths(stage.deps), file)
        ]
    assert not missing


def test_declared_code_is_imported(stages: dict[str, Any]) -> None:
    """A dep that nothing imports re-runs a stage for nothing; files that are no Python are data."""
    idle = []
    for name, stage in stages.items():
        needed, loads = needed_by(script(stage))
        for dep in paths(stage.deps):
            is_code = dep.startswith(("pipeline/", f"{LIBRARY}/")) and not (
                loads and "/decoders" in dep
            )
            if is_code and not any(covers([dep], file) for file in needed):
                idle.append(f"{name}: {dep}")
    assert not idle


def test_a_decoder_is_a_dep_of_its_own_runs_only(stages: dict[str, Any]) -> None:
    from fmri2clip import decoders, params

    runs = params.load(ROOT / "params.yaml").runs
    for name, stage in stages.items():
        files, loads = closure(script(stage))
        stage_name, _, item = name.partition("@")
        run = runs[item] if stage_name in ("train", "evaluate") else None
        expected = {run.decoder} if run else set(decoders.names())
        declared = {
            d for d in decoders.names() if covers(paths(stage.deps), f"{LIBRARY}/decoders/{d}.py")
        }
        imported = {d for d in decoders.names() if f"{LIBRARY}/decoders/{d}.py" in files}
        assert declared == (expected if loads else imported), name


def test_import_closure_sees_lazy_and_package_imports() -> None:
    files, loads = closure("pipeline/train.py")
    assert {
        f"{LIBRARY}/training/trainer.py",
        f"{LIBRARY}/__init__.py",
        f"{LIBRARY}/schema.py",
    } <= files
    assert loads
    assert not OBSERVERS & files


def test_training_is_blind_to_the_test_set(stages: dict[str, Any], index: Any) -> None:
    trains = {name: stage for name, stage in stages.items() if name.startswith("train@")}
    assert trains
    sealed = {
        out
        for stage in stages.values()
        for out in paths(stage.outs)
        if any(word in out for word in TEST_SET)
    }
    for stage in trains.values():
        for dep in paths(stage.deps):
            assert not any(word in dep for word in TEST_SET), dep
            assert not any(covers([dep], out) for out in sealed), dep


def test_folder_deps_are_connected(stages: dict[str, Any], index: Any) -> None:
    graph = index.graph
    for name, stage in stages.items():
        for dep in paths(stage.deps):
            for producer in stages.values():
                inside = [
                    out for out in paths(producer.outs) if covers([dep], out) or covers([out], dep)
                ]
                if inside and producer is not stage:
                    assert nx.has_path(graph, stage, producer), (
                        f"{name} reads {dep}, but does not wait for {inside}"
                    )


def test_every_stage_that_computes_waits_for_the_check(stages: dict[str, Any], index: Any) -> None:
    check = stages["check_params"]
    for name, stage in stages.items():
        assert stage is check or nx.has_path(index.graph, stage, check), name


def test_raw_data_is_kept_and_stays_here(stages: dict[str, Any]) -> None:
    raw = [out for stage in stages.values() for out in stage.outs if "data/raw/nsd" in out.fs_path]
    assert raw
    assert all(out.persist and not out.can_push for out in raw)


EXPENSIVE = (
    "extract_rois",
    "cache_clip",
    "train",
    "evaluate",
    "references",
    "reconstruct",
    "score_pictures",
)


def test_expensive_stages_keep_the_run_cache(stages: dict[str, Any]) -> None:
    """A plain output with `cache: false` switches DVC's run cache off; metrics and plots do not."""
    for name, stage in stages.items():
        if name.partition("@")[0] in EXPENSIVE:
            assert all(out.use_cache or out.metric or out.plot for out in stage.outs), name
