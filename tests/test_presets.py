"""presets/: each loads, validates and stays readable; its groups have voxels; tables are replaced
as a whole.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from fmri2clip import decoders
from fmri2clip.core import params, strict
from fmri2clip.datasets.mini import volume
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels import roi_groups
from fmri2clip.stages.check_params import validate
from pipeline import preset

PRESETS = sorted(path.stem for path in Path(__file__).parents[1].glob("presets/*.yaml"))
TABLES = ("runs", "generators", "reconstructions")


def unexplained(text: str) -> list[str]:
    """Lines of keys without a comment above, or their name in a comment above the list that
    precedes them; keys of entries that templates do not explain.
    """
    return [*unexplained_lines(text), *unexplained_entries(text)]


def unexplained_entries(text: str) -> list[str]:
    """Keys of entries of TABLES that are neither in a template nor, as `key: `, in the comments of
    templates.
    """
    section = text.split("\ntemplates:\n")[1].split("\nruns:\n")[0]
    keys = {
        key for template in YAML(typ="safe").load(text)["templates"].values() for key in template
    }
    content = YAML(typ="safe").load(text)
    return [
        f"{table}.{name}.{key}"
        for table in TABLES
        for name, entry in content[table].items()
        for key in entry
        if key not in keys and f"{key}: " not in section
    ]


def unexplained_lines(text: str) -> list[str]:
    """As `unexplained`, line by line."""
    bare, above, named = [], "", ""
    for line in text.splitlines():
        text = line.strip()
        if text.startswith("#"):
            above, named = above + text, named + text
        elif text and not text.startswith("- "):
            key, _, value = text.partition(":")
            is_section = not value and not line.startswith("    ")
            if not above and f"{key}: " not in named and not is_section:
                bare.append(line)
            named = named if not value or f"{key}: " in named else above
            above = ""
    return bare


@pytest.fixture(params=PRESETS)
def applied(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> Path:
    """params.yaml after a preset, the user having accepted the terms where it needs that."""
    path = commit_params(root, tmp_path)
    preset.apply_preset(request.param, path, root / "presets")
    if params.load(path).dataset.source == "s3":
        path.write_text(path.read_text().replace("accept_terms: false", "accept_terms: true"))
    return path


def commit_params(root: Path, folder: Path) -> Path:
    """The checkout's params.yaml as the only commit of a repository of its own."""
    path = folder / "params.yaml"
    shutil.copy(root / "params.yaml", path)
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", path.name], [*author, "commit", "-q", "-m", "params"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return path


def test_presets_apply_and_default_restores(applied: Path, root: Path) -> None:
    validate.validate(params.load(applied))
    assert applied.read_text().count("#") > 60
    assert not unexplained(applied.read_text())
    assert max(len(line) for line in applied.read_text().splitlines()) <= 120
    preset.apply_preset("default", applied, root / "presets")
    assert applied.read_bytes() == (root / "params.yaml").read_bytes()


def test_layout_of_presets_survives_dvc_overrides(applied: Path) -> None:
    """`dvc exp run -S` rewrites the file through ruamel.yaml; every comment must still be there."""
    from dvc.utils.hydra import apply_overrides

    comments = [line for line in applied.read_text().splitlines() if line.strip().startswith("#")]
    rois = [f"rois.{group}=[nsdgeneral]" for group in params.load(applied).rois]
    apply_overrides(
        applied, ["world.seed=2", "subjects=[subj01]", "runs.ridge.subjects=[subj01]", *rois]
    )
    assert [
        line for line in applied.read_text().splitlines() if line.strip().startswith("#")
    ] == comments


def test_default_leaves_alone_what_is_the_users_own(root: Path, tmp_path: Path) -> None:
    """A section and runs of the user's survive with their comments; all else is as committed."""
    path = commit_params(root, tmp_path)
    committed = path.read_text()
    section = "  # of my own\n  mine:\n    width: 3  # narrow\n"
    run = "  # mine, too\n  mine: {<<: *run, decoder: mine}\n"
    long_run = (
        "  other:\n    <<: *run\n    # deep\n    decoder: mine\n    overrides:\n      width: 4\n"
    )
    with_mine = (
        committed.replace("\ndecoders:\n", f"\ndecoders:\n{section}")
        .replace("\nruns:\n", f"\nruns:\n{run}{long_run}")
        .replace("  ridge: {<<: *run,", "  ridge: {<<: *run, overrides: {n_alphas: 3},")
        .replace("  image_size: 96", "  image_size: 32")
    )
    path.write_text(with_mine)
    mine = params.load(path)
    assert mine.runs["ridge"].overrides == {"n_alphas": 3} and mine.world.image_size == 32
    preset.apply_preset("default", path, root / "presets")
    text, loaded = path.read_text(), params.load(path)
    assert loaded.decoders["mine"] == {"width": 3}
    for name in ("mine", "other"):
        assert loaded.runs[name] == mine.runs[name]
    for block in (section, run, long_run):
        assert block in text
        text = text.replace(block, "")
    assert text == committed
    preset.apply_preset("default", path, root / "presets")
    assert params.load(path) == loaded


def test_uncommitted_values_are_kept_in_a_copy(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever presets follow; committed values need none."""
    path = commit_params(root, tmp_path)
    for name in ("smoke", "default"):
        preset.apply_preset(name, path, root / "presets")
    assert params.load(tmp_path / ".params.yaml.before_preset.1").note == "smoke"
    capsys.readouterr()
    mine = path.read_text().replace("  image_size: 96", "  image_size: 32")
    for _ in range(2):
        path.write_text(mine)
        preset.apply_preset("smoke", path, root / "presets")
        assert capsys.readouterr().out.rstrip().endswith(".params.yaml.before_preset.2")
        preset.apply_preset("default", path, root / "presets")
    assert (tmp_path / ".params.yaml.before_preset.2").read_text() == mine


def test_default_takes_out_what_a_preset_brought(root: Path, tmp_path: Path) -> None:
    path = commit_params(root, tmp_path)
    preset.apply_preset("nsd", path, root / "presets")
    preset.apply_preset("rois_streams", path, root / "presets")
    path.write_text(
        path.read_text().replace("\nclips:\n", "\nclips:\n  own: {model: a, pretrained: b}\n")
    )
    assert {"vit_l14", "own"} == set(params.load(path).clips)
    preset.apply_preset("default", path, root / "presets")
    loaded = params.load(path)
    assert {"mini", "own"} == set(loaded.clips)
    assert loaded.rois == params.load(root / "params.yaml").rois


def test_default_without_a_commit_or_with_a_broken_file_says_what_to_do(
    root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(root / "params.yaml", path)
    with pytest.raises(ValueError, match=r"git cannot show .*commit the file first"):
        preset.apply_preset("default", path, root / "presets")
    commit_params(root, tmp_path)
    path.write_text(path.read_text().replace("  image_size:", "  image_sise:"))
    with pytest.raises(ValueError, match=r"world\.image_sise .*git checkout .*params\.yaml"):
        preset.apply_preset("default", path, root / "presets")


@pytest.mark.parametrize(("first", "second"), [("nsd", "smoke"), ("smoke", "nsd")])
def test_tables_do_not_depend_on_an_earlier_preset(
    first: str, second: str, root: Path, tmp_path: Path
) -> None:
    both, alone = tmp_path / "both.yaml", tmp_path / "alone.yaml"
    for path, names in ((both, (first, second)), (alone, (second,))):
        shutil.copy(root / "params.yaml", path)
        for name in names:
            preset.apply_preset(name, path, root / "presets")
    found, expected = params.load(both), params.load(alone)
    assert found.runs == expected.runs
    assert found.reconstructions == expected.reconstructions


def test_an_anchor_that_nothing_uses_survives_a_preset(root: Path, tmp_path: Path) -> None:
    """The next preset may need it."""
    path = tmp_path / "params.yaml"
    shutil.copy(root / "params.yaml", path)
    (tmp_path / "none.yaml").write_text("reconstructions: {}\n")
    for name, folder in (("none", tmp_path), ("none", tmp_path), ("smoke", root / "presets")):
        preset.apply_preset(name, path, folder)
    assert "null_mean" in params.load(path).reconstructions


def test_nsd_has_a_full_section_for_every_decoder(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(root / "params.yaml", path)
    preset.apply_preset("nsd", path, root / "presets")
    sections = params.load(path).decoders
    assert set(sections) == set(decoders.names())
    for name, section in sections.items():
        config = decoders.load_decoder(name).Config
        strict.build(config, section, "params.yaml", f"decoders.{name}")
        assert set(section) == {field.name for field in dataclasses.fields(config)}


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("rois_")])
def test_roi_presets_keep_what_runs_name(name: str, root: Path, tmp_path: Path) -> None:
    """Every preset of groups serves the default runs, and says what its low and high mean."""
    text = (root / "presets" / f"{name}.yaml").read_text()
    assert set(YAML(typ="safe").load(text)) == {"rois"}
    assert text.startswith("# ") and "# low: " in text and "# high: " in text
    path = tmp_path / "params.yaml"
    shutil.copy(root / "params.yaml", path)
    before = params.load(path)
    preset.apply_preset(name, path, root / "presets")
    after = params.load(path)
    assert {"low", "high", "all"} <= set(after.rois) and after.rois["all"] == ("nsdgeneral",)
    assert dataclasses.replace(after, rois=before.rois) == before


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("rois_")])
@pytest.mark.parametrize("subject", layout.SUBJECTS)
def test_groups_of_presets_have_voxels_in_the_simulated_brain(
    name: str, subject: str, root: Path
) -> None:
    brain = volume_of(subject)
    groups = YAML(typ="safe").load((root / "presets" / f"{name}.yaml").read_text())["rois"]
    members: dict[str, np.ndarray] = {}
    for group, tree in roi_groups.parse_groups(groups).items():
        columns = {}
        for written in roi_groups.names(tree):
            hemisphere, roi, label = layout.split_roi_name(written)
            columns[written] = brain.member(f"{hemisphere}.{roi}" if hemisphere else roi, label)[
                brain.nsdgeneral
            ]
        members[group] = roi_groups.evaluate(tree, columns)
        assert members[group].any(), group
    assert members["all"].all() and not (members["low"] & members["high"]).any()
    if name == "rois_styvesg":
        own = [members[group] for group in groups if group not in ("low", "high", "all")]
        assert (np.sum(own, axis=0) == 1).all(), "a partition of nsdgeneral"
    if name == "rois_minus_early":
        assert (members["low"] | members["high"]).all()


@lru_cache
def volume_of(subject: str) -> volume.Volume:
    return volume.make_volume(subject, world_seed=1)


def test_the_real_nsd_waits_for_the_user(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(root / "params.yaml", path)
    preset.apply_preset("nsd", path, root / "presets")
    loaded = params.load(path)
    assert (
        "accept_terms"
        not in YAML(typ="safe").load((root / "presets" / "nsd.yaml").read_text())["dataset"]
    )
    assert not loaded.dataset.accept_terms and loaded.dataset.source == "s3"
    assert set(loaded.clips) == {"vit_l14"} and {run.clip for run in loaded.runs.values()} == {
        "vit_l14"
    }
    with pytest.raises(ValueError) as caught:
        validate.validate(loaded)
    for part in ("research and education only", layout.TERMS_URL, "set dataset.accept_terms: true"):
        assert part in str(caught.value)
    default = YAML(typ="safe").load((root / "params.yaml").read_text())
    assert dataclasses.asdict(loaded.world) == default["world"]


def test_tables_of_a_preset_are_taken_as_they_stand(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New groups and models work, nothing of the old table stays, and neighbours keep their
    comments.
    """
    path = tmp_path / "params.yaml"
    default = (root / "params.yaml").read_text()
    path.write_text(default)
    table = """rois:
  # mine: a block of text in words
  mine:
    [
      streams/early, # with a comment

      'file:my-roi',
    ]
  low: [prf-visualrois]
  high: [streams/ventral]
  all: [nsdgeneral]
"""
    (tmp_path / "own.yaml").write_text(
        f"# head\n{table}\n# of the next\nworld:\n  seed: 2\nsubjects: [subj01]\n"
        "clips:\n  other: {model: ViT-B-32, pretrained: openai}\n"
        "runs:\n  one:\n    decoder: ridge\n    clip: other\n"
        "    subjects: [subj01]\n    voxels: mine\n"
        "libraries: {}\ngenerators: {}\nreconstructions: {}\npictures:\n  clip: ''\n# end"
    )
    preset.apply_preset("own", path, tmp_path)
    loaded = params.load(path)
    assert loaded.rois == {
        "mine": ("streams/early", "file:my-roi"),
        "low": ("prf-visualrois",),
        "high": ("streams/ventral",),
        "all": ("nsdgeneral",),
    }
    assert set(loaded.clips) == {"other"} and set(loaded.runs) == {"one"} and loaded.world.seed == 2
    # Where no raw data are that a mask could be missing from.
    (tmp_path / "assets").symlink_to(root / "assets")
    monkeypatch.chdir(tmp_path)
    validate.validate(loaded)
    text = path.read_text()
    assert (
        f"\n\n{table}\nnorm:" in text
        and "# head" not in text
        and "# of the next" not in text
        and "# end" not in text
    )
    assert (
        text.split("\nnorm:")[1].split("\nclips:")[0]
        == default.split("\nnorm:")[1].split("\nclips:")[0]
    )
    (tmp_path / "flow.yaml").write_text("{rois: {all: [nsdgeneral]}}")
    with pytest.raises(ValueError, match="no line starts with 'rois:'"):
        preset.apply_preset("flow", path, tmp_path)
    (tmp_path / "deep.yaml").write_text("dataset:\n  source:\n    kind: s3\n")
    with pytest.raises(ValueError, match=r"dataset\.source is a mapping, expected a value"):
        preset.apply_preset("deep", path, tmp_path)
    assert path.read_text() == text
