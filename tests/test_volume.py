"""Volumes: reading, resampling, and the way back to the native grid."""

import gzip
import itertools

import nibabel
import numpy as np
import pytest
from nibabel.affines import from_matvec
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy.ndimage import gaussian_filter

from study_lib.grid import Grid
from study_lib.volume import VolumeError, as_volume, image_like, load_volume, resample, to_native, to_ras

ORIENTATIONS = ["RAS", "LAS", "LIA", "PSR"]
OBLIQUE = nibabel.eulerangles.euler2mat(0.12, -0.2, 0.31)


def smooth_volume(shape=(13, 17, 11), seed=0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return (1000 * gaussian_filter(noise, 1.5)).astype(np.float32)


def oriented(values: np.ndarray, affine: np.ndarray, codes: str) -> nibabel.Nifti1Image:
    """The same head, stored in another axis order."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    return nibabel.Nifti1Image(apply_orientation(values, turn), affine @ inv_ornt_aff(turn, values.shape))


def scanner_file(path, codes="LIA", rotation=OBLIQUE, scaling=(0.0137, -120.5)) -> nibabel.Nifti1Image:
    """An int16 NIfTI as scanners write them: scaled, oblique, with its own codes, units and description."""
    affine = from_matvec(rotation @ np.diag([1.1, 0.9, 1.3]), [-31.4, 15.9, 26.5])
    image = oriented(smooth_volume(), affine, codes)
    raw = np.round((np.asarray(image.dataobj) - scaling[1]) / scaling[0]).astype(np.int16)
    image = nibabel.Nifti1Image(raw, image.affine)
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=2)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(*scaling)
    image.header["descrip"] = b"MPRAGE"
    image.header["cal_max"] = 900
    nibabel.save(image, path)
    # nibabel divides data by the slope on saving: put the integers and the scaling in by hand
    content = bytearray(path.read_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]))
    header["scl_slope"], header["scl_inter"] = scaling
    content[:348], content[352:] = header.binaryblock, raw.tobytes(order="F")
    path.write_bytes(bytes(content))
    return nibabel.load(path)


def naive_sample(values, matrix, shape, order) -> np.ndarray:
    """Trilinear or nearest interpolation in nested loops; what lies outside counts as 0."""

    def at(i, j, k):
        inside = 0 <= i < values.shape[0] and 0 <= j < values.shape[1] and 0 <= k < values.shape[2]
        return float(values[i, j, k]) if inside else 0.0

    sampled = np.zeros(shape)
    for target in itertools.product(*map(range, shape)):
        x = (matrix @ [*target, 1.0])[:3]
        if order == 0:
            sampled[target] = at(*(int(np.floor(c + 0.5)) for c in x))
            continue
        base = np.floor(x).astype(int)
        for corner in itertools.product((0, 1), repeat=3):
            weight = np.prod([f if c else 1 - f for f, c in zip(x - base, corner, strict=True)])
            sampled[target] += weight * at(*(base + corner))
    return sampled


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize("rotation", [np.eye(3), OBLIQUE], ids=["upright", "oblique"])
def test_linear_resampling_equals_nested_loops(codes, rotation):
    image = oriented(smooth_volume(), from_matvec(rotation, [-6.2, -8.1, -5.3]), codes)
    grid = Grid((7, 8, 6), from_matvec(np.diag([1.7, 2.1, 1.9]), [-5.0, -9.3, -4.4]))
    got = np.asarray(resample(image, grid, antialias="none").dataobj)
    matrix = np.linalg.inv(image.affine) @ grid.affine
    expected = naive_sample(np.asarray(image.dataobj), matrix, grid.shape, order=1)
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() < 1e-6 * np.ptp(expected)


def test_nearest_resampling_of_labels_equals_nested_loops_and_keeps_the_dtype():
    labels = np.random.default_rng(1).integers(0, 117, (9, 8, 7)).astype(np.uint8)
    image = oriented(labels, from_matvec(OBLIQUE, [-4, -4, -3]), "LAS")
    grid = Grid((11, 9, 10), from_matvec(np.eye(3) * 0.83, [-4.1, -3.9, -4.2]))
    got = np.asarray(resample(image, grid, "nearest").dataobj)
    matrix = np.linalg.inv(image.affine) @ grid.affine
    assert got.dtype == np.uint8
    assert np.array_equal(got, naive_sample(np.asarray(image.dataobj), matrix, grid.shape, order=0))


def test_a_tie_between_two_voxels_always_goes_to_the_higher_one():
    ramp = np.broadcast_to(np.arange(60)[:, None, None], (60, 4, 4)).astype(np.int16)
    for origin in (-90.3, 17.77, 0.1):  # the inverse of these affines is off by some 1e-14
        image = nibabel.Nifti1Image(ramp.copy(), from_matvec(np.eye(3) * 0.7, [origin, 0, 0]))
        grid = Grid((29, 4, 4), from_matvec(np.diag([1.4, 0.7, 0.7]), [origin + 0.35, 0, 0]))
        got = np.asarray(resample(image, grid, "nearest").dataobj)[:, 0, 0]
        assert got.tolist() == list(range(1, 59, 2))


def test_linear_and_nearest_equal_monai():
    from monai.data import MetaTensor
    from monai.transforms import SpatialResample
    from torch import as_tensor, float64

    image = oriented(smooth_volume((17, 19, 23)), from_matvec(OBLIQUE * 1.2, [-9, -11, -12]), "LIA")
    grid = Grid((11, 12, 13), from_matvec(np.diag([1.9, 2.0, 2.1]), [-10.7, -11.3, -12.9]))
    values = as_tensor(np.asarray(image.dataobj)[None].copy())
    tensor = MetaTensor(values, affine=as_tensor(image.affine))
    for ours, theirs in (("linear", "bilinear"), ("nearest", "nearest")):
        monai = SpatialResample(mode=theirs, padding_mode="zeros", dtype=float64)
        expected = monai(tensor, dst_affine=as_tensor(grid.affine.copy()), spatial_size=grid.shape).numpy()[0]
        got = np.asarray(resample(image, grid, ours, antialias="none").dataobj)
        assert np.abs(got - expected).max() < 1e-5 * np.ptp(expected)


def test_cubic_comes_closer_to_a_smooth_truth_than_linear():
    def field(grid):
        x = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1) @ grid.affine[:3, :3].T
        return np.sin((x + grid.affine[:3, 3]) / 3).prod(axis=-1)

    source = Grid.isotropic(1.0, (-20, -21, -22), (20, 21, 22))
    target = Grid.isotropic(0.77, (-9, -9, -9), (9, 9, 9))
    image = nibabel.Nifti1Image(field(source).astype(np.float32), source.affine)
    error = {
        kind: np.abs(np.asarray(resample(image, target, kind).dataobj) - field(target)).max()
        for kind in ("nearest", "linear", "cubic")
    }
    assert error["cubic"] < 0.1 * error["linear"] < 0.1 * error["nearest"]


def test_a_grid_with_the_same_voxels_changes_no_value():
    for codes in ORIENTATIONS:
        image = oriented(smooth_volume(), np.diag([1.1, 0.9, 1.3, 1.0]), codes)
        for kind in ("nearest", "linear"):
            got = resample(image, Grid.of(to_ras(image)), kind)
            assert np.array_equal(np.asarray(got.dataobj), np.asarray(to_ras(image).dataobj))


def test_antialiasing_widens_a_voxel_to_the_new_footprint_and_keeps_the_mean():
    impulse = np.zeros((41, 41, 41), np.float32)
    impulse[20, 20, 20] = 1
    image = nibabel.Nifti1Image(impulse, np.eye(4))
    # 3 mm voxels along x only, sampled at every mm by shifted grids to see the kernel itself
    kernel = []
    for shift in (0, 1, 2):
        grid = Grid((13, 41, 41), from_matvec(np.diag([3.0, 1, 1]), [shift, 0, 0]))
        kernel.append(np.asarray(resample(image, grid).dataobj))
    kernel = np.stack(kernel, axis=1).reshape(39, 41, 41)
    x = np.arange(39) - 20
    variance = (kernel.sum(axis=(1, 2)) * x**2).sum()
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert variance == pytest.approx((3**2 - 1) / (8 * np.log(2)), rel=0.02)
    assert kernel[20].sum() == kernel[20, 20, 20]  # no blur along the axes that stay at 1 mm


def test_without_antialiasing_a_fine_pattern_turns_into_a_false_coarse_one():
    stripes = np.broadcast_to((np.arange(60) % 2)[:, None, None], (60, 20, 20)).astype(np.float32)
    image = nibabel.Nifti1Image(stripes.copy(), np.eye(4))
    coarse = Grid.isotropic(2.0, (10, 4, 4), (48, 14, 14))
    assert np.asarray(resample(image, coarse, antialias="none").dataobj).max() == 0  # hits dark stripes only
    # a Gaussian of 0.74 voxels, itself sampled per voxel, leaves 14 % of the amplitude of 0.5
    assert np.abs(np.asarray(resample(image, coarse).dataobj) - 0.5).max() < 0.08


def test_a_rotation_or_a_finer_grid_is_never_blurred():
    image = oriented(smooth_volume(), from_matvec(OBLIQUE, [-6, -8, -5]), "RAS")
    for spacing in (1.0, 0.6):
        grid = Grid.isotropic(spacing, (-4, -5, -4), (4, 5, 4))
        plain, smoothed = (np.asarray(resample(image, grid, "linear", a).dataobj) for a in ("none", "gaussian"))
        assert np.array_equal(plain, smoothed)


def test_scaled_integers_are_read_as_the_numbers_they_stand_for(tmp_path):
    image = scanner_file(tmp_path / "scan.nii")
    raw = np.asarray(image.dataobj.get_unscaled(), dtype=np.float64)
    volume = load_volume(tmp_path / "scan.nii")
    assert raw.dtype != np.float32 and volume.get_data_dtype() == np.float32
    assert np.abs(np.asarray(volume.dataobj) - (raw * np.float32(0.0137) + np.float32(-120.5))).max() < 1e-4


def test_a_loaded_volume_outlives_its_file(tmp_path):
    scanner_file(tmp_path / "scan.nii")
    volume = load_volume(tmp_path / "scan.nii")
    (tmp_path / "scan.nii").unlink()
    assert np.asarray(volume.dataobj).any()


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize("rotation", [np.eye(3), OBLIQUE], ids=["upright", "oblique"])
@pytest.mark.parametrize("qform_code", [0, 1, 3])
def test_the_way_to_a_grid_and_back_keeps_the_geometry_bit_for_bit(tmp_path, codes, rotation, qform_code):
    native = scanner_file(tmp_path / "scan.nii", codes, rotation)
    native.header["qform_code"] = qform_code
    grid = Grid.covering(load_volume(tmp_path / "scan.nii"), 1.0, margin_mm=2.0)
    on_grid = np.asarray(resample(as_volume(native), grid).dataobj)
    nibabel.save(to_native(on_grid, grid, like=native), tmp_path / "back.nii.gz")
    back = nibabel.load(tmp_path / "back.nii.gz")
    assert back.shape == native.shape
    assert back.affine.tobytes() == native.affine.tobytes()
    kept = ["dim", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "xyzt_units"]
    kept += ["qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "descrip", "dim_info"]
    for field in kept:
        assert back.header[field].tobytes() == native.header[field].tobytes(), field
    assert back.get_data_dtype() == np.float32
    assert back.header.get_slope_inter() in ((1.0, 0.0), (None, None))
    assert back.header["cal_max"] == 0


def test_the_way_to_a_grid_of_the_same_voxels_and_back_keeps_every_value(tmp_path):
    for codes in ORIENTATIONS:
        native = scanner_file(tmp_path / f"{codes}.nii", codes)
        volume = load_volume(tmp_path / f"{codes}.nii")
        grid = Grid.of(to_ras(volume))
        back = to_native(np.asarray(resample(volume, grid).dataobj), grid, like=native)
        assert np.array_equal(np.asarray(back.dataobj), np.asarray(volume.dataobj))


def test_a_smooth_volume_survives_the_way_over_a_finer_grid(tmp_path):
    native = scanner_file(tmp_path / "scan.nii")
    volume = load_volume(tmp_path / "scan.nii")
    grid = Grid.covering(volume, 0.6, margin_mm=2.0)
    on_grid = np.asarray(resample(volume, grid, "cubic").dataobj)
    back = np.asarray(to_native(on_grid, grid, like=native, interpolation="cubic").dataobj)
    inner = (slice(2, -2),) * 3
    assert np.abs(back - np.asarray(volume.dataobj))[inner].max() < 0.02 * np.ptp(np.asarray(volume.dataobj))


def test_results_are_not_rounded_to_the_steps_of_the_scanner_file(tmp_path):
    native = scanner_file(tmp_path / "scan.nii")
    native.header.set_slope_inter(0.0137, -120.5)  # as in an image whose scaling was set by hand
    fine = np.random.default_rng(3).random(native.shape).astype(np.float32)  # one step of the file is 0.0137
    nibabel.save(image_like(fine, native), tmp_path / "fine.nii.gz")
    with gzip.open(tmp_path / "fine.nii.gz") as file:
        content = file.read()
    stored = np.frombuffer(content[352:], dtype=np.float32).reshape(fine.shape, order="F")
    assert np.array_equal(stored, fine)
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "fine.nii.gz").dataobj), fine)


def test_a_trailing_axis_of_length_one_is_accepted_and_given_back():
    image = nibabel.Nifti1Image(smooth_volume()[..., None], np.eye(4))
    volume = as_volume(image)
    grid = Grid.of(volume)
    assert volume.shape == (13, 17, 11)
    assert to_native(np.asarray(volume.dataobj), grid, like=image).shape == (13, 17, 11, 1)


def test_as_volume_leaves_its_argument_alone(tmp_path):
    image = scanner_file(tmp_path / "scan.nii")
    before = image.header.binaryblock
    as_volume(image)
    assert image.header.binaryblock == before and image.get_data_dtype() == np.int16


def write(path, values, affine=None) -> None:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)


def truncated(path) -> None:
    write(path, smooth_volume((40, 40, 40)))
    path.write_bytes(path.read_bytes()[:20_000])


def with_zero_affine(path) -> None:
    image = nibabel.Nifti1Image(smooth_volume(), np.eye(4))
    image.header["sform_code"], image.header["qform_code"] = 2, 0
    for row in ("srow_x", "srow_y", "srow_z"):
        image.header[row] = 0
    image = nibabel.Nifti1Image(smooth_volume(), None, image.header)
    nibabel.save(image, path)


def with_one_bad_voxel(value):
    def make(path) -> None:
        values = smooth_volume()
        values[3, 4, 5] = value
        write(path, values)

    return make


def coloured(path) -> None:
    write(path, np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda path: None, FileNotFoundError, "no such image"),
        (lambda path: path.symlink_to("../.git/annex/objects/x"), FileNotFoundError, "annex get"),
        (lambda path: path.write_bytes(b""), VolumeError, "0 bytes"),
        (lambda path: path.write_bytes(b"no image at all" * 100), VolumeError, "fetch it again"),
        (truncated, VolumeError, "truncated"),
        (
            lambda path: write(path, np.ones((4, 4, 4, 7), np.float32)),
            VolumeError,
            r"\(4, 4, 4, 7\).*index_img",
        ),
        (lambda path: write(path, np.ones((4, 4), np.float32)), VolumeError, "expected a 3D volume"),
        (with_one_bad_voxel(np.nan), VolumeError, "1 of 2431 voxels are NaN or infinite.*nan_to_num"),
        (with_one_bad_voxel(-np.inf), VolumeError, "1 of 2431 voxels"),
        (with_zero_affine, VolumeError, "affine is zero.*dcm2niix"),
        (coloured, VolumeError, "grey"),
    ],
)
def test_a_bad_file_is_named_with_its_fix(tmp_path, make, error, words):
    path = tmp_path / "sub-01_T1w.nii.gz"
    make(path)
    with pytest.raises(error, match=words) as caught:
        load_volume(path)
    assert "sub-01_T1w.nii.gz" in str(caught.value)


def test_a_volume_of_another_shape_than_its_grid_or_model_is_refused():
    image = nibabel.Nifti1Image(smooth_volume(), np.eye(4))
    with pytest.raises(ValueError, match=r"\(3, 3, 3\), the grid \(13, 17, 11\)"):
        to_native(np.zeros((3, 3, 3)), Grid.of(image), like=image)
    with pytest.raises(ValueError, match=r"shape of `like`, \(13, 17, 11\), got \(3, 3, 3\)"):
        image_like(np.zeros((3, 3, 3)), image)


def test_an_unknown_interpolation_is_refused_with_the_known_ones():
    image = nibabel.Nifti1Image(smooth_volume(), np.eye(4))
    with pytest.raises(ValueError, match="nearest, linear, cubic, got 'trilinear'"):
        resample(image, Grid.of(image), "trilinear")
    with pytest.raises(ValueError, match="gaussian, none, got 'box'"):
        resample(image, Grid.of(image), antialias="box")


@pytest.mark.parametrize("name", ["brainchop_t1_crop", "studyforrest_T1w_1p5mm", "usc_029_090129_t1_brain_mni"])
def test_real_t1_volumes_come_back_with_their_own_geometry(shared_data, name):
    path = shared_data / "t1w" / f"{name}.nii.gz"
    native, volume = nibabel.load(path), load_volume(path)
    grid = Grid.covering(volume, 2.0)
    back = to_native(np.asarray(resample(volume, grid).dataobj), grid, like=native)
    assert back.shape == native.shape and back.affine.tobytes() == native.affine.tobytes()
    for field in ("pixdim", "qform_code", "sform_code", "xyzt_units", "srow_x"):
        assert back.header[field].tobytes() == native.header[field].tobytes(), field
    values, returned = np.asarray(volume.dataobj).ravel()[::7], np.asarray(back.dataobj).ravel()[::7]
    assert np.corrcoef(values, returned)[0, 1] > 0.97
