"""Numbers of the released NSD that a revision may change: compared within a tolerance, and never
used otherwise.

Volumes of func1pt8mm; areas are counted in the whole volume. Sources: brain mask and areas as
counted on the files by public analysis code (brain-score/vision, styvesg/nsd, BERG's model card for
subject 1); noise ceilings as in Allen et al. 2022. Numbers that never change stand in layout
(nsdgeneral) and check_design.
"""

from __future__ import annotations

TOLERANCE = 0.05

BRAINMASK_VOXELS = (370503, 343107, 358199, 329650, 302566, 412281, 296155, 321595)
# 'ROI/labels put together' -> subjects 1, 2, ... as far as published
AREA_VOXELS: dict[str, tuple[int, ...]] = {
    "prf-visualrois/V1v+V1d": (1350, 1102, 1254, 877, 1113, 1127, 1142, 1074),
    "prf-visualrois/V2v+V2d": (1433, 1075, 1141, 863, 1081, 1180, 986, 1033),
    "prf-visualrois/V3v+V3d": (1187,),
    "prf-visualrois/hV4": (687, 483, 426, 475, 542, 477, 397, 495),
    "floc-bodies/EBA": (2971,),
    "floc-bodies/FBA-2": (430,),
    "floc-faces/OFA": (355,),
    "floc-faces/FFA-1": (484,),
    "floc-faces/FFA-2": (310,),
    "floc-places/OPA": (1611,),
    "floc-places/PPA": (1033,),
    "floc-places/RSC": (566,),
    "floc-words/OWFA": (464,),
    "floc-words/VWFA-1": (773,),
    "floc-words/VWFA-2": (505,),
    "floc-words/mfs-words": (165,),
    "streams/early": (5917,),
    "streams/midventral": (986,),
    "streams/midlateral": (834,),
    "streams/midparietal": (950,),
    "streams/ventral": (7604, 8185),
    "streams/lateral": (7799,),
    "streams/parietal": (3548,),
}
# Inside nsdgeneral, subjects 1 to 8.
NCSNR_MEDIANS = (0.361, 0.361, 0.324, 0.296, 0.415, 0.343, 0.281, 0.226)
NCSNR_MEDIANS_OF = "betas_fithrf_GLMdenoise_RR"


def differs(found: float, published: float) -> bool:
    """More than the tolerance away."""
    return abs(found - published) > TOLERANCE * published
