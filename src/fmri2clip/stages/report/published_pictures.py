"""Scores of reconstructed pictures that papers and their code print: measured elsewhere, shown for
orientation only.
"""

from __future__ import annotations

from fmri2clip.stages.report.document import Row, Table

METRICS = (
    *("PixCorr", "SSIM", "Alex(2), %", "Alex(5), %", "Incep, %", "CLIP, %"),
    *("Eff (lower is better)", "SwAV (lower is better)"),
)
ZEBRA = "comparison table of ZEBRA (NeurIPS 2025, arXiv:2510.27128), its Table 1"
UNKNOWN = "not said row by row: 982 or 1,000 shared images"
MEAN = "mean of subjects 1, 2, 5 and 7, full training data"
FIRST = "subject 1, as printed by the methods' own notebooks"

# heading -> (method, scores, test set, source)
ROWS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    MEAN: (
        (
            "Takagi & Nishimoto (CVPR 2023)",
            "0.246 0.410 78.9 85.6 83.8 82.1 0.811 0.504",
            UNKNOWN,
            ZEBRA,
        ),
        (
            "Brain-Diffuser (Sci. Rep. 2023)",
            "0.273 0.365 94.4 96.6 91.3 90.9 0.728 0.422",
            UNKNOWN,
            ZEBRA,
        ),
        ("MindEye1 (NeurIPS 2023)", "0.319 0.360 92.8 96.9 94.6 93.3 0.648 0.377", UNKNOWN, ZEBRA),
        ("UMBRAE (ECCV 2024)", "0.283 0.341 95.5 97.0 91.7 93.5 0.700 0.393", UNKNOWN, ZEBRA),
        ("NeuroPictor (ECCV 2024)", "0.229 0.375 96.5 98.4 94.5 93.3 0.639 0.350", UNKNOWN, ZEBRA),
        (
            "NeuroPictor, second variant of the source",
            "0.141 0.349 91.4 95.7 88.3 88.9 0.722 0.417",
            UNKNOWN,
            ZEBRA,
        ),
        (
            "MindBridge (CVPR 2024)",
            "0.151 0.263 87.7 95.5 92.4 94.7 0.712 0.418",
            f"{UNKNOWN}; its code picks the sample nearest to the stimulus",
            ZEBRA,
        ),
        (
            "MindEye2 (ICML 2024)",
            "0.322 0.431 96.1 98.6 95.4 93.0 0.619 0.344",
            f"{UNKNOWN}; blends in a blurry reconstruction",
            ZEBRA,
        ),
        ("MindTuner (AAAI 2025)", "0.322 0.421 95.8 98.8 95.6 93.8 0.612 0.340", UNKNOWN, ZEBRA),
    ),
    FIRST: (
        (
            "MindEye1, best of 16 by brain, low-level start",
            "0.3925 0.3467 97.38 98.65 94.53 94.34 0.6345 0.3578",
            "982 shared images",
            "MedARC-AI/fMRI-reconstruction-NSD, src/Reconstruction_Metrics.ipynb",
        ),
        (
            "MindEye2, 40 sessions, refined, blended 75/25 with blurry",
            "0.3740 0.4395 97.91 99.11 96.00 93.69 0.6075 0.3363",
            "1,000 shared images",
            "MedARC-AI/MindEyeV2, src/final_evaluations.ipynb",
        ),
    ),
}
ELSEWHERE = (  # beside a simulated world
    "Published elsewhere: measured on the real Natural Scenes Dataset, with other networks "
    "(AlexNet, Inception-v3,"
    " OpenAI's ViT-L/14, EfficientNet-B1, SwAV) and another test set. Not reproduced here, and not "
    "comparable with the"
    " simulated world."
)
OWN = (  # beside real data
    "Published elsewhere: measured on the papers' own test sets (982 or 1,000 images) and with "
    "their own pipelines. Not"
    " reproduced here."
)
LABEL = (
    "Protocol as far as known: MindEye1's code, which MindBridge's follows; the source of the means"
    " does not say it row by row. Rows differ in test set, number of samples and in who chose "
    "among them, so even they"
    " compare badly with each other. For BrainMCLIP no row was found."
)


def make_published_table(*, simulated: bool) -> Table:
    """One row a published method, grouped by what was averaged.

    simulated: whether our own data are.
    """
    rows: list[Row] = []
    for heading, methods in ROWS.items():
        rows.append(Row((heading,), "heading"))
        for method, scores, test_set, source in methods:
            rows.append(Row((method, test_set, source, *scores.split()), "context"))
    return Table(
        title="Published elsewhere, not reproduced here: reconstructed pictures of NSD",
        columns=("method", "test set", "source", *METRICS),
        rows=tuple(rows),
        label=f"{ELSEWHERE if simulated else OWN} {LABEL}",
        n_text_columns=3,
    )
