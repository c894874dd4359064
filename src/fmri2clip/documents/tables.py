"""Tables of README.md and docs/*.md: which rows and columns each has.

`<!-- table: NAME -->` in a document names an entry of SCORES or PAIRS; `bands` is what the world
must be like; `campaign` what runs were disturbed by; `changed` what differs from world 1;
`convergence` how long trainings need; `primary` the verdicts; `study NAME` and `variants NAME
METRIC` name a file of reports/studies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

REFERENCES = "reports/references/mini.json"
DIFFERENCES = "reports/differences.json"
WORLD = "reports/world.json"
CONVERGENCE = "benchmarks/convergence.json"
AREAS = "benchmarks/roi_groups.json"
PRIMARY = "reports/primary.json"
CAMPAIGN = "benchmarks/campaign.json"
WHITENING = "benchmarks/whitening.json"
COVERAGE = "benchmarks/world_coverage.json"
RELIABILITY = "benchmarks/reliability.json"
SELECTION = "benchmarks/selection.json"
SECONDS = "benchmarks/training_seconds.json"
RIVALS = "reports/studies/rivals.json"
LIBRARY_SIZE = "benchmarks/library_size.json"
RIVALRY = (
    "ridge_lowrank",
    "encoding",
    "aligned",
    "brainclip",
    "brainmclip",
    "brainmclip_plus",
    "mindeye",
)
TOKEN_WAYS = "|".join(
    f"retrieval_tokens.{stream}.image_given_brain.top1"
    for stream in ("projected", "fused", "semantic")
)
PERMUTED_ONCE = "reports/studies/permuted_training.json"
PERMUTED_AGAIN = "reports/studies/permuted_again.json"
ALL_DECODERS = (
    "ridge",
    "ridge_lowrank",
    "brainclip",
    "brainmclip",
    "brainmclip_plus",
    "clip_mused",
    "clip_mused_plus",
    "aligned",
    "encoding",
    "label_ridge",
    "mindeye",
)
JUDGE = "reports/studies/judge.json"
JUDGE_NULL = "reports/studies/judge_null.json"


def run(name: str) -> str:
    """Where the scores of a run are."""
    return f"reports/runs/{name}/metrics.json"


def picture(name: str) -> str:
    """Where the scores of a reconstruction are."""
    return f"reports/pictures/{name}.json"


@dataclass(frozen=True)
class Column:
    """Title, way to the number from the place of the row, format.

    Of several ways, with `|` between them, the first that is there is taken.
    """

    title: str
    way: str
    how: str = "percent interval"


@dataclass(frozen=True)
class Row:
    """Title, file, and the key in the file under which the row's numbers are; '' for all."""

    title: str
    file: str
    key: str = ""


@dataclass(frozen=True)
class Scores:
    """A table of numbers, each found by its row and its column."""

    corner: str
    columns: Sequence[Column]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Pairs:
    """Paired differences of the default runs: part of DIFFERENCES, columns, titles there."""

    part: str
    columns: Sequence[Column]
    titles: Sequence[str]


DECODING = (
    Column("image given brain, top-1", "retrieval.image_given_brain.top1"),
    Column("text given brain, top-1", "retrieval.text_given_brain.top1"),
    Column("zero-shot category, top-1", "zero_shot.top1"),
    Column("multi-label mAP", "classification.map"),
)
DECODERS = ("ridge", "brainclip", "brainmclip", "aligned", "encoding")
PRIOR = Row("no brain: mean training embedding", REFERENCES, "null.prior")
TRUE = Row("true CLIP embedding", REFERENCES, "reference.target")
MAPS = (
    Column("colour", "readout.colour"),
    Column("luminance", "readout.luminance"),
    Column("edges", "readout.edges"),
    Column("position of the largest object", "readout.position"),
    Column("its size", "readout.size"),
)
LABELS = (
    Column("mAP", "classification.map"),
    Column("macro AUC", "classification.auc"),
    Column("Hamming loss", "classification.hamming"),
    Column("weights a subject adds", "parameters.per_subject|parameters.deployed", "count"),
    Column("shared weights", "parameters.shared", "count"),
)
SIMILARITIES = ("cosine", "channel")
LOOK = (
    Column("PixCorr", "strict-v1.pixcorr", "plain interval"),
    Column("SSIM", "strict-v1.ssim", "plain interval"),
    Column("AlexNet(2), %", "strict-v1.alexnet2.image_given_reconstruction"),
    Column("AlexNet(5), %", "strict-v1.alexnet5.image_given_reconstruction"),
    Column("CLIP, %", "strict-v1.clip.image_given_reconstruction"),
    Column("brain correlation", "strict-v1.brain_correlation.all", "plain interval"),
)
PERMUTED = (
    Column("image given brain", "retrieval.image_given_brain.top1"),
    Column("by semantic tokens", "retrieval_tokens.semantic.image_given_brain.top1"),
    Column("text given brain", "retrieval.text_given_brain.top1"),
    Column("by its likelihood", "own.retrieval.image_given_brain.top1"),
    Column("mAP", "classification.map"),
)
SCORES = {
    "headline": Scores(
        "% [95 % interval over images]",
        DECODING,
        (
            PRIOR,
            *(Row(name, run(name)) for name in ("ridge", "brainclip", "aligned", "encoding")),
            TRUE,
        ),
    ),
    "decoding": Scores(
        "% [95 % interval]",
        (*DECODING[:3], Column("by text embedding", "zero_shot_text.top1"), DECODING[3]),
        (
            PRIOR,
            Row("nearest training response copied", REFERENCES, "baseline.nearest_brain"),
            Row("nearest training embedding copied", REFERENCES, "baseline.nearest_oracle"),
            Row("trained on permuted pairs", run("ridge_permuted")),
            *(Row(name, run(name)) for name in DECODERS),
            TRUE,
        ),
    ),
    "readout": Scores(
        "% of variance [95 % interval]",
        MAPS,
        tuple(Row(name, run(name)) for name in DECODERS),
    ),
    "categories": Scores(
        "% [95 % interval]",
        LABELS,
        (
            Row("no category in any image", REFERENCES, "null.all_negative"),
            Row("class frequency", REFERENCES, "null.prior"),
            *(Row(f"{name}, prompts", run(name)) for name in ("ridge", "brainclip", "brainmclip")),
            Row("label_ridge, each subject", run("label_ridge")),
            Row("clip_mused, one model", run("clip_mused")),
            Row("aligned, one model", run("aligned")),
            Row("encoding, its library", run("encoding")),
        ),
    ),
    "trials": Scores(
        "% [95 % interval]",
        (
            Column("image given brain: 1 trial", "trials.1.retrieval.image_given_brain.top1"),
            Column("2", "trials.2.retrieval.image_given_brain.top1"),
            Column("3", "retrieval.image_given_brain.top1"),
            Column("of 50", "retrieval_sizes.50.image_given_brain.top1"),
            Column("of 500", "retrieval_sizes.500.image_given_brain.top1"),
            Column("nearest 21", "retrieval_hard.image_given_brain.top1"),
        ),
        tuple(Row(name, run(name)) for name in DECODERS),
    ),
    "likelihood": Scores(
        "encoding, % [95 % interval]",
        (
            Column("1 trial", "trials.1.own.retrieval.image_given_brain.top1"),
            Column("2", "trials.2.own.retrieval.image_given_brain.top1"),
            Column("3", "own.retrieval.image_given_brain.top1"),
            Column("of 500", "own.retrieval_all.image_given_brain.top1"),
            Column("nearest 21, 1 trial", "trials.1.own.retrieval_hard.image_given_brain.top1"),
        ),
        (Row("by its likelihood", run("encoding")),),
    ),
    "whitening": Scores(
        "validation images, % [95 % interval]",
        (
            Column("zero-shot, whitened", "zero_shot.whitened"),
            Column("as it is", "zero_shot.as_it_is"),
            Column("coloured", "zero_shot.coloured"),
            Column("image given brain, whitened", "image.whitened"),
            Column("as it is", "image.as_it_is"),
            Column("coloured", "image.coloured"),
        ),
        tuple(
            Row(name, WHITENING, f"runs.{name}")
            for name in ("ridge", "encoding", "brainclip", "brainmclip", "aligned")
        ),
    ),
    "reliability": Scores(
        "per picture and category",
        (
            Column("log-loss, nats", "log_loss", "plain 4 interval"),
            Column("gain over base rates", "log_loss_gain", "signed 4 interval"),
            Column("Brier score", "brier", "plain 4 interval"),
            Column("gain over base rates", "brier_gain", "signed 4 interval"),
            Column("calibration error, %", "calibration_error", "percent 2"),
        ),
        tuple(
            Row(f"{name}{title}", RELIABILITY, f"runs.{name}{key}")
            for name in ("encoding", "aligned", "clip_mused", "label_ridge")
            for title, key in (("", ""), (", scaled", ".scaled"))
        ),
    ),
    "reliability_bins": Scores(
        "encoding, scaled, says, %",
        (
            Column("on the mean", "told", "percent"),
            Column("there", "there", "percent interval"),
            Column("pairs of picture and category", "n", "count"),
        ),
        tuple(
            Row(f"{100 * low:g} to {100 * high:g}", RELIABILITY, f"runs.encoding.scaled.bins.{k}")
            for k, (low, high) in enumerate(pairwise((0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1)))
        ),
    ),
    "selection": Scores(
        "kept of 8, mean over subjects [95 % interval]",
        (
            Column("brain correlation, trial 3", "trial_3", "plain 3 interval"),
            Column("gain over the first", "gain.trial_3", "signed 3 interval"),
            Column("without noise, gain", "gain.noise_free", "signed 3 interval"),
            Column("PixCorr, gain", "gain.pixcorr", "signed 3 interval"),
            Column("AlexNet(2), gain", "gain.alexnet2", "points interval"),
            Column("CLIP, gain", "gain.clip", "points interval"),
        ),
        tuple(
            Row(f"{source}: {title}", SELECTION, f"sources.{source}.{choice}")
            for source in ("ridge_lowrank", "brainmclip", "encoding")
            for choice, title in (
                ("first", "the first"),
                ("brain", "nearest to the decoded embedding"),
                ("encoding", "most likely response"),
                ("another", "the same by another picture's response"),
            )
        ),
    ),
    "library_size": Scores(
        "library of encoding",
        (
            Column("mAP, %", "map", "percent interval"),
            Column("gain over training, points", "gain.map", "points interval"),
            Column("log-loss less that of training", "gain.log_loss", "signed 4 interval"),
            Column("image given brain, gain", "gain.image_top1", "points interval"),
            Column("text given brain, gain", "gain.text_top1", "points interval"),
            Column("likeness of its choice", "best", "plain 2 interval"),
            Column("of the nearest there is", "nearest", "plain 2 interval"),
        ),
        tuple(
            Row(title, LIBRARY_SIZE, f"libraries.{key}")
            for key, title in (
                ("none", "none"),
                ("training", "the training pictures"),
                *((f"{n}", f"{n:,} new scenes") for n in (1000, 3000, 10000, 30000)),
            )
        ),
    ),
    "rivals": Scores(
        "% [95 % interval]",
        (
            Column("image given brain", "retrieval.image_given_brain.top1"),
            Column("by its best tokens", TOKEN_WAYS),
            Column("text given brain", "retrieval.text_given_brain.top1"),
            Column("zero-shot", "zero_shot.top1"),
            Column("mAP", "classification.map"),
            Column("weights that decode, aligned's of both", "parameters.deployed", "count"),
        ),
        tuple(Row(name, RIVALS, f"variants.tuned.runs.{name}") for name in RIVALRY),
    ),
    "permuted": Scores(
        "% [95 % interval], trained on permuted pairs",
        PERMUTED,
        tuple(Row(name, PERMUTED_ONCE, f"variants.permuted.runs.{name}") for name in ALL_DECODERS),
    ),
    "permuted_again": Scores(
        "% [95 % interval], six permutations",
        PERMUTED[:3],
        tuple(
            Row(name, PERMUTED_AGAIN, f"variants.permuted.runs.{name}")
            for name in ("aligned", "ridge_lowrank")
        ),
    ),
    "training_seconds": Scores(
        "training on one subject",
        (
            Column("seconds", "seconds", "plain 0"),
            Column("epochs (0: closed form)", "epochs", "count"),
        ),
        tuple(Row(name, SECONDS, f"runs.{name}") for name in RIVALRY),
    ),
    "coverage": Scores(
        "worlds' deviation over that of a world's images",
        tuple(
            Column(f"{title}, K = {k}", f"{kind}_{k}", "percent")
            for kind, title in (("resampled", "resampled"), ("t", "t test"))
            for k in (1, 2, 4)
        ),
        tuple(Row(ratio, COVERAGE, f"ratios.{ratio}") for ratio in ("0", "0.5", "1", "2", "4")),
    ),
    "judge": Scores(
        "%, 300-way; bits, all images [95 % interval]",
        tuple(
            Column(f"{title}: {similarity}", f"judge.{similarity}.{way}", how)
            for title, way, how in (
                ("image given brain", "retrieval.image_given_brain.top1", "percent interval"),
                ("brain given image", "retrieval.brain_given_image.top1", "percent interval"),
                ("text given brain", "retrieval.text_given_brain.top1", "percent interval"),
                ("image, bits", "retrieval_all.image_given_brain.bits", "plain interval"),
            )
            for similarity in SIMILARITIES
        ),
        (
            Row("all pairs permuted, ridge", JUDGE_NULL, "variants.permuted.runs.ridge_permuted"),
            Row("the judge alone", JUDGE_NULL, "variants.judge_knows.runs.ridge_permuted"),
            *(
                Row(name, JUDGE, f"variants.judge.runs.{name}")
                for name in ("ridge", "brainclip", "brainmclip")
            ),
        ),
    ),
    "areas": Scores(
        "%, mean of 10 draws [least, greatest]",
        (
            Column("image given brain", "image_given_brain"),
            Column("the same by tokens", "tokens"),
            Column("text given brain", "text_given_brain"),
            Column("zero-shot", "zero_shot"),
            Column("mAP", "map"),
        ),
        tuple(
            Row(title, AREAS, f"groups.{title}")
            for title in (
                *("V1", "V2", "V3", "hV4"),
                *("faces", "bodies", "places", "words"),
                *("early", "category", "early, matched", "category, matched", "nsdgeneral"),
            )
        ),
    ),
    "pictures": Scores(
        "mean over subjects [95 % interval]",
        LOOK,
        (
            Row("null: mean training picture", picture("null_mean")),
            Row("null: trained on permuted pairs", picture("null_permuted")),
            Row("brainclip, pooled embedding", picture("brainclip")),
            Row("ridge, components of tokens", picture("ridge_lowrank")),
            Row("brainmclip, semantic tokens only", picture("brainmclip_semantic")),
            Row("brainmclip, fused tokens", picture("brainmclip")),
            Row("encoding, expected tokens", picture("encoding")),
            Row("encoding, the best picture of its library", picture("encoding_library")),
            Row("reference: true pooled embedding", picture("reference_pooled")),
            Row("reference: true tokens", picture("reference_tokens")),
            Row("the stimulus itself", picture("stimulus")),
        ),
    ),
}
IMAGE = Column("image given brain", "retrieval.image_given_brain.top1", "points interval")
DETAIL = Column("detail tokens", "retrieval_detail.image_given_brain.top1", "points interval")
SEMANTIC = Column(
    "semantic tokens", "retrieval_tokens.semantic.image_given_brain.top1", "points interval"
)
COLOUR = Column("colour", "readout.colour", "points interval")
EDGES = Column("edges", "readout.edges", "points interval")
PLACE = Column("position", "readout.position", "points interval")
MAP = Column("mAP", "classification.map", "points interval")
PROJECTED = Column(
    "projected tokens", "retrieval_tokens.projected.image_given_brain.top1", "points interval"
)
TEXT = Column("text given brain", "retrieval.text_given_brain.top1", "points interval")
ZERO_SHOT = Column("zero-shot", "zero_shot.top1", "points interval")
PIXCORR = Column("PixCorr", "strict-v1.pixcorr", "signed 3 interval")
ALEXNET = Column(
    "AlexNet(2), points", "strict-v1.alexnet2.image_given_reconstruction", "points interval"
)
CLIP = Column("CLIP, points", "strict-v1.clip.image_given_reconstruction", "points interval")
PAIRS = {
    "differences": Pairs(
        "decoding",
        (IMAGE, TEXT, ZERO_SHOT, MAP),
        (
            "brainclip - ridge",
            "brainmclip - ridge",
            "brainmclip - brainclip",
            "aligned - ridge",
            "aligned - brainclip",
            "encoding - ridge",
            "encoding - aligned",
            "label_ridge - clip_mused",
            "ridge - nearest training response copied",
        ),
    ),
    "picture_differences": Pairs(
        "pictures",
        (PIXCORR, ALEXNET, CLIP),
        (
            "brainmclip - brainmclip_semantic",
            "brainmclip - ridge_lowrank",
            "brainmclip - brainclip",
            "ridge_lowrank - brainclip",
            "ridge_lowrank - encoding",
            "ridge_lowrank - encoding_library",
            "ridge_lowrank - null_mean",
        ),
    ),
}


@dataclass(frozen=True)
class Then:
    """A paired difference in world 1, in points, and where that of now is in DIFFERENCES."""

    title: str
    value: str
    part: str
    pair: str
    column: Column


THEN = (
    Then(
        "brainclip less ridge: image given brain",
        "+7.3 [+5.3, +9.3]",
        "decoding",
        "brainclip - ridge",
        IMAGE,
    ),
    Then("the same: text given brain", "+8.2 [+6.4, +10.3]", "decoding", "brainclip - ridge", TEXT),
    Then(
        "the same: zero-shot category",
        "+6.6 [+4.1, +9.1]",
        "decoding",
        "brainclip - ridge",
        ZERO_SHOT,
    ),
    Then("the same: mAP", "+0.9 [-0.5, +2.2]", "decoding", "brainclip - ridge", MAP),
    Then(
        "brainmclip less ridge: image given brain",
        "+3.6 [+1.1, +5.8]",
        "decoding",
        "brainmclip - ridge",
        IMAGE,
    ),
    Then("the same: text given brain", "-2.6 [-4.5, -0.6]", "decoding", "brainmclip - ridge", TEXT),
    Then("the same: mAP", "-4.9 [-6.7, -3.4]", "decoding", "brainmclip - ridge", MAP),
    Then(
        "brainmclip less brainclip: image given brain",
        "-3.7 [-5.8, -1.8]",
        "decoding",
        "brainmclip - brainclip",
        IMAGE,
    ),
    Then(
        "the same: text given brain",
        "-10.8 [-13.1, -8.8]",
        "decoding",
        "brainmclip - brainclip",
        TEXT,
    ),
    Then(
        "label_ridge less clip_mused: mAP",
        "-3.9 [-5.8, -1.6]",
        "decoding",
        "label_ridge - clip_mused",
        MAP,
    ),
    Then(
        "pictures, brainmclip's detail stream: AlexNet(2)",
        "+12.4 [+9.4, +15.5]",
        "pictures",
        "brainmclip - brainmclip_semantic",
        ALEXNET,
    ),
    Then(
        "pictures, brainmclip less ridge to tokens: AlexNet(2)",
        "-1.1 [-2.4, +0.1]",
        "pictures",
        "brainmclip - ridge_lowrank",
        ALEXNET,
    ),
    Then("the same: CLIP", "-5.9 [-9.0, -3.5]", "pictures", "brainmclip - ridge_lowrank", CLIP),
)

POINTS = (*(replace(c, how="points interval") for c in DECODING),)
STREAMS = (
    IMAGE,
    TEXT,
    Column("fused tokens", "retrieval_tokens.fused.image_given_brain.top1", "points interval"),
    SEMANTIC,
    DETAIL,
    COLOUR,
    EDGES,
)
ATTENTION = (
    Column("early areas in the low token", "attention.low_early", "points interval"),
    Column("in the high token", "attention.high_early", "points interval"),
)
STUDIES: Mapping[str, tuple[Sequence[Column], str]] = {  # columns; what a title must hold
    "judge": (
        tuple(
            Column(f"{title}, {similarity}", f"{place}judge.{similarity}.{way}", "points interval")
            for title, place, way in (
                ("image given brain", "", "retrieval.image_given_brain.top1"),
                ("1 trial", "trials.1.", "retrieval.image_given_brain.top1"),
                ("text given brain", "", "retrieval.text_given_brain.top1"),
            )
            for similarity in SIMILARITIES
        ),
        "",
    ),
    "text_supervision": ((IMAGE, TEXT, ZERO_SHOT, MAP, PIXCORR, ALEXNET, CLIP), ""),
    "primary_brainclip": (POINTS, ""),
    "primary_subjects": (POINTS, ""),
    "primary_brainmclip": ((PIXCORR, ALEXNET, CLIP, IMAGE, COLOUR, EDGES), ""),
    "token_ridge": ((SEMANTIC,), ""),
    "control_captions": (POINTS, ""),
    "control_flat": ((IMAGE, SEMANTIC, DETAIL, MAP), ""),
    "control_unlike": (POINTS, ""),
    "routing": (STREAMS, ""),
    "brainmclip_parts": (STREAMS, ""),
    "unseen_categories": (
        (
            Column("unseen candidates only", "unseen.zero_shot.only.top1", "points interval"),
            Column("all candidates", "unseen.zero_shot.all.top1", "points interval"),
        ),
        "",
    ),
    "mused_maps": ((MAP,), ""),
    "mused_parts": ((MAP, *ATTENTION), ""),
    "new_subject": ((MAP,), "mused_tokens"),
    "new_subject_aligned": (POINTS, ""),
    "aligned_curve": (POINTS, ""),
    "brainclip_forms": ((IMAGE, TEXT, ZERO_SHOT, MAP), ""),
    "plus_parts": ((*STREAMS[:3], PROJECTED, *STREAMS[3:]), ""),
    "mused_when": ((MAP,), "bare"),
    "plus": ((IMAGE, TEXT, ZERO_SHOT, MAP, PIXCORR, ALEXNET, CLIP, EDGES), ""),
    "rivals": ((IMAGE, TEXT, ZERO_SHOT, MAP, SEMANTIC, EDGES), ""),
}
