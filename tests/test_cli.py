"""The command from its arguments to its files, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fmri2clip import cli
from fmri2clip.artefacts.card import write_card
from fmri2clip.artefacts.card_text import Score
from fmri2clip.artefacts.gallery import write_gallery
from fmri2clip.core.files import sha256_file
from tests.model_folder import CATEGORIES, CLIP_SHA256, N_VOXELS, WIDTH, write_ridge

Run = Callable[[str], None]
SCORE = Score(metric="classification.map", label="mAP", value=0.25, low=0.2, high=0.3, null=0.1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """run(line) calls the command in a folder that holds models/demo/subj01 and z.npy."""
    write_ridge(tmp_path / "models/demo/subj01")
    np.save(tmp_path / "z.npy", np.random.default_rng(0).standard_normal((60, N_VOXELS)))
    monkeypatch.chdir(tmp_path)

    def call(line: str) -> None:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as left:
            cli.main()
        if left.value.code:
            raise left.value

    return call


def write_demo_gallery(path: Path) -> None:
    rng = np.random.default_rng(3)
    jpegs = []
    for i in range(7):
        Image.new("RGB", (4, 4), (30 * i, 0, 0)).save(path.with_suffix(".jpg"))
        jpegs.append(path.with_suffix(".jpg").read_bytes())
    write_gallery(
        path,
        {
            "name_I": [f"{i}.png" for i in range(7)],
            "image_embedding_ID": rng.standard_normal((7, WIDTH)).astype(np.float32),
            "caption_K": ["a <b>bold</b> cat"] * 7,
            "caption_image_K": np.arange(7),
            "text_embedding_KD": rng.standard_normal((7, WIDTH)).astype(np.float32),
        },
        jpegs,
        {"clip": "mini", "weights_sha256": CLIP_SHA256},
    )


def test_decode_writes_a_folder(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_demo_gallery(tmp_path / "g.h5")
    run(
        "fmri2clip decode models/demo/subj01 --betas z.npy --norm none --out out "
        "--trials-per-picture 3 --gallery g.h5 --top 2"
    )
    assert capsys.readouterr().out == "decoded 60 trials of 20 pictures; look at out/index.html\n"
    weight_VD = write_ridge(tmp_path / "other")
    mean_IV = np.load("z.npy").reshape(20, 3, N_VOXELS).mean(axis=1)
    assert np.allclose(np.load("out/embeddings.npy"), mean_IV @ weight_VD, atol=1e-5)
    table = pd.read_csv("out/categories.tsv", sep="\t")
    assert list(table) == ["picture", "trials", *CATEGORIES]
    assert list(table["picture"]) == list(range(1, 21)) and set(table["trials"]) == {3}
    assert np.allclose(table[list(CATEGORIES)].sum(axis=1), 1, atol=1e-4)
    top = pd.read_csv("out/top.tsv", sep="\t")
    assert len(top[top["kind"] == "picture"]) == 40 and len(top[top["kind"] == "caption"]) == 20
    done = json.loads(Path("out/decode.json").read_text())
    assert done["model"]["weights_sha256"] == sha256_file(
        Path("models/demo/subj01/weights.safetensors")
    )
    assert (done["n_trials"], done["n_pictures"], done["n_voxels"]) == (60, 20, N_VOXELS)
    assert str(tmp_path) not in Path("out/decode.json").read_text()
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out"]


def test_the_page_needs_nothing_else(run: Run, tmp_path: Path) -> None:
    write_demo_gallery(tmp_path / "g.h5")
    run(
        "fmri2clip decode models/demo/subj01 --betas z.npy --norm none --out out --gallery g.h5 "
        "--top 1"
    )
    page = Path("out/index.html").read_text()
    assert not re.search(r"https?:|<script|<link|src=", page)
    assert "a &lt;b&gt;bold&lt;/b&gt; cat" in page and "<b>bold" not in page
    used = set(re.findall(r'class="(p\d)"', page))
    inside = set(re.findall(r"\.(p\d) \{ background-image: url\(data:image/jpeg;base64,/9j/", page))
    assert used and used == inside


def test_pictures_are_painted_by_the_generator_that_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_IHWC = np.arange(60, dtype=np.uint8)[:, None, None, None] + np.zeros((60, 5, 3, 3), "u1")
    monkeypatch.setattr("fmri2clip.use.decode.paint", lambda *_: image_IHWC)
    Path("g.yaml").write_text("family: unclip\npath: owner/name\nclip_model: ViT-tiny\n")
    run(
        "fmri2clip decode models/demo/subj01 --betas z.npy --norm none --out out --generator g.yaml"
    )
    names = sorted(path.name for path in Path("out/pictures").iterdir())
    assert names == [f"{i + 1:02}.png" for i in range(60)]
    assert np.array_equal(np.asarray(Image.open("out/pictures/08.png")), image_IHWC[7])
    done = json.loads(Path("out/decode.json").read_text())
    assert (done["generator"]["family"], done["generator"]["path"]) == ("unclip", "owner/name")
    assert any(note.startswith("painted pictures are ") for note in done["notes"])
    page = Path("out/index.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == 60


def test_a_table_says_what_trials_show(run: Run) -> None:
    table = pd.DataFrame(np.load("z.npy")[:3], columns=[str(v) for v in range(N_VOXELS)])
    table["picture"] = ["beach", "cat", "beach"]
    table.to_csv("z.csv", index=False)
    run("fmri2clip decode models/demo/subj01 --betas z.csv --norm none --out out")
    found = pd.read_csv("out/categories.tsv", sep="\t")
    assert list(found["picture"]) == ["beach", "cat"] and list(found["trials"]) == [2, 1]
    run(
        "fmri2clip decode models/demo/subj01 --betas z.csv --norm none --out single "
        "--trials-per-picture 1"
    )
    single_ID = np.load("single/embeddings.npy")
    averaged_ID = np.load("out/embeddings.npy")
    assert np.allclose(averaged_ID[0], (single_ID[0] + single_ID[2]) / 2, atol=1e-5)
    assert np.allclose(averaged_ID[1], single_ID[1], atol=1e-5)


def test_a_table_beside_an_array_says_what_trials_show(run: Run, tmp_path: Path) -> None:
    weight_VD = write_ridge(tmp_path / "other")
    pictures = [f"{i % 25}.png" for i in range(60)]  # 25 pictures, far apart, two or three times
    pd.DataFrame({"picture": pictures}).to_csv("shown.tsv", sep="\t", index=False)
    command = "fmri2clip decode models/demo/subj01 --betas z.npy --norm none --pictures shown.tsv"
    run(f"{command} --out out")
    found = pd.read_csv("out/categories.tsv", sep="\t")
    assert found["picture"].tolist() == sorted(set(pictures))
    assert found["trials"].tolist() == [pictures.count(name) for name in found["picture"]]
    z_NV = np.load("z.npy")
    for embedding_D, name in zip(np.load("out/embeddings.npy"), found["picture"], strict=True):
        mean_V = np.mean([z_V for z_V, own in zip(z_NV, pictures, strict=True) if own == name], 0)
        assert np.allclose(embedding_D, mean_V @ weight_VD, atol=1e-5)
    done = json.loads(Path("out/decode.json").read_text())
    assert done["pictures"] == {"file": "shown.tsv", "sha256": sha256_file(Path("shown.tsv"))}
    with pytest.raises(SystemExit, match=r"shown.tsv says what trials show, so 3 trials for each"):
        run(f"{command} --trials-per-picture 3 --out two")
    pd.DataFrame({"picture": pictures[1:]}).to_csv("shown.tsv", sep="\t", index=False)
    with pytest.raises(SystemExit, match=r"'picture' has the shape \(59,\) for 60 trials"):
        run(f"{command} --out two")
    assert not Path("two").exists()


def test_lines_say_what_a_reader_should_know(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("models/demo/subj01/clip.json").unlink()
    run("fmri2clip decode models/demo/subj01 --betas z.npy --norm session --out out")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("transductive: ")
    assert lines[1].startswith("categories have numbers, no names: ")
    assert lines[2].startswith("no gallery was given")
    assert json.loads(Path("out/decode.json").read_text())["notes"] == lines[:3]


def test_what_is_wrong_ends_in_one_line_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    np.save("integers.npy", np.ones((60, N_VOXELS), np.int16))
    np.save("narrow.npy", np.ones((60, 3)))
    np.save("few.npy", np.load("z.npy")[:10])
    before = set(tmp_path.rglob("*"))
    demo = "models/demo/subj01"
    for line, message in (
        (f"{demo} --betas narrow.npy --norm none", "narrow.npy has 3 voxels, the model reads 20"),
        (f"{demo} --betas integers.npy --norm none", "int16, which are no z-scores"),
        (f"{demo} --betas few.npy --norm session", "10 are too few: give 50 or more"),
        (f"{demo} --betas z.npy --norm stored", "needs a session"),
        (f"{demo} --betas z.npy --norm none --session 2", "session 2 means nothing with norm"),
        (f"{demo} --betas z.npy --norm none --trials-per-picture 7", "60 trials, which are not 7"),
        (f"{demo} --betas z.npy --norm none --gallery g.h5", "g.h5 is no file"),
        ("models --betas z.npy --norm none", "models is not a subject's model"),
    ):
        with pytest.raises(SystemExit) as left:
            run(f"fmri2clip decode {line} --out out")
        text = str(left.value.code)
        assert text.startswith("fmri2clip: ") and message in text and "\n" not in text
        assert set(tmp_path.rglob("*")) == before
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit, match="out exists already; name a new folder"):
        run(f"fmri2clip decode {demo} --betas z.npy --norm none --out out")


def test_wrong_options_end_in_one_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for line, message in (
        ("decode models/demo/subj01 --out out", "Missing option '--betas'"),
        (
            "decode models/demo/subj01 --betas z.npy --norm z --out out",
            "'z' is not one of 'stored'",
        ),
        ("dekode", "No such command 'dekode'"),
    ):
        with pytest.raises(SystemExit) as left:
            run(f"fmri2clip {line}")
        said = capsys.readouterr().err
        assert left.value.code == 2 and said.startswith("fmri2clip: ") and message in said
        assert said.count("\n") == 1
    run("fmri2clip")
    assert "Commands:" in capsys.readouterr().out


def test_a_failure_while_writing_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("fmri2clip.use.decode.write_page", fail)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(SystemExit, match="fmri2clip: disk full"):
        run("fmri2clip decode models/demo/subj01 --betas z.npy --norm none --out out")
    assert set(tmp_path.rglob("*")) == before


def test_info_says_what_a_model_is(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("fmri2clip info models/demo/subj01")
    lines = capsys.readouterr().out.splitlines()
    said = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    digest = sha256_file(Path("models/demo/subj01/weights.safetensors"))
    assert said["run"] == "demo" and said["decoder"] == "ridge" and said["subject"] == "subj01"
    assert said["clip"] == f"mini, weights {CLIP_SHA256}; {WIDTH} numbers"
    assert said["voxels"] == f"{N_VOXELS} of group 'all'"
    assert said["images"] == "90 for training, 10 for validation"
    assert said["weights"] == "1000 numbers for decoding, 2000 trained"
    assert digest in said["digest"] and "the weights are as free as" in said["terms"]
    assert said["licence"] == "mit" and said["scores"] == "none on test images come with it"
    write_card(Path("models/demo"), "subj01", Path("reports/cards/demo/subj01.md"), [SCORE])
    run("fmri2clip info models/demo/subj01")
    assert "mAP 25.0 [20.0, 30.0], no brain 10.0" in capsys.readouterr().out


def test_the_package_installs_the_command(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["fmri2clip"].partition(":")
    assert getattr(import_module(module), function) is cli.main
