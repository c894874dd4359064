"""Stage count_parameters: weights of the BrainMCLIP- and CLIP-MUSED-style networks at real size."""

from __future__ import annotations

from dataclasses import asdict

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.files import write_json
from fmri2clip.core.params import Params
from fmri2clip.stages.count_parameters import brainmclip, clip_mused
from fmri2clip.stages.count_parameters.settings import nsd_config


def count_parameters(params: Params) -> None:
    """Write data/parameters.json: settings of presets/nsd.yaml, sizes of NSD and ViT-L/14."""
    sizes = brainmclip.Sizes()
    config = nsd_config(params, "brainmclip", brainmclip.Config)
    references = {"mindeye1_vae": brainmclip.MINDEYE1_WITH_VAE, "mindeye2": brainmclip.MINDEYE2}
    content = {
        "sizes": asdict(sizes),
        "references": references,
        "rows": brainmclip.parameter_table(config, sizes),
    }
    content["subjects"] = clip_mused.count_at_nsd(
        nsd_config(params, "clip_mused", clip_mused.Config)
    )
    write_json(Paths().parameters, content)


if __name__ == "__main__":
    stage.run(count_parameters)
