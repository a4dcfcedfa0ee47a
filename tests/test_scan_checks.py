"""study_lib.scan_checks: a bad file is found, a good one is left alone, and each is read once."""

import gzip
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn import datasets
from scipy import ndimage
from small_heads import AFFINE, SHAPE, brain_mask, head, save, save_run, with_header

from study_lib.files import sha256_of
from study_lib.scan_checks import (
    Finding,
    UnreadableScan,
    check_atlas,
    check_bold,
    check_mask_of,
    check_volume,
    examine,
    read_scan,
)
from study_lib.scan_checks.contrast import contrast_of
from study_lib.scan_checks.geometry import corner_distance
from study_lib.scan_checks.likeness import core_likeness, descriptor, head_of, mirrored, upright_descriptor
from study_lib.scan_checks.mask import mirrored_certainty
from study_lib.scan_checks.reduction import canonical, otsu, reduced


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


@pytest.fixture
def t1w(tmp_path: Path) -> Path:
    return save(tmp_path / "sub-a_T1w.nii.gz", head(1))


# A good file


def test_a_head_passes_without_a_word(t1w: Path) -> None:
    assert check_volume(t1w) == []


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LIA", "PSR"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_orientation_and_data_type_raise_no_suspicion(tmp_path: Path, axes: str, dtype: type) -> None:
    image = nib.Nifti1Image((head(1) / 6).astype(dtype), AFFINE)
    turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(axes))
    nib.save(image.as_reoriented(turn), tmp_path / "t1.nii")
    assert check_volume(tmp_path / "t1.nii") == []


def test_voxels_and_checksum_are_those_of_nibabel_and_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "t1.nii.gz"
    image = nib.Nifti1Image(head(1), AFFINE)
    image.set_data_dtype(np.int16)
    nib.save(image, path)
    assert nib.load(path).dataobj.slope != 1
    scan = read_scan(path)
    assert scan.sha256 == sha256_of(path)
    np.testing.assert_array_equal(scan.voxels, nib.load(path).get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(scan.affine, nib.load(path).affine)


@contextmanager
def opened_files() -> Iterator[Counter]:
    """Counts how often the interpreter opens each file."""
    counts: Counter = Counter()
    active = [True]

    def hook(event: str, arguments: tuple) -> None:
        if active and event == "open" and isinstance(arguments[0], str | os.PathLike):
            counts[os.fspath(arguments[0])] += 1

    sys.addaudithook(hook)
    try:
        yield counts
    finally:
        active.clear()


def test_a_volume_is_opened_once(t1w: Path) -> None:
    with opened_files() as counts:
        assert check_volume(t1w) == []
    assert counts[str(t1w)] == 1


def test_real_heads_raise_no_finding(shared_data: Path) -> None:
    files = sorted((shared_data / "t1w").glob("*.nii.gz"))
    assert len(files) == 3
    assert {file.name: check_volume(file) for file in files} == {file.name: [] for file in files}


# Files that cannot be read


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    finding = only(check_volume(tmp_path / "sub-a_T1w.nii.gz"))
    assert finding.kind == "missing" and "sub-a_T1w.nii.gz" in finding.message and "fetch" in finding.fix


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert only(check_volume(tmp_path)).kind == "missing"


def test_zero_bytes_are_named(tmp_path: Path) -> None:
    (tmp_path / "t1.nii.gz").touch()
    finding = only(check_volume(tmp_path / "t1.nii.gz"))
    assert finding.kind == "empty" and "zero bytes" in finding.message and "download" in finding.fix


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.999])
def test_a_truncated_gzip_is_named(t1w: Path, kept: float) -> None:
    raw = t1w.read_bytes()
    t1w.write_bytes(raw[: int(len(raw) * kept)])
    finding = only(check_volume(t1w))
    assert finding.kind == "truncated" and t1w.name in finding.message


def test_a_flipped_bit_in_a_gzip_is_found(t1w: Path) -> None:
    raw = bytearray(t1w.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    t1w.write_bytes(bytes(raw))
    assert only(check_volume(t1w)).kind in {"corrupt", "truncated"}


def test_a_truncated_file_without_gzip_is_named_with_both_sizes(tmp_path: Path) -> None:
    path = save(tmp_path / "t1.nii", head(1))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    finding = only(check_volume(path))
    assert finding.kind == "truncated" and str(size) in finding.message and str(size - 100) in finding.message


def test_a_web_page_saved_as_nifti_is_not_nifti(tmp_path: Path) -> None:
    (tmp_path / "t1.nii.gz").write_bytes(gzip.compress(b"<html>Please log in</html>" * 40))
    assert only(check_volume(tmp_path / "t1.nii.gz")).kind == "not NIfTI"


def test_a_header_that_announces_terabytes_is_refused_without_allocating_them(tmp_path: Path) -> None:
    path = save(tmp_path / "t1.nii", head(1))
    raw = bytearray(path.read_bytes())
    raw[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(bytes(raw))
    assert only(check_volume(path)).kind == "truncated"


def test_a_dangling_annex_link_is_told_by_name(tmp_path: Path) -> None:
    link = tmp_path / "sub-a_T1w.nii.gz"
    link.symlink_to("../../.git/annex/objects/xx/yy/MD5E-s1--0.nii.gz/MD5E-s1--0.nii.gz")
    finding = only(check_volume(link))
    assert finding.kind == "annex"
    assert "datalad get sub-a_T1w.nii.gz" in finding.fix and "git annex get" in finding.fix


def test_an_unlocked_annex_file_and_an_lfs_pointer_are_told_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t1.nii.gz"
    path.write_text("/annex/objects/MD5E-s1--0.nii.gz\n")
    assert only(check_volume(path)).kind == "annex"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in only(check_volume(path)).fix


def test_any_other_dangling_link_is_named_with_its_target(tmp_path: Path) -> None:
    (tmp_path / "t1.nii.gz").symlink_to("gone.nii.gz")
    finding = only(check_volume(tmp_path / "t1.nii.gz"))
    assert finding.kind == "dangling link" and "gone.nii.gz" in finding.message


def test_an_unreadable_scan_says_what_to_do_when_it_is_raised(tmp_path: Path) -> None:
    with pytest.raises(UnreadableScan, match=r"no file .*t1\.nii.*Fix: fetch the file"):
        read_scan(tmp_path / "t1.nii")


# Files that hold something else


def test_a_run_where_a_volume_is_due_is_refused(tmp_path: Path) -> None:
    finding = only(check_volume(save_run(tmp_path / "bold.nii.gz")))
    assert finding.kind == "dimensions" and "expected a 3D volume, got 4D (8, 9, 7, 24)" in finding.message
    assert "bold" in finding.fix


def test_a_volume_with_an_empty_fourth_axis_is_refused_with_the_call_that_drops_it(tmp_path: Path) -> None:
    finding = only(check_volume(save(tmp_path / "t1.nii.gz", head(1)[..., None])))
    assert finding.kind == "dimensions" and "squeeze_image" in finding.fix


def test_a_volume_where_a_run_is_due_is_refused(t1w: Path) -> None:
    finding = only(check_bold(t1w))
    assert finding.kind == "dimensions" and "expected a 4D run, got one 3D volume (24, 28, 24)" in finding.message


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (0.0, "all zero", "every voxel is 0"),
        (7.0, "constant", "every voxel is 7"),
    ],
)
def test_one_value_everywhere_is_refused(tmp_path: Path, value: float, kind: str, words: str) -> None:
    finding = only(check_volume(save(tmp_path / "t1.nii.gz", np.full(SHAPE, value, np.float32))))
    assert (finding.kind, finding.message) == (kind, words)


@pytest.mark.parametrize(("value", "words"), [(np.nan, "1 NaN"), (np.inf, "1 infinite"), (-np.inf, "1 infinite")])
def test_one_voxel_that_is_not_finite_is_counted(tmp_path: Path, value: float, words: str) -> None:
    voxels = head(1)
    voxels[3, 4, 5] = value
    finding = only(check_volume(save(tmp_path / "t1.nii.gz", voxels)))
    assert finding.kind == "not finite" and f"{words} of {voxels.size} voxels" in finding.message


def test_a_singular_affine_is_refused(tmp_path: Path) -> None:
    path = with_header(save(tmp_path / "t1.nii", head(1)), srow_z=[8, 0, 0, 0])
    finding = only(check_volume(path))
    assert finding.kind == "affine" and "singular" in finding.message


def test_an_affine_of_nan_is_refused(tmp_path: Path) -> None:
    path = with_header(save(tmp_path / "t1.nii", head(1)), srow_x=[np.nan, 0, 0, 0])
    assert "not finite" in only(check_volume(path)).message


def test_voxel_sizes_that_disagree_are_refused_with_both(tmp_path: Path) -> None:
    pixdim = [1, 8, 8, 4, 0, 0, 0, 0]
    path = with_header(save(tmp_path / "t1.nii", head(1)), pixdim=pixdim, qform_code=0)
    finding = only(check_volume(path))
    assert finding.kind == "zooms"
    assert "pixdim says 8 x 8 x 4 mm" in finding.message and "the affine 8 x 8 x 8 mm" in finding.message


def saved_with_forms(path: Path, qform: np.ndarray, codes: tuple[int, int]) -> Path:
    image = nib.Nifti1Image(head(1), AFFINE)
    image.set_sform(AFFINE, codes[0])
    image.set_qform(qform, codes[1])
    nib.save(image, path)
    return path


def test_forms_that_swap_left_and_right_are_refused(tmp_path: Path) -> None:
    path = saved_with_forms(tmp_path / "t1.nii", np.diag([-1, 1, 1, 1]) @ AFFINE, (2, 1))
    finding = only(check_volume(path))
    assert finding.kind == "left-right" and "sform and qform" in finding.message


@pytest.mark.parametrize(("codes", "severity"), [((1, 1), "error"), ((4, 1), "warning")])
def test_forms_that_differ_are_an_error_in_one_space_and_a_warning_between_two(
    tmp_path: Path, codes: tuple[int, int], severity: str
) -> None:
    moved = AFFINE.copy()
    moved[1, 3] += 20
    finding = only(check_volume(saved_with_forms(tmp_path / "t1.nii", moved, codes)))
    assert finding.severity == severity and "by up to 20.0 mm" in finding.message


def test_a_volume_without_orientation_is_kept_with_a_warning(tmp_path: Path) -> None:
    path = with_header(save(tmp_path / "t1.nii", head(1)), sform_code=0, qform_code=0)
    finding = only(check_volume(path))
    assert finding.severity == "warning" and "left and right are not known" in finding.message


def test_distance_of_corners_is_that_of_a_loop() -> None:
    turned = AFFINE @ np.diag([1.1, 1, 0.9, 1])
    corners = [(i, j, k, 1) for i in (0, 23) for j in (0, 27) for k in (0, 23)]
    farthest = max(np.linalg.norm((AFFINE @ c - turned @ c)[:3]) for c in corners)
    assert corner_distance(AFFINE, turned, SHAPE) == pytest.approx(farthest)


# Functional runs


def test_a_run_passes_with_and_without_reading(tmp_path: Path) -> None:
    for name in ("bold.nii", "bold.nii.gz"):
        path = save_run(tmp_path / name)
        assert check_bold(path) == [] and check_bold(path, read=True) == []


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("name", ["bold.nii", "bold.nii.gz"])
def test_a_truncated_run_is_named(tmp_path: Path, name: str, read: bool) -> None:
    path = save_run(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-5000])
    assert only(check_bold(path, read=read)).kind == "truncated"


def test_a_sound_run_in_several_gzip_members_passes(tmp_path: Path) -> None:
    raw = save_run(tmp_path / "bold.nii").read_bytes()
    path = tmp_path / "bold.nii.gz"
    path.write_bytes(gzip.compress(raw[:9999]) + gzip.compress(raw[9999:]))
    assert check_bold(path) == [] and check_bold(path, read=True) == []


def test_a_run_without_repetition_time_is_kept_with_a_warning(tmp_path: Path) -> None:
    finding = only(check_bold(save_run(tmp_path / "bold.nii.gz", repetition_s=0)))
    assert finding.severity == "warning" and "no repetition time" in finding.message and "sidecar" in finding.fix


def test_a_run_of_2000_seconds_repetition_is_kept_with_a_warning(tmp_path: Path) -> None:
    finding = only(check_bold(save_run(tmp_path / "bold.nii.gz", repetition_s=2000)))
    assert finding.severity == "warning" and "2000 s" in finding.message


def test_bad_volumes_inside_a_run_are_found_by_reading(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(500, 50, (8, 9, 7, 24)).astype(np.float32)
    voxels[..., 5] = 0
    voxels[1, 2, 3, 7] = np.nan
    path = save(tmp_path / "bold.nii.gz", voxels, np.diag([4.0, 4, 4, 1]))
    errors = {f.kind: f.message for f in check_bold(path, read=True) if f.is_error}
    assert "1 of 24 volumes (first: 7)" in errors["not finite"]
    assert "1 of 24 volumes are constant (first: 5)" in errors["constant"]


# Contrast


@pytest.mark.parametrize(
    ("load", "evidence"),
    [
        (datasets.load_mni152_gm_template, "voxels deep in the head are about 0"),
        (datasets.load_mni152_wm_template, "deep voxels are at the maximum"),
        (datasets.load_mni152_brain_mask, "only 2 distinct values"),
    ],
)
def test_a_tissue_map_named_t1w_is_kept_with_a_warning_and_the_evidence(tmp_path: Path, load, evidence: str) -> None:
    image = load(resolution=2)
    finding = only(check_volume(save(tmp_path / "t1.nii.gz", image.get_fdata(dtype=np.float32), image.affine)))
    assert finding.severity == "warning" and evidence in finding.message and "within [0, 1]" in finding.message


def test_a_template_within_0_and_1_is_not_taken_for_a_map(tmp_path: Path) -> None:
    image = datasets.load_mni152_template(resolution=2)
    path = save(tmp_path / "t1.nii.gz", image.get_fdata(dtype=np.float32), image.affine)
    assert check_volume(path) == []


def test_an_inverted_contrast_is_kept_with_a_warning(tmp_path: Path) -> None:
    voxels = head(1)
    inverted = np.where(voxels > 100, 1500 - voxels, voxels)
    finding = only(check_volume(save(tmp_path / "t1.nii.gz", inverted)))
    assert finding.severity == "warning" and "times the rim" in finding.message


def test_contrast_does_not_depend_on_scale_offset_or_orientation() -> None:
    voxels = head(2)
    plain = contrast_of(voxels, AFFINE)
    flipped = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    other = contrast_of(voxels[::-1] * 0.25 + 30, flipped)
    assert other.deep_over_rim == pytest.approx(plain.deep_over_rim, abs=0.05)
    assert other.deep_zeros == pytest.approx(plain.deep_zeros, abs=0.01)


# Likeness


def described(voxels: np.ndarray, affine: np.ndarray = AFFINE) -> np.ndarray:
    found = head_of(voxels, affine)
    assert found is not None
    return descriptor(found)


def test_a_copy_is_itself_and_another_person_is_not() -> None:
    one = described(head(1))
    assert one @ one == pytest.approx(1, abs=1e-5)
    assert one @ described(head(2)) < 0.95


@pytest.mark.parametrize("axes", ["LAS", "LIA", "SPL"])
def test_a_copy_in_another_orientation_position_and_scale_stays_the_same_head(axes: str) -> None:
    image = nib.Nifti1Image(np.round(head(1) * 3.7 + 11).astype(np.int16), AFFINE)
    turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(axes))
    turned = image.as_reoriented(turn)
    moved = turned.affine.copy()
    moved[:3, 3] += [31, -12, 55]
    copy = described(turned.get_fdata(dtype=np.float32), moved)
    assert described(head(1)) @ copy > 0.995


def test_a_copy_with_more_air_on_another_grid_stays_the_same_head() -> None:
    padded = np.pad(head(1), ((2, 3), (1, 2), (0, 4)))
    affine = AFFINE.copy()
    affine[:3, 3] -= [16, 8, 0]
    assert described(head(1)) @ described(padded, affine) > 0.995


def test_mirroring_a_head_mirrors_its_descriptor() -> None:
    voxels = head(1)
    turned = described(voxels[::-1])
    np.testing.assert_allclose(mirrored(described(voxels)), turned, atol=5e-3)
    np.testing.assert_array_equal(mirrored(mirrored(turned)), turned)


def test_two_balls_are_alike_in_outline_but_not_inside() -> None:
    ball = np.linalg.norm(np.indices(SHAPE) - np.reshape([11.5, 13.5, 11.5], (3, 1, 1, 1)), axis=0) < 9
    noise = [np.random.default_rng(seed).normal(0, 5, SHAPE) for seed in (0, 1)]
    one, other = (described((ball * 1000 + n).astype(np.float32)) for n in noise)
    assert one @ other > 0.985
    assert core_likeness(one, other) < 0.5 < core_likeness(one, one)


def test_heads_turned_in_opposite_ways_are_not_taken_for_mirror_images() -> None:
    def turned(degrees: float) -> np.ndarray:
        return ndimage.rotate(head(1), degrees, axes=(0, 1), reshape=False, order=1)

    left, right = (upright_descriptor(head_of(turned(angle), AFFINE)) for angle in (6, -6))
    assert left @ right > left @ mirrored(right)
    assert mirrored(left) @ mirrored(right) == pytest.approx(left @ right, abs=1e-4)


def test_nothing_of_a_heads_size_has_no_descriptor() -> None:
    voxels = np.zeros(SHAPE, np.float32)
    voxels[10:12, 10:12, 10:12] = 1
    assert head_of(voxels, np.diag([1.0, 1, 1, 1])) is None


def test_a_real_head_under_another_name_orientation_and_scale_is_recognised(shared_data: Path) -> None:
    image = nib.load(shared_data / "t1w" / "brainchop_t1_crop.nii.gz")
    copy = nib.as_closest_canonical(image)
    rescaled = np.round(copy.get_fdata(dtype=np.float32) * 7.3 + 11)
    half = rescaled[20:240:2, 15:251:2, 40::2]  # cropped, the neck cut, every second voxel
    affine = copy.affine @ np.array([[2, 0, 0, 20], [0, 2, 0, 15], [0, 0, 2, 40], [0, 0, 0, 1.0]])
    original = described(image.get_fdata(dtype=np.float32), image.affine)
    assert original @ described(half, affine) > 0.985
    other = nib.load(shared_data / "t1w" / "studyforrest_T1w_1p5mm.nii.gz")
    assert original @ described(other.get_fdata(dtype=np.float32), other.affine) < 0.5


def test_digests_tell_the_same_voxels_from_the_same_place(tmp_path: Path) -> None:
    voxels = head(1)
    swapped = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    plain, turned, mislabelled = (
        examine(read_scan(save(tmp_path / f"{name}.nii.gz", array, affine)))
        for name, array, affine in (
            ("plain", voxels, AFFINE),
            ("turned", voxels[::-1], swapped),
            ("mislabelled", voxels, swapped),
        )
    )
    assert plain.content_digest == turned.content_digest != mislabelled.content_digest
    assert plain.voxel_digest == mislabelled.voxel_digest != turned.voxel_digest


# Smaller volumes


@pytest.mark.parametrize("shape", [(9, 10, 11), (8, 8, 8), (5, 7, 6)])
def test_block_means_are_those_of_a_loop_and_keep_their_place(shape: tuple[int, int, int]) -> None:
    voxels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    small, affine = reduced(voxels, np.diag([1.0, 1, 1, 1]), 2.0)
    assert small.shape == tuple(n // 2 for n in shape)
    for i, j, k in np.ndindex(small.shape):
        block = voxels[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2]
        assert small[i, j, k] == pytest.approx(block.mean(), abs=1e-5)
    np.testing.assert_allclose(affine @ [0, 0, 0, 1], [0.5, 0.5, 0.5, 1])


def test_canonical_order_keeps_every_voxel_in_its_place() -> None:
    voxels = head(1)[::-1].transpose(2, 0, 1)
    affine = AFFINE @ np.array([[0, -1, 0, SHAPE[0] - 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    turned, place = canonical(voxels, affine)
    np.testing.assert_array_equal(turned, head(1))
    np.testing.assert_allclose(place, AFFINE)


def test_otsu_separates_two_clear_classes() -> None:
    values = np.concatenate([np.full(300, 10.0), np.full(100, 90.0)])
    threshold, low, high = otsu(values)
    assert 10 < threshold < 90 and low == pytest.approx(10, abs=1) and high == pytest.approx(90, abs=1)


# Masks


def mask_and_t1w(folder: Path, mask: np.ndarray, affine: np.ndarray = AFFINE) -> list[Finding]:
    t1w = read_scan(save(folder / "t1.nii.gz", head(1)))
    return check_mask_of(read_scan(save(folder / "mask.nii.gz", mask, affine)), t1w)


def lopsided_head() -> tuple[np.ndarray, np.ndarray]:
    """A head whose left side is wider, and its mask."""
    voxels = head(1)
    voxels[:6] = 0
    return voxels, (ndimage.gaussian_filter(voxels, 0.7) > 200).astype(np.uint8)


def test_a_mask_of_its_own_t1w_passes(tmp_path: Path) -> None:
    assert mask_and_t1w(tmp_path, brain_mask(1)) == []


def test_a_mask_with_a_mirrored_affine_is_refused(tmp_path: Path) -> None:
    swapped = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    finding = only(mask_and_t1w(tmp_path, brain_mask(1), swapped))
    assert finding.kind == "left-right" and "mirrored" in finding.message


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[2, 3] += 8
    finding = only(mask_and_t1w(tmp_path, brain_mask(1), moved))
    assert finding.kind == "grid" and "off by up to 8.00 mm" in finding.message and "resample" in finding.fix


def test_a_mask_whose_voxels_are_left_right_flipped_is_refused(tmp_path: Path) -> None:
    voxels, mask = lopsided_head()
    t1w = read_scan(save(tmp_path / "t1.nii.gz", voxels))
    right = read_scan(save(tmp_path / "right.nii.gz", mask))
    flipped = read_scan(save(tmp_path / "flipped.nii.gz", mask[::-1]))
    assert check_mask_of(right, t1w) == []
    finding = only(check_mask_of(flipped, t1w))
    assert finding.kind == "left-right" and "swapped" in finding.message
    assert mirrored_certainty(right, t1w) + mirrored_certainty(flipped, t1w) == pytest.approx(1)


def test_a_probability_map_as_mask_is_kept_with_a_warning(tmp_path: Path) -> None:
    soft = ndimage.gaussian_filter(brain_mask(1).astype(np.float32), 1)
    finding = only(check_volume(save(tmp_path / "mask.nii.gz", soft), kind="mask"))
    assert finding.severity == "warning" and "distinct values" in finding.message


# Atlases


@pytest.fixture(scope="module")
def brain() -> nib.Nifti1Image:
    return datasets.load_mni152_brain_mask(resolution=4)


@pytest.fixture(scope="module")
def atlas(brain: nib.Nifti1Image) -> nib.Nifti1Image:
    """Twelve slabs that fill the brain."""
    inside = brain.get_fdata() > 0
    y = np.indices(inside.shape)[1]
    rank = np.clip((y - y[inside].min()) * 12 // (np.ptp(y[inside]) + 1), 0, 11)
    return nib.Nifti1Image((inside * (1 + rank)).astype(np.int16), brain.affine)


def test_an_atlas_in_its_place_passes(atlas: nib.Nifti1Image, brain: nib.Nifti1Image) -> None:
    assert check_atlas(atlas, brain, n_labels=12) == []


def test_an_atlas_whose_affine_is_off_is_refused_with_the_shift(atlas: nib.Nifti1Image, brain: nib.Nifti1Image) -> None:
    affine = atlas.affine.copy()
    affine[:3, 3] += [4, 0, -4]
    findings = check_atlas(nib.Nifti1Image(np.asarray(atlas.dataobj), affine), brain, n_labels=12)
    messages = {finding.kind: finding.message for finding in findings if finding.is_error}
    assert "translation by (+4, +0, -4) mm" in messages["affine"]
    assert "moving it by (-4, +0, +4) mm" in messages["place"]


def test_an_atlas_whose_grid_is_right_and_content_off_is_refused(
    atlas: nib.Nifti1Image, brain: nib.Nifti1Image
) -> None:
    moved = nib.Nifti1Image(np.roll(np.asarray(atlas.dataobj), 1, axis=2), atlas.affine)
    finding = only(check_atlas(moved, brain, n_labels=12))
    assert finding.kind == "place" and "(+0, +0, -4) mm" in finding.message


def test_an_atlas_of_another_number_of_labels_is_refused(atlas: nib.Nifti1Image, brain: nib.Nifti1Image) -> None:
    assert "expected 116 labels beside 0, got 12" in only(check_atlas(atlas, brain)).message


def test_an_interpolated_atlas_is_refused(atlas: nib.Nifti1Image, brain: nib.Nifti1Image) -> None:
    blurred = nib.Nifti1Image(ndimage.gaussian_filter(atlas.get_fdata(), 0.5), atlas.affine)
    assert "interpolated" in check_atlas(blurred, brain, n_labels=12)[0].message


def test_of_two_public_aal_copies_the_one_that_is_2_mm_off_is_found(shared_data: Path) -> None:
    reference = datasets.load_mni152_brain_mask(resolution=2)
    right = check_atlas(shared_data / "atlas" / "aal_neurostorm_2mm_1to116" / "atlas.nii.gz", reference)
    off = check_atlas(shared_data / "atlas" / "aal_spm_2mm_codes" / "AAL.nii", reference)
    assert right == []
    assert "moving it by (-2, +0, -2) mm" in next(f.message for f in off if f.kind == "place")
