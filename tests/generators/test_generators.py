from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fmri2clip import generators
from fmri2clip.core import strict
from fmri2clip.generators import Conditioning, _pipeline
from fmri2clip.generators import tokens as family_of_tokens
from tests.generators import tiny_pipelines as tiny

CLIP = "ViT-tiny"
COMMON: dict[str, Any] = {"clip_model": CLIP, "steps": 2, "batch_size": 2}
N = 3


@dataclass
class Family:
    """A loaded generator of a tiny pipeline, with features of N images that it can read."""

    generator: Any
    conditioning: Conditioning
    config: Any


def features(seed: int = 0, n: int = N) -> dict[str, np.ndarray]:
    """Random embeddings, 5 and 257 image tokens, and text tokens of the tiny width."""
    rng, width = np.random.default_rng(seed), tiny.WIDTH
    few, many, text = (
        rng.normal(size=(n, length, width)).astype(np.float32) for length in (5, 257, 77)
    )
    embedding = rng.normal(size=(n, width)).astype(np.float32)
    return {"embedding": embedding, "few": few, "many": many, "text": text}


def conditioning(**arrays: np.ndarray) -> Conditioning:
    return Conditioning(clip_model=CLIP, **arrays)


def make_tokens(folder: Path, f: dict[str, np.ndarray]) -> tuple[dict[str, Any], Conditioning]:
    path = tiny.save_tokens(folder)
    return {"path": str(path), "n_tokens": 5}, conditioning(tokens_ITW=f["few"])


def make_unclip(folder: Path, f: dict[str, np.ndarray]) -> tuple[dict[str, Any], Conditioning]:
    return {"path": str(tiny.save_unclip(folder))}, conditioning(embedding_ID=f["embedding"])


def make_versatile(folder: Path, f: dict[str, np.ndarray]) -> tuple[dict[str, Any], Conditioning]:
    path = tiny.save_versatile(folder)
    return {"path": str(path)}, conditioning(tokens_ITW=f["many"], text_tokens_IUW=f["text"])


def make_adapted(
    base: str,
) -> Callable[[Path, dict[str, np.ndarray]], tuple[dict[str, Any], Conditioning]]:
    def make(folder: Path, f: dict[str, np.ndarray]) -> tuple[dict[str, Any], Conditioning]:
        path = tiny.save_base(folder / "base", base)
        adapter = tiny.save_adapter(folder / "adapter", tiny.load_unet(path))
        where = {
            "base": base,
            "adapter": str(adapter),
            "weights": "adapter.safetensors",
            "embedding_norm": 4.0,
        }
        return {"path": str(path), **where}, conditioning(embedding_ID=f["embedding"])

    return make


MAKERS = {
    "tokens": ("tokens", make_tokens),
    "unclip": ("unclip", make_unclip),
    "versatile": ("versatile", make_versatile),
    "ip_adapter_sd": ("ip_adapter", make_adapted("sd")),
    "ip_adapter_sdxl": ("ip_adapter", make_adapted("sdxl")),
}


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    """Each family once, saved to disk and loaded through our own loader."""
    made: dict[str, Family] = {}

    def get(key: str) -> Family:
        if key not in made:
            name, make = MAKERS[key]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                settings, given = make(tmp_path_factory.mktemp(key), features())
                config = generators.load_family(name).Config(**COMMON | settings)
                made[key] = Family(generators.load(name, config), given, config)
        return made[key]

    return get


@pytest.fixture(params=sorted(MAKERS))
def family(request: pytest.FixtureRequest, families: Callable[[str], Family]) -> Family:
    return families(request.param)


def farthest(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_every_family_is_tested() -> None:
    assert generators.names() == sorted({name for name, _ in MAKERS.values()})


def test_pictures_have_the_shape_and_are_not_flat(family: Family) -> None:
    images = family.generator.generate(family.conditioning, [1, 2, 3])
    assert images.dtype == np.uint8 and images.shape == (N, 16, 16, 3)
    assert family.generator.image_shape == images.shape[1:]
    assert images.std() > 5


def test_a_picture_depends_on_its_own_seed_and_features_only(family: Family) -> None:
    images = family.generator.generate(family.conditioning, [1, 2, 3])
    again = family.generator.generate(family.conditioning, [1, 2, 3])
    reversed_ = family.generator.generate(
        family.conditioning.take(slice(None, None, -1)), [3, 2, 1]
    )[::-1]
    alone = np.concatenate(
        [
            family.generator.generate(family.conditioning.take(slice(i, i + 1)), [i + 1])
            for i in range(N)
        ]
    )
    assert np.array_equal(images, again)
    assert farthest(images, reversed_) <= 1 and farthest(images, alone) <= 1


def test_seed_and_features_change_a_picture(family: Family) -> None:
    images = family.generator.generate(family.conditioning, [1, 2, 3])
    other_seed = family.generator.generate(family.conditioning, [1, 7, 3])
    swapped = family.generator.generate(family.conditioning.take(np.array([0, 2, 2])), [1, 2, 3])
    for other in (other_seed, swapped):
        assert [farthest(a, b) > 1 for a, b in zip(images, other, strict=True)] == [
            False,
            True,
            False,
        ]


def test_batch_size_changes_nothing(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    images = family.generator.generate(family.conditioning, [1, 2, 3])
    monkeypatch.setattr(family.generator, "config", replace(family.config, batch_size=8))
    assert farthest(images, family.generator.generate(family.conditioning, [1, 2, 3])) <= 1


def test_without_guidance(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    scale = 1.0 if family.config.guidance_scale > 1 else 4.0
    images = family.generator.generate(family.conditioning, [1, 2, 3])
    monkeypatch.setattr(family.generator, "config", replace(family.config, guidance_scale=scale))
    other = family.generator.generate(family.conditioning, [1, 2, 3])
    assert other.shape == images.shape and not np.array_equal(images, other)


def test_norm_of_an_embedding_does_not_matter_and_that_of_tokens_does(family: Family) -> None:
    """Calibration may have made tokens shorter, which is not to be undone."""
    given = family.conditioning.arrays()
    scaled = {n: a * (1 if n == "text_tokens_IUW" else 3) for n, a in given.items()}
    images = family.generator.generate(family.conditioning, [1, 2, 3])
    other = family.generator.generate(conditioning(**scaled), [1, 2, 3])
    assert (farthest(images, other) <= 1) == ("tokens_ITW" not in given)


def test_features_of_another_model_are_refused(family: Family) -> None:
    other = Conditioning(clip_model="ViT-L-14", **family.conditioning.arrays())
    with pytest.raises(
        ValueError, match=r"reads features of ViT-tiny, these are of ViT-L-14; decode to ViT-tiny"
    ):
        family.generator.generate(other, [1, 2, 3])


def test_another_width_is_refused(family: Family) -> None:
    narrow = {name: array[..., :12] for name, array in family.conditioning.arrays().items()}
    with pytest.raises(ValueError, match=r"reads .*width 16 in \w+, \w+ has .*width 12 in"):
        family.generator.generate(conditioning(**narrow), [1, 2, 3])


@pytest.mark.parametrize(("key", "expected"), [("tokens", 5), ("versatile", 257)])
def test_another_number_of_tokens_is_refused(
    families: Callable[[str], Family], key: str, expected: int
) -> None:
    family = families(key)
    arrays = family.conditioning.arrays()
    arrays["tokens_ITW"] = arrays["tokens_ITW"][:, 1:]
    with pytest.raises(
        ValueError, match=rf"reads {expected} tokens .*, tokens_ITW has {expected - 1} tokens"
    ):
        family.generator.generate(conditioning(**arrays), [1, 2, 3])


def test_missing_features_are_named(families: Callable[[str], Family]) -> None:
    f = features()
    with pytest.raises(
        ValueError, match=r"needs embedding_ID, there is only tokens_ITW; choose a decoder"
    ):
        families("unclip").generator.check(conditioning(tokens_ITW=f["few"]))
    with pytest.raises(ValueError, match=r"needs text_tokens_IUW, there is only tokens_ITW"):
        families("versatile").generator.check(conditioning(tokens_ITW=f["many"]))
    with pytest.raises(
        ValueError, match=r"needs tokens_ITW or embedding_ID, there is only text_tokens_IUW"
    ):
        families("tokens").generator.check(conditioning(text_tokens_IUW=f["text"]))


def test_nan_and_wrong_numbers_of_seeds_are_refused(families: Callable[[str], Family]) -> None:
    family = families("unclip")
    broken = family.conditioning.arrays()["embedding_ID"].copy()
    broken[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"embedding_ID holds NaN or infinity, first in row 1"):
        family.generator.generate(conditioning(embedding_ID=broken), [1, 2, 3])
    with pytest.raises(ValueError, match=r"2 seeds for 3 images"):
        family.generator.generate(family.conditioning, [1, 2])
    with pytest.raises(ValueError, match="overflow"):
        _pipeline.to_uint8(np.full((1, 2, 2, 3), np.nan))


def test_conditioning_checks_its_shapes() -> None:
    with pytest.raises(ValueError, match="nothing to generate from"):
        conditioning()
    with pytest.raises(
        ValueError, match=r"tokens_ITW has shape \(2, 3\), expected the axes I, T, W"
    ):
        conditioning(tokens_ITW=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"2 in embedding_ID, 3 in tokens_ITW"):
        conditioning(embedding_ID=np.zeros((2, 4)), tokens_ITW=np.zeros((3, 5, 4)))


def test_unknown_family_and_unloadable_pipelines(
    families: Callable[[str], Family], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"'unclp' does not exist \(did you mean unclip\?\)"):
        generators.load_family("unclp")
    unclip = families("unclip").config
    with pytest.raises(ValueError, match="neither a folder nor a hub name"):
        generators.load("unclip", replace(unclip, path="no_such_folder"))
    with pytest.raises(ValueError, match="cannot be loaded as a StableUnCLIPImg2ImgPipeline"):
        generators.load("unclip", replace(unclip, path=families("tokens").config.path))
    with pytest.raises(ValueError, match=r"a folder without model_index\.json"):
        generators.load("unclip", replace(unclip, path=str(tmp_path)))
    versatile = families("versatile").config
    with pytest.raises(ValueError, match=r"a folder without model_index\.json"):
        generators.load("versatile", replace(versatile, path=str(tmp_path)))
    with pytest.raises(
        ValueError, match="is no Versatile Diffusion pipeline: it has no image_unet"
    ):
        generators.load("versatile", replace(versatile, path=unclip.path))


def test_a_setting_with_a_typo_is_refused_with_a_hint() -> None:
    config = generators.load_family("versatile").Config
    with pytest.raises(
        ValueError,
        match=r"generators.vd.mix_ration is not a field of versatile.Config \(did you mean",
    ):
        strict.build(
            config,
            {"path": "a/b", "clip_model": CLIP, "mix_ration": 0.5},
            "params.yaml",
            "generators.vd",
        )
    with pytest.raises(ValueError, match=r"generators.vd.mix_ratio is 2.0, expected a fraction"):
        strict.build(
            config,
            {"path": "a/b", "clip_model": CLIP, "mix_ratio": 2.0},
            "params.yaml",
            "generators.vd",
        )
    with pytest.raises(ValueError, match=r"generators.vd.clip_model is missing"):
        strict.build(config, {"path": "a/b"}, "params.yaml", "generators.vd")


def test_families_are_listed_without_loading_diffusers(root: Path) -> None:
    code = (
        "import sys; from fmri2clip import generators; "
        "[generators.load_family(n) for n in generators.names()]"
    )
    check = (
        f"{code}; sys.exit(any(m in sys.modules for m in ('torch', 'diffusers', 'transformers')))"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=root / "src")


def test_hardware_that_a_setting_needs(families: Callable[[str], Family]) -> None:
    config = families("tokens").config
    with pytest.raises(ValueError, match="precision is fp16 on cpu; it needs a GPU"):
        generators.load("tokens", replace(config, precision="fp16"))
    with pytest.raises(ValueError, match="offload is 'model' on cpu; it needs a GPU"):
        generators.load("tokens", replace(config, offload="model"))


def test_bfloat16_and_another_scheduler(families: Callable[[str], Family]) -> None:
    family = families("tokens")
    generator = generators.load("tokens", replace(family.config, precision="bf16", scheduler="dpm"))
    assert type(generator.pipe.scheduler).__name__ == "DPMSolverMultistepScheduler"  # type: ignore[attr-defined]
    assert generator.generate(family.conditioning, [1, 2, 3]).std() > 5


def test_one_token_equals_the_same_token_repeated(families: Callable[[str], Family]) -> None:
    family, embedding_ID = families("tokens"), features()["embedding"]
    unit_ID = embedding_ID / np.linalg.norm(embedding_ID, axis=1, keepdims=True)
    one = family.generator.generate(conditioning(embedding_ID=embedding_ID), [1, 2, 3])
    five = family.generator.generate(
        conditioning(tokens_ITW=np.repeat(unit_ID[:, None], 5, axis=1)), [1, 2, 3]
    )
    assert farthest(one, five) <= 1


def test_unclip_gives_embeddings_the_norm_of_its_statistics(
    families: Callable[[str], Family],
) -> None:
    generator = families("unclip").generator
    assert generator.embedding_norm == pytest.approx(np.sqrt(tiny.WIDTH * 3**2))
    chosen = replace(generator.config, embedding_norm=generator.embedding_norm)
    same = generators.load("unclip", chosen)
    given = families("unclip").conditioning
    assert np.array_equal(same.generate(given, [1, 2, 3]), generator.generate(given, [1, 2, 3]))


def test_adapters_of_hidden_states_are_refused(
    families: Callable[[str], Family], tmp_path: Path
) -> None:
    config = families("ip_adapter_sd").config
    plus = tiny.save_adapter(tmp_path, tiny.load_unet(Path(config.path)), plus=True)
    with pytest.raises(ValueError, match=r"reads hidden states \(IPAdapterPlusImageProjection\)"):
        generators.load("ip_adapter", replace(config, adapter=str(plus)))
    with pytest.raises(ValueError, match="is it an adapter for sdxl"):
        sdxl = families("ip_adapter_sdxl").config
        generators.load("ip_adapter", replace(sdxl, adapter=config.adapter))
    with pytest.raises(ValueError, match="embedding_norm is 0"):
        replace(config, embedding_norm=0.0)


def test_versatile_paints_what_the_pipeline_itself_paints(
    families: Callable[[str], Family], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without guidance, from a text and a picture: the library's own call against ours on the
    features it encodes.

    Its dual attention lacks an argument that its blocks pass; it is given one here.
    """
    import diffusers
    from diffusers.models import DualTransformer2DModel
    from PIL import Image

    family = families("versatile")
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(2)
    ]
    texts = ["a b", "c d"]
    forward = DualTransformer2DModel.forward
    monkeypatch.setattr(
        DualTransformer2DModel,
        "forward",
        lambda self, *x, encoder_attention_mask=None, **y: forward(self, *x, **y),
    )
    tiny.save_joined(Path(family.config.path), tmp_path)
    pipe = diffusers.VersatileDiffusionDualGuidedPipeline.from_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    noise = [torch.Generator().manual_seed(seed) for seed in (4, 5)]
    settings = {
        "text_to_image_strength": 0.3,
        "guidance_scale": 1.0,
        "num_inference_steps": 2,
        "output_type": "np",
    }
    expected = pipe(prompt=texts, image=pictures, generator=noise, **settings).images
    with torch.no_grad():
        text = pipe._encode_text_prompt(texts, "cpu", 1, False).numpy()
        image = pipe._encode_image_prompt(pictures, "cpu", 1, False).numpy()
    config = replace(family.config, mix_ratio=0.3, guidance_scale=1.0, scheduler="as_saved")
    ours = generators.load("versatile", config)
    made = ours.generate(conditioning(tokens_ITW=image, text_tokens_IUW=text), [4, 5])
    assert farthest(made, _pipeline.to_uint8(expected)) <= 1


def test_versatile_loads_published_and_joined_checkpoints(
    families: Callable[[str], Family], tmp_path: Path
) -> None:
    family = families("versatile")
    expected = family.generator.generate(family.conditioning, [1, 2, 3])
    index = json.loads((Path(family.config.path) / "model_index.json").read_text())
    published = shutil.copytree(family.config.path, tmp_path / "published")
    index["text_unet"][0] = (
        "versatile_diffusion"  # the library's name when the published files were written
    )
    (published / "model_index.json").write_text(json.dumps(index))
    tiny.save_joined(Path(family.config.path), tmp_path / "joined")
    for path in (published, tmp_path / "joined"):
        generator = generators.load("versatile", replace(family.config, path=str(path)))
        assert np.array_equal(expected, generator.generate(family.conditioning, [1, 2, 3]))


def test_versatile_without_text_reads_none(families: Callable[[str], Family]) -> None:
    family = families("versatile")
    generator = generators.load("versatile", replace(family.config, mix_ratio=0.0))
    assert generator.needs == ("tokens_ITW",)
    tokens_ITW = family.conditioning.arrays()["tokens_ITW"]
    made = generator.generate(conditioning(tokens_ITW=tokens_ITW), [1, 2, 3])
    assert np.array_equal(made, generator.generate(family.conditioning, [1, 2, 3]))
    assert not np.array_equal(made, family.generator.generate(family.conditioning, [1, 2, 3]))


def test_seeds_do_not_depend_on_order_or_company() -> None:
    seeds_IN = generators.draw_seeds(3, [10, 20, 30], 4)
    assert seeds_IN.shape == (3, 4) and len(np.unique(seeds_IN)) == 12
    assert np.array_equal(generators.draw_seeds(3, [30, 10], 2), seeds_IN[[2, 0], :2])
    assert not np.array_equal(generators.draw_seeds(4, [10, 20, 30], 4), seeds_IN)


def test_places_of_patches_follow_the_formula() -> None:
    tokens_BTW = np.random.default_rng(0).normal(size=(2, 10, 3)).astype(np.float32)
    found = family_of_tokens.add_places(tokens_BTW)
    np.testing.assert_array_equal(found[..., :3], tokens_BTW)
    expected = np.zeros((10, family_of_tokens.N_PLACES))
    for row in range(3):
        for column in range(3):
            parts = [
                [f(np.pi * k * x / 3) for f in (np.sin, np.cos) for k in (1, 2, 4, 8)]
                for x in (row, column)
            ]
            expected[1 + 3 * row + column] = np.concatenate(parts) / np.sqrt(8)
    np.testing.assert_allclose(found[0, :, 3:], expected, atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(found[1, :, 3:], axis=1), [0.0] + [1.0] * 9, atol=1e-6
    )
    assert (
        family_of_tokens.add_places(tokens_BTW[:, :1])[0, 0, 3:].tolist()
        == [0.0] * family_of_tokens.N_PLACES
    )


def sharpen(*loaded: Any) -> None:
    """Random attention is nearly uniform; larger weights make it look at something."""
    for generator in loaded:
        for name, weight in generator.pipe.unet.named_parameters():
            if ".attn2." in name:
                weight.data.mul_(6)


def test_the_order_of_patches_matters_with_places_only(tmp_path: Path) -> None:
    """The same network paints the same from patches in another order, unless it is told their
    places.
    """
    width = 8
    path = str(tiny.save_tokens(tmp_path, width=width + family_of_tokens.N_PLACES))
    tokens = np.random.default_rng(1).normal(size=(1, 5, width)).astype(np.float32)
    shuffled = tokens[:, [0, 2, 1, 4, 3]]
    settings: dict[str, Any] = {"path": path, **COMMON, "n_tokens": 5}
    grid = generators.load("tokens", family_of_tokens.Config(**settings, places="grid"))
    plain = generators.load("tokens", family_of_tokens.Config(**settings))
    sharpen(grid, plain)
    assert grid.shapes == {"tokens_ITW": (5, width), "embedding_ID": (width,)}
    painted = [grid.generate(conditioning(tokens_ITW=t), [3]) for t in (tokens, shuffled)]
    assert np.abs(painted[0].astype(int) - painted[1]).max() > 2
    assert grid.generate(conditioning(embedding_ID=tokens[:, 0]), [3]).shape == painted[0].shape
    wide = np.concatenate([tokens, np.zeros((1, 5, family_of_tokens.N_PLACES), np.float32)], axis=2)
    blind = [
        plain.generate(conditioning(tokens_ITW=t), [3]) for t in (wide, wide[:, [0, 2, 1, 4, 3]])
    ]
    assert np.abs(blind[0].astype(int) - blind[1]).max() <= 2
    with pytest.raises(ValueError, match=r"places is grid, but n_tokens is 7"):
        family_of_tokens.Config(**settings | {"n_tokens": 7}, places="grid")


def test_weights_of_another_variant_name_the_key(tmp_path: Path) -> None:
    """As people copy them: only the half-precision files of a pipeline, or only pickled ones."""
    settings = _pipeline.Settings(path=str(tmp_path), clip_model="any")
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"without \*\.safetensors; pickled: true reads"):
        settings.check_places()
    replace(settings, pickled=True).check_places()
    for name in ("model.fp16.safetensors", "other.fp16-00001-of-00002.safetensors"):
        (tmp_path / "unet" / name).touch()
    with pytest.raises(ValueError, match=r"variant is '', but .* set variant: fp16$"):
        settings.check_places()
    replace(settings, variant="fp16").check_places()
    (tmp_path / "unet" / "model.safetensors").touch()
    settings.check_places()
    with pytest.raises(
        ValueError, match=r"variant is 'bf16', .* set variant: '' or variant: fp16$"
    ):
        replace(settings, variant="bf16").check_places()
