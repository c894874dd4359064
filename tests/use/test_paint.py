from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fmri2clip
from fmri2clip import generators
from fmri2clip.generators import Conditioning, tokens
from fmri2clip.use.model import Decoding
from fmri2clip.use.paint import find_painter, paint
from tests.model_folder import N_VOXELS, make_inputs, write_ridge

SETTINGS = "family: tokens\npath: pipe\nclip_model: tiny\nn_tokens: 5\nbatch_size: 2\n"
PARAMS = Path(__file__).parents[2] / "params.yaml"


class Flat:
    """Paints every picture in one colour: its seed's last byte."""

    def __init__(self) -> None:
        self.seen: list[Conditioning] = []

    def check(self, conditioning: Conditioning) -> None:
        pass

    def generate(self, conditioning: Conditioning, seeds_I: Any) -> np.ndarray:
        self.seen.append(conditioning)
        return np.stack([np.full((6, 4, 3), seed % 256, np.uint8) for seed in seeds_I])


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> Flat:
    found = Flat()
    monkeypatch.setattr(generators, "load", lambda family, config, device: found)
    return found


def test_embeddings_are_brought_back_to_where_clip_has_them(
    flat: Flat, tmp_path: Path, rng: np.random.Generator
) -> None:
    write_ridge(tmp_path / "subj01")
    (tmp_path / "g.yaml").write_text(SETTINGS)
    model = fmri2clip.load(tmp_path / "subj01")
    decoding = model.decode(rng.standard_normal((3, N_VOXELS)))
    image_IHWC = paint(model, decoding, find_painter(str(tmp_path / "g.yaml"), PARAMS))
    inputs = make_inputs()
    centred_ID = decoding.embedding - inputs["mean_predicted_image_D"]
    given_ID = np.concatenate([seen.embedding_ID for seen in flat.seen])
    assert np.allclose(given_ID, inputs["mean_image_D"] + 0.5 * centred_ID, atol=1e-5)
    assert [len(seen) for seen in flat.seen] == [2, 1]
    assert flat.seen[0].clip_model == "ViT-tiny"
    expected_I = generators.draw_seeds(0, [1, 2, 3])[:, 0] % 256
    assert image_IHWC.shape == (3, 6, 4, 3) and image_IHWC[:, 0, 0, 0].tolist() == list(expected_I)


def test_a_decoder_without_embedding_paints_nothing(tmp_path: Path) -> None:
    write_ridge(tmp_path / "subj01")
    (tmp_path / "g.yaml").write_text(SETTINGS)
    painter = find_painter(str(tmp_path / "g.yaml"), PARAMS)
    with pytest.raises(ValueError, match="from which nothing can be painted"):
        paint(fmri2clip.load(tmp_path / "subj01"), Decoding(), painter)


def test_a_generator_is_named_by_a_file_or_an_entry(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(SETTINGS)
    assert find_painter(str(tmp_path / "g.yaml"), PARAMS).config.path == "pipe"
    (tmp_path / "pipe").mkdir()
    painter = find_painter(str(tmp_path / "g.yaml"), PARAMS)
    assert painter.config.path == str(tmp_path / "pipe") and painter.describe()["path"] == "pipe"
    entry = find_painter("mini", PARAMS)
    assert entry.family == "tokens" and isinstance(entry.config, tokens.Config)


def test_what_names_no_generator_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for content, message in (
        ("[1, 2]", "holds no settings"),
        ("a: [", "is no valid YAML"),
        ("path: pipe\n", "family is missing; choose from"),
        ("family: token\n", "generator 'token' does not exist (did you mean tokens?)"),
        (SETTINGS + "step: 3\n", "g.yaml: step is not a field of tokens.Config"),
        ("family: tokens\npath: pipe\n", "g.yaml: clip_model is missing"),
    ):
        Path("g.yaml").write_text(content)
        with pytest.raises(ValueError, match=re.escape(message)) as raised:
            find_painter("g.yaml", PARAMS)
        assert "\n" not in str(raised.value)
    for name, params, message in (
        ("none.yaml", PARAMS, "none.yaml does not exist"),
        ("mini", Path("params.yaml"), "there is no params.yaml that could name it"),
        ("maxi", PARAMS, "is not among the generators of"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            find_painter(name, params)
