"""params.yaml: strict reading, messages that name the key, presets, a layout that `dvc exp run -S`
leaves readable.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from ruamel.yaml import YAML

from fmri2clip import decoders
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import params, strict
from fmri2clip.datasets.nsd import layout
from fmri2clip.stages.check_params import validate
from pipeline import preset


@dataclass(frozen=True, kw_only=True)
class Inner:
    lr: float = 0.1
    n: int = 1


@dataclass(frozen=True, kw_only=True)
class Example:
    mode: Literal["a", "b"] = "a"
    many: tuple[str, ...] = ()
    pair: tuple[int, int] = (0, 0)
    sessions: Literal["all"] | int = "all"
    table: dict[str, Inner] = dataclasses.field(default_factory=dict)
    flag: bool = False


def build(**content: Any) -> Example:
    return strict.build(Example, content, "file.yaml", "top")


@pytest.fixture
def content(root: Path) -> dict[str, Any]:
    """params.yaml as plain containers."""
    return YAML(typ="safe").load((root / "params.yaml").read_text())


def parse(content: dict[str, Any]) -> params.Params:
    return strict.build(params.Params, content, "params.yaml")


def keys(node: Any, prefix: str = "") -> set[str]:
    if not isinstance(node, dict):
        return set()
    return {f"{prefix}{k}" for k in node} | {
        x for k, v in node.items() for x in keys(v, f"{prefix}{k}.")
    }


def test_values_are_converted() -> None:
    got = build(mode="b", many=["x"], pair=[1, 2], sessions=3, table={"one": {"lr": 1}}, flag=True)
    assert got == Example(
        mode="b", many=("x",), pair=(1, 2), sessions=3, table={"one": Inner(lr=1.0)}, flag=True
    )
    assert isinstance(got.table["one"].lr, float)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mdoe": "a"}, "top.mdoe is not a field of Example (did you mean mode?)"),
        ({"zzz": 1}, "top.zzz is not a field of Example (fields: mode, many"),
        ({"mode": "c"}, "top.mode is 'c' (str), expected one of 'a', 'b'"),
        ({"many": "x"}, "top.many is 'x' (str), expected a list of str"),
        ({"many": ["x", 1]}, "top.many[1] is 1 (int), expected str"),
        ({"pair": [1]}, "top.pair is [1] (list), expected a list of 2 values"),
        ({"sessions": True}, "top.sessions is True (bool), expected one of 'all' or int"),
        ({"sessions": "some"}, "top.sessions is 'some' (str)"),
        ({"table": {"one": {"n": True}}}, "top.table.one.n is True (bool), expected int"),
        ({"table": {"one": {"lr": "1e-4"}}}, "top.table.one.lr is '1e-4' (str), expected float"),
        ({"table": {"a b": {}}}, "top.table has the entry 'a b'"),
        ({"table": {"one": 3}}, "top.table.one is 3, expected a mapping"),
        ({"flag": 1}, "top.flag is 1 (int), expected bool"),
    ],
)
def test_mistakes_name_the_key(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        build(**wrong)
    assert str(caught.value).startswith(f"file.yaml: {message}")


def test_missing_keys_are_named(content: dict[str, Any]) -> None:
    del content["split"]
    with pytest.raises(ValueError, match=r"params\.yaml: split is missing"):
        parse(content)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("compute", "threads", 0, "compute.threads is 0, expected at least 1"),
        ("labels", "min_area", 2.0, "labels.min_area is 2.0, expected a fraction"),
        ("split", "unseen_control", True, "split.unseen_control is the control of unseen_folds"),
        ("dataset", "sessions", 0, "dataset.sessions is 0"),
        ("evaluation", "n_way", 1, "evaluation.n_way is 1"),
    ],
)
def test_ranges(content: dict[str, Any], section: str, key: str, value: Any, message: str) -> None:
    content[section][key] = value
    with pytest.raises(ValueError, match="params.yaml: " + message.replace(".", r"\.")):
        parse(content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("subjects", ["subj09"], "subjects: 'subj09' is not known"),
        ("dataset.preparation", "betas", "dataset.preparation: 'betas' is not known"),
        ("rois.low", ["prf-visualroi"], "rois.low: ROI 'prf-visualroi' is not in NSD"),
        ("rois.low", ["streams/early", "not prf-visualroi"], "(did you mean prf-visualrois?)"),
        (
            "rois.low",
            ["streams and (early"],
            "rois.low: 'streams and (early': expected 'and', 'or' or ')' at character",
        ),
        (
            "rois.low",
            ["floc-faces/FFA-3"],
            "rois.low: ROI 'floc-faces' has no label 'FFA-3'; choose from OFA, FFA-1",
        ),
        ("rois.low", [], "rois.low is empty"),
        ("runs.ridge.decoder", "rigde", "did you mean ridge?"),
        ("runs.ridge.clip", "maxi", "runs.ridge.clip: 'maxi' is not known; choose from mini"),
        ("runs.ridge.voxels", "lwo", "runs.ridge.voxels: 'lwo' is not known"),
        ("runs.ridge.subjects", ["subj03"], "runs.ridge.subjects: 'subj03' is not known"),
        (
            "runs.ridge.overrides",
            {"n_alfas": 3},
            "runs.ridge.overrides.n_alfas is not a field of ridge.Config",
        ),
        (
            "runs.ridge.overrides",
            {"n_alphas": "x"},
            "runs.ridge.overrides.n_alphas is 'x' (str), expected int",
        ),
        (
            "runs.ridge.split",
            {"n_imgs": 3},
            "runs.ridge.split.n_imgs is not a field of Split (did you mean n_images?)",
        ),
        (
            "decoders.brainclip.lrr",
            1.0,
            "decoders.brainclip.lrr is not a field of brainclip.Config (did you mean lr?)",
        ),
        ("evaluation.prompt", 2, "evaluation.prompt is 2, expected 0 to 1"),
        (
            "clips.mini.low_level",
            False,
            "runs.clip_mused is guided by low-level features that clip mini does not cache",
        ),
        (
            "runs.clip_mused.overrides",
            {"low_pool": "flatten"},
            "has low_pool flatten, which needs block 1 in clips.mini",
        ),
        (
            "runs.clip_mused.overrides",
            {"new_subject": "subj08"},
            "new_subject: 'subj08' is not among the subjects of",
        ),
        (
            "runs.clip_mused.overrides",
            {"areas": "V1,,V2"},
            "runs.clip_mused.overrides.areas is 'V1,,V2', expected",
        ),
        ("decoders.ridge.n_alphas", 0, "decoders.ridge.n_alphas is 0, expected at least 1"),
        (
            "rois",
            {"early": ["streams/early"], "late": ["streams/ventral"], "all": ["nsdgeneral"]},
            "rois.low is missing, which stages ask for beside any other groups",
        ),
        ("world.network", "assets/mini/aras.safetensors", "world.network is 'assets/mini/aras"),
        (
            "clips.mini.pretrained",
            "assets/mini/clip/modle.safetensors",
            "clips.mini.pretrained is 'assets/mini/clip/modle.safetensors', neither a file nor",
        ),
        ("clips.mini.config", "assets/x.json", "clips.mini.config is 'assets/x.json', which does"),
        ("clips.mini.config", "params.yaml", "defines 'params', not 'fmri2clip-mini'"),
        ("clips.mini.model", "ViT-L-41", "defines 'fmri2clip-mini', not 'ViT-L-41'"),
        ("clips.mini.components_from", ["subj9"], "clips.mini.components_from: 'subj9' is not kn"),
        ("pictures.classifier", "assets/mini/clsifier", "pictures.classifier is 'assets/mini/cls"),
        ("pictures.weights", "data/weights", "pictures.weights is 'data/weights', no folder"),
        (
            "generators.mini.path",
            "assets/mini/generator/pipelne",
            "generators.mini.path is 'assets/mini/generator/pipelne', neither a folder nor a hub",
        ),
        ("generators.mini.path", "assets/generator", "generators.mini.path is 'assets/generator'"),
        ("generators.mini.path", "assets/mini", "a folder without model_index.json"),
    ],
)
def test_references_between_sections(
    content: dict[str, Any], path: str, value: Any, message: str
) -> None:
    node, *_, last = content, *path.split(".")
    for key in path.split(".")[:-1]:
        node = node[key]
    node[last] = value
    with pytest.raises(ValueError) as caught:
        validate.validate(parse(content))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("subjects", "sessions", "source", "message"),
    [
        (
            ["subj01", "subj03"],
            40,
            "s3",
            "dataset.sessions is 40, but NSD has fewer of some subjects (subj01 40, subj03 32)",
        ),
        (["subj08"], 31, "s3", "(subj08 30); take a smaller number, or 'released'"),
        (["subj08"], 30, "s3", ""),
        (["subj01"], 40, "s3", ""),
        (["subj03"], "old37", "s3", ""),
        (["subj03"], 40, "simulated", ""),
    ],
)
def test_no_more_sessions_than_nsd_has(
    content: dict[str, Any], subjects: list[str], sessions: Any, source: str, message: str
) -> None:
    content["subjects"] = subjects
    content["dataset"] |= {"sessions": sessions, "source": source, "accept_terms": True}
    for run in content["runs"].values():
        run["subjects"] = subjects
    if not message:
        validate.validate(parse(content))
        return
    with pytest.raises(ValueError) as caught:
        validate.validate(parse(content))
    assert message in str(caught.value)


def test_runs_merge_overrides_and_split(content: dict[str, Any]) -> None:
    content["runs"]["brainclip"] |= {"overrides": {"alpha": 1}, "split": {"n_images": 9}}
    loaded = parse(content)
    config = params.decoder_config(loaded, "brainclip", decoders.load_decoder("brainclip").Config)
    assert (config.alpha, config.lr) == (1.0, content["decoders"]["brainclip"]["lr"])
    assert params.run_split(loaded, "brainclip") == dataclasses.replace(loaded.split, n_images=9)
    assert params.run_split(loaded, "ridge") == loaded.split


def test_published_names_are_no_paths(content: dict[str, Any]) -> None:
    """Tags of open_clip and hub names pass, one that is nearly right does not."""
    content["clips"]["vit"] = {"model": "ViT-L-14-quickgelu", "pretrained": "openai"}
    content["generators"]["mini"]["path"] = "shi-labs/versatile-diffusion"
    validate.validate(parse(content))
    content["clips"]["vit"]["pretrained"] = "openia"
    with pytest.raises(ValueError, match=r"vit\.pretrained is 'openia'.*mean openai"):
        validate.validate(parse(content))
    content["clips"]["vit"] = {"model": "ViT-L-41", "pretrained": "openai"}
    with pytest.raises(ValueError, match=r"clips\.vit\.model is 'ViT-L-41', a name that"):
        validate.validate(parse(content))


def test_an_adapter_lies_where_the_file_says(content: dict[str, Any], tmp_path: Path) -> None:
    content["generators"]["ip"] = {
        "family": "ip_adapter",
        "path": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "clip_model": "ViT-H-14",
        "base": "sd",
        "adapter": str(tmp_path),
        "subfolder": "models",
        "weights": "ip.safetensors",
        "embedding_norm": 10.0,
    }
    with pytest.raises(ValueError, match=r"generators\.ip\.adapter is .* without models/ip"):
        validate.validate(parse(content))
    (tmp_path / "models").mkdir()
    (tmp_path / "models/ip.safetensors").touch()
    validate.validate(parse(content))


def test_a_mask_of_the_users_own_is_looked_for(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the download there is no folder to look in."""
    content["rois"]["mine"] = ["floc-faces and file:nobody/2"]
    for name in ("assets", "params.yaml"):
        (tmp_path / name).symlink_to(Path(name).resolve())
    monkeypatch.chdir(tmp_path)
    validate.validate(parse(content))
    for subject in content["subjects"]:
        layout.roi_dir(Paths().raw, subject).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"rois\.mine: 'file:nobody/2': data/raw/nsd/.*not exist"):
        validate.validate(parse(content))
    for subject in content["subjects"]:
        (layout.roi_dir(Paths().raw, subject) / "nobody.nii.gz").touch()
    validate.validate(parse(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"note: '\x07'\n", r"line 1: the character '\\x07' is not allowed"),
        (b"a: 1\nb: 2026-13-45\n", "month must be in"),
        ("note: 'Zürich'\n".encode("latin-1"), r"p\.yaml is not UTF-8 at byte 9"),
        (b"note: [1\n", r"p\.yaml is not valid YAML: line"),
        (b"note: *nobody\n", "line 1: .*undefined alias"),
    ],
)
def test_a_file_that_is_no_yaml_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        params.load(tmp_path / "p.yaml")
    assert "p.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_file_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        params.load(tmp_path / "none.yaml")
    (tmp_path / "p.yaml").write_text("a: 1\na: 2\n")
    with pytest.raises(ValueError, match=r"p\.yaml is not valid YAML: line 2: .*duplicate"):
        params.load(tmp_path / "p.yaml")


def test_the_file_names_every_knob(content: dict[str, Any]) -> None:
    """Nothing hides in a default of the code: what the dataclasses have, the file shows; but a run
    without overrides or an own split names none.
    """
    sections = dataclasses.asdict(parse(content))
    unnamed = {f"runs.{name}.{key}" for name in content["runs"] for key in ("overrides", "split")}
    assert keys(sections) - keys(content) <= unnamed
    assert keys(content) <= keys(sections)
    for name, section in content["decoders"].items():
        assert set(section) == {
            f.name for f in dataclasses.fields(decoders.load_decoder(name).Config)
        }
    assert set(content["decoders"]) == set(decoders.names())


@pytest.mark.parametrize("name", decoders.names())
def test_a_setting_that_params_yaml_does_not_name_is_missing(
    content: dict[str, Any], name: str
) -> None:
    """params.yaml is the one place of settings: classes have no values of their own."""
    fields = dataclasses.fields(decoders.load_decoder(name).Config)
    defaults = [f.name for f in fields if f.default is not dataclasses.MISSING]
    assert not defaults, (
        f"decoders/{name}/decoder.py: Config has defaults for {', '.join(defaults)}; leave them "
        f"out, the values belong into decoders.{name} of params.yaml"
    )
    for key in list(content["decoders"][name]):
        section = {k: v for k, v in content["decoders"][name].items() if k != key}
        runs = {"one": content["runs"]["ridge"] | {"decoder": name}}
        sections = content["decoders"] | {name: section}
        changed = {"decoders": sections, "runs": runs, "reconstructions": {}}
        loaded = parse(content | changed)
        with pytest.raises(ValueError, match=rf"params\.yaml: decoders\.{name}\.{key} is missing"):
            params.decoder_config(loaded, "one", decoders.load_decoder(name).Config)


def test_a_config_of_somebody_elses_may_have_defaults(content: dict[str, Any]) -> None:
    content["decoders"]["theirs"] = {}
    content["runs"]["theirs"] = content["runs"]["ridge"] | {"decoder": "theirs"}
    assert params.decoder_config(parse(content), "theirs", Inner) == Inner(lr=0.1, n=1)


def test_smoke_replaces_the_tables(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (root / "params.yaml").read_text()
    path.write_text(
        text.replace(
            "runs:\n",
            "runs:\n  extra:\n    decoder: ridge\n    clip: mini\n    voxels: all\n    subjects:\n "
            "   - subj01\n",
        )
    )
    assert "extra" in params.load(path).runs
    preset.apply_preset("smoke", path, root / "presets")
    loaded = params.load(path)
    assert loaded.subjects == ("subj01", "subj02")
    smoke = YAML(typ="safe").load((root / "presets" / "smoke.yaml").read_text())
    assert set(loaded.runs) == set(smoke["runs"])
    assert loaded.world.seed == 1 and loaded.world.n_sessions == 2


def test_a_wrong_preset_changes_nothing(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(root / "params.yaml", path)
    before = path.read_bytes()
    (tmp_path / "typo.yaml").write_text("world:\n  sede: 3\n")
    (tmp_path / "wrong.yaml").write_text("world:\n  seed: three\n")
    with pytest.raises(ValueError, match=r"world\.sede.*did you mean seed"):
        preset.apply_preset("typo", path, tmp_path)
    with pytest.raises(ValueError, match=r"wrong\.yaml: world\.seed is 'three'"):
        preset.apply_preset("wrong", path, tmp_path)
    with pytest.raises(ValueError, match="choose from"):
        preset.apply_preset("none", path, tmp_path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_layout_survives_dvc_overrides(root: Path, tmp_path: Path) -> None:
    """`dvc exp run -S` rewrites the file through ruamel.yaml; every comment must still be there."""
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    shutil.copy(root / "params.yaml", path)
    comments = [line for line in path.read_text().splitlines() if line.strip().startswith("#")]
    apply_overrides(
        path,
        [
            "world.seed=2",
            "subjects=[subj01]",
            "runs.ridge.subjects=[subj01]",
            "clips.mini.blocks=[1]",
        ],
    )
    assert [
        line for line in path.read_text().splitlines() if line.strip().startswith("#")
    ] == comments
    assert params.load(path).world.seed == 2


@pytest.mark.parametrize(
    ("override", "table", "name", "changed"),
    [
        ("runs.ridge.seed=1", "runs", "ridge", {"seed": 1}),
        ("runs.clip_mused.subjects=[subj02]", "runs", "clip_mused", {"subjects": ["subj02"]}),
        ("+runs.ridge.overrides.n_alphas=3", "runs", "ridge", {"overrides": {"n_alphas": 3}}),
        ("runs.ridge_lowrank.overrides.tokens=false", "runs", "ridge_lowrank", None),
        ("reconstructions.brainclip.seed=2", "reconstructions", "brainclip", {"seed": 2}),
        ("reconstructions.null_mean.text=true", "reconstructions", "null_mean", {"text": True}),
        ("generators.mini.steps=3", "generators", "mini", {"steps": 3}),
    ],
)
def test_an_override_changes_the_named_entry_alone(
    root: Path,
    tmp_path: Path,
    override: str,
    table: str,
    name: str,
    changed: dict[str, Any] | None,
) -> None:
    """Entries merge templates; one that shared a container with another would change it, too."""
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    shutil.copy(root / "params.yaml", path)
    expected = YAML(typ="safe").load(path.read_text())
    expected[table][name] |= changed or {"overrides": {"tokens": False}}
    apply_overrides(path, [override])
    assert YAML(typ="safe").load(path.read_text()) == expected
    loaded = params.load(path)
    assert loaded == parse(expected)


def test_templates_hold_no_mapping(content: dict[str, Any]) -> None:
    """`-S +runs.ridge.overrides.x=1` is lost without a word if entries inherit `overrides`: DVC
    then writes into the template and takes it out again.
    """
    for name, template in content["templates"].items():
        assert not [key for key, value in template.items() if isinstance(value, dict)], name


STAGES = """stages:
  train:
    foreach: ${runs}
    do:
      cmd: echo ${item.decoder} ${item.clip} > ${key}.txt
      params:
      - runs.${key}
      - decoders.${item.decoder}
      outs:
      - ${key}.txt:
          cache: false
"""


def test_dvc_resolves_and_records_merged_entries(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any]
) -> None:
    """`${item.clip}` of `foreach: ${runs}` comes from the template, and dvc.lock has the whole
    entry.
    """
    from dvc.repo import Repo
    from dvc.utils.hydra import apply_overrides

    monkeypatch.chdir(tmp_path)
    shutil.copy(root / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(STAGES)
    apply_overrides("params.yaml", ["runs.brainclip.seed=7"])
    with Repo.init(no_scm=True) as repo:
        commands = {stage.addressing: stage.cmd for stage in repo.index.stages}
        assert commands == {
            f"train@{name}": f"echo {run['decoder']} {run['clip']} > {name}.txt"
            for name, run in content["runs"].items()
        }
        repo.reproduce(["train@ridge", "train@brainclip"])
    lock = YAML(typ="safe").load((tmp_path / "dvc.lock").read_text())["stages"]
    for name, seed in (("ridge", content["runs"]["ridge"]["seed"]), ("brainclip", 7)):
        recorded = lock[f"train@{name}"]["params"]["params.yaml"]
        assert recorded[f"runs.{name}"] == content["runs"][name] | {"seed": seed}
        assert recorded[f"decoders.{name}"] == content["decoders"][name]
