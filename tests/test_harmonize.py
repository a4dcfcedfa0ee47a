"""Harmonising volumes: geometry, units, styles, detail, and what is refused."""

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage
from tiny_models import CENTRE_MM, GRID, LEAST_BRAIN, SIZE, brain, brightness, grid_brain, inside, tiny_model

import gan_lib
from gan_lib.harmonize import HarmonizeConfig, Harmonizer
from gan_lib.placement import place, to_native
from gan_lib.translation import mean_change
from study_lib.brain_mask import mask_array
from study_lib.grid import Grid
from study_lib.intensity import IntensityError, StudyNormaliser, ZScoreNormaliser
from study_lib.volume import VolumeError, resample

OBLIQUE = nibabel.eulerangles.euler2mat(0.1, -0.15, 0.2)
GRIDS = {
    "RAS": {"spacing_mm": (3.1, 2.9, 3.3)},
    "LIA": {"spacing_mm": (2.7, 3.0, 3.0), "codes": "LIA"},
    "oblique": {"spacing_mm": (3.0, 3.0, 3.6), "codes": "PSR", "rotation": OBLIQUE},
    "thick slices": {"spacing_mm": (2.5, 2.5, 7.0), "codes": "LAS"},
}
KEPT = ["dim", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "xyzt_units"]
KEPT += ["qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"]


def harmonizer(config: HarmonizeConfig | None = None, **changes) -> Harmonizer:
    return Harmonizer(tiny_model(**changes), config)


def values(image) -> np.ndarray:
    return np.asarray(image.dataobj)


def assert_same_geometry(image, like) -> None:
    assert image.shape == like.shape and image.affine.tobytes() == like.affine.tobytes()
    for field in KEPT:
        assert image.header[field].tobytes() == like.header[field].tobytes(), field
    assert image.get_data_dtype() == np.float32


def naive_translation(model, volume, mask, style) -> np.ndarray:
    """Slice by slice, in loops: padded as in training, through the generator one by one, clipped, masked."""
    box, out = model.config.views["axial"].box, np.zeros_like(volume)
    for z in range(volume.shape[2]):
        area = mask[:, :, z].sum()
        if area < LEAST_BRAIN:
            assert area == 0, "this oracle knows no caps"
            continue
        canvas = np.zeros((1, 1, *SIZE), np.float32)
        for x in range(volume.shape[0]):
            for y in range(volume.shape[1]):
                canvas[0, 0, y - box.low[1], x - box.low[2]] = volume[x, y, z] if mask[x, y, z] else 0
        with torch.no_grad():
            done = model.generator(torch.from_numpy(canvas), torch.from_numpy(style)[None]).numpy()[0, 0]
        for x, y in np.argwhere(mask[:, :, z]):
            out[x, y, z] = min(max(done[y - box.low[1], x - box.low[2]], 0), 1)
    return out


@pytest.mark.parametrize("name", GRIDS)
def test_a_generator_that_does_nothing_gives_the_normalised_input_on_any_grid(name):
    image = brain(**GRIDS[name])
    unchanged = harmonizer(identity=True)
    out = unchanged.harmonize(image, "ADNI")
    assert np.abs(values(out) - values(unchanged.normalised(image))).max() < 1e-6
    assert_same_geometry(out, image)
    assert not values(out)[values(image) == 0].any()


@pytest.mark.parametrize("name", GRIDS)
def test_normalised_units_are_one_clipped_straight_line_of_the_input(name):
    image = brain(**GRIDS[name])
    units, raw = values(harmonizer().normalised(image)), values(image)
    free = (units > 0) & (units < 1)
    slope, offset = np.polyfit(raw[free], units[free].astype(float), 1)
    assert np.abs(np.clip(slope * raw + offset, 0, 1) - units)[raw > 0].max() < 1e-5
    # the study's: z-scores of -3 and 0 become 0 and about the middle
    assert units[raw > 0].mean() == pytest.approx(3 / 6, abs=0.15) and slope > 0


@pytest.mark.parametrize("name", GRIDS)
def test_geometry_codes_and_background_are_those_of_the_input_whatever_the_generator_does(name):
    image = brain(**GRIDS[name])
    out = harmonizer().harmonize(image, "SMC")
    assert_same_geometry(out, image)
    assert (values(out)[values(image) == 0] == 0).all()
    found = values(out)[values(image) > 0]
    assert found.min() >= 0 and found.max() <= 1 and found.std() > 0.01


@pytest.mark.parametrize("detail", ["native", "grid"])
def test_a_scan_on_the_models_grid_equals_slices_translated_one_by_one_in_loops(detail):
    model, image = tiny_model(), grid_brain()
    mask = ndimage.binary_erosion(values(image) > 0, iterations=2)
    mask[:, :, (mask.sum(axis=(0, 1)) < LEAST_BRAIN)] = False
    mask_image = nibabel.Nifti1Image(mask.astype(np.uint8), GRID.affine)
    volume = StudyNormaliser().transform(values(image), mask)
    expected = naive_translation(model, volume, mask, model.config.sites[1].styles["axial"])
    out = values(Harmonizer(model, HarmonizeConfig(detail)).harmonize(image, "SMC", mask_image))
    assert np.abs(out - expected).max() < 1e-5
    assert np.abs(out - volume).max() > 0.05  # it does something


@pytest.mark.parametrize("codes", ["RAS", "LIA", "PSR"])
def test_on_the_models_grid_both_kinds_of_detail_are_bit_equal_in_any_orientation(codes):
    turn = ornt_transform(io_orientation(GRID.affine), axcodes2ornt(codes))
    image = grid_brain().as_reoriented(turn)
    native, grid = (harmonizer(HarmonizeConfig(detail)).harmonize(image, "ADNI") for detail in ("native", "grid"))
    assert np.array_equal(values(native), values(grid))
    upright = harmonizer().harmonize(grid_brain(), "ADNI")
    assert np.array_equal(values(nibabel.as_closest_canonical(native)), values(upright))


def test_translate_prepared_is_what_harmonize_does_on_the_grid():
    image, ours = grid_brain(), harmonizer()
    mask = values(image) > 0
    volume = StudyNormaliser().transform(values(image), mask)
    prepared = ours.translate_prepared(volume, mask, ours.style("ADNI"))
    assert np.array_equal(prepared, values(ours.harmonize(image, "ADNI")))
    with pytest.raises(ValueError, match=r"model's grid \(46, 55, 46\), got \(3, 3, 3\)"):
        ours.translate_prepared(volume[:3, :3, :3], mask[:3, :3, :3], ours.style("ADNI"))


def two_contrasts(spacing_mm: float):
    """The same folded tissue in the contrast of two scanners, and its mask; truth at any resolution."""
    grid = Grid.isotropic(spacing_mm, (-40, -40, -40), (40, 40, 40))
    fine = Grid.isotropic(1.0, (-40, -40, -40), (40, 40, 40))
    points = np.stack(np.meshgrid(*map(np.arange, fine.shape), indexing="ij"), axis=-1) - 40.0
    radius = np.linalg.norm(points, axis=-1) + 2.5 * np.sin(points / 5).sum(axis=-1)
    white = ndimage.gaussian_filter((radius < 28).astype(np.float32), 0.6)
    grey = ndimage.gaussian_filter(((radius >= 28) & (radius < 32)).astype(np.float32), 0.6)
    mask = radius < 36
    noise = np.random.default_rng(0).normal(0, 0.01, fine.shape)
    images = (0.2 + 0.6 * white + 0.3 * grey + noise, 0.3 + 0.35 * white + 0.3 * grey)
    images = [nibabel.Nifti1Image(np.where(mask, v, 0).astype(np.float32), fine.affine) for v in images]
    return images, nibabel.Nifti1Image(mask.astype(np.uint8), fine.affine), grid


def test_native_detail_comes_closer_to_the_truth_than_interpolation_or_added_change():
    """An oracle translates on 2 mm; the truth is the target's own contrast at 1 mm."""

    class Plain(StudyNormaliser):
        def statistics(self, values):
            return {}

        def units(self, values, statistics):
            return values

    (source, target), mask, grid = two_contrasts(2.0)
    scan = place(source, mask, grid, Plain())
    after = np.where(scan.mask, values(resample(target, scan.grid)), 0)
    native, interpolated = (to_native(scan, after, detail) for detail in ("native", "grid"))
    change = values(resample(nibabel.Nifti1Image(after - scan.units, scan.grid.affine), Grid.of(source)))
    errors = [
        np.abs(v - values(target))[mask_array(mask)].mean() for v in (native, interpolated, scan.native_units + change)
    ]
    assert errors[0] < 0.75 * errors[1] and errors[0] < 0.95 * errors[2]


def test_integers_with_slope_and_intercept_are_not_rounded_to_their_steps(tmp_path):
    image = brain(**GRIDS["LIA"])
    raw = np.round((values(image) + 50) / 25).astype(np.int16)  # 40 steps over the brain
    coarse = nibabel.Nifti1Image(raw, image.affine)
    coarse.header.set_slope_inter(25, -50)
    content = bytearray(coarse.to_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]))
    header["scl_slope"], header["scl_inter"] = 25, -50
    content[:348] = header.binaryblock
    (tmp_path / "scan.nii").write_bytes(bytes(content))
    scan = nibabel.load(tmp_path / "scan.nii")
    mask = nibabel.Nifti1Image((values(image) > 0).astype(np.uint8), image.affine)
    nibabel.save(harmonizer().harmonize(scan, "ADNI", mask), tmp_path / "out.nii.gz")
    out = values(nibabel.load(tmp_path / "out.nii.gz"))
    assert len(np.unique(out)) > 20 * len(np.unique(raw))
    plain = nibabel.Nifti1Image((raw * 25.0 - 50).astype(np.float32), image.affine)
    assert np.abs(out - values(harmonizer().harmonize(plain, "ADNI", mask))).max() < 1e-4


def test_a_trailing_axis_of_length_one_stays():
    image = brain(**GRIDS["RAS"])
    four = nibabel.Nifti1Image(values(image)[..., None], image.affine, image.header)
    out = harmonizer().harmonize(four, "ADNI")
    assert out.shape == four.shape
    assert np.array_equal(values(out)[..., 0], values(harmonizer().harmonize(image, "ADNI")))


def test_a_brain_far_off_the_models_grid_is_still_harmonised_whole():
    for centre_mm in (CENTRE_MM + np.array([70, -55, 80]), CENTRE_MM - np.array([300, 0, 0])):
        image = brain(**GRIDS["RAS"], centre_mm=centre_mm)
        unchanged = harmonizer(identity=True)
        result = unchanged.translate(image, unchanged.style("ADNI"))
        assert np.abs(result.after - result.before).max() < 1e-6
        assert "moved over the brain" in result.notes[0]
        wild = harmonizer().harmonize(image, "ADNI")
        assert (values(wild)[values(image) > 0] > 0).mean() > 0.9


def test_a_brain_larger_than_the_slices_gets_larger_slices_but_is_no_reference():
    image = brain((4.0, 4.0, 4.0), scale=1.7)
    unchanged = harmonizer(identity=True)
    mask = nibabel.Nifti1Image((values(image) > 0).astype(np.uint8), image.affine)
    result = unchanged.translate(image, unchanged.style("ADNI"), mask)
    assert np.abs(result.after - result.before).max() < 1e-6 and "the brain is larger" in result.notes[0]
    with pytest.raises(VolumeError, match=r"reference: the brain spans .* style encoder reads \(64, 64\)"):
        unchanged.style(reference=image, reference_mask=mask)


def test_the_style_of_a_target_is_the_stored_one_and_one_for_all_slices():
    ours = harmonizer()
    assert ours.sites == ("ADNI", "SMC")
    stored = ours.model.config.sites[1].styles["axial"]
    assert np.array_equal(ours.style("SMC").planes["axial"], stored)
    out = [values(ours.harmonize(grid_brain(), site)) for site in ours.sites]
    assert np.abs(out[0] - out[1]).max() > 0.01


def test_the_style_of_a_reference_is_the_mean_over_its_slices_with_enough_brain():
    model, reference = tiny_model(), grid_brain()
    mask = values(reference) > 0
    volume = StudyNormaliser().transform(values(reference), mask)
    box, styles = model.config.views["axial"].box, {0: [], 1: []}
    for z in range(volume.shape[2]):
        if mask[:, :, z].sum() < LEAST_BRAIN:
            continue
        canvas = np.zeros((1, 1, *SIZE), np.float32)
        canvas[0, 0, -box.low[1] : 55 - box.low[1], -box.low[2] : 46 - box.low[2]] = volume[:, :, z].T
        for site in styles:
            with torch.no_grad():
                styles[site].append(model.style_encoder(torch.from_numpy(canvas), torch.tensor([site])).numpy()[0])
    for number, site in enumerate(("ADNI", "SMC")):
        found = Harmonizer(model, HarmonizeConfig(reference_site=site)).style(reference=reference)
        assert np.abs(found.planes["axial"] - np.mean(styles[number], axis=0)).max() < 1e-5
        assert found.name == f"a reference, read as an image of {site}"


def test_a_reference_of_an_unknown_site_is_read_by_the_branch_that_leaves_it_most_as_it_is():
    for seed in range(3):
        ours, reference = harmonizer(seed=seed), grid_brain()
        mask = values(reference) > 0
        volume = StudyNormaliser().transform(values(reference), mask)
        changes = []
        for site in ours.sites:
            style = Harmonizer(ours.model, HarmonizeConfig(reference_site=site)).style(reference=reference)
            changes.append(np.abs(ours.translate_prepared(volume, mask, style) - volume)[mask].mean())
        nearest = ours.sites[int(np.argmin(changes))]
        assert ours.style(reference=reference).name == f"a reference, read as an image of {nearest}"


def test_batch_size_and_repetition_change_nothing():
    image = brain(**GRIDS["oblique"])
    first, again = (values(harmonizer().harmonize(image, "ADNI")) for _ in range(2))
    assert np.array_equal(first, again)
    single = values(harmonizer(HarmonizeConfig(batch_size=1)).harmonize(image, "ADNI"))
    assert np.abs(first - single).max() < 1e-4


def test_caps_with_too_little_brain_change_as_their_neighbours_do():
    ours, image = harmonizer(), grid_brain()
    mask = values(image) > 0
    caps = np.flatnonzero((mask.sum(axis=(0, 1)) > 0) & (mask.sum(axis=(0, 1)) < LEAST_BRAIN))
    assert len(caps)
    volume = StudyNormaliser().transform(values(image), mask)
    out = ours.translate_prepared(volume, mask, ours.style("ADNI"))
    full = np.flatnonzero(mask.sum(axis=(0, 1)) >= LEAST_BRAIN)
    change = out - volume
    for z in caps:
        near = full[np.argsort(np.abs(full - z), kind="stable")[:5]]
        around = change[:, :, near][mask[:, :, near]]
        assert around.min() - 0.02 <= change[:, :, z][mask[:, :, z]].mean() <= around.max() + 0.02
        assert (out[:, :, z] != volume[:, :, z]).any()


def test_mean_change_equals_a_mean_per_intensity_in_loops():
    rng = np.random.default_rng(2)
    before, masks = rng.random((3, 7, 5), dtype=np.float32), rng.random((3, 7, 5)) < 0.6
    after = before**2
    wanted = rng.random(40, dtype=np.float32)
    bins: dict[int, list] = {}
    for value, new in zip(before[masks], after[masks], strict=True):
        bins.setdefault(min(31, int(value * 32)), []).append((float(value), float(new) - float(value)))
    table = np.array([np.mean(bins[k], axis=0) for k in sorted(bins)])
    expected = np.interp(wanted, table[:, 0], table[:, 1])
    assert np.abs(mean_change(before, after, masks, wanted) - expected).max() < 1e-6
    assert not mean_change(before, before, masks, wanted).any()


def test_three_planes_are_averaged_where_the_model_knows_them_and_refused_where_not():
    planes = ("axial", "coronal", "sagittal")
    model, image = tiny_model(planes=planes), grid_brain()
    mask = values(image) > 0
    volume = StudyNormaliser().transform(values(image), mask)
    each = []
    for plane in planes:
        one = Harmonizer(model, HarmonizeConfig(planes=(plane,)))
        each.append(one.translate_prepared(volume, mask, one.style("ADNI")))
    all_three = Harmonizer(model, HarmonizeConfig(planes=planes))
    mean = all_three.translate_prepared(volume, mask, all_three.style("ADNI"))
    inner = np.all([(one > 0) & (one < 1) for one in each], axis=0)  # where no plane was clipped
    assert inner.mean() > 0.05
    assert np.abs(mean - np.mean(each, axis=0))[inner].max() < 1e-6
    assert Harmonizer(model).planes == ("axial",)
    with pytest.raises(ValueError, match=r"trained on axial slices, got axial, coronal; .* train a model on those"):
        harmonizer(HarmonizeConfig(planes=("axial", "coronal")))


def test_units_that_are_learned_from_training_are_used_at_the_native_grid_too():
    image = brain(**GRIDS["LIA"])
    mask = values(image) > 0
    fitted = ZScoreNormaliser().fit([values(image)], [mask], ["a"])
    scan = place(image, None, GRID, fitted)
    low, high = fitted.learned.window
    head = values(resample(image, scan.grid))[scan.mask]
    z = (values(image)[mask] - head.mean()) / head.std()
    assert np.abs(scan.native_units[mask] - np.clip((z - low) / (high - low), 0, 1)).max() < 1e-4


def with_skull() -> nibabel.Nifti1Image:
    """A brain in a head: dark bone and bright scalp around it."""
    image = brain((4.0, 4.0, 4.0), scale=1.2)
    index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    points = nibabel.affines.apply_affine(image.affine, index)
    head = np.where(inside(points, scale=1.17), 800.0, 0.0)
    head[inside(points, scale=1.07)] = 40.0
    cortex = inside(points)
    head[cortex] = brightness(points)[cortex]
    return nibabel.Nifti1Image(head.astype(np.float32), image.affine)


def changed(change=np.asarray, affine=None) -> nibabel.Nifti1Image:
    image = brain()
    return nibabel.Nifti1Image(change(values(image).copy()), image.affine if affine is None else affine)


FLAT = np.array([[2.0, 0, 2, 0], [0, 2, 2, 0], [0, 0, 0, 0], [0, 0, 0, 1]])


def with_nan(data):
    data[3, 4, 5] = np.nan
    return data


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: with_skull(), VolumeError, "looks like a head with skull.*give its brain mask.*or strip the skull"),
        (lambda: changed(np.zeros_like), VolumeError, "no brain found"),
        (lambda: changed(lambda v: (v > 0).astype(np.float32)), IntensityError, "the brain is constant"),
        (lambda: changed(with_nan), VolumeError, "1 of .* voxels are NaN"),
        (lambda: changed(lambda v: np.stack([v, v], axis=-1)), VolumeError, "expected a 3D volume"),
        (lambda: changed(affine=FLAT), VolumeError, "affine is zero, singular"),
        (lambda: changed(affine=np.diag([0.004, 0.004, 0.004, 1])), VolumeError, "in millimetres"),
    ],
)
def test_an_image_that_cannot_be_harmonised_is_refused_with_what_to_do(make, error, words):
    image = make()
    with pytest.raises(error, match=words):
        harmonizer().harmonize(image, "ADNI")
    with pytest.raises(error, match="reference: "):
        harmonizer().harmonize(brain(), reference=image)


def test_a_head_with_its_mask_is_harmonised_and_a_mask_of_another_grid_refused():
    head = with_skull()
    index = np.stack(np.meshgrid(*map(np.arange, head.shape), indexing="ij"), axis=-1)
    mask = inside(nibabel.affines.apply_affine(head.affine, index))
    mask_image = nibabel.Nifti1Image(mask.astype(np.uint8), head.affine)
    out = values(harmonizer().harmonize(head, "ADNI", mask_image))
    assert not out[~mask].any() and (out[mask] > 0).mean() > 0.9
    with pytest.raises(VolumeError, match="another grid"):
        harmonizer().harmonize(head, "ADNI", brain())
    huge = [nibabel.Nifti1Image(values(i), np.diag([9.0, 9, 9, 1])) for i in (head, mask_image)]
    with pytest.raises(VolumeError, match=r"brain spans .* mm \(x, y, z\), expected at most 300"):
        harmonizer().harmonize(huge[0], "ADNI", huge[1])


def test_unclear_requests_are_refused():
    ours = harmonizer()
    with pytest.raises(KeyError, match="ADNI, SMC, got 'GMC'"):
        ours.harmonize(brain(), "GMC")
    with pytest.raises(ValueError, match="a target site or a reference image, got neither"):
        ours.harmonize(brain())
    with pytest.raises(ValueError, match="got both"):
        ours.harmonize(brain(), "ADNI", reference=brain())
    with pytest.raises(ValueError, match="reference_mask without a reference"):
        ours.harmonize(brain(), "ADNI", reference_mask=brain())
    with pytest.raises(KeyError, match=r"reference_site: expected one of .* ADNI, SMC, got 'X'"):
        harmonizer(HarmonizeConfig(reference_site="X")).style(reference=brain())
    with pytest.raises(ValueError, match="native or grid, got 'fine'"):
        HarmonizeConfig(detail="fine")
    with pytest.raises(ValueError, match="at least 1 slice, got 0"):
        HarmonizeConfig(batch_size=0)


def test_the_librarys_front_door_is_this_one():
    assert gan_lib.Harmonizer is Harmonizer
    with pytest.raises(AttributeError, match="Harmoniser"):
        _ = gan_lib.Harmoniser


def crude_mask(image) -> nibabel.Nifti1Image:
    """An ellipsoid in the upper head, found on every fourth voxel."""
    upright = nibabel.as_closest_canonical(image)
    coarse = values(upright)[::4, ::4, ::4]
    bright = np.argwhere(coarse > 0.2 * np.percentile(coarse, 99))
    points = nibabel.affines.apply_affine(upright.affine, 4 * bright)
    centre = np.array([*np.median(points[:, :2], axis=0), np.percentile(points[:, 2], 99.9) - 70])
    axes = [upright.affine[k, k] * np.arange(n) + upright.affine[k, 3] for k, n in enumerate(upright.shape)]
    x, y, z = (((a - c) / r) ** 2 for a, c, r in zip(axes, centre, (60, 75, 50), strict=True))
    middle = (x[:, None, None] + y[:, None] + z < 1).astype(np.uint8)
    back = ornt_transform(io_orientation(upright.affine), io_orientation(image.affine))
    return nibabel.Nifti1Image(middle, upright.affine).as_reoriented(back)


@pytest.mark.parametrize("name", ["brainchop_t1_crop", "studyforrest_T1w_1p5mm"])
def test_real_heads_are_refused_without_a_mask_and_keep_their_geometry_with_one(shared_data, name):
    image = nibabel.load(shared_data / "t1w" / f"{name}.nii.gz")
    with pytest.raises(VolumeError, match=rf"{name}.*give its brain mask .*strip the skull"):
        harmonizer().harmonize(image, "ADNI")
    mask = crude_mask(image)
    out = harmonizer().harmonize(image, "ADNI", mask)
    assert_same_geometry(out, image)
    assert not values(out)[values(mask) == 0].any() and (values(out)[values(mask) > 0] > 0).mean() > 0.9


def test_a_real_stripped_brain_goes_through_with_its_geometry_and_looks_like_itself(shared_data):
    image = nibabel.load(shared_data / "t1w" / "usc_029_090129_t1_brain_mni.nii.gz")
    ours = harmonizer(identity=True)
    result = ours.translate(image, ours.style("ADNI"))
    assert_same_geometry(result.image, image)
    assert np.abs(result.after - result.before).max() < 1e-6
    assert np.corrcoef(values(image)[result.mask], result.after[result.mask])[0, 1] > 0.99
    assert not result.after[~result.mask].any() and result.notes == ()
