"""Brain masks: a given one is checked, a stripped brain is its own, a head is refused."""

from pathlib import Path

import nibabel
import nilearn
import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy import ndimage

from study_lib.brain_mask import _without_holes, brain_mask, mask_array, skull_evidence
from study_lib.grid import Grid
from study_lib.volume import VolumeError, load_volume, resample

MNI_T1 = Path(nilearn.__file__).parent / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def radius_mm(shape=(70, 70, 70), spacing=3.0) -> np.ndarray:
    """Distance from the middle of the grid, a little longer front to back, as heads are."""
    x, y, z = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * spacing for n in shape), indexing="ij")
    return np.sqrt(x**2 + (y / 1.15) ** 2 + z**2)


def image_of(values: np.ndarray, spacing=3.0) -> nibabel.Nifti1Image:
    affine = from_matvec(np.diag([-spacing, spacing, spacing]), [100, -100, -90])
    return nibabel.Nifti1Image(values.astype(np.float32), affine)


def brain(radius=62.0, seed=0) -> np.ndarray:
    """White matter inside grey matter inside a film of CSF; air around it is 0."""
    r = radius_mm()
    values = np.select([r < radius - 12, r < radius - 4, r < radius], [110.0, 80.0, 30.0], 0.0)
    noise = np.random.default_rng(seed).normal(0, 6, r.shape)
    return np.where(r < radius, np.clip(values + noise, 1, None), 0)


def head(radius=62.0) -> np.ndarray:
    """The same brain inside dark bone and a bright scalp."""
    r = radius_mm()
    around = np.select([r < radius, r < radius + 8, r < radius + 14], [0.0, 12.0, 130.0], 0.0)
    return brain(radius) + around


def test_a_stripped_brain_is_its_own_mask_with_dark_ventricles_filled():
    values = brain()
    hollow = values.copy()
    hollow[33:37, 30:40, 33:37] = 0
    mask = brain_mask(image_of(hollow))
    assert mask.get_data_dtype() == np.uint8
    assert np.array_equal(mask_array(mask), values > 0)


def test_filling_equals_scipys_on_random_blobs():
    for seed in range(5):
        blobs = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(21, 17, 19)), 1.2) > 0.02
        assert np.array_equal(_without_holes(blobs), ndimage.binary_fill_holes(blobs))


def test_a_head_is_refused_with_what_to_do():
    with pytest.raises(VolumeError, match=r"looks like a head with skull.*give its brain mask.*SynthStrip"):
        brain_mask(image_of(head()))


def test_a_small_head_is_known_by_its_dark_ring_alone():
    child = head(radius=45.0)
    assert (child > 0).sum() * 27 / 1000 < 2400
    for values in (child, np.where(child > 0, child + 1000, 0)):  # also with an offset, which flattens ratios
        evidence = skull_evidence(image_of(values))
        assert len(evidence) == 1 and "dark ring" in evidence[0]
    assert not skull_evidence(image_of(brain(radius=45.0)))


def test_a_large_foreground_is_no_brain():
    assert any("mL" in reason for reason in skull_evidence(image_of(brain(radius=88.0))))


def test_noise_all_around_is_no_stripped_background():
    noisy = brain() + np.abs(np.random.default_rng(1).normal(0, 8, (70, 70, 70)))
    with pytest.raises(VolumeError, match="99% of the image border is not background"):
        brain_mask(image_of(noisy))


def test_a_stripped_brain_is_accepted_on_any_scale():
    values = brain()
    inside = values > 0
    z = np.where(inside, (values - values[inside].mean()) / values[inside].std(), 0)
    for scaled in (values * 1e-4, values * 1e6, z):
        assert mask_array(brain_mask(image_of(scaled))).sum() == pytest.approx(inside.sum(), rel=0.002)


def test_a_given_mask_wins_over_everything_seen_in_the_image(tmp_path):
    inside = radius_mm() < 60
    image = image_of(head())
    for values in (inside, 255 * inside, np.where(inside, 0.9, 0.2)):
        nibabel.save(image_of(values), tmp_path / "mask.nii.gz")
        for mask in (image_of(values), tmp_path / "mask.nii.gz"):
            assert np.array_equal(mask_array(brain_mask(image, mask)), inside)


def test_a_mask_on_another_grid_is_refused_and_can_be_moved():
    image, mask = image_of(brain()), image_of(radius_mm((35, 35, 35), 6.0) < 60, spacing=6.0)
    with pytest.raises(VolumeError, match=r"another grid.*\(35, 35, 35\) against \(70, 70, 70\).*'nearest'"):
        brain_mask(image, mask)
    moved = brain_mask(image, resample(mask, Grid.of(image), "nearest"))
    assert moved.shape == image.shape and mask_array(moved).any()


def test_an_empty_mask_and_a_constant_volume_are_refused():
    image = image_of(brain())
    with pytest.raises(VolumeError, match="mask is empty"):
        brain_mask(image, image_of(np.zeros((70, 70, 70))))
    for constant in (0.0, 7.0):
        with pytest.raises(VolumeError, match="the volume is constant"):
            brain_mask(image_of(np.full((70, 70, 70), constant)))


@pytest.mark.parametrize("spacing", [None, 2.0, 4.0], ids=["as it is", "2 mm", "4 mm"])
@pytest.mark.parametrize("name", ["brainchop_t1_crop", "studyforrest_T1w_1p5mm"])
def test_real_heads_are_refused_at_every_resolution(shared_data, name, spacing):
    volume = load_volume(shared_data / "t1w" / f"{name}.nii.gz")
    if spacing:
        volume = resample(volume, Grid.covering(volume, spacing, margin_mm=8.0))
    assert len(skull_evidence(volume)) == 2  # volume and ring, each alone would do
    with pytest.raises(VolumeError, match="head with skull"):
        brain_mask(volume)


@pytest.mark.parametrize("spacing", [None, 2.0, 4.0], ids=["as it is", "2 mm", "4 mm"])
def test_a_real_stripped_brain_is_accepted_at_every_resolution(shared_data, spacing):
    volume = load_volume(shared_data / "t1w" / "usc_029_090129_t1_brain_mni.nii.gz")
    if spacing:
        volume = resample(volume, Grid.covering(volume, spacing, margin_mm=8.0))
    millilitres = mask_array(brain_mask(volume)).sum() * np.prod(volume.header.get_zooms()) / 1000
    assert 1700 < millilitres < 2300


def test_the_stripped_template_in_nilearn_is_accepted():
    assert mask_array(brain_mask(load_volume(MNI_T1))).sum() == pytest.approx(1.887e6, rel=0.001)
