"""Settings of decoders for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fmri2clip import decoders

PARAMS = Path(__file__).parents[2] / "params.yaml"


def make_config(name: str, **changes: Any) -> Any:
    """The Config of a decoder: its section of params.yaml with changes.

    A test whose numbers depend on a setting names it; sections change. A decoder without a section
    has the defaults of its own Config.
    """
    return decoders.load_decoder(name).Config(**{**_sections().get(name, {}), **changes})


@cache
def _sections() -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = YAML(typ="safe").load(PARAMS.read_text())["decoders"]
    return sections
