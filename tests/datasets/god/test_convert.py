"""GOD's files as a folder: layout, names, and its task from end to end at smoke size."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from fmri2clip.artefacts.paths import Paths
from fmri2clip.clip import encoder
from fmri2clip.core.params import Clip, Params, load
from fmri2clip.datasets.folder.pictures import FolderPictures
from fmri2clip.datasets.folder.recordings import FolderRecordings
from fmri2clip.datasets.god.bdata import read_bdata
from fmri2clip.datasets.god.convert import convert, name_picture
from fmri2clip.stages.cache_clip.cache import cache_clip
from fmri2clip.stages.check_data.check_folder import iterate_folder_checks
from fmri2clip.stages.components.components import find_token_components
from fmri2clip.stages.evaluate.evaluation import evaluate_run
from fmri2clip.stages.extract_rois.extract import extract_subject
from fmri2clip.stages.select.select import select
from fmri2clip.stages.train.run import train_run
from tests.datasets.god.god_world import (
    N_OTHER,
    ROIS,
    Stimuli,
    draw_stimuli,
    write_pictures,
    write_subject,
)

N_REPEATS = 5
GROUPS = {"low": ["V1", "V2"], "high": ["LOC", "FFA"], "all": ["VC"]}


@pytest.mark.parametrize(
    ("stimulus_id", "name"),
    [
        (1443537.022563, "n01443537_22563"),
        (1443537.02256, "n01443537_22560"),
        (10042150.000007, "n10042150_7"),
    ],
)
def test_names_of_pictures(stimulus_id: float, name: str) -> None:
    assert name_picture(stimulus_id) == name


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, Stimuli, np.ndarray]:
    """Two subjects, one with the older keys; 9 training pictures and 3 to test on."""
    rng = np.random.default_rng(0)
    names = ["red bus", "red bus", "cat", "cat", "dog", *(["cup"] * 4), "kite", "bear", "tie"]
    stimuli = Stimuli(
        images=list(rng.integers(0, 256, (12, 40, 40, 3), dtype=np.uint8)),
        names=names,
        is_test=np.arange(12) > 8,
    )
    code = rng.standard_normal((12, 6))
    source = tmp_path / "god"
    write_pictures(source, stimuli)
    for k in (1, 2):
        write_subject(source / f"Subject{k}.h5", code, stimuli, N_REPEATS, seed=k, new=k == 1)
    return source, stimuli, code


def test_the_folder_has_what_the_files_have(
    tiny: tuple[Path, Stimuli, np.ndarray], tmp_path: Path
) -> None:
    source, _, _ = tiny
    found = convert(source, tmp_path / "own")
    assert found == {
        "subjects": 2,
        "trials": 2 * (9 + 3 * N_REPEATS),
        "training pictures": 9,
        "training categories": 4,
        "test pictures": 3,
        "test categories": 3,
    }
    description = json.loads((tmp_path / "own" / "dataset.json").read_text())
    assert len(description["test"]) == 3
    for k, matrix in ((1, "dataset"), (2, "dataSet")):
        recordings = FolderRecordings.open(tmp_path / "own", f"sub-{k:02d}")
        rois = recordings.rois(GROUPS)
        assert rois.names_G[:5] == [*ROIS, "VC"] and len(rois.ijk_V3) == sum(ROIS.values())
        with h5py.File(source / f"Subject{k}.h5") as file:
            rows = file[matrix][()][:-5]  # without imagery
        np.testing.assert_allclose(
            recordings.read(1, rois), rows[:, : sum(ROIS.values())], rtol=1e-6
        )
        trials = recordings.trials()
        assert trials.is_shared_N.tolist() == [False] * 9 + [True] * 3 * N_REPEATS
        assert trials.repetition_N.max() == N_REPEATS
    pictures = FolderPictures.open(tmp_path / "own")
    described = pictures.annotations(pictures.seen(["sub-01"])["shared"])
    shown = described.labels_IC.argmax(axis=1)
    assert {described.category_C[c] for c in shown} == {"kite", "bear", "tie"}
    assert described.caption_K[0] == f"a photo of a {described.category_C[shown[0]]}."


def test_voxels_in_no_roi_are_left(tiny: tuple[Path, Stimuli, np.ndarray]) -> None:
    data = read_bdata(tiny[0] / "Subject1.h5")
    assert data.rois["VC"].sum() == sum(ROIS.values())
    assert len(data.flags["VoxelData"]) == sum(ROIS.values()) + N_OTHER + 3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: [p.unlink() for p in s.glob("*.h5")], "has no Subject1.h5"),
        (lambda s: (s / "categories.tsv").unlink(), "categories.tsv does not exist"),
        (lambda s: next((s / "images/test").iterdir()).unlink(), "lacks 1 of 12 pictures"),
        (
            lambda s: (s / "categories.tsv").write_text("synset\tname\nn01443537\tbear\n"),
            "does not name 6 categories",
        ),
        (lambda s: (s / "Subject2.h5").write_bytes(b"x" * 99), "cannot be read as BData"),
    ],
)
def test_what_is_missing_is_named(
    tiny: tuple[Path, Stimuli, np.ndarray], tmp_path: Path, damage: object, message: str
) -> None:
    source, _, _ = tiny
    damage(source)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        convert(source, tmp_path / "own")
    assert not (tmp_path / "own").exists()


def smoke_params(root: Path) -> Params:
    """Those of the repository, with the clip's files and what is small enough for this world."""
    params = load(root / "params.yaml")
    clip = params.clips["mini"]
    clip = replace(
        clip,
        config=str(root / clip.config),
        pretrained=str(root / clip.pretrained),
        tokens=False,
        low_level=False,
        components_from=(),
    )
    subjects = ("sub-01", "sub-02")
    run = replace(params.runs["ridge"], subjects=subjects)
    return replace(
        params,
        subjects=subjects,
        clips={"mini": clip},
        rois={name: tuple(entries) for name, entries in GROUPS.items()},
        runs={"ridge": run},
        split=replace(params.split, n_validation=40),
        evaluation=replace(params.evaluation, n_way=50, n_hard=5, n_bootstrap=100),
    )


@pytest.mark.slow
def test_zero_shot_of_fifty_new_categories(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the chance of 2 %, and chance where the brains belong to other pictures."""
    params = smoke_params(root)
    stimuli = draw_stimuli(n_scenes=400, n_test=50)
    source = tmp_path / "god"
    write_pictures(source, stimuli)
    for k in (1, 2):
        code = embed(params.clips["mini"], stimuli)
        write_subject(source / f"Subject{k}.h5", code, stimuli, N_REPEATS, seed=k)
    monkeypatch.chdir(tmp_path)
    own = Path("own")
    assert convert(source, own)["test categories"] == 50
    checks = list(iterate_folder_checks(own, params.subjects, params.rois, params.norm))
    # Pictures of a category share their caption.
    assert {check.name: check.status for check in checks if check.status != "PASS"} == {
        "captions": "WARN"
    }
    params = replace(params, dataset=replace(params.dataset, source="folder", folder="own"))
    paths = Paths()
    cache_clip(paths, "mini", params.clips["mini"], params.subjects, params.dataset, params.labels)
    find_token_components(paths, "mini", params.clips["mini"], params.subjects)
    for subject in params.subjects:
        extract_subject(
            paths,
            subject,
            recordings=FolderRecordings.open(own, subject),
            rois=params.rois,
            norm=params.norm,
            workers=1,
        )
    scores = {}
    for name, permute in (("true", False), ("permuted", True)):
        run = replace(params.runs["ridge"], split={"permute": permute})
        here = replace(params, runs={name: run})
        select(name, run.clip, run.subjects, paths, 1)
        train_run(name, here, paths)
        scores[name] = evaluate_run(name, here, paths, read_pictures=False)["zero_shot"]
        shutil.rmtree(paths.model(name))
    assert all(score["chance"] == pytest.approx(1 / 50) for score in scores.values())
    assert all(score["n_images"] == 50 for score in scores.values())
    assert scores["true"]["top1_ci95_low"] > 1 / 50
    assert scores["true"]["top5_ci95_low"] > 3 * 5 / 50
    assert scores["permuted"]["top1"] < 3 / 50


def embed(clip: Clip, stimuli: Stimuli) -> np.ndarray:
    """What the simulated voxels answer to: the CLIP model's own embedding, standardised."""
    model = encoder.load(clip, "cpu")
    images = model.resize(np.stack(stimuli.images), 1)
    with torch.no_grad():
        code = model.features(images, (), targets=False, low_level=False)["image_embedding_ID"]
    code = np.asarray(code, dtype=np.float64)
    return (code - code.mean(axis=0)) / code.std(axis=0)
