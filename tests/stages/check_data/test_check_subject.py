"""check_subject.py and check_betas.py: what is a warning on a real tree, hostile tables and
volumes, streamed betas.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fmri2clip.core.params import Dataset
from fmri2clip.datasets.nsd import design, layout
from fmri2clip.datasets.nsd.voxels import rois
from fmri2clip.stages.check_data import check_betas, check_subject, published
from fmri2clip.stages.check_data.check import check_tree
from fmri2clip.stages.check_data.check_subject import SubjectFiles
from tests.stages.check_data.check_world import SUBJECT, write_tree

PREPARATION = Dataset().preparation


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("intact")
    write_tree(root)
    return root


@pytest.fixture
def files(intact: Path, tmp_path: Path) -> SubjectFiles:
    """The tree as if it were real; its pictures are left out."""
    root = tmp_path / "nsd"
    shutil.copytree(intact, root, ignore=shutil.ignore_patterns("nsddata_stimuli"))
    return SubjectFiles(
        root=root,
        subject=SUBJECT,
        preparation=PREPARATION,
        all_sessions=True,
        is_real=True,
        keep_raw=True,
        trials=design.list_trials(design.load_design(root), SUBJECT, "released"),
    )


def _simulated(files: SubjectFiles) -> SubjectFiles:
    return dataclasses.replace(files, is_real=False)


def _edit(path: Path, edit: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> None:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += shift
    nib.save(nib.Nifti1Image(edit(np.asarray(image.dataobj)), affine), path)


def test_published_area_sizes(files: SubjectFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = rois.read_volume(layout.roi_path(files.root, SUBJECT, "prf-visualrois"))
    brain = int((rois.read_volume(layout.brainmask_path(files.root, SUBJECT)) > 0).sum())
    v1, hv4 = int(((volume == 1) | (volume == 2)).sum()), int((volume == 7).sum())
    tables = {
        "prf-visualrois/V1v+V1d": (0,) * 4 + (round(v1 * 1.04),),
        "prf-visualrois/hV4": (0,) * 4 + (hv4 * 2,),
    }
    monkeypatch.setattr(published, "BRAINMASK_VOXELS", (0,) * 4 + (brain,))
    monkeypatch.setattr(
        published, "AREA_VOXELS", tables | {"streams/early": (5,)}
    )  # of subject 1 alone
    finding = check_subject.check_counts(files)
    assert finding.status == "WARN"
    assert finding.detail == (
        f"prf-visualrois/hV4 has {hv4} voxels, published {hv4 * 2} "
        f"(brainmask {brain}, prf-visualrois/V1v+V1d {v1}, prf-visualrois/hV4 {hv4})"
    )
    assert check_subject.check_counts(_simulated(files)).status == "SKIP"


def test_published_tables_name_areas_that_exist(files: SubjectFiles) -> None:
    for area, numbers in published.AREA_VOXELS.items():
        assert (
            len(numbers) in (1, 2, 8) and check_subject.count_area(files.root, SUBJECT, area) >= 0
        )


def test_nsdgeneral_must_have_the_published_size(files: SubjectFiles) -> None:
    with pytest.raises(ValueError, match=r"nsdgeneral\.nii\.gz has \d+ voxels, published 13039"):
        check_subject.check_nsdgeneral(files)
    assert check_subject.check_nsdgeneral(_simulated(files)).status == "PASS"


def test_a_missing_region_of_a_real_tree_is_a_warning(files: SubjectFiles) -> None:
    layout.roi_path(files.root, SUBJECT, "Kastner2015", "rh").unlink()
    finding = check_subject.check_rois(files)
    assert (
        finding.status == "WARN"
        and "1 ROI files that other subjects have are missing: rh.Kastner2015.nii.gz"
        in finding.detail
    )
    with pytest.raises(ValueError, match=r"rh\.Kastner2015"):
        check_subject.check_rois(_simulated(files))
    layout.roi_path(files.root, SUBJECT, "nsdgeneral").unlink()
    with pytest.raises(ValueError, match=r"/nsdgeneral\.nii\.gz does not exist"):
        check_subject.check_rois(files)


def test_other_label_names_are_a_warning(files: SubjectFiles) -> None:
    path = layout.ctab_path(files.root, SUBJECT, "streams")
    path.write_text(
        "0\tUnknown\t\n"
        + "".join(f"{k}  {name}\t\n" for k, name in enumerate(layout.ROI_LABELS["streams"], 1))
    )
    assert check_subject.check_labels(files).status == "PASS", "blanks and tabs do not matter"
    path.write_text(path.read_text().replace("ventral", "inferior"))
    finding = check_subject.check_labels(files)
    assert finding.status == "WARN" and "5 is inferior, not ventral" in finding.detail
    shutil.rmtree(layout.labels_dir(files.root, SUBJECT))
    assert check_subject.check_labels(files).status == "SKIP"


def test_another_affine_of_a_real_tree_is_a_warning(
    files: SubjectFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = rois.read_volume(layout.brainmask_path(files.root, SUBJECT)).shape
    with pytest.raises(
        ValueError, match=r"brainmask\.nii\.gz has shape .*the release \(79, 97, 78\)"
    ):
        check_subject.check_grid(files)
    monkeypatch.setattr(layout, "VOLUME_SHAPES", (shape,) * 8)
    assert check_subject.check_grid(files).status == "PASS"
    _edit(layout.valid_path(files.root, SUBJECT), lambda v: v, shift=1.8)
    assert check_subject.check_grid(files).status == "WARN"
    _edit(layout.valid_path(files.root, SUBJECT), lambda v: v[1:])
    with pytest.raises(ValueError, match=r"valid\.nii\.gz has shape"):
        check_subject.check_grid(files)


def test_files_that_only_describe_may_be_missing(files: SubjectFiles) -> None:
    layout.responses_path(files.root, SUBJECT).unlink()
    assert check_subject.check_responses(files).status == "WARN"
    layout.valid_path(files.root, SUBJECT, 2).unlink()
    finding = check_betas.check_betas(files)
    assert finding.status == "WARN" and "valid_session02.nii.gz do not exist" in finding.detail
    with pytest.raises(ValueError, match="valid_session02"):
        check_betas.check_betas(_simulated(files))


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda text: text.replace("73KID", "KID"), "lacks the columns 73KID; download it again"),
        (lambda text: text.replace("\t", ","), "lacks the columns SUBJECT, SESSION"),
        (lambda text: "\n".join(text.splitlines()[:800]), "has 799 trials, 1500 expected"),
        (
            lambda text: text.replace("\n5\t1\t1\t", "\n5\tNaN\t1\t", 1),
            "SESSION hold something else",
        ),
        (lambda text: text.replace("\n5\t1\t1\t", "\n5\t1\t1.5\t", 1), "RUN hold something else"),
        (lambda text: "", "cannot be read as a table"),
        (lambda text: text.replace("\n5\t2\t1\t", "\n5\t2\t2\t"), "runs are not of"),
    ],
)
def test_hostile_responses(files: SubjectFiles, edit: Callable[[str], str], problem: str) -> None:
    path = layout.responses_path(files.root, SUBJECT)
    path.write_text(edit(path.read_text()))
    with pytest.raises(ValueError, match=problem) as error:
        check_subject.check_responses(_simulated(files))
    assert str(path) in str(error.value)


def test_responses_of_a_real_subject_are_complete(files: SubjectFiles) -> None:
    with pytest.raises(ValueError, match="has 1500 trials, 30000 expected"):
        check_subject.check_responses(files)


def test_ncsnr(files: SubjectFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    path = layout.ncsnr_path(files.root, SUBJECT, PREPARATION)
    mask = rois.read_roi(files.root, SUBJECT, "nsdgeneral") > 0
    median = float(np.nanmedian(rois.read_volume(path)[mask]))
    monkeypatch.setattr(published, "NCSNR_MEDIANS", (0.0,) * 4 + (median * 1.04,))
    assert check_betas.check_ncsnr(files).status == "PASS"
    monkeypatch.setattr(published, "NCSNR_MEDIANS", (0.0,) * 4 + (median * 1.06,))
    finding = check_betas.check_ncsnr(files)
    assert finding.status == "WARN" and f"median {median:.3f}" in finding.detail
    assert check_betas.check_ncsnr(_simulated(files)).status == "PASS"
    _edit(path, lambda v: np.where(mask, np.nan, v))
    with pytest.raises(
        ValueError, match=r"ncsnr\.nii\.gz holds a number for 0 of \d+ voxels of nsdgeneral"
    ):
        check_betas.check_ncsnr(files)
    with pytest.raises(ValueError, match="holds a number for 0 of"):
        check_betas.check_betas(files)
    _edit(path, lambda v: np.where(mask, -0.1, v))
    with pytest.raises(ValueError, match="0 or more expected"):
        check_betas.check_ncsnr(files)
    _edit(path, lambda v: v[..., 1:])
    with pytest.raises(ValueError, match=r"ncsnr\.nii\.gz has shape .*, nsdgeneral"):
        check_betas.check_ncsnr(files)


def test_another_ncsnr_of_a_real_tree_is_a_warning(files: SubjectFiles) -> None:
    """How near NSD's own comes to the formula is inferred; in a simulated tree it is known."""
    path = layout.ncsnr_path(files.root, SUBJECT, PREPARATION)
    _edit(path, lambda v: v[::-1])
    finding = check_betas.check_betas(files)
    assert finding.status == "WARN"
    assert "shipped and recomputed ncsnr correlate at" in finding.detail
    with pytest.raises(ValueError, match=r"ncsnr correlate at .*is not what their betas give"):
        check_betas.check_betas(_simulated(files))


def test_an_empty_nsdgeneral(files: SubjectFiles) -> None:
    _edit(layout.roi_path(files.root, SUBJECT, "nsdgeneral"), np.zeros_like)
    with pytest.raises(ValueError, match=r"nsdgeneral\.nii\.gz has no voxel above 0"):
        check_betas.check_betas(files)


def test_streamed_betas_are_not_looked_for(intact: Path, tmp_path: Path) -> None:
    root = tmp_path / "nsd"
    shutil.copytree(intact, root)
    for path in layout.betas_dir(root, SUBJECT, PREPARATION).glob("betas_session*"):
        path.unlink()
    checks = check_tree(root, [SUBJECT], Dataset(source="s3", keep_raw=False))
    found = {
        check.name.partition(".")[2]: check
        for check in checks
        if check.name.startswith(f"{SUBJECT}.")
    }
    assert {found[name].status for name in ("volumes", "containers", "betas")} == {"SKIP"}
    assert "extract_rois checks of each session shape" in found["betas"].detail
    assert found["ncsnr"].status == "PASS" and [check for check in checks if not check.passed] == []
