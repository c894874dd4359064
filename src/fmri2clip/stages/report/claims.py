"""The claims of the three papers beside what studies found: a row a claim, made from their files.

A simulated world can show whether an effect that was planted in it is recovered; only NSD can
support a claim about brains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fmri2clip.artefacts.study import is_shown_converged
from fmri2clip.stages.report.catalogue import Cell, Score
from fmri2clip.stages.report.charts import to_score
from fmri2clip.stages.report.inputs import Inputs, Tree, list_worlds
from fmri2clip.stages.report.scores import CAPTION, IMAGE, MAP, Scores

CHANGES = {"higher": 1, "lower": -1}  # what a claim says of the difference; else: no worse
UNSEEN = "unseen.zero_shot.only.top1"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a paper says, and the comparison of a study that asks for it.

    says: higher, lower, or no worse (than minus the margin of params, of what the second has above
    chance). planted: figure of reports/world.json without which the effect cannot show; '' where
    any world has it.
    """

    paper: str
    text: str
    study: str = ""  # '' for a claim that no study asks for
    compare: str = ""
    metric: str = ""
    says: str = "higher"
    planted: str = ""


SWAPPED = "disjoint and matched, swapped against the paper's way"
TARGETS = "targets and routing"
ALEXNET = "strict-v1.alexnet2.image_given_reconstruction"
PICTURE_CLIP = "strict-v1.clip.image_given_reconstruction"
CLAIMS = (
    Claim(
        paper="BrainCLIP", text="text supervision helps to find captions",
        study="primary_brainclip", compare="text term", metric=CAPTION,
        planted="text.beyond_image_lower",
    ),
    Claim(
        paper="BrainCLIP", text="text supervision helps to find pictures",
        study="primary_brainclip", compare="text term", metric=IMAGE,
        planted="text.beyond_image_lower",
    ),
    Claim(
        paper="BrainCLIP", text="text supervision helps generation",
        study="text_supervision", compare="text term added to the image term, pictures",
        metric=PICTURE_CLIP, planted="text.beyond_image_lower",
    ),
    Claim(
        paper="BrainCLIP", text="unseen categories are named better than by the linear baseline",
        study="unseen_categories", compare="brainclip - ridge, unseen", metric=UNSEEN,
    ),
    Claim(
        paper="BrainMCLIP", text="intermediate layers add detail",
        study="primary_brainmclip", compare=TARGETS, metric=ALEXNET, planted="detail.paints",
    ),
    Claim(
        paper="BrainMCLIP", text="and cost no semantics",
        study="primary_brainmclip", compare=TARGETS, metric=PICTURE_CLIP, says="no worse",
    ),
    Claim(
        paper="BrainMCLIP", text="areas are routed by the visual hierarchy: swapped, less is found",
        study="routing", compare=SWAPPED, metric=IMAGE, says="lower",
        planted="blocks.high_semantic_minus_detail",
    ),
    Claim(
        paper="BrainMCLIP", text="Cross-Reconstruction helps",
        study="brainmclip_parts", compare="full against self-reconstruction", metric=IMAGE,
    ),
    Claim(
        paper="CLIP-MUSED", text="one model of many subjects is at or above single ones",
        study="primary_subjects", compare="clip_mused, all subjects", metric=MAP, says="no worse",
        planted="subjects.shared",
    ),
    Claim(
        paper="CLIP-MUSED", text="guidance by CLIP helps",
        study="mused_parts", compare="all guidance and orthogonality", metric=MAP,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A claim with what was found; cell is None where nothing was."""

    claim: Claim
    cell: Cell | None
    basis: str  # worlds and seeds
    verdict: str


def make_claims(inputs: Inputs, scores: Scores) -> list[Row]:
    """A row for each claim, in the order of the papers."""
    return [_make_row(inputs, scores, claim) for claim in CLAIMS]


def _make_row(inputs: Inputs, scores: Scores, claim: Claim) -> Row:
    study = inputs.studies.get(claim.study)
    comparisons = {c["title"]: c for c in study["comparisons"]} if study else {}
    found = comparisons.get(claim.compare, {}).get("metrics", {}).get(claim.metric)
    if study is None or found is None:
        return Row(claim, None, "", "not tested")
    metric = scores.metric(claim.metric)
    least = 0.0
    if claim.says not in CHANGES:
        chance = (metric.chance or 0.0) / metric.scale
        second = comparisons[claim.compare]
        baseline = study["variants"][second["b"][0]]["runs"][second["run_b"]][claim.metric]
        least = -inputs.params.primary.margin * (baseline["value"] - chance)
    cell = metric.show(to_score(found), signed=True)
    # What is no worse may lie on either side of 0 in a world.
    agree = found.get("same_sign", True) or claim.says not in CHANGES
    holds = does_hold(claim, cell.score, least) and agree
    n_worlds = len(found.get("worlds", [0]))
    n_seeds = len(study["seeds"]["values"])
    basis = f"{n_worlds} world{'s' * (n_worlds > 1)}, {n_seeds} seed{'s' * (n_seeds > 1)}"
    converged = is_shown_converged(study, comparisons[claim.compare])
    verdict = say_verdict(inputs, study, claim, holds=holds, converged=converged)
    return Row(claim, cell, basis, verdict + say_primary(inputs, claim))


def does_hold(claim: Claim, score: Score, least: float) -> bool:
    """Whether the whole interval lies where the claim says."""
    if claim.says == "lower":
        return score.high < 0
    return score.low > least


def say_verdict(inputs: Inputs, study: Tree, claim: Claim, *, holds: bool, converged: bool) -> str:
    """In the words that the data allow: of simulated ones, reporting worlds alone give verdicts."""
    is_simulated = study["params"].get("dataset.source", "simulated") == "simulated"
    if is_simulated and not set(list_worlds(study)) & set(inputs.params.primary.worlds):
        more = "" if converged else "; not shown to have converged"
        return f"difference only, development world{more}"
    if not converged:
        return "no verdict: not shown to have converged"
    if not is_simulated:
        return "supported" if holds else "not supported"
    own = [variant["world"] for variant in study["variants"].values() if "world" in variant]
    if not all(is_planted(world, claim) for world in own or [inputs.further.get("world", {})]):
        return "not planted"
    if claim.says not in CHANGES:
        return "no worse" if holds else "not shown"
    return f"planted effect {'recovered' if holds else 'not recovered'}"


def say_primary(inputs: Inputs, claim: Claim) -> str:
    """The verdict of the primary outcome that asks for the same, with its corrected interval."""
    asked = (claim.study, claim.compare, claim.metric)
    for name, outcome in inputs.params.primary.outcomes.items():
        found = inputs.further.get("primary", {}).get(name)
        if found and (outcome.study, outcome.compare, outcome.metric) == asked:
            return f"; primary outcome {name}: {found['verdict']}"
    return ""


def list_studies(inputs: Inputs) -> list[Tree]:
    """Studies that were run and that a claim asks."""
    names = dict.fromkeys(claim.study for claim in CLAIMS)
    return [inputs.studies[name] for name in names if name in inputs.studies]


def is_planted(world: Tree, claim: Claim) -> bool:
    """Whether the world has what the claim needs, by its asserted figures."""
    if not claim.planted:
        return True
    node: Mapping = world.get("asserted", {})
    for key in claim.planted.split("."):
        node = node.get(key, {})
    return bool(node.get("met", False))


def list_counted(inputs: Inputs) -> list[tuple[str, str, str]]:
    """Claims about numbers of weights: paper, claim, what the modules count."""
    weights = inputs.further.get("weights")
    if not weights:
        return []
    first = weights["rows"][0]
    own = weights.get("subjects", {}).get("clip_mused")
    counted = [
        (
            "BrainMCLIP",
            "71.7 % fewer weights than methods with a VAE route",
            f"{100 * first['reduction_mindeye1_vae']:.1f} % fewer than MindEye1, by our choice of "
            f"heads and widths, and beside {first['basis'] / 1e6:.0f} million fixed numbers of the "
            "tokens' basis, which decoding needs and this leaves out",
        )
    ]
    if own:
        counted.append(
            (
                "CLIP-MUSED",
                "weights do not grow with the number of subjects",
                f"each subject adds {own['per_subject'] / 1e6:.2f} million, {own['identity']:,} of "
                f"them tokens, to {own['shared'] / 1e6:.2f} million shared ones",
            )
        )
    return counted
