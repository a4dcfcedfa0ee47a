"""Cortical radius: shells of known thickness, hemispheres that keep their side, labels that cannot be measured."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage
from scipy.spatial import cKDTree

from gan_lib.cortex import LabelError, RadiusConfig, cortical_radius, hemisphere_radius, regional_radius
from gan_lib.cortex.atlas import Regions
from gan_lib.cortex.labels import TissueLabels
from gan_lib.cortex.shells import spherical_shell
from gan_lib.cortex.surface import THICKEST_MM, cortical_ribbon
from gan_lib.cortex.thickness import laplace_thickness

RADIUS_MM = 22.0
SHIFTS = ((0.0, 0.0, 0.0), (0.31, -0.24, 0.47), (-0.13, 0.42, 0.18))  # in voxels


def image_of(labels, voxel, centre=None) -> Nifti1Image:
    affine = np.diag([*np.broadcast_to(voxel, 3).astype(float), 1.0])
    affine[:3, 3] = -(np.array(labels.shape) - 1) / 2 * np.diag(affine)[:3] if centre is None else centre
    return Nifti1Image(labels.astype(np.uint8), affine)


def points(extent, voxel, shift):
    voxel = np.broadcast_to(voxel, 3).astype(float)
    half = np.ceil(extent / voxel).astype(int)
    axes = [np.arange(-n, n + 1) * h - s * h for n, h, s in zip(half, voxel, shift, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def shell(thickness, voxel=1.0, shift=(0, 0, 0), radius=RADIUS_MM) -> Nifti1Image:
    """White matter inside a sphere, cortex of one thickness around it."""
    distance = np.linalg.norm(points(radius + thickness + 3, voxel, shift), axis=-1) - radius
    return image_of(np.where(distance < 0, 2, np.where(distance < thickness, 1, 0)), voxel)


def folded_radius(direction):
    """How far from the centre the white surface lies: gyri and sulci 5 mm deep."""
    x, y, z = np.moveaxis(direction, -1, 0)
    return RADIUS_MM + 2.5 * np.sin(5 * x) * np.cos(5 * y) * np.cos(5 * z)


def folded_shell(thickness, voxel=1.0, shift=(0, 0, 0)) -> Nifti1Image:
    """The same around a folded surface; distances are to a dense sample of it."""
    k = np.arange(60_000) + 0.5
    polar, around = np.arccos(1 - 2 * k / len(k)), np.pi * (1 + 5**0.5) * k
    sphere = np.stack([np.cos(around) * np.sin(polar), np.sin(around) * np.sin(polar), np.cos(polar)], axis=1)
    place = points(RADIUS_MM + 2.5 + thickness + 3, voxel, shift)
    length = np.linalg.norm(place, axis=-1)
    white = length < folded_radius(place / np.maximum(length, 1e-9)[..., None])
    near = np.abs(length - RADIUS_MM) < 4 + thickness
    distance = np.full(length.shape, 99.0)
    distance[near] = cKDTree(sphere * folded_radius(sphere)[:, None]).query(place[near])[0]
    return image_of(np.where(white, 2, np.where(distance < thickness, 1, 0)), voxel)


def mean_radius(image) -> float:
    return float(np.mean(list(hemisphere_radius(image).values())))


@pytest.mark.parametrize("thickness", [1.5, 2.0, 2.7, 4.0])
def test_a_spherical_shell_is_measured_to_5_percent_at_1_mm_wherever_the_voxels_lie(thickness):
    radii = np.array([list(hemisphere_radius(shell(thickness, 1.0, shift)).values()) for shift in SHIFTS])
    assert radii.mean() == pytest.approx(thickness, rel=0.02)
    assert radii == pytest.approx(thickness, rel=0.05)


@pytest.mark.parametrize("thickness", [1.5, 3.0])
def test_a_folded_shell_is_measured_to_5_percent_at_1_mm(thickness):
    assert mean_radius(folded_shell(thickness, 1.0, SHIFTS[1])) == pytest.approx(thickness, rel=0.05)


@pytest.mark.parametrize("thickness", [2.0, 3.0, 4.0])
def test_at_2_mm_a_shell_of_a_voxel_or_more_is_still_measured_to_5_percent(thickness):
    radii = [mean_radius(shell(thickness, 2.0, shift)) for shift in SHIFTS]
    assert np.mean(radii) == pytest.approx(thickness, rel=0.05)


@pytest.mark.parametrize("make", [shell, pytest.param(folded_shell, id="folded")])
def test_a_change_of_a_tenth_of_a_millimetre_is_seen_within_15_percent(make):
    thin, thick = (make(t, 1.0, SHIFTS[1]) for t in (2.4, 2.5))
    assert mean_radius(thick) - mean_radius(thin) == pytest.approx(0.1, rel=0.15)


def test_the_map_sees_the_change_too():
    means = [cortical_radius(shell(t, 1.0, SHIFTS[1])).map_means["left"] for t in (2.4, 2.5)]
    assert means[1] - means[0] == pytest.approx(0.1, rel=0.15)
    assert means[0] == pytest.approx(2.4, rel=0.05)


def test_voxels_may_be_anisotropic():
    assert mean_radius(shell(3.0, (1.0, 1.5, 0.8))) == pytest.approx(3.0, rel=0.03)


def test_the_map_of_a_plane_is_its_number_of_voxels_along_every_axis():
    for axis, (n, voxel) in enumerate([(1, 1.3), (2, 0.7), (5, 1.0)]):
        labels = np.zeros((13, 12, 11), dtype=np.uint8)
        along = np.moveaxis(labels, axis, 0)
        along[:4], along[4 : 4 + n] = 2, 1
        own = TissueLabels(np.pad(labels, 1, mode="edge"), np.diag([voxel] * 3 + [1.0]), "plane")
        inside = laplace_thickness(own, own.grey & interior(own.grey))
        middle = np.moveaxis(inside, axis, 0)[4 + 1 : 4 + n + 1, 5:8, 5:8]
        assert middle == pytest.approx(n * voxel, abs=1e-3)


def interior(mask):
    """Not the outermost voxels: a neighbour is looked up on every side."""
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1, 1:-1] = True
    return inner


def test_the_field_of_the_map_solves_laplaces_equation_voxel_by_voxel():
    from gan_lib.cortex import thickness as module

    own = TissueLabels.of(shell(2.0, 1.5, SHIFTS[1], radius=6.0))
    cortex = own.grey
    where = np.flatnonzero(cortex)
    order = np.full(cortex.size, -1)
    order[where] = np.arange(len(where))
    around = {(a, s): where + s * module._stride(cortex.shape, a) for a, s in module.AXES_AND_SIDES}
    field = module._field(around, order, own.tissues.ravel(), own.spacing_mm)
    whole = np.where(own.tissues == 2, 1.0, 0.0)
    whole[cortex] = field
    for i, j, k in np.argwhere(cortex)[::7]:
        sides = [(i + 1, j, k), (i - 1, j, k), (i, j + 1, k), (i, j - 1, k), (i, j, k + 1), (i, j, k - 1)]
        assert whole[i, j, k] == pytest.approx(np.mean([whole[side] for side in sides]), abs=1e-4)


def two_sided() -> Nifti1Image:
    """A brain whose left half is larger, with a cortex of 2 mm, and whose right one has 3 mm."""
    place = points(RADIUS_MM + 6, 1.0, (0.2, 0.1, -0.3))
    distance = np.linalg.norm(place, axis=-1) - np.where(place[..., 0] < 0, RADIUS_MM, RADIUS_MM - 2)
    thickness = np.where(place[..., 0] < 0, 2.0, 3.0)
    return image_of(np.where(distance < 0, 2, np.where(distance < thickness, 1, 0)), 1.0)


@pytest.mark.parametrize("axes", ["RAS", "LIA", "LPS", "ASR", "PIR"])
def test_hemispheres_are_never_swapped_and_the_map_comes_back_in_the_voxels_given(axes):
    image = two_sided()
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    turned = image.as_reoriented(turn)
    result = cortical_radius(turned)
    assert result.left == pytest.approx(2.0, rel=0.06) and result.right == pytest.approx(3.0, rel=0.06)
    assert (result.map.shape, result.map.affine.tolist()) == (turned.shape, turned.affine.tolist())
    assert ((np.asarray(result.map.dataobj) > 0) <= (np.asarray(turned.dataobj) == 1)).all()
    straight = cortical_radius(image)
    assert [result.left, result.right] == pytest.approx([straight.left, straight.right], rel=1e-6)
    back = nibabel.as_closest_canonical(result.map)
    assert np.allclose(np.asarray(back.dataobj), np.asarray(straight.map.dataobj), atol=1e-3)


def test_a_brain_that_lies_beside_zero_needs_its_midline():
    image = two_sided()
    moved = Nifti1Image(np.asarray(image.dataobj), image.affine + np.array([[0, 0, 0, 100]] + [[0] * 4] * 3))
    with pytest.raises(LabelError, match=r"left hemisphere has no cortex.*midline_mm"):
        cortical_radius(moved)
    found = cortical_radius(moved, config=RadiusConfig(midline_mm=100.0)).hemispheres
    assert list(found.values()) == pytest.approx(list(hemisphere_radius(image).values()), rel=1e-6)


def test_nuclei_inside_white_matter_change_nothing():
    image = shell(2.5)
    labels = np.asarray(image.dataobj).copy()
    inside = np.linalg.norm(points(RADIUS_MM + 5.5, 1.0, (0, 0, 0)), axis=-1) < THICKEST_MM
    assert inside.shape == labels.shape
    labels[inside] = 1
    with_nucleus = hemisphere_radius(Nifti1Image(labels, image.affine))
    assert list(with_nucleus.values()) == pytest.approx(list(hemisphere_radius(image).values()), rel=1e-3)


def test_a_border_of_white_matter_and_fluid_has_no_middle_surface():
    image = shell(2.5)
    labels = np.asarray(image.dataobj).copy()
    ventricle = np.linalg.norm(points(RADIUS_MM + 5.5, 1.0, (0, 0, 0)), axis=-1) < 9
    labels[ventricle] = 0
    assert list(hemisphere_radius(Nifti1Image(labels, image.affine)).values()) == pytest.approx([2.5, 2.5], rel=0.03)


def test_the_middle_surface_of_a_sphere_has_its_area():
    own = TissueLabels.of(shell(2.0, 1.0, SHIFTS[1]))
    area = cortical_ribbon(own)[1].areas.sum()
    assert area == pytest.approx(4 * np.pi * (RADIUS_MM + 1) ** 2, rel=0.02)


def test_regions_have_their_own_radius_and_missing_ones_none():
    image = two_sided()
    place = points(RADIUS_MM + 6, 1.0, (0.2, 0.1, -0.3))
    upper = np.where(place[..., 2] > 0, 10, 0)
    atlas = np.where(place[..., 0] < 0, 1, 2) + upper
    atlas[:2, :2, :2] = 40  # lies in no cortex
    table = cortical_radius(image, atlas=Nifti1Image(atlas.astype(np.int16), image.affine)).regions
    assert table.index.tolist() == [1, 2, 11, 12, 40]
    assert table.loc[[1, 11], "radius_mm"].to_numpy() == pytest.approx(2.0, rel=0.08)
    assert table.loc[[2, 12], "radius_mm"].to_numpy() == pytest.approx(3.0, rel=0.08)
    assert np.isnan(table.loc[40, "radius_mm"]) and table.loc[40, "area_mm2"] == 0
    alone = regional_radius(image, Nifti1Image(atlas.astype(np.int16), image.affine))
    assert alone.equals(table["radius_mm"])


def test_an_atlas_on_another_grid_is_brought_to_the_labels():
    image = two_sided()
    atlas = np.ones((31, 31, 31), dtype=np.int16)
    atlas[:15] = 2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -30
    found = regional_radius(image, Nifti1Image(atlas, affine))
    assert found.loc[2] == pytest.approx(2.0, rel=0.06) and found.loc[1] == pytest.approx(3.0, rel=0.06)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda v: np.where(v == 1, 0, v), "no voxel of grey matter"),
        (lambda v: np.where(v == 2, 1, v), "no voxel of white matter"),
        (lambda v: np.where(v == 0, 2, v), "no voxel of background"),
        (lambda v: np.where(v == 0, 3, v), "got also 3.*dseg"),
        (lambda v: v * 0.5, "whole numbers.*probabilities"),
        (lambda v: v[..., 0], "3D label image"),
        (lambda v: np.stack([v, v], axis=-1), "3D label image"),
        (lambda v: np.where(v == 1, np.nan, v), "whole numbers"),
    ],
)
def test_labels_that_cannot_be_measured_are_refused(change, text):
    image = shell(3.0, 2.0, radius=8.0)
    wrong = change(np.asarray(image.dataobj).astype(np.float32))
    with pytest.raises(LabelError, match=text):
        cortical_radius(Nifti1Image(wrong.astype(np.float32), image.affine))


def test_grey_matter_that_is_all_too_thick_is_refused():
    with pytest.raises(LabelError, match="as thin as cortex"):
        hemisphere_radius(shell(9.0, 1.5, radius=12.0))


def test_a_voxel_on_the_midline_counts_half_to_either_side():
    own = TissueLabels.of(shell(2.0, 2.0, radius=8.0))
    columns = (np.array([-2.0, 0.0, 0.5, 2.0]) - own.affine[0, 3]) / 2.0
    place = np.column_stack([columns, np.zeros((4, 2))])
    assert own.left_share(place, 0.0).tolist() == pytest.approx([1, 0.5, 0.25, 0])


def test_cropping_keeps_the_place_of_every_label():
    image = two_sided()
    own = TissueLabels.of(image)
    grey = np.argwhere(own.grey)[::500]
    back = np.rint(nibabel.affines.apply_affine(np.linalg.inv(image.affine) @ own.affine, grey)).astype(int)
    assert (np.asarray(image.dataobj)[tuple(back.T)] == 1).all()
    assert not ndimage.binary_dilation(own.tissues > 0, iterations=2)[[0, -1]].any()


def test_the_shell_of_the_library_is_a_shell():
    image = spherical_shell(2.5, 1.5, 12.0, (0.3, 0.1, -0.4))
    labels = np.asarray(image.dataobj)
    for index in np.argwhere(labels >= 0)[::97]:
        distance = np.linalg.norm((image.affine @ [*index, 1])[:3]) - 12.0
        assert labels[tuple(index)] == (2 if distance < 0 else 1 if distance < 2.5 else 0)
    with pytest.raises(ValueError, match="sizes above 0"):
        spherical_shell(0.0)


def test_regions_are_named_by_the_table_beside_their_image(tmp_path):
    folder = tmp_path / "derivatives" / "atlas"
    folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="atlas_file"):
        Regions.of_cohort(tmp_path)
    nibabel.save(Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), folder / "a_dseg.nii.gz")
    (folder / "a_dseg.tsv").write_text("index\tname\n1\tFrontal_L\n")
    regions = Regions.of_cohort(tmp_path)
    assert regions.named(pd.DataFrame([[1, 2]], columns=[1, 7])).columns.tolist() == ["Frontal_L", "7"]
    (folder / "a_dseg.tsv").write_text("label\tname\n1\tFrontal_L\n")
    with pytest.raises(ValueError, match="got no index"):
        Regions.of_cohort(tmp_path)
