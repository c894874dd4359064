"""params.yaml: generators, reconstructions and pictures; a mistake is a ValueError that names the
dotted key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from fmri2clip import generators
from fmri2clip.core import params, strict
from fmri2clip.stages.check_params import validate


@pytest.fixture
def content(root: Path) -> dict[str, Any]:
    """The parameters with one reconstruction of run brainmclip, as plain containers."""
    loaded = YAML(typ="safe").load((root / "params.yaml").read_text())
    entry = {"generator": "mini", "source": "brainmclip", "reads": "fused"}
    return loaded | {"reconstructions": {"one": entry}}


def check(content: dict[str, Any]) -> None:
    validate.validate(strict.build(params.Params, content, "params.yaml"))


def refuse(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check(content)
    assert str(caught.value).startswith(f"params.yaml: {message}")


def test_the_default_is_accepted(content: dict[str, Any]) -> None:
    check(content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"source": "ridgee"},
            "reconstructions.one.source: 'ridgee' is not a key of runs or a keyword; choose from",
        ),
        (
            {"generator": "mimi"},
            "reconstructions.one.generator: 'mimi' is not known; choose from mini",
        ),
        (
            {"reads": "detail"},
            "reconstructions.one.reads is 'detail' (str), expected one of 'embedding'",
        ),
        (
            {"n_candidates": 2},
            "reconstructions.one.n_candidates is 2, but selection is none; set it to brain or ",
        ),
        ({"n_candidates": 0}, "reconstructions.one.n_candidates is 0, expected at least 1"),
        ({"seed": -1}, "reconstructions.one.seed is -1, expected at least 0"),
        ({"candidates": 2}, "reconstructions.one.candidates is not a field of Reconstruction"),
        (
            {"source": "target", "selection": "brain", "n_candidates": 2},
            "reconstructions.one.selection is brain, but source is target; only what a run decodes",
        ),
        (
            {"source": "mean_image", "selection": "brain"},
            "reconstructions.one.selection is brain, but source is mean_image",
        ),
        (
            {"selection": "encoding", "n_candidates": 2},
            "reconstructions.one.selection is encoding and chosen_by is ''; selection encoding",
        ),
        (
            {"selection": "encoding", "n_candidates": 2, "chosen_by": "nobody"},
            "reconstructions.one.chosen_by: 'nobody' is not known",
        ),
        (
            {"reads": "library", "selection": "brain", "n_candidates": 2},
            "reconstructions.one.reads is library and selection brain",
        ),
    ],
)
def test_reconstructions(content: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    content["reconstructions"]["one"] |= changes
    refuse(content, message)


@pytest.mark.parametrize("changes", [{}, {"source": "target"}, {"reads": "embedding"}])
def test_features_of_another_clip_model(content: dict[str, Any], changes: dict[str, Any]) -> None:
    content["reconstructions"]["one"] |= changes
    content["generators"]["mini"]["clip_model"] = "ViT-H-14"
    refuse(content, "reconstructions.one: generator mini reads features of ViT-H-14, there is ")


def test_reserved_names_of_results(content: dict[str, Any]) -> None:
    content["reconstructions"]["stimulus"] = content["reconstructions"].pop("one")
    refuse(
        content,
        "reconstructions.stimulus: results of that name are written beside those of "
        "reconstructions",
    )


def test_a_run_cannot_have_the_name_of_a_source(content: dict[str, Any]) -> None:
    content["runs"]["target"] = content["runs"]["ridge"]
    refuse(
        content, "runs.target: as a source of reconstructions target means no run; rename the run"
    )


def test_the_mean_image_needs_no_clip_model(content: dict[str, Any]) -> None:
    content["generators"]["mini"]["clip_model"] = "ViT-H-14"
    content["reconstructions"]["one"] = {"generator": "mini", "source": "mean_image"}
    check(content)


def test_a_generator_of_another_number_of_tokens(content: dict[str, Any]) -> None:
    content["reconstructions"]["one"] |= {"source": "target", "reads": "semantic"}
    check(content)
    content["generators"]["mini"] |= {"n_tokens": 2}
    refuse(content, "reconstructions.one reads 65 tokens of clip mini, but generators.mini.n")
    content["reconstructions"]["one"] |= {"reads": "embedding"}
    check(content)


@pytest.mark.parametrize(
    "changes", [{"source": "target", "reads": "semantic"}, {"reads": "embedding", "text": True}]
)
def test_tokens_that_are_not_cached(content: dict[str, Any], changes: dict[str, Any]) -> None:
    content["runs"] = {"brainmclip": {**content["runs"]["brainmclip"], "decoder": "ridge"}}
    content["clips"]["mini"] |= {"tokens": False, "detail_layers": []}
    content["reconstructions"]["one"] |= {"reads": "embedding"}
    check(content)
    content["reconstructions"]["one"] |= changes
    refuse(
        content,
        "reconstructions.one reads tokens that clip mini does not cache; set clips.mini.tokens to "
        "true",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "tokenz"}, "generators.mini.family: 'tokenz' is not known; choose from"),
        ({"family": 3}, "generators.mini.family: '3' is not known; choose from"),
        (
            {"stepz": 3},
            "generators.mini.stepz is not a field of tokens.Config (did you mean steps?)",
        ),
        ({"steps": "x"}, "generators.mini.steps is 'x' (str), expected int"),
        ({"steps": 0}, "generators.mini.steps is 0, expected at least 1"),
    ],
)
def test_generators(content: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    content["generators"]["mini"] |= changes
    refuse(content, message)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "family",
            "generators.mini.family: '' is not known; choose from ip_adapter, tokens, unclip, "
            "versatile",
        ),
        ("clip_model", "generators.mini.clip_model is missing"),
        ("path", "generators.mini.path is missing"),
        ("n_tokens", "generators.mini.n_tokens is missing"),
    ],
)
@pytest.mark.parametrize("source", ["brainmclip", "target", "mean_image"])
def test_a_generator_without_a_required_key(
    content: dict[str, Any], key: str, message: str, source: str
) -> None:
    content["reconstructions"]["one"]["source"] = source
    del content["generators"]["mini"][key]
    refuse(content, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"protocols": ["strict"]},
            "pictures.protocols: 'strict' is not known; choose from mindeye-2023",
        ),
        ({"n_images": -1}, "pictures.n_images is -1, expected at least 0"),
        ({"clip": "maxi"}, "pictures.clip: 'maxi' is not known; choose from mini"),
        ({"brains": True}, "pictures.brains is not a field of Pictures (did you mean brain?)"),
    ],
)
def test_pictures(content: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    content["pictures"] |= changes
    refuse(content, message)


@pytest.mark.parametrize("changes", [{"protocols": []}, {"n_images": 1}])
def test_pictures_that_nothing_can_be_measured_on(
    content: dict[str, Any], changes: dict[str, Any]
) -> None:
    content["pictures"] |= changes
    with pytest.raises(
        ValueError,
        match=r"params\.yaml: pictures\..*n_images of at least 2 .* at least one protocol",
    ):
        check(content)


def test_the_config_of_a_generator_is_its_entry_without_the_family(content: dict[str, Any]) -> None:
    loaded = strict.build(params.Params, content, "params.yaml")
    config = params.generator_config(loaded, "mini", generators.load_family("tokens").Config)
    expected = {
        key: value for key, value in content["generators"]["mini"].items() if key != "family"
    }
    assert {key: getattr(config, key) for key in expected} == expected
