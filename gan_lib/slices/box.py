"""A box in a grid, seen as slices of one plane: volumes are cropped to it, and stacks pasted back, voxel for voxel."""

from dataclasses import dataclass, replace
from math import ceil
from typing import Self

import numpy as np
from jaxtyping import Shaped

from study_lib.shapes import Mask

# Which voxel axis (x, y, z) runs along slice, height and width.
PLANES: dict[str, tuple[int, int, int]] = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}

Stack = Shaped[np.ndarray, "slice height width"]
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class SliceBox:
    """`low` and `shape` count slice, row, column. Where a box goes past the grid, it holds padding."""

    grid_shape: Triple  # x, y, z of the volumes
    low: Triple
    shape: Triple
    plane: str = "axial"

    def __post_init__(self) -> None:
        check_plane(self.plane)
        for name in ("grid_shape", "low", "shape"):
            value = tuple(int(n) for n in getattr(self, name))
            if len(value) != 3 or (name != "low" and min(value) < 1):
                raise ValueError(f"SliceBox.{name}: expected three sizes of at least 1, got {value}")
            object.__setattr__(self, name, value)

    @classmethod
    def covering(cls, mask: Mask, margin: int = 0) -> Self:
        """The axial box that holds the voxels of a mask and `margin` more on every side, inside the grid."""
        if not mask.any():
            raise ValueError("SliceBox.covering: the mask is empty; give a brain mask on the grid of the volumes")
        spans = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in PLANES["axial"]]
        box = cls(mask.shape, [low for low, _ in spans], [high - low + 1 for low, high in spans])
        return box.widened(margin)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a slice."""
        return self.shape[1:]

    @property
    def high(self) -> Triple:
        """One past the last slice, row and column."""
        return tuple(low + n for low, n in zip(self.low, self.shape, strict=True))

    @property
    def grid_size(self) -> Triple:
        """Slices, rows and columns of the whole grid."""
        return tuple(self.grid_shape[axis] for axis in PLANES[self.plane])

    def joined(self, other: "SliceBox") -> Self:
        """The smallest box that holds both."""
        self._check_like(other)
        low = np.minimum(self.low, other.low)
        return replace(self, low=tuple(low), shape=tuple(np.maximum(self.high, other.high) - low))

    def widened(self, margin: int) -> Self:
        """More on every side, but nothing past the grid."""
        low = np.maximum(np.subtract(self.low, margin), np.minimum(self.low, 0))
        high = np.minimum(np.add(self.high, margin), np.maximum(self.high, self.grid_size))
        return replace(self, low=tuple(low), shape=tuple(high - low))

    def in_plane(self, plane: str) -> Self:
        """The same voxels as slices of another plane."""
        check_plane(plane)
        order = [PLANES[self.plane].index(axis) for axis in PLANES[plane]]
        turned = {name: tuple(getattr(self, name)[k] for k in order) for name in ("low", "shape")}
        return replace(self, plane=plane, **turned)

    def padded(self, multiple: int = 16, size: tuple[int, int] | None = None) -> Self:
        """Slices with the box in their middle: sides a multiple of a number, or of a given height and width."""
        if multiple < 1:
            raise ValueError(f"SliceBox.padded: expected a multiple of at least 1, got {multiple}")
        wanted = size or tuple(_up(n, multiple) for n in self.size)
        if any(w < n for w, n in zip(wanted, self.size, strict=True)):
            raise ValueError(
                f"SliceBox.padded: {self.plane} slices of {self.size} (height, width) do not fit into {wanted}; "
                "give a larger size, or a coarser grid"
            )
        before = [(w - n) // 2 for w, n in zip(wanted, self.size, strict=True)]
        low = (self.low[0], self.low[1] - before[0], self.low[2] - before[1])
        return replace(self, low=low, shape=(self.shape[0], *wanted))

    def around(self, mask: Mask, multiple: int | None = None) -> Self:
        """This box where it holds the brain; else moved as little as needed, with more slices if it takes them.

        Height and width stay, so that the slices still fit a style encoder. A brain that is larger is refused, or,
        with `multiple`, given a larger box: a generator takes any size that can be halved often enough.
        """
        brain = SliceBox.covering(mask).in_plane(self.plane)
        self._check_like(brain)
        size = [
            n if n >= needed else _up(needed, multiple or 1) for n, needed in zip(self.size, brain.size, strict=True)
        ]
        if multiple is None and tuple(size) != self.size:
            raise ValueError(
                f"SliceBox.around: the brain spans {brain.size} (height, width) in {self.plane} slices, "
                f"the box {self.size}; give a multiple to enlarge it, or bring the volume to a coarser grid"
            )
        first, last = min(self.low[0], brain.low[0]), max(self.high[0], brain.high[0])
        spans = zip(self.low[1:], size, brain.low[1:], brain.size, strict=True)
        return replace(self, low=(first, *(_moved(*span) for span in spans)), shape=(last - first, *size))

    def outside(self, volume: Shaped[np.ndarray, "x y z"]) -> int:
        """How many voxels of a mask (or nonzero voxels of a volume) the box leaves out."""
        self._check_grid(volume)
        inside = volume.transpose(PLANES[self.plane])[self._taken()]
        return int(np.count_nonzero(volume) - np.count_nonzero(inside))

    def crop(self, volume: Shaped[np.ndarray, "x y z"]) -> Stack:
        """The slices of a volume, 0 where the box goes past the grid; a brain that would be cut is refused."""
        if cut := self.outside(volume):
            raise ValueError(
                f"SliceBox.crop: {cut} of {np.count_nonzero(volume)} voxels that are not 0 lie outside the box; "
                "set the background to 0, and take box.around(mask), which moves the box over the brain"
            )
        stack = np.zeros(self.shape, dtype=volume.dtype)
        stack[self._filled()] = volume.transpose(PLANES[self.plane])[self._taken()]
        return stack

    def paste(self, slices: Stack, grid_shape: Triple | None = None) -> Shaped[np.ndarray, "x y z"]:
        """A volume that holds the slices where `crop` took them, 0 elsewhere."""
        if tuple(slices.shape) != self.shape:
            raise ValueError(f"SliceBox.paste: expected slices of shape {self.shape}, got {tuple(slices.shape)}")
        box = self if grid_shape is None else replace(self, grid_shape=grid_shape)
        turned = np.zeros(box.grid_size, dtype=slices.dtype)
        turned[box._taken()] = slices[box._filled()]
        return np.ascontiguousarray(turned.transpose(np.argsort(PLANES[self.plane])))

    def _taken(self) -> tuple[slice, ...]:
        """What the box takes of the grid, in the order slice, row, column."""
        spans = zip(self.low, self.high, self.grid_size, strict=True)
        return tuple(slice(max(0, low), max(0, min(high, n))) for low, high, n in spans)

    def _filled(self) -> tuple[slice, ...]:
        """Where in the stack that goes."""
        spans = zip(self._taken(), self.low, strict=True)
        return tuple(slice(taken.start - low, max(taken.start, taken.stop) - low) for taken, low in spans)

    def _check_grid(self, volume: np.ndarray) -> None:
        if tuple(volume.shape) != self.grid_shape:
            raise ValueError(
                f"SliceBox: expected a volume on the grid of shape {self.grid_shape}, got {tuple(volume.shape)}; "
                "resample it to the grid of the slices first"
            )

    def _check_like(self, other: "SliceBox") -> None:
        if (self.grid_shape, self.plane) != (other.grid_shape, other.plane):
            raise ValueError(
                f"SliceBox: expected {self.plane} slices of a grid of shape {self.grid_shape}, "
                f"got {other.plane} ones of {other.grid_shape}; bring the volumes to one grid"
            )


def check_plane(plane: str) -> None:
    """Raise for anything but axial, coronal, sagittal."""
    if plane not in PLANES:
        raise ValueError(f"plane: expected one of {', '.join(PLANES)}, got {plane!r}")


def _moved(low: int, length: int, start: int, needed: int) -> int:
    """The nearest new `low` at which a span of `length` holds the one of `needed` from `start`."""
    return min(max(low, start + needed - length), start)


def _up(n: int, multiple: int) -> int:
    return ceil(n / multiple) * multiple
