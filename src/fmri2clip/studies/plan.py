"""Studies: a question, its variants as DVC experiments, and the numbers that answer it.

studies/<name>.yaml lists variants of params.yaml; each variant and seed is one experiment, named
<study>-<variant>-s<seed>. `experiments` runs them and `study_results` reads the answer; the default
results are never touched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fmri2clip.artefacts.paths import PICTURES, SCORE_PICTURES
from fmri2clip.artefacts.study import Answer
from fmri2clip.core import params as parameters
from fmri2clip.core.strict import build, check_known
from fmri2clip.stages.check_params import validate

MAX_MINUTES = 40


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """values are put, one by one, into every one of keys (dotted, such as runs.brainclip.seed)."""

    keys: tuple[str, ...]
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise ValueError(f"values is {list(self.values)}; give at least one seed, each once")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Paired difference of run a in variants a and run b in variants b.

    Several variants are averaged: the first of a is paired with the first of b, and so on.
    """

    title: str
    a: tuple[str, ...]
    run_a: str
    b: tuple[str, ...]
    run_b: str

    def __post_init__(self) -> None:
        if len(self.a) != len(self.b) or not self.a:
            raise ValueError(
                f"a names {len(self.a)} variants and b {len(self.b)}; "
                "they are paired, so give as many"
            )


@dataclass(frozen=True, kw_only=True)
class Study:
    """One file of studies/."""

    name: str
    question: str
    budget: str  # minutes on two cores, and what was reduced to stay within
    budget_minutes: int
    # DVC stages such as evaluate@brainclip; only these and what they need is run.
    targets: tuple[str, ...]
    # Keys of reconstructions whose scores count; compare calls them pictures/<key>.
    pictures: tuple[str, ...] = ()
    variants: Mapping[str, tuple[str, ...]]  # name -> overrides in the grammar of `dvc exp run -S`
    seeds: Seeds
    metrics: tuple[str, ...]  # dotted names of metrics.json
    base: tuple[str, ...] = ()  # overrides of all variants
    # Of the experiments and of every run of params.yaml; () leaves all as they are.
    subjects: tuple[str, ...] = ()
    scored: tuple[str, ...] = ()  # subjects whose scores count; () = all of a run
    compare: tuple[Comparison, ...] = ()
    answer: Mapping[str, str] = field(default_factory=dict)  # an Answer; {} for none
    # False: variants show different pictures (worlds): worlds are resampled, then their images.
    same_pictures: bool = True
    # Margin of "makes no difference": the 90 % interval lies within it. 0 = not asked.
    equivalence: float = 0.0
    measure_world: bool = False  # the figures of each variant's world (describe_data) as well
    x: Mapping[str, float] = field(default_factory=dict)  # variant -> number on the axis of a curve
    x_label: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.budget_minutes <= MAX_MINUTES:
            raise ValueError(
                f"budget_minutes is {self.budget_minutes}; a study takes at most {MAX_MINUTES}, "
                "use fewer seeds"
            )
        named = {variant for c in self.compare for variant in (*c.a, *c.b)} | set(self.x)
        if unknown := sorted(named - set(self.variants)):
            raise ValueError(
                f"compare or x names the variant {unknown[0]!r}; variants are "
                f"{', '.join(self.variants)}"
            )
        runs = {run for c in self.compare for run in (c.run_a, c.run_b)}
        if unknown := sorted(runs - set(self.scores)):
            raise ValueError(
                f"compare names the run {unknown[0]!r}, which no target evaluates: "
                f"{', '.join(self.targets)}"
            )
        self._check_answer()
        if self.pictures and SCORE_PICTURES not in self.targets:
            raise ValueError(
                f"pictures names {self.pictures[0]!r}, "
                f"but {SCORE_PICTURES} is not among the targets"
            )
        if self.equivalence < 0:
            raise ValueError(f"equivalence is {self.equivalence}, expected 0 (off) or a margin")
        is_over_worlds = not self.same_pictures and any(len(c.a) > 1 for c in self.compare)
        if self.equivalence and is_over_worlds:
            raise ValueError(
                f"equivalence is {self.equivalence}, which is not asked over several worlds; "
                "remove it, or same_pictures: false"
            )
        if self.measure_world and "describe_data" not in self.targets:
            raise ValueError(
                "measure_world is true, but describe_data is not among the targets; add it"
            )
        if not self.same_pictures and any(c.a != c.b for c in self.compare):
            raise ValueError(
                "variants with different pictures cannot be paired with each other; "
                "compare runs within each"
            )

    def _check_answer(self) -> None:
        """Raise ValueError where the answer asks for something that the study does not have."""
        if not self.answer:
            return
        answer = build(Answer, self.answer, where="answer")
        for key, there in (
            ("metric", self.metrics),
            ("compare", tuple(c.title for c in self.compare)),
            ("variant", tuple(self.variants)),
            ("run", self.scores),
        ):
            value = getattr(answer, key)
            if value and value not in there:
                raise ValueError(
                    f"answer.{key} is {value!r}, which the study has not; choose from "
                    f"{', '.join(there) or 'none'}"
                )

    @cached_property
    def runs(self) -> tuple[str, ...]:
        """Runs that the targets evaluate."""
        return tuple(
            target.removeprefix("evaluate@")
            for target in self.targets
            if target.startswith("evaluate@")
        )

    @property
    def scores(self) -> tuple[str, ...]:
        """What is scored: runs by their names, reconstructions as pictures/<name>."""
        pictures = [f"{PICTURES}{name}" for name in self.pictures]
        return (*self.runs, *pictures)

    def experiments(self) -> Iterator[Experiment]:
        """Every variant with every seed."""
        for variant, overrides in self.variants.items():
            for seed in self.seeds.values:
                name = f"{self.name}-{variant}-s{seed}"
                seeds = [f"++{key}={seed}" for key in self.seeds.keys]
                note = f"study {self.name} variant {variant} seed {seed}"
                yield Experiment(
                    name=name,
                    variant=variant,
                    seed=seed,
                    note=note,
                    overrides=(*self.base, *overrides, *seeds, f"++note='{note}'"),
                    targets=self.targets,
                    pictures=self.pictures,
                )


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One DVC experiment of a study."""

    name: str
    variant: str
    seed: int
    note: str
    overrides: tuple[str, ...]
    targets: tuple[str, ...]
    pictures: tuple[str, ...] = ()


def load(path: Path) -> Study:
    """Read and check studies/<name>.yaml. Raises ValueError naming the file and key."""
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise ValueError(f"there is no study {path.stem!r}; choose from {known}")
    content = parameters.read_yaml(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} is not a mapping; see the other files of {path.parent}")
    return build(Study, {"name": path.stem, **content}, where=str(path))


def plan(study: Study, params_path: Path) -> dict[Experiment, dict[str, Any]]:
    """Each experiment with the content of its params.yaml; ValueError for a bad override.

    Checked before anything is queued, so that a typo in the last variant costs no hour. Seeds of a
    variant differ in nothing else, so that one of them is checked for all.
    """
    planned: dict[Experiment, dict[str, Any]] = {}
    restriction: tuple[str, ...] = ()
    if study.subjects:
        restriction = _restrict(study.subjects, parameters.load(params_path).runs)
    checked: dict[str, dict[str, Any]] = {}
    for experiment in study.experiments():
        experiment = replace(experiment, overrides=(*restriction, *experiment.overrides))
        if experiment.variant not in checked:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "params.yaml"
                copy.write_bytes(params_path.read_bytes())
                checked[experiment.variant] = _override(copy, experiment)
        content = deepcopy(checked[experiment.variant])
        for key in study.seeds.keys:
            *tables, last = key.split(".")
            table = content
            for name in tables:
                table = table[name]
            table[last] = experiment.seed
        content["note"] = experiment.note
        planned[experiment] = content
    return planned


def _restrict(subjects: Iterable[str], runs: Iterable[str]) -> tuple[str, ...]:
    """Overrides that leave only these subjects, in the data and in each run."""
    listed = f"[{','.join(subjects)}]"
    own = [f"runs.{run}.subjects={listed}" for run in runs]
    return (f"subjects={listed}", *own)


def _override(copy: Path, experiment: Experiment) -> dict[str, Any]:
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    where = f"study variant {experiment.variant!r}"
    try:
        apply_overrides(copy, list(experiment.overrides))
    except DvcException as error:
        raise ValueError(f"{where}: {error}: {error.__cause__ or ''}") from None
    try:
        params = parameters.load(copy)
        validate.validate(params, str(copy))
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).replace(str(copy), 'params.yaml')}") from None
    for target in experiment.targets:
        stage, _, run = target.partition("@")
        if stage in ("train", "evaluate") and run and run not in params.runs:
            raise ValueError(
                f"{where}: target {target} has no run of that name; runs are "
                f"{', '.join(params.runs)}"
            )
    for name in experiment.pictures:
        check_known(name, params.reconstructions, where, "pictures", "a key of reconstructions")
    content: dict[str, Any] = YAML(typ="safe").load(copy.read_text(encoding="utf-8"))
    return content
