"""dvc.yaml says the truth: every stage lists the code that it imports, and training sees nothing of
the test set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from fmri2clip import decoders
from fmri2clip.core import closure, params
from pipeline import deps

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "src/fmri2clip/decoders"
RUNS = params.load(ROOT / "params.yaml").runs
TEST_SET = (
    "data/rois/test",
    "data/rois/noise_free",
    "data/stimuli",
    "shared.h5",
    "nsddata_stimuli",
    "data/raw",
    "data/predictions",
    "data/scores",
    "data/picture_scores",
    "data/tokens.json",
    "data/world.json",
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


def covers(deps: list[str], file: str) -> bool:
    return any(file == dep or file.startswith(f"{dep}/") for dep in deps)


def test_every_stage_says_what_it_is_for(stages: dict[str, Any]) -> None:
    assert all(stage.desc for stage in stages.values())
    assert all((ROOT / script(stage)).is_file() for stage in stages.values())


def test_code_deps_are_those_of_the_imports() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert deps.rewrite(text) == text, "run make deps"


@pytest.mark.parametrize("script", sorted({p.stem for p in (ROOT / "pipeline").glob("*.py")}))
def test_every_file_that_is_imported_is_covered(script: str, stages: dict[str, Any]) -> None:
    """Whatever `make deps` folds into folders: nothing that a stage can run is left out."""
    entry = ROOT / "pipeline" / f"{script}.py"
    for name, stage in stages.items():
        if stage.cmd.split()[2] != f"pipeline.{script}":
            continue
        run = RUNS.get(name.partition("@")[2]) if name.startswith(("train@", "evaluate@")) else None
        decoder = run.decoder if run else closure.ANY
        for file in closure.find_closure(entry, decoder=decoder):
            relative = file.relative_to(ROOT).as_posix()
            assert covers(paths(stage.deps), relative), f"{name}: {relative}"


def test_a_decoder_is_a_dep_of_its_own_runs_only(stages: dict[str, Any]) -> None:
    for name, stage in stages.items():
        if not name.startswith(("train@", "evaluate@")):
            continue
        folders = {d for d in decoders.names() if covers(paths(stage.deps), f"{FOLDER}/{d}/x.py")}
        assert folders == {RUNS[name.partition("@")[2]].decoder}, name


ORDER = (
    {"core"},
    {"transfer", "solvers"},
    {"datasets", "clip", "generators", "metrics", "figures"},
    {"decoders"},
    {"artefacts"},
    {"stages", "use"},
    {"studies", "documents"},
    {"tracking"},
    {"cli"},
)
EXCEPTIONS = {("metrics", "datasets")}  # which visual areas are early; at most three
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def library_imports() -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Path of every library file and of each one that it imports, as parts without the ending."""
    for file in sorted(closure.PACKAGE.rglob("*.py")):
        for other in sorted(closure.imports(file)[0]):
            if other.is_relative_to(closure.PACKAGE) and other.name != "__init__.py":
                one, two = (path.relative_to(closure.PACKAGE) for path in (file, other))
                yield one.with_suffix("").parts, two.with_suffix("").parts


def test_nothing_imports_upwards() -> None:
    assert len(EXCEPTIONS) <= 3
    wrong = [
        (one, two)
        for one, two in library_imports()
        if one[0] != two[0]
        and one != ("__init__",)
        and LEVEL[two[0]] >= LEVEL[one[0]]
        and (one[0], two[0]) not in EXCEPTIONS
    ]
    assert not wrong


@pytest.mark.parametrize(("layer", "shared"), [("stages", set()), ("decoders", {"parts"})])
def test_no_stage_imports_a_stage_and_no_decoder_a_decoder(layer: str, shared: set[str]) -> None:
    wrong = [
        (one, two)
        for one, two in library_imports()
        if one[0] == two[0] == layer
        and len(one) > 2
        and len(two) > 2
        and one[1] != two[1]
        and two[1] not in shared
    ]
    assert not wrong


def test_imports_have_no_circles() -> None:
    """Between files; a package's __init__ counts as a file where it holds code."""
    graph = nx.DiGraph()
    for file in closure.PACKAGE.rglob("*.py"):
        for other in closure.imports(file)[0] - {file}:
            if not closure.decides_nothing(other):
                graph.add_edge(file, other)
    assert nx.is_directed_acyclic_graph(graph), nx.find_cycle(graph)


def test_the_root_of_the_library_holds_two_files() -> None:
    files = {path.name for path in closure.PACKAGE.glob("*.py")}
    assert files == {"__init__.py", "cli.py"}


def test_mlflow_is_imported_by_tracking_only() -> None:
    """And there inside functions, but by what MLflow itself loads: a stage starts without it."""
    for path in (*closure.PACKAGE.rglob("*.py"), *(ROOT / "pipeline").glob("*.py")):
        text = path.read_text()
        if not path.is_relative_to(closure.OBSERVER):
            assert not re.search(r"^\s*(import|from) mlflow", text, re.MULTILINE), path
        elif path.name != "served.py":
            assert not re.search(r"^(import|from) mlflow", text, re.MULTILINE), path


def test_hdf5_is_opened_in_two_places_only() -> None:
    found = [
        path.relative_to(closure.PACKAGE).as_posix()
        for path in closure.PACKAGE.rglob("*.py")
        if re.search(r"^\s*(import|from) h5py", path.read_text(), re.MULTILINE)
    ]
    assert all(name == "core/store.py" or name.startswith("datasets/") for name in found)


def test_no_stage_calls_the_store() -> None:
    """Files are written and read by artefacts/; stages pass arrays."""
    calls = re.compile(r"\bstore\.(read|write|write_groups|groups|open_stream|read_rows|shape)\(")
    for path in (closure.PACKAGE / "stages").rglob("*.py"):
        assert not calls.search(path.read_text()), path


READ_RAW = ("check_data", "extract_rois", "cache_stimuli", "cache_clip", "download")


def test_raw_files_are_read_at_the_door_only(stages: dict[str, Any]) -> None:
    """What lets another data set in: behind these stages nothing knows NSD's files."""
    for name, stage in stages.items():
        if name.partition("@")[0] not in READ_RAW:
            assert not [dep for dep in paths(stage.deps) if dep.startswith("data/raw/")], name


def test_training_is_blind_to_the_test_set(stages: dict[str, Any], index: Any) -> None:
    trains = {n: stage for n, stage in stages.items() if n.startswith(("train@", "select@"))}
    assert {f"train@{run}" for run in RUNS} | {f"select@{run}" for run in RUNS} == set(trains)
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


def test_one_summary_is_all_that_dvc_calls_metrics(index: Any) -> None:
    assert paths(list(index.metrics)) == ["reports/summary"]


def test_expensive_stages_keep_the_run_cache(stages: dict[str, Any]) -> None:
    """A plain output with `cache: false` switches DVC's run cache off; metrics and plots do not."""
    for name, stage in stages.items():
        if name.partition("@")[0] in EXPENSIVE:
            assert all(out.use_cache or out.metric or out.plot for out in stage.outs), name
