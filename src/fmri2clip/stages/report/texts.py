"""Sentences of the report that do not depend on the scores."""

from __future__ import annotations

from fmri2clip.core.params import Params
from fmri2clip.stages.report.document import Block, Bullets, Paragraph
from fmri2clip.stages.report.labels import is_simulated

SIMULATED = (
    "**This is a simulated world. It says nothing about brains.** Pictures, captions and responses "
    "were generated; the"
    " voxels are model units with planted noise. The numbers show whether code and methods do what "
    "they claim where the"
    " truth is known, and they are not comparable with any number measured on the Natural Scenes "
    "Dataset."
)
REAL = (
    "**Data: the Natural Scenes Dataset** (Allen et al., Nature Neuroscience 2022). Its terms "
    "forbid passing on its"
    " files and pictures: this page shows ids, ranks and captions, and where pictures are "
    "reconstructed these and the"
    " mean training picture, not the pictures that were seen."
)
STATUS = (
    (
        "Decoders that carry the name of a paper are re-implementations **in the style of** that "
        "paper. The `brainclip`"
        " decoder is **BrainCLIP-style**: only abstracts of Liu et al. (arXiv:2302.12971; IEEE TMI "
        "2025) and a"
        " repository without the decoder could be read, so layers, loss weights and optimiser are "
        "ours. No score here"
        " reproduces a score of a paper, and none is printed beside one: published rows of "
        "reconstructed pictures stand"
        " in a table of their own."
    ),
    (
        "The `brainmclip` decoder is **BrainMCLIP-style**: of Xia et al. (arXiv:2510.19332) only "
        "the abstract and"
        " third-party summaries could be read. From the abstract: functionally distinct areas are "
        "aligned with"
        " intermediate and final CLIP layers and fused, Cross-Reconstruction, a multi-granularity "
        "loss, no VAE. From"
        " the summaries: the ROIs, detail as the mean of CLIP layers 11 to 20, the direction of "
        "Cross-Reconstruction."
        " Losses, widths, heads, fusion and schedule are ours. No number of the paper is "
        "reproduced; its 71.7 % fewer"
        " parameters are quoted in the table of weights, not confirmed."
    ),
    (
        "The `clip_mused` decoder is **CLIP-MUSED-style** (Zhou et al., ICLR 2024): losses, tokens "
        "and head are"
        " those of the authors' public code for another data set (HCP movies); that for NSD is not "
        "public and the paper"
        " could not be read, so ROI tokens, input maps, sizes, guidance weights and training are "
        "ours. `label_ridge`,"
        " and in studies `mlp_single`, `mlp_shared` and `subject_embedding`, are its baselines: "
        "the same labels, split,"
        " input map and code."
    ),
    (
        "`ridge` is the baseline that everybody knows: linear regression to the CLIP embeddings, "
        "penalty chosen by"
        " cross-validation."
    ),
    (
        "Trained models see test images only in `evaluate`, `inspect_tokens`, `reconstruct` and "
        "`score_pictures`."
        " Training and every choice in it use training and validation images; they are split by "
        "image."
    ),
    (
        "One world, one training seed: an interval speaks about test images, not about training "
        "seeds or other"
        " subjects. Repetitions over seeds and worlds are studies."
    ),
)
ROWS = (
    (
        "`null.prior`: the mean training embedding, or the class frequency, for every image: what "
        "is reached without"
        " any brain pattern."
    ),
    (
        "`null.all_negative`: no category in any image. As an image shows few of them, its Hamming "
        "loss is low: that of"
        " a decoder must be read against it."
    ),
    (
        "`baseline.nearest_brain`: copies the embedding of the training image with the most "
        "similar pattern; no model"
        " is trained."
    ),
    (
        "`baseline.nearest_oracle`: copies the training embedding nearest to the true one: how far "
        "semantic overlap of"
        " training and test gets."
    ),
    (
        "`reference.target`: the true CLIP embedding instead of a decoded one. In image retrieval "
        "it is 100 % by"
        " definition and left out."
    ),
    (
        "`reference.repeats`: voxel pattern of repetition 1 searched among the means of "
        "repetitions 2 and 3. A measure"
        " of reliability, not a bound."
    ),
    "`reference.noise_free`: the decoder of that run applied to responses without noise (simulated "
    "worlds only).",
    (
        "`reference.ideal_observer`: Gaussian likelihood under the true noise-free patterns "
        "(simulated worlds only):"
        " what the voxels hold; `_diagonal`: with noise variances only."
    ),
)
DIFFERENCES = (
    "**Paired differences** stand with their 95 % intervals and without a word of judgement: one "
    "world, on which settings were chosen, decides nothing. That two single intervals overlap or "
    "not is no test and is not used."
)


TOKEN_SCORES = (
    (
        "**Tokens**, of decoders that predict them: retrieval with all tokens of a picture as one "
        "centred vector."
        " `retrieval_tokens.fused` and `retrieval_tokens.semantic` search the tokens of the last "
        "CLIP block,"
        " `retrieval_detail` the mean of intermediate blocks, `retrieval_text_tokens` the text "
        "tokens of the picture's"
        " first caption."
    ),
    (
        "**Read-out**: colour, luminance and edges of the picture on a coarse grid, position and "
        "size of its largest"
        " object, by ridge regression cross-fitted over test images; no decoder is trained on "
        "these. `readout`: from"
        " the fused tokens, or the embedding of a decoder without tokens; `readout_detail`: from "
        "the detail tokens."
        " 100 % is perfect, features without information score 0 or a little less."
    ),
)


def make_frame() -> list[Block]:
    """What the report is about and what it cannot say."""
    return [Bullets(STATUS)]


def make_notice(params: Params) -> Paragraph:
    """The one sentence that must be read before any number."""
    return Paragraph(SIMULATED if is_simulated(params) else REAL, "notice")


def make_protocols(params: Params, n_images: int, n_captions: int) -> list[Block]:
    """How the scores are defined."""
    evaluation = params.evaluation
    scores = (
        (
            "**Similarity** is the centred cosine for every method: the mean training embedding is "
            "taken from query and"
            " gallery."
        ),
        (
            "**Directions** name gallery given query: `image given brain` searches the true "
            "picture with a decoded"
            " pattern, `brain given image` the pattern with the picture, `text given brain` the "
            "caption (mean of the"
            " picture's captions, or one fixed caption)."
        ),
        (
            f"**{evaluation.n_way}-way**: {evaluation.n_draws} draws of {evaluation.n_way} test "
            "images, fixed by seed"
            f" {evaluation.seed}; each image of a draw is a query once. **Hard gallery**: the "
            "query's own picture and"
            f" its {evaluation.n_hard} nearest test pictures. **Whole test set**: all {n_images} "
            f"pictures ({n_captions}"
            " captions). Exact ties share the credit."
        ),
        (
            "**Zero-shot**: nearest category prompt among the categories of the world. Decoders "
            "never saw a category"
            " name; CLIP did."
        ),
        (
            "**mAP, AUC**: multi-label scores, means over the categories with a positive and a "
            "negative test image; the"
            " others are left out. **Hamming loss** at probability 0.5, only where outputs are "
            "probabilities: networks"
            " trained on labels, and `label_ridge`, calibrated on validation images. Decoders of "
            "embeddings are scored"
            " by similarity to text prompts and were not trained on labels."
        ),
        *TOKEN_SCORES,
        (
            f"**Intervals**: 95 %, bootstrap over image ids ({evaluation.n_bootstrap} resamples, "
            "percentiles; of mAP"
            " a jackknife over images, as a bootstrap lifts average precision), the same images "
            "drawn for all subjects,"
            " galleries and classes fixed. Subjects are few and fixed: they are not resampled, "
            "their number stands in"
            " each table."
        ),
        _describe_parity(evaluation.tuning_trials),
    )
    return [
        Bullets(scores),
        Paragraph("Rows that are not decoders (patterns are those of all voxels of nsdgeneral):"),
        Bullets(ROWS),
        Paragraph(DIFFERENCES),
    ]


def _describe_parity(tuning_trials: int) -> str:
    if not tuning_trials:
        return (
            "**Parity**: no setting of any decoder was tuned on these data; ridge chooses its "
            "penalty by"
            " cross-validation in each training."
        )
    return (
        f"**Parity**: for each run {tuning_trials} settings were compared on validation data of "
        "the development world"
        " before the parameters were fixed (the penalties of ridge in each training, the trials of"
        " `benchmarks/tune_<run>.json` for the others). No test image took part."
    )
