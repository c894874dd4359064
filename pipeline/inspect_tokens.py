"""Stage inspect_tokens: what the subject tokens of trained decoders do, on sealed test images."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.files import write_json
from fmri2clip.core.params import Params
from fmri2clip.stages.inspect_tokens.token_analysis import inspect_runs


def inspect_tokens(params: Params) -> None:
    """Write data/tokens.json."""
    paths = Paths()
    tree = inspect_runs(params, paths, stage.device(params))
    write_json(paths.tokens, tree)


if __name__ == "__main__":
    stage.run(inspect_tokens)
