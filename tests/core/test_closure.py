"""closure.py on this project: lazy and package imports, decoders by name, files without code."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmri2clip import decoders
from fmri2clip.core import closure

LIBRARY = closure.PACKAGE


def names(*files: Path, decoder: str = closure.ANY) -> set[str]:
    found = closure.find_closure(*files, decoder=decoder)
    return {path.relative_to(closure.ROOT).as_posix() for path in found}


def test_lazy_and_package_imports_are_seen() -> None:
    found = names(closure.ROOT / "pipeline" / "train.py")
    library = "src/fmri2clip"
    assert f"{library}/stages/train/trainer.py" in found, "imported inside a function"
    assert f"{library}/core/schema.py" in found, "imported by what is imported"
    assert not [name for name in found if "/tracking/" in name], "it only watches"
    assert f"{library}/core/__init__.py" not in found, "it holds a docstring only"
    assert not [path for path in found if "/metrics/" in path], "no metric decides a training"


@pytest.mark.parametrize("name", decoders.names())
def test_one_decoder_is_loaded_by_name(name: str) -> None:
    entry = closure.ROOT / "pipeline" / "train.py"
    own = {path.split("/")[3] for path in names(entry, decoder=name) if "/decoder.py" in path}
    assert own == {name}
    every = {path.split("/")[3] for path in names(entry) if "/decoder.py" in path}
    assert every == set(decoders.names())


def test_imports_for_types_alone_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from fmri2clip.core import store\n"
        "def f():\n    from fmri2clip.core.rows import find_rows\n"
    )
    found = {path.name for path in closure.imports(file)[0]}
    assert found == {"__init__.py", "rows.py"}


def test_digest_changes_with_the_code_behind_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    train = "fmri2clip.stages.train.run"
    one = closure.code_digest(train, decoder="ridge")
    assert one == closure.code_digest(train, decoder="ridge")
    assert one != closure.code_digest(train, decoder="brainclip")
    read = Path.read_bytes

    def edited(path: Path) -> bytes:
        return read(path) + (b"# edited" if path.name == "rows.py" else b"")

    monkeypatch.setattr(Path, "read_bytes", edited)
    assert one != closure.code_digest(train, decoder="ridge")
