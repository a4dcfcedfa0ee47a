"""Pieces find their places in one region, and are written as one array of slices."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from gan_lib.slices.box import PLANES, SliceBox
from gan_lib.slices.pieces import Piece, slice_areas
from gan_lib.slices.rows import exclusion
from study_lib.files import atomic_path

# Of a brain's voxels, at most so many may stick out of a region that was made for other brains.
LARGEST_CUT_SHARE = 0.01


@dataclass(frozen=True)
class Place:
    """What is taken of a piece, and what that fills in the region (slice, row, column)."""

    taken: tuple[slice, ...]
    filled: tuple[slice, ...]
    moved: tuple[int, ...]  # voxels, against where the brain was
    cut: float  # at most this share of the brain is not taken

    @classmethod
    def of(cls, piece: Piece, region: SliceBox) -> Self:
        """A brain that sticks out is moved in, as little as needed; one that is larger is cut evenly on both sides."""
        taken, filled, moved, lost = [], [], [], 0
        spans = zip(PLANES["axial"], piece.box.low, piece.box.shape, region.low, region.shape, strict=True)
        for axis, low, n, start, length in spans:
            place = min(max(low - start, 0), length - n) if n <= length else -((n - length) // 2)
            before, at, size = max(0, -place), max(0, place), min(n, length)
            taken.append(slice(before, before + size))
            filled.append(slice(at, at + size))
            moved.append(place - (low - start))
            along = piece.areas[next(plane for plane, order in PLANES.items() if order[0] == axis)]
            lost += int(along.sum() - along[taken[-1]].sum())
        return cls(tuple(taken), tuple(filled), tuple(moved), lost / int(along.sum()))


def region_of(pieces: Sequence[Piece], margin: int) -> SliceBox:
    """The box of all brains, and a margin."""
    region = pieces[0].box
    for piece in pieces[1:]:
        region = region.joined(piece.box)
    return region.widened(margin)


def place_pieces(
    pieces: Sequence[Piece], region: SliceBox, least_share: float
) -> tuple[list[tuple[Piece, Place]], list[dict[str, str]]]:
    """Pieces with their places, and exclusions of those that cannot be used."""
    placed, misfits = [], []
    for piece in pieces:
        place = Place.of(piece, region)
        if problem := _problem(piece, place, region, least_share):
            misfits.append(exclusion(piece.row, *problem))
        else:
            placed.append((piece, place))
    return placed, misfits


def write_slices(folder: Path, placed: Sequence[tuple[Piece, Place]], region: SliceBox) -> None:
    """Write images, masks and brain areas, one volume in memory at a time.

    By plain writes, not through a mapped file: a full disk is then an error, and not a crash.
    """
    areas = []
    with (
        atomic_path(folder / "images.npy") as images,
        atomic_path(folder / "masks.npy") as masks,
        open(images, "wb") as image_file,
        open(masks, "wb") as mask_file,
    ):
        _write_header(image_file, np.float32, (len(placed), *region.shape))
        _write_header(mask_file, np.bool_, (len(placed), *region.shape))
        for piece, place in placed:
            image, mask = (_in_region(array, place, region) for array in piece.arrays())
            image_file.write(image.data)
            mask_file.write(mask.data)
            areas.append(slice_areas(mask))
    with atomic_path(folder / "areas.npz") as path:
        np.savez(path, **{plane: np.stack([found[plane] for found in areas]) for plane in PLANES})


def _problem(piece: Piece, place: Place, region: SliceBox, least_share: float) -> tuple[str, str] | None:
    """Why a prepared volume cannot be used, and what to do."""
    if place.cut > LARGEST_CUT_SHARE:
        reason = f"the brain spans {piece.box.shape} voxels (slices, height, width), the region only {region.shape}"
        return reason, "check the mask; where it is right, build the training store with a larger margin"
    for plane, areas in piece.areas.items():
        full = areas >= least_share * np.prod(region.in_plane(plane).size)
        if not (full[:-1] & full[1:]).any():
            reason = f"no two neighbouring {plane} slices hold brain in {least_share:.0%} of the region"
            return reason, "check the mask and the voxel size"
    return None


def _in_region(array: np.ndarray, place: Place, region: SliceBox) -> np.ndarray:
    stack = np.zeros(region.shape, array.dtype)
    stack[place.filled] = array[place.taken]
    return stack


def _write_header(file: BinaryIO, dtype: type, shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
