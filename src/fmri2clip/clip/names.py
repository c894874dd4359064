"""Whether the model and the weights that an entry of clips names are there.

Asked before anything is computed, and answered in less time than open_clip takes to be imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

from fmri2clip.core.params import Clip
from fmri2clip.core.strict import suggest

REQUIRED = ("embed_dim", "vision_cfg", "text_cfg")  # of a model's JSON


def check_names(clip: Clip) -> None:
    """Raise ValueError for an unknown model, a config that is none, and weights that are neither a
    file nor a tag of open_clip.
    """
    read_architecture(clip)
    if not clip.pretrained:
        raise ValueError(
            f"pretrained is '': clip {clip.model} names no weights; set it to the path of a "
            "checkpoint or to a tag of open_clip"
        )
    if Path(clip.pretrained).is_file():
        return
    tags = [] if clip.config else _list_tags(clip.model)
    if clip.pretrained not in tags:
        raise ValueError(
            f"pretrained is {clip.pretrained!r}, neither a file nor a tag of {clip.model}, which "
            f"has {', '.join(tags) or 'none'}{suggest(clip.pretrained, tags)}"
        )


def read_architecture(clip: Clip) -> dict[str, Any]:
    """Content of the model's open_clip file. Raises ValueError if there is none, or it is none."""
    folder = _find_open_clip() / "model_configs"
    path = Path(clip.config or folder / f"{clip.model}.json")
    if not clip.config and not path.is_file():
        known = sorted(other.stem for other in folder.glob("*.json"))
        raise ValueError(
            f"model is {clip.model!r}, a name that open_clip does not have"
            f"{suggest(clip.model, known)}; give `config` for a custom one, or one of "
            "open_clip.list_models()"
        )
    if not path.is_file():
        raise ValueError(
            f"config is {clip.config!r}, which does not exist; give the path of an open_clip model "
            "JSON"
        )
    if path.stem != clip.model:
        raise ValueError(
            f"config is {clip.config!r}, which defines {path.stem!r}, not {clip.model!r}: a custom "
            "model is named by its file"
        )
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"config is {clip.config!r}, no JSON ({error}); give an open_clip model"
        ) from None
    missing = [key for key in REQUIRED if key not in content]
    if missing:
        raise ValueError(f"config is {clip.config!r}, which lacks {', '.join(missing)}")
    return content


def _list_tags(model: str) -> list[str]:
    """Tags of a model, from open_clip's table of them under a package name of our own."""
    package = types.ModuleType("open_clip_table")
    package.__path__ = [str(_find_open_clip())]
    sys.modules[package.__name__] = package
    table = importlib.import_module(f"{package.__name__}.pretrained")
    return list(table.list_pretrained_tags_by_model(model))


def _find_open_clip() -> Path:
    """Folder of the package, found without importing it."""
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent
