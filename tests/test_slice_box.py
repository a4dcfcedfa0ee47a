"""Cropping volumes to stacks of slices, and pasting stacks back."""

import itertools

import numpy as np
import pytest
from beartype import beartype
from jaxtyping import jaxtyped

from gan_lib.slices import PLANES, SliceBox

SHAPE = (7, 9, 5)
# slice, row, column: within the grid, past it on both sides, past it on one side
BOXES = [((1, 2, 0), (3, 4, 5)), ((-2, -1, -3), (13, 14, 15)), ((2, -4, 3), (5, 6, 9))]


def naive_crop(volume, plane, low, shape):
    """Voxel by voxel."""
    stack = np.zeros(shape, volume.dtype)
    for place in itertools.product(*map(range, shape)):
        voxel = [0, 0, 0]
        for axis, start, offset in zip(PLANES[plane], low, place, strict=True):
            voxel[axis] = start + offset
        if all(0 <= v < n for v, n in zip(voxel, volume.shape, strict=True)):
            stack[place] = volume[tuple(voxel)]
    return stack


def inside(box):
    """The voxels of the grid that a box holds, found by looking at each."""
    found = np.zeros(box.grid_shape, bool)
    for voxel in np.ndindex(box.grid_shape):
        place = [voxel[axis] for axis in PLANES[box.plane]]
        found[voxel] = all(low <= p < low + n for low, p, n in zip(box.low, place, box.shape, strict=True))
    return found


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(("low", "shape"), BOXES)
def test_crop_is_the_loop_over_voxels_and_paste_its_inverse(plane, low, shape):
    box = SliceBox(SHAPE, low, shape, plane)
    volume = np.random.default_rng(0).random(SHAPE, np.float32) * inside(box)
    stack = jaxtyped(typechecker=beartype)(box.crop)(volume)
    np.testing.assert_array_equal(stack, naive_crop(volume, plane, low, shape))
    np.testing.assert_array_equal(box.paste(stack), volume)


@pytest.mark.parametrize("plane", PLANES)
def test_any_slices_come_back_from_the_volume_they_were_pasted_into_but_for_the_padding(plane):
    box = SliceBox(SHAPE, *BOXES[2], plane)
    slices = 1 + np.random.default_rng(1).random(box.shape, np.float32)
    again = box.crop(box.paste(slices))
    held = box.crop(inside(box))
    np.testing.assert_array_equal(again, np.where(held, slices, 0))
    assert held.sum() == inside(box).sum() > 0


def test_a_box_covers_a_brain_tightly_and_its_margin_stays_in_the_grid():
    mask = np.zeros(SHAPE, bool)
    mask[2, 3:8, 1], mask[5, 4, 0] = True, True
    assert SliceBox.covering(mask) == SliceBox(SHAPE, (0, 3, 2), (2, 5, 4))
    assert SliceBox.covering(mask, margin=2) == SliceBox(SHAPE, (0, 1, 0), (4, 8, 7))


def test_the_joint_box_covers_what_either_covers():
    rng = np.random.default_rng(2)
    masks = [np.zeros(SHAPE, bool) for _ in range(2)]
    for mask in masks:
        mask[tuple(rng.integers(0, SHAPE, (4, 3)).T)] = True
    joint = SliceBox.covering(masks[0]).joined(SliceBox.covering(masks[1]))
    assert joint == SliceBox.covering(masks[0] | masks[1])


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(PLANES, 2)))
def test_turning_a_box_to_another_plane_keeps_its_voxels(one, other):
    box = SliceBox(SHAPE, *BOXES[2], one)
    np.testing.assert_array_equal(inside(box.in_plane(other)), inside(box))
    assert box.in_plane(other).in_plane(one) == box


def test_padding_keeps_the_box_in_the_middle_and_reaches_the_multiple():
    box = SliceBox((91, 109, 91), (3, 10, 20), (70, 89, 76))
    assert box.padded(16) == SliceBox((91, 109, 91), (3, 7, 18), (70, 96, 80))
    assert box.padded(1) == box
    assert box.padded(size=(100, 90)).size == (100, 90)
    with pytest.raises(ValueError, match=r"\(89, 76\) .* do not fit into \(80, 80\); give a larger size"):
        box.padded(size=(80, 80))


@pytest.mark.parametrize("plane", PLANES)
def test_a_brain_past_the_box_is_refused_and_a_moved_box_holds_it(plane):
    box = SliceBox((12, 13, 11), (2, 2, 2), (4, 5, 6), plane)
    rng = np.random.default_rng(3)
    for _ in range(20):
        mask = np.zeros(box.grid_shape, bool)
        start = rng.integers(0, (8, 8, 7))
        mask[tuple(slice(n, n + 4) for n in start)] = True
        lost = int((mask & ~inside(box)).sum())
        assert box.outside(mask) == lost
        if lost:
            with pytest.raises(ValueError, match=rf"{lost} of 64 voxels that are not 0 .* take box.around\(mask\)"):
                box.crop(mask)
        moved = box.around(mask)
        assert moved.size == box.size
        np.testing.assert_array_equal(moved.paste(moved.crop(mask)), mask)
        assert move_of(box, moved) == least_move(box, mask)


def move_of(box, other):
    return sum(abs(a - b) for a, b in zip(box.low[1:], other.low[1:], strict=True))


def least_move(box, mask):
    """The shortest way in rows and columns after which the box holds the brain, tried one by one."""
    found = []
    for rows, columns in itertools.product(range(-12, 13), repeat=2):
        low = (-20, box.low[1] + rows, box.low[2] + columns)
        tried = SliceBox(box.grid_shape, low, (60, *box.size), box.plane)
        if not tried.outside(mask):
            found.append(abs(rows) + abs(columns))
    return min(found)


def test_a_box_that_holds_the_brain_is_not_moved():
    mask = np.zeros(SHAPE, bool)
    mask[2:4, 3:5, 2:4] = True
    box = SliceBox(SHAPE, (1, 2, 1), (4, 4, 4))
    assert box.around(mask) == box


def test_a_brain_larger_than_the_slices_is_refused_or_gets_a_larger_box():
    mask = np.zeros((12, 13, 11), bool)
    mask[1:4, 1:11, 2:5] = True
    box = SliceBox(mask.shape, (2, 2, 2), (4, 8, 8))
    with pytest.raises(ValueError, match=r"spans \(10, 3\) .* the box \(8, 8\); give a multiple"):
        box.around(mask)
    larger = box.around(mask, multiple=8)
    assert larger.size == (16, 8)
    assert larger.outside(mask) == 0


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: SliceBox(SHAPE, (0, 0, 0), (1, 1, 1), "oblique"), "expected one of axial, coronal, sagittal"),
        (lambda: SliceBox(SHAPE, (0, 0, 0), (1, 0, 1)), r"SliceBox.shape: expected three sizes .* got \(1, 0, 1\)"),
        (lambda: SliceBox.covering(np.zeros(SHAPE, bool)), "the mask is empty; give a brain mask"),
        (lambda: SliceBox(SHAPE, (0, 0, 0), (5, 9, 7)).crop(np.ones((5, 9, 7))), r"\(7, 9, 5\), got \(5, 9, 7\)"),
        (lambda: SliceBox(SHAPE, (0, 0, 0), (5, 9, 7)).paste(np.ones(SHAPE)), r"\(5, 9, 7\), got \(7, 9, 5\)"),
        (lambda: SliceBox(SHAPE, (0, 0, 0), (1, 1, 1)).padded(0), "multiple of at least 1, got 0"),
    ],
)
def test_faults_are_named(act, words):
    with pytest.raises(ValueError, match=words):
        act()
