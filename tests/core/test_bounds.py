"""Every number of params.yaml has bounds: beyond them, and for wrong types, the file is refused.

Which keys go below 0 stands here, which end at 1 in the comments of params.yaml, so that neither is
taken from the code under test.
"""

from __future__ import annotations

import copy
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from fmri2clip.core import params
from fmri2clip.core.strict import LARGEST, build
from fmri2clip.stages.check_params import validate

SIGNED = {"log10_alpha_min", "log10_alpha_max"}  # powers of ten


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """params.yaml as plain containers."""
    return YAML(typ="safe").load(Path("params.yaml").read_text())


def list_numbers(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all numbers of a tree; what `templates` holds counts where it is merged."""
    if isinstance(node, dict):
        for key, child in node.items():
            if path or key != "templates":
                yield from list_numbers(child, (*path, key))
    elif isinstance(node, list):
        for k, child in enumerate(node):
            yield from list_numbers(child, (*path, k))
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield path


def replace(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(content)
    node: Any = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


def refuses(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> str:
    """The message that the value is refused with, '' if it is taken."""
    try:
        # A value that is right is followed by the checks of names, which need all decoders.
        validate.validate(build(params.Params, replace(content, path, value), "params.yaml"))
    except ValueError as error:
        return str(error)
    return ""


def test_every_number_is_bounded(content: dict[str, Any]) -> None:
    places = list(list_numbers(content))
    assert len(places) > 150
    for path in places:
        values = [LARGEST + 1, -LARGEST - 1, math.nan, math.inf, "x", None, True]
        values += [] if path[-1] in SIGNED else [-1]
        for value in values:
            message = refuses(content, path, value)
            assert message.startswith("params.yaml: "), f"{path} takes {value}"
            assert "\n" not in message
            named = [str(key) for key in path if isinstance(key, str)]
            assert named[0] in message and named[-1] in message, message


def test_a_refusal_takes_seconds(content: dict[str, Any]) -> None:
    started = time.monotonic()
    assert refuses(content, ("decoders", "label_ridge", "log10_alpha_max"), 31)
    assert time.monotonic() - started < 3


def test_fractions_end_at_1(content: dict[str, Any], root: Path) -> None:
    """Keys whose comment ends with '0 to 1' take both ends and nothing beyond."""
    text = (root / "params.yaml").read_text()
    keys = set(re.findall(r"0 to 1\n +(\w+): [\d.]+\n", text))
    assert {"dropout_in", "min_area", "band_cka", "mix_weight"} <= keys
    for path in list_numbers(content):
        if path[-1] in keys:
            assert refuses(content, path, 1.001), path
            assert not refuses(content, path, 1.0) and not refuses(content, path, 0.0), path


@pytest.mark.parametrize(
    ("path", "taken", "refused"),
    [
        ("compute.threads", 1024, 1025),
        ("download.connections", 256, 257),
        ("download.part_mib", 4096, 4097),
        ("download.retries", 100, 101),
        ("world.seed", LARGEST, LARGEST + 1),
        ("world.n_sessions", 40, 41),
        ("world.n_sessions", 4, 2),  # 500 shared pictures of 250 a session
        ("world.image_size", 425, 426),
        ("world.n_shared", 2740, 2741),  # 250 images for validation, 20 repeats for encoding
        ("runs.ridge.seed", LARGEST, LARGEST + 1),
        ("evaluation.caption_index", 4, 5),
        ("evaluation.prompt", 1, 2),
        ("clips.mini.blocks", [1], [0]),
        ("clips.mini.detail_layers", [8], [9]),
        ("decoders.ridge.log10_alpha_min", -30, -30.5),
        ("decoders.ridge.log10_alpha_max", 30, 30.5),
        ("decoders.ridge.n_folds", 2, 1),
        ("decoders.brainclip.lr", 1e-9, 0.0),
        ("decoders.aligned.lr", 1e-9, 0.0),
        ("decoders.brainmclip.lr", 1e-9, -1e-9),
        ("decoders.aligned.weight_decay", 0, -1e-9),
        ("hierarchy.n_images", 10, 9),
        # What depends on how much the data hold: 500 test and 2,500 training images, 12 sessions
        ("evaluation.n_way", 500, 501),
        ("evaluation.n_hard", 499, 500),
        ("evaluation.dominant_area", 0.51, 0.5),
        ("split.n_validation", 2490, 2491),  # 20 repeats for encoding
        ("split.n_sessions", 12, 13),
        ("split.n_judge", 20, 19),
        ("split.holdout_clusters", 2500, 2501),
        ("split.holdout_clusters", 2, 1),
        ("split.n_images", 2250, 2251),
        ("dataset.sessions", "old37", 1),  # shows too few test images for n_way
        ("decoders.ridge.n_folds", 2250, 2251),
        ("decoders.clip_mused.batch_size", 2, 1),
        ("decoders.clip_mused.areas", "V1, rest", "V1, V9"),
        ("hierarchy.block_voxels", 100, 400),
        ("rois.low", ["prf-visualrois/V1v", "prf-visualrois/V1d"], ["prf-visualrois/V1v"]),
        ("rois.low", ["prf-visualrois"], ["nsdgeneral"]),  # which leaves no voxel to high alone
    ],
)
def test_bounds(content: dict[str, Any], path: str, taken: Any, refused: Any) -> None:
    keys = tuple(path.split("."))
    assert not refuses(content, keys, taken)
    assert refuses(content, keys, refused).startswith("params.yaml: ")
