"""Settings of decoders at the size of NSD: presets/nsd.yaml, on top of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from ruamel.yaml import YAML

from fmri2clip.core.params import Params
from fmri2clip.core.strict import build

PRESET = Path("presets") / "nsd.yaml"
T = TypeVar("T")


def nsd_config(params: Params, name: str, config_class: type[T], preset: Path = PRESET) -> T:
    """The Config of `decoders.<name>` as it is after `make preset NAME=nsd`.

    Raises ValueError if the preset has no such section, or if the section is not valid.
    """
    if not preset.is_file():
        raise ValueError(f"{preset} does not exist; run from the root of the repository")
    sections = YAML(typ="safe").load(preset.read_text(encoding="utf-8")).get("decoders", {})
    if name not in sections or name not in params.decoders:
        raise ValueError(
            f"decoders.{name} is not in both {preset} and params.yaml; its weights at the size of "
            "NSD are counted from the one on top of the other, so add the section"
        )
    merged = {**params.decoders[name], **sections[name]}
    return build(config_class, merged, str(preset), f"decoders.{name}")
