"""README.md and docs/: numbers are those of reports/, links and paths exist, README stays short."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from fmri2clip import cli
from fmri2clip.core.files import sha256_file
from fmri2clip.core.params import load
from fmri2clip.datasets.folder.recordings import FolderRecordings
from fmri2clip.documents import markers
from fmri2clip.documents.numbers import Evidence, Number
from fmri2clip.stages.check_data.check_folder import iterate_folder_checks
from fmri2clip.stages.check_params import plan, validate
from pipeline import preset
from tests.datasets.folder.own_world import GROUPS, SESSIONS, write_own
from tests.model_folder import CATEGORIES, N_VOXELS, make_inputs, write_ridge
from tests.tiny_subject import make_tiny

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [path.relative_to(ROOT).as_posix() for path in markers.list_documents(ROOT)]
BASES = (ROOT, ROOT / "src" / "fmri2clip")  # docs name modules from either
BUILT = {
    "reports/html/index.html",
    "reports/html/",
}  # a fresh clone has it after `dvc checkout` or `make repro`
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"\.?[\w*-]+(?:[./][\w*-]+)*/?")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The documents and the text files that their numbers come from."""
    for folder in ("reports", "benchmarks", "assets"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".json", ".md"):
                target = tmp_path / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    (tmp_path / "docs").mkdir()
    for name in DOCUMENTS:
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def edit_top1(root: Path, value: float) -> None:
    path = root / "reports" / "runs" / "encoding" / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["retrieval"]["image_given_brain"]["top1"] = value
    path.write_text(json.dumps(metrics), encoding="utf-8")


def run_docs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.docs", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_numbers_are_those_of_the_reports() -> None:
    assert markers.find_differences(ROOT) == []


def test_readme_has_at_most_120_lines() -> None:
    assert len(read("README.md").splitlines()) <= 120


def test_a_changed_number_is_noticed_and_written(copy: Path) -> None:
    edit_top1(copy, 0.123456)
    found = markers.find_differences(copy)
    assert any(
        re.match(r"README\.md:\d+: reports/runs/encoding.*retrieval.* is 12\.3 ", x) for x in found
    )
    assert any(x.startswith("README.md:") and "table headline" in x for x in found)
    assert any(x.startswith("docs/results.md:") for x in found)
    assert copy / "README.md" in markers.update(copy)
    assert markers.find_differences(copy) == []
    assert "12.3" in (copy / "README.md").read_text(encoding="utf-8")


def test_command_line_names_file_and_place(copy: Path) -> None:
    edit_top1(copy, 0.123456)
    checked = run_docs(copy, "--check")
    assert checked.returncode == 1
    assert re.search(r"^README\.md:\d+: ", checked.stderr, re.MULTILINE)
    written = run_docs(copy)
    assert written.returncode == 0 and "wrote README.md" in written.stdout
    assert run_docs(copy, "--check").returncode == 0


def test_writing_twice_changes_nothing(copy: Path) -> None:
    assert markers.update(copy) == []


def test_no_torch_is_imported() -> None:
    code = "import sys, pipeline.docs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n<!-- n: a.json x | percent -->1.0", "d.md:2: the marker has no"),
        ("<!-- table: headline -->\n", "the marker has no <!-- end -->"),
        ("<!-- table: a -->\n<!-- table: b -->\n<!-- end -->", "the marker has no <!-- end -->"),
        ("<!-- n: a.json y | percent --><!-- -->", "a.json has no number under y"),
        ("<!-- n: b.json x | percent --><!-- -->", "b.json does not exist"),
        ("<!-- n: a.json x | parts --><!-- -->", "format 'parts' is unknown"),
        ("<!-- table: heads -->\n<!-- end -->", "table 'heads' is unknown"),
    ],
)
def test_a_wrong_marker_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"x": 0.5}', encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        markers.render(text, Evidence(tmp_path), "d.md")


def test_a_number_is_found_by_keys_with_dots_titles_and_places(tmp_path: Path) -> None:
    tree = {
        "null.prior": {"auc": 0.5, "auc_ci95_low": 0.25, "auc_ci95_high": 0.75},
        "rows": [{"title": "a - b", "top.1": {"value": 1234567, "low": 0, "high": 2e6}}],
    }
    (tmp_path / "a.json").write_text(json.dumps(tree), encoding="utf-8")
    evidence = Evidence(tmp_path)
    assert evidence.number("a.json", "null.prior.auc") == Number(0.5, 0.25, 0.75)
    assert evidence.number("a.json", "rows", "a - b", "top.1") == Number(1234567, 0, 2e6)
    assert evidence.number("a.json", "rows", "0", "top.1") == Number(1234567, 0, 2e6)
    assert evidence.number("a.json", "rows", "1", "top.1") is None


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("percent", "-12.3"),
        ("points interval", "-12.3 [-20.0, 0.0]"),
        ("plain interval", "-0.12 [-0.20, 0.00]"),
        ("signed 3", "-0.123"),
        ("count", "0"),
    ],
)
def test_numbers_in_print(how: str, text: str) -> None:
    assert Number(-0.1234, -0.2, -0.0001).format(how) == text


@pytest.mark.parametrize("name", DOCUMENTS)
def test_tests_that_are_named_exist(name: str) -> None:
    for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", read(name)):
        assert f"def {test}(" in read(file), f"{file} has no {test}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_paths_exist(name: str) -> None:
    missing = [target for target in find_paths(name) if not exists(name, target)]
    assert missing == []


def find_paths(name: str) -> list[str]:
    """Relative links, and what looks like a path of the repository in code spans."""
    text = markers.NUMBER.sub("", read(name))
    links = [link.split("#")[0] for link in LINK.findall(text) if "://" not in link]
    prose = re.sub(r"^\s*```.*?^\s*```", "", text, flags=re.DOTALL | re.MULTILINE)
    spans = [span for span in CODE.findall(prose) if PATH.fullmatch(span)]
    return [*filter(None, links), *(span for span in spans if is_path(span))]


def is_path(span: str) -> bool:
    """True for a name with a folder of ours in front, or with a suffix of our root's files."""
    first = span.split("/")[0]
    if first in ("data", "models", ".resume"):  # built by the pipeline; git has none of it
        return False
    in_tree = "/" in span and any((base / first).is_dir() for base in BASES)
    return in_tree or span.endswith((".yaml", ".cff", ".lock", ".toml"))


def exists(name: str, target: str) -> bool:
    """Whether a target is there, seen from its document, the root or the library."""
    places = [(ROOT / name).parent, *BASES]
    return target in BUILT or any(any(base.glob(target.rstrip("/"))) for base in places)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_line_starts_with_a_number(name: str) -> None:
    """Markdown takes such a line for HTML and shows its marks as they are."""
    assert not re.search(r"^\s*<!-- n:", read(name), re.MULTILINE)


def test_decoder_of_the_readme_keeps_the_contract() -> None:
    code = re.search(r"```python\n(.*?)```", read("README.md"), re.DOTALL)
    assert code is not None
    module = types.ModuleType("readme_decoder")
    sys.modules[module.__name__] = module  # where dataclasses look
    try:
        exec(code[1], module.__dict__)
    finally:
        del sys.modules[module.__name__]
    tiny = make_tiny()
    decoder = module.Decoder.from_data(module.Config(alpha=1e4), [tiny], seed=0)
    assert decoder.fit(tiny) == {}
    decoded = decoder.decode(tiny.mean_betas_IV, tiny.subject)
    assert decoded.embedding_ID.shape == tiny.image_embedding_ID.shape


def test_examples_of_use_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("params.yaml", "assets/mini/clip"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    clip_sha256 = sha256_file(Path("assets/mini/clip/model.safetensors"))
    write_ridge(Path("models/ridge/subj01"), width=128, clip_sha256=clip_sha256)
    Path("pictures").mkdir()
    Image.new("RGB", (96, 96), "red").save("pictures/red.png")
    inputs = make_inputs()
    z_NV = np.random.default_rng(0).standard_normal((6, N_VOXELS))
    np.save("betas.npy", z_NV * inputs["session_std_SV"][1] + inputs["session_mean_SV"][1])
    text = read("docs/use.md")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.strip().splitlines():
            monkeypatch.setattr(sys, "argv", shlex.split(line))
            with pytest.raises(SystemExit) as left:
                cli.main()
            assert not left.value.code, line
    said: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, said)
    expected_ID = np.load("decoded/embeddings.npy").reshape(2, 3, -1).mean(axis=1)
    assert np.allclose(said["decoded"].embedding, expected_ID, atol=1e-4)
    assert len(said["best"]) == 2 and set(said["best"]) <= set(CATEGORIES)
    files = set(re.findall(r"[a-z_]+\.(?:html|npy|tsv|json)", text.split("## Betas")[0]))
    written = {path.name for path in Path("decoded").iterdir()}
    assert written == files - {"betas.npy", "captions.tsv"}


def test_glmsingle_is_cut_into_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """betasmd of both sessions of a folder, whose own files are gone, gives them back."""
    monkeypatch.chdir(tmp_path)
    own = write_own(tmp_path / "data/own")
    affine_44 = np.diag([-2.0, 2.0, 2.5, 1.0])
    for path in (own.root / "masks").rglob("*.nii.gz"):
        mask = np.asarray(nib.load(path).dataobj)
        nib.save(nib.Nifti1Image(mask, affine_44), path)
    parts = []
    for session in SESSIONS:
        path = own.root / f"betas/sub-01_{session}.nii.gz"
        parts.append(np.asarray(nib.load(path).dataobj, dtype=np.float64))
        path.unlink()
    nib.save(nib.Nifti1Image(mask, affine_44), "bold.nii.gz")
    np.save("TYPED_FITHRF_GLMDENOISE_RR.npy", {"betasmd": np.concatenate(parts, axis=3)})
    _, code = re.findall(r"```python\n(.*?)```", read("docs/own_data.md"), re.DOTALL)
    exec(code, {})
    recordings = FolderRecordings.open(own.root, "sub-01")
    for number, session in enumerate(SESSIONS, start=1):
        found_TV = recordings.read(number, recordings.rois(GROUPS))
        assert np.array_equal(found_TV, np.nan_to_num(own.betas["sub-01", session]))
        assert np.array_equal(nib.load(recordings.find(number)).affine, affine_44)


def test_own_data_by_hand_pass_the_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example as written, with the preset that the page applies to it."""
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", read("docs/own_data.md"), re.DOTALL)
    assert code is not None
    exec(code[1], {})
    for name in ("assets", "presets"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    Path("params.yaml").write_text(preset.patch(Path("params.yaml"), Path("presets/folder.yaml")))
    params = load()
    validate.validate(params)
    assert plan.make_plan(params, Path(), "cpu2", quick=True).needs
    checks = list(
        iterate_folder_checks(
            Path(params.dataset.folder), params.subjects, params.rois, params.norm
        )
    )
    statuses = {check.name: check.status for check in checks}
    warned = [statuses.pop(name) for name in ("duplicates", "sub-01.trials", "sub-02.trials")]
    assert statuses.pop("captions") == "SKIP" and set(statuses.values()) == {"PASS"}
    assert set(warned) == {"WARN"}
    said = {check.name: check.detail for check in checks}
    for line in re.findall(r"^(?:PASS|WARN) +(\S+) +(.*)$", read("docs/own_data.md"), re.MULTILINE):
        for part in line[1].split(" ... "):
            assert part.strip(",") in said[line[0]]
