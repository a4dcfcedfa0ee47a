"""Grids: where voxels lie in space."""

import itertools

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from study_lib.grid import Grid


def box_image(shape, affine, low, high) -> nibabel.Nifti1Image:
    values = np.zeros(shape, np.uint8)
    values[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = 1
    return nibabel.Nifti1Image(values, affine)


def test_two_millimetres_give_the_usual_mni_grid():
    grid = Grid.isotropic(2.0)
    assert grid.shape == (91, 109, 91)
    assert grid.affine.tolist() == [[2, 0, 0, -90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]
    assert grid.spacing_mm == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("spacing", [0.9, 1.0, 1.5, 2.0, 3.0, 7.0])
def test_isotropic_reaches_both_bounds_and_not_a_voxel_further(spacing):
    grid = Grid.isotropic(spacing, (-10, -20, -30), (11, 22, 33))
    last = apply_affine(grid.affine, np.array(grid.shape) - 1)
    assert (last >= np.array([11, 22, 33]) - 1e-5).all()
    assert (last - spacing < np.array([11, 22, 33])).all()


def test_grids_are_equal_by_value_and_cannot_be_changed():
    grid = Grid.isotropic(2.0)
    assert grid == Grid((91, 109, 91), grid.affine.tolist())
    assert hash(grid) == hash(Grid.isotropic(2.0))
    assert grid != Grid.isotropic(3.0)
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 1.0


def test_covering_holds_every_nonzero_voxel_of_an_oblique_image():
    turned = nibabel.eulerangles.euler2mat(0.3, 0.2, 0.1) * 1.3
    image = box_image((20, 21, 22), nibabel.affines.from_matvec(turned, [5, -7, 9]), (3, 4, 5), (12, 15, 17))
    grid = Grid.covering(image, 2.0, margin_mm=1.0)
    inside = apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj)))
    index = apply_affine(np.linalg.inv(grid.affine), inside)
    assert (index >= 0.5 - 1e-6).all() and (index <= np.array(grid.shape) - 1.5 + 1e-6).all()
    # each edge of the box holds a voxel centre, so no plane of the grid is spare
    assert (index.min(axis=0) < 1.5).all() and (index.max(axis=0) > np.array(grid.shape) - 2.5).all()


def test_around_puts_the_middle_of_the_brain_in_the_middle_of_the_grid():
    affine = np.diag([-1.0, 1.5, 2.0, 1.0])
    image = box_image((30, 30, 30), affine, (2, 3, 4), (20, 9, 25))
    grid = Grid.around(image, 3.0, (16, 17, 18))
    assert grid.shape == (16, 17, 18)
    corners = apply_affine(affine, [[2, 3, 4], [20, 9, 25]])
    assert np.allclose(apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2), corners.mean(axis=0))


@pytest.mark.parametrize(
    ("shape", "affine", "words"),
    [
        ((4, 4), np.eye(4), "three positive sizes"),
        ((4, 0, 4), np.eye(4), "three positive sizes"),
        ((4, 4, 4), np.zeros((4, 4)), "invertible"),
        ((4, 4, 4), np.diag([1.0, 1, 0, 1]), "invertible"),
        ((4, 4, 4), np.full((4, 4), np.nan), "invertible"),
        ((4, 4, 4), np.eye(3), "4 x 4"),
    ],
)
def test_an_impossible_grid_is_refused(shape, affine, words):
    with pytest.raises(ValueError, match=words):
        Grid(shape, affine)


def test_an_image_of_zeros_has_no_extent():
    with pytest.raises(ValueError, match="zero everywhere"):
        Grid.covering(nibabel.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)), 2.0)


def test_small_voxels_are_no_singular_affine():
    for size, flip in itertools.product((1e-3, 1.0, 50.0), (-1, 1)):
        assert Grid((2, 2, 2), np.diag([flip * size, size, size, 1.0])).spacing_mm[0] == pytest.approx(size)
