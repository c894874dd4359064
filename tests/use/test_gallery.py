from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import fmri2clip
from fmri2clip.artefacts.gallery import get_jpeg, read_gallery, write_gallery
from fmri2clip.core import params
from fmri2clip.use.gallery import find_clip, make_gallery, open_gallery, search
from tests.model_folder import CLIP_SHA256, N_VOXELS, WIDTH, make_inputs, write_ridge

ASSETS = Path(__file__).parents[2] / "assets/mini/clip"
NAMES = ["a/wide.png", "b.jpg", "c.png"]


@pytest.fixture(scope="module")
def clip() -> params.Clip:
    return params.Clip(
        model="fmri2clip-mini",
        config=str(ASSETS / "fmri2clip-mini.json"),
        pretrained=str(ASSETS / "model.safetensors"),
        batch_size=2,
    )


@pytest.fixture
def pictures(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "pictures"
    (folder / "a").mkdir(parents=True)
    for name, shape in zip(NAMES, [(80, 240, 3), (96, 96, 3), (200, 150, 3)], strict=True):
        noise = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(shape[1::-1], Image.Resampling.BICUBIC).save(folder / name)
    (folder / "._c.png").write_bytes(b"\0\5\x16\7")  # macOS' companion is no picture
    return folder


def test_features_are_those_of_open_clip(tmp_path: Path, pictures: Path, clip: params.Clip) -> None:
    (pictures / "captions.tsv").write_text('file\tcaption\nc.png\ta "red" car\nb.jpg\ta dog\n')
    assert make_gallery(pictures, tmp_path / "g.h5", "mini", clip) == 3
    gallery = read_gallery(tmp_path / "g.h5")
    open_clip.add_model_config(clip.config)
    model, _, transform = open_clip.create_model_and_transforms(clip.model)
    model.load_state_dict(load_file(clip.pretrained))
    model.eval()
    with torch.inference_mode():
        for name, embedding_D in zip(NAMES, gallery["image_embedding_ID"], strict=True):
            picture = transform(Image.open(pictures / name).convert("RGB"))[None]
            expected = model.encode_image(picture, normalize=True)[0].numpy()
            assert np.allclose(embedding_D, expected, atol=1e-4)
        texts = open_clip.get_tokenizer(clip.model)(['a "red" car', "a dog"])
        expected = model.encode_text(texts, normalize=True).numpy()
    assert np.allclose(gallery["text_embedding_KD"], expected, atol=1e-4)
    assert list(gallery["name_I"]) == NAMES and gallery["caption_image_K"].tolist() == [2, 1]
    shapes = [Image.open(io.BytesIO(get_jpeg(gallery, row))).size for row in range(3)]
    assert shapes == [(112, 37), (96, 96), (84, 112)]


def test_pictures_and_captions_that_cannot_be_read_are_refused(
    tmp_path: Path, pictures: Path, clip: params.Clip
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no picture"):
        make_gallery(tmp_path / "empty", tmp_path / "g.h5", "mini", clip)
    captions = pictures / "captions.tsv"
    captions.write_text("file\tcaption\nd.png\ta cat\n")
    with pytest.raises(ValueError, match=r"captions.tsv names d.png, which is not among"):
        make_gallery(pictures, tmp_path / "g.h5", "mini", clip)
    captions.write_text("picture\tcaption\nc.png\ta cat\n")
    with pytest.raises(ValueError, match="must have the columns file and caption"):
        make_gallery(pictures, tmp_path / "g.h5", "mini", clip)
    captions.unlink()
    (pictures / "b.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"b.jpg cannot be read as a picture"):
        make_gallery(pictures, tmp_path / "g.h5", "mini", clip)
    assert not list(tmp_path.glob("*g.h5*"))


def test_a_clip_is_named_by_open_clip_or_by_params(root: Path, tmp_path: Path) -> None:
    found = find_clip("ViT-L-14-quickgelu/openai", tmp_path / "none.yaml")
    assert (found.model, found.pretrained) == ("ViT-L-14-quickgelu", "openai")
    assert find_clip("mini", root / "params.yaml").model == "fmri2clip-mini"
    with pytest.raises(ValueError, match=r"is not among the clips of .*mini"):
        find_clip("maxi", root / "params.yaml")
    with pytest.raises(ValueError, match="is not MODEL/WEIGHTS of open_clip"):
        find_clip("maxi", tmp_path / "none.yaml")


def write_random(path: Path, rng: np.random.Generator, sha256: str) -> dict[str, np.ndarray]:
    arrays = {
        "name_I": [f"{i}.png" for i in range(9)],
        "image_embedding_ID": rng.standard_normal((9, WIDTH)).astype(np.float32),
        "caption_K": [f"text {k // 2}" for k in range(8)],
        "caption_image_K": np.arange(8),
        "text_embedding_KD": np.repeat(rng.standard_normal((4, WIDTH)), 2, 0).astype(np.float32),
    }
    write_gallery(path, arrays, [b"x"] * 9, {"clip": "mini", "weights_sha256": sha256})
    return arrays


def test_the_most_similar_come_first(tmp_path: Path, rng: np.random.Generator) -> None:
    weight_VD = write_ridge(tmp_path / "subj01")
    model = fmri2clip.load(tmp_path / "subj01")
    arrays = write_random(tmp_path / "g.h5", rng, CLIP_SHA256)
    gallery, doubts = open_gallery(tmp_path / "g.h5", model)
    assert doubts == []
    betas_IV = rng.standard_normal((3, N_VOXELS))
    found = search(model, model.decode(betas_IV), gallery, 3)
    inputs = make_inputs()
    queries = {"picture": betas_IV @ weight_VD, "caption": betas_IV @ weight_VD[:, ::-1]}
    for kind, name, rows in (
        ("picture", "image", range(9)),
        ("caption", "text", range(0, 8, 2)),
    ):
        targets = arrays["image_embedding_ID" if name == "image" else "text_embedding_KD"]
        for i in range(3):
            a = queries[kind][i] - inputs[f"mean_predicted_{name}_D"]
            cosine = {}
            for row in rows:
                b = targets[row] - inputs[f"mean_{name}_D"]
                cosine[row] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            best = sorted(cosine, key=lambda row: -cosine[row])[:3]
            assert found[kind][0][i].tolist() == best
            assert found[kind][1][i] == pytest.approx([cosine[row] for row in best], abs=1e-5)


def test_a_gallery_of_another_clip_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    write_ridge(tmp_path / "subj01")
    write_random(tmp_path / "g.h5", rng, "d" * 64)
    with pytest.raises(ValueError, match=r"weights dddddddd.*, the model decodes into mini"):
        open_gallery(tmp_path / "g.h5", fmri2clip.load(tmp_path / "subj01"))
    (tmp_path / "subj01/clip.json").unlink()
    _, doubts = open_gallery(tmp_path / "g.h5", fmri2clip.load(tmp_path / "subj01"))
    assert len(doubts) == 1 and "taken on trust" in doubts[0]
