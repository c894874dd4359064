"""layout.py: keys of the published bucket and constants of the format."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.pictures.categories import COCO_CATEGORIES

ROOT = Path("nsd")


def test_paths_are_the_keys_of_the_bucket() -> None:
    prep = "betas_fithrf_GLMdenoise_RR"
    keys = {
        layout.expdesign_path(ROOT): "nsddata/experiments/nsd/nsd_expdesign.mat",
        layout.stim_info_path(ROOT): "nsddata/experiments/nsd/nsd_stim_info_merged.csv",
        layout.stimuli_path(ROOT): "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5",
        layout.captions_path(
            ROOT, "val2017"
        ): "nsddata_stimuli/stimuli/nsd/annotations/captions_val2017.json",
        layout.instances_path(
            ROOT, "train2017"
        ): "nsddata_stimuli/stimuli/nsd/annotations/instances_train2017.json",
        layout.responses_path(ROOT, "subj01"): "nsddata/ppdata/subj01/behav/responses.tsv",
        layout.roi_path(
            ROOT, "subj07", "streams"
        ): "nsddata/ppdata/subj07/func1pt8mm/roi/streams.nii.gz",
        layout.roi_path(
            ROOT, "subj07", "streams", "lh"
        ): "nsddata/ppdata/subj07/func1pt8mm/roi/lh.streams.nii.gz",
        layout.brainmask_path(ROOT, "subj01"): "nsddata/ppdata/subj01/func1pt8mm/brainmask.nii.gz",
        layout.valid_path(ROOT, "subj01"): "nsddata/ppdata/subj01/func1pt8mm/valid.nii.gz",
        layout.valid_path(
            ROOT, "subj01", 3
        ): "nsddata/ppdata/subj01/func1pt8mm/valid_session03.nii.gz",
        layout.betas_path(
            ROOT, "subj02", prep, 7
        ): f"nsddata_betas/ppdata/subj02/func1pt8mm/{prep}/betas_session07.hdf5",
        layout.ncsnr_path(
            ROOT, "subj02", prep
        ): f"nsddata_betas/ppdata/subj02/func1pt8mm/{prep}/ncsnr.nii.gz",
        layout.noise_free_path(
            ROOT, "subj02", prep
        ): f"nsddata_betas/ppdata/subj02/func1pt8mm/{prep}/noise_free.hdf5",
        layout.ctab_path(
            ROOT, "subj02", "floc-faces"
        ): "nsddata/freesurfer/subj02/label/floc-faces.mgz.ctab",
    }
    for path, key in keys.items():
        assert path.as_posix() == f"nsd/{key}"


def test_constants_agree_with_each_other() -> None:
    odd, even = layout.TRIALS_PER_RUN
    assert (odd + even) * layout.RUNS_PER_SESSION // 2 == layout.TRIALS_PER_SESSION
    assert sum(layout.SESSIONS_RELEASED) * layout.TRIALS_PER_SESSION == 213_000
    assert all(
        new - old == 3
        for new, old in zip(layout.SESSIONS_RELEASED, layout.SESSIONS_OLD37, strict=True)
    )
    assert 8 * (layout.IMAGES_PER_SUBJECT - layout.N_SHARED) + layout.N_SHARED == layout.N_IMAGES
    assert [x * y * z for x, y, z in layout.VOLUME_SHAPES][:2] == [699192, 730128]
    assert len(layout.CSV_COLUMNS) == len(set(layout.CSV_COLUMNS)) == 40
    assert len(layout.RESPONSE_COLUMNS) == 19


def test_coco_table() -> None:
    ids = [category.id for category in COCO_CATEGORIES]
    assert ids == sorted(ids) and len(ids) == 80
    assert set(range(1, 91)) - set(ids) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert COCO_CATEGORIES[0] == (1, "person", "person")
    assert COCO_CATEGORIES[79] == (90, "toothbrush", "indoor")
    assert len({category.supercategory for category in COCO_CATEGORIES}) == 12


def test_subjects() -> None:
    assert layout.released_sessions("subj04") == 30 and layout.old37_sessions("subj04") == 27
    with pytest.raises(
        ValueError, match=r"subject 'subj09' is not in NSD; choose from subj01 \.\.\. subj08"
    ):
        layout.released_sessions("subj09")


def test_roi_names() -> None:
    assert layout.split_roi_name("rh.floc-words/VWFA-1") == ("rh", "floc-words", "VWFA-1")
    assert layout.split_roi_name("HCP_MMP1/180") == ("", "HCP_MMP1", "180")
    with pytest.raises(ValueError, match="ROI 'prf' is not in NSD; choose from nsdgeneral"):
        layout.split_roi_name("prf")
    with pytest.raises(ValueError, match="no label 'V9'; choose from V1v"):
        layout.split_roi_name("prf-visualrois/V9")
