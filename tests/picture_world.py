"""A tiny world of files for pictures: scoring_world with tokens, stimuli of 16 pixels and a random
generator.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ruamel.yaml import YAML

from fmri2clip.artefacts.clip_cache import read_cache, write_cache
from fmri2clip.artefacts.model import load, read_inputs, save, save_subject
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, TRAIN
from fmri2clip.artefacts.trials import read_betas
from fmri2clip.core import params, strict
from fmri2clip.decoders.ridge import decoder as ridge
from tests import scoring_world
from tests.decoders.settings import make_config
from tests.generators import tiny_pipelines
from tests.scoring_world import N_VOXELS, SUBJECTS, WIDTH
from tests.stimuli_files import write_pictures

CLIP, N_TOKENS, N_TEXT, SIDE, N_IMAGES = "ViT-tiny", 5, 4, 16, 6
N_STIMULI = 5000  # ids of scoring_world are smaller


@dataclass(frozen=True)
class PictureWorld:
    """rois, clip, models, raw and generator lie below root; run 'demo' decodes embeddings, run
    'tokens' tokens too.
    """

    root: Path

    @property
    def at(self) -> Paths:
        return Paths(self.root)

    def stimuli(self, nsd_id_I: np.ndarray) -> np.ndarray:
        """Pictures by id, as the tree has them."""
        return make_images()[nsd_id_I]

    def ids(self, part: str, subject: str = "subj01") -> np.ndarray:
        return np.unique(read_betas(self.at.rois / part / f"{subject}.h5")["nsd_id_N"])

    def settings(self, **sections: Any) -> params.Params:
        """The default parameters on these files; sections replace those of params.yaml."""
        content = YAML(typ="safe").load((Path(__file__).parents[1] / "params.yaml").read_text())
        run = {"clip": "tiny", "voxels": "part", "decoder": "ridge", "subjects": list(SUBJECTS)}
        generator = {"family": "tokens", "path": str(self.root / "generator"), "clip_model": CLIP}
        clip = {"model": CLIP, "pretrained": "", "tokens": True, "detail_layers": [1]}
        content |= {
            "subjects": list(SUBJECTS),
            "clips": {"tiny": clip, "other": {"model": "ViT-other", "pretrained": ""}},
            "rois": {"all": ["streams"], "part": ["streams"]},
            "runs": {"demo": run, "tokens": run},
            "generators": {"tiny": generator | {"n_tokens": N_TOKENS, "steps": 1, "batch_size": 4}},
            "pictures": {"n_images": N_IMAGES},
            "evaluation": {"n_bootstrap": 20},
        }
        return strict.build(params.Params, content | sections, "params.yaml")


def write_world(root: Path) -> PictureWorld:
    """All inputs of the stages reconstruct and score_pictures."""
    rng, world = np.random.default_rng(0), PictureWorld(root)
    scoring = scoring_world.write_world(root)
    clip = dict(read_cache(scoring.clip_test))
    semantic_ITD = rng.normal(size=(len(clip["nsd_id_I"]), N_TOKENS, WIDTH)).astype(np.float16)
    text_IUD = rng.normal(size=(len(clip["nsd_id_I"]), N_TEXT, WIDTH)).astype(np.float16)
    tokens = {"semantic_tokens_ITD": semantic_ITD, "text_tokens_IUD": text_IUD}
    write_cache(scoring.clip_test, clip | tokens)
    for subject in SUBJECTS:
        write_token_model(root / "models" / "tokens" / subject, root / "models" / "demo" / subject)
    tiny_pipelines.save_tokens(root / "generator", WIDTH)
    for part in (TRAIN, TEST):
        write_pictures(world.at.stimuli(part), np.arange(N_STIMULI), make_images())
    return world


def write_token_model(folder: Path, plain: Path) -> None:
    """The model of run 'demo' with a random map to tokens beside it."""
    rows_V = np.flatnonzero(np.arange(N_VOXELS) % 4)
    config = make_config("ridge", tokens="all")
    decoder = ridge.Decoder(config, len(rows_V), WIDTH, 0, n_tokens=N_TOKENS)
    decoder.load_state_dict(load(plain)[0].state_dict(), strict=False)
    torch.manual_seed(0)
    decoder.token_weight_VX.copy_(torch.randn(decoder.token_weight_VX.shape))
    described = {
        "run": "demo",
        "decoder": "ridge",
        "clip": "mini",
        "digests": {},
        "n_voxels": len(rows_V),
        "width_D": WIDTH,
        "seed": 0,
        "config": asdict(config),
    }
    save(folder, decoder, described)
    means = {
        f"mean_{kind}tokens_semantic_TW": np.zeros((N_TOKENS, WIDTH), np.float32)
        for kind in ("", "predicted_")
    }
    split = {"validation": [], "left_out": [], "unseen_categories": []}
    save_subject(folder, read_inputs(plain) | means, split)


@cache
def make_images() -> np.ndarray:
    """Random pictures (N_STIMULI, SIDE, SIDE, 3), by id."""
    coarse = np.random.default_rng(1).integers(0, 256, (N_STIMULI, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(SIDE // 4, axis=1).repeat(SIDE // 4, axis=2)
