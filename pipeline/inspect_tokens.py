"""Stage inspect_tokens: what the subject tokens of trained decoders do, on the sealed test
images.
"""

from __future__ import annotations

from fmri2clip import decoders, store
from fmri2clip.clip import encoder
from fmri2clip.params import Params
from fmri2clip.predictions import write_json
from fmri2clip.testset import CLIP_NAMES
from fmri2clip.token_analysis import analyse_run, read_blocks, read_case
from pipeline import _stage


def inspect_tokens(params: Params) -> None:
    """Write reports/tokens.json: run -> swap, attention and rsa, for the runs whose decoder
    knows subjects.
    """
    tree, blocks = {}, {}
    for name, run in params.runs.items():
        if not hasattr(decoders.load_decoder(run.decoder).Decoder, "decode_as"):
            continue
        shared = _stage.CLIP / run.clip / "shared.h5"
        clip = store.read(shared, "clip", CLIP_NAMES)
        cases = {
            s: read_case(
                *(
                    _stage.MODELS / name,
                    s,
                    _stage.ROIS / "test" / f"{s}.h5",
                    _stage.ROIS / "voxels" / f"{s}.h5",
                ),
                *(clip, params.evaluation),
            )
            for s in run.subjects
        }
        if run.clip not in blocks:
            model = encoder.load(params.clips[run.clip], _stage.device(params))
            blocks[run.clip] = read_blocks(model, _stage.RAW, shared, params.compute.threads)
        if found := analyse_run(cases, *blocks[run.clip], params.evaluation):
            tree[name] = found
    write_json(_stage.REPORTS / "tokens.json", tree)


if __name__ == "__main__":
    _stage.run(inspect_tokens)
