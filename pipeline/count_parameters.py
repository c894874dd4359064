"""Stage count_parameters: how many weights the BrainMCLIP- and CLIP-MUSED-style networks have
at real size.
"""

from __future__ import annotations

from dataclasses import asdict

from fmri2clip import mused_sizes, parameters
from fmri2clip.params import Params
from fmri2clip.predictions import write_json
from pipeline import _stage


def count_parameters(params: Params) -> None:
    """Write reports/parameters.json; no parameter changes it, as the sizes are those of NSD and
    ViT-L/14.
    """
    references = {"mindeye1_vae": parameters.MINDEYE1_WITH_VAE, "mindeye2": parameters.MINDEYE2}
    content = {
        "sizes": asdict(parameters.Sizes()),
        "references": references,
        "rows": parameters.parameter_table(),
    }
    content["subjects"] = mused_sizes.count_at_nsd()
    write_json(_stage.REPORTS / "parameters.json", content)


if __name__ == "__main__":
    _stage.run(count_parameters)
