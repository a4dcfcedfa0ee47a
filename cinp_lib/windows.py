"""Which tokens of a grid attend to one another: windows, shifted or not, after Liu et al. (2021).

The grid is padded at its end to whole windows, shifted cyclically and cut. A layout says all of that by numbers of
tokens, once for a grid, so that nothing is padded, rolled or cut while training.
"""

import itertools
from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int, int]
MASKED = -100.0  # added to the score of two tokens that only the cyclic shift made neighbours


@dataclass(frozen=True)
class WindowGroup:
    """Windows that share one mask."""

    tokens: Int[Tensor, "window place"]  # number of the token at a place; 0 where it is padding
    padding: Bool[Tensor, "window place"] | None  # None: no window of the group holds any
    mask: Float[Tensor, "place place"] | None  # 0 or MASKED; None: all 0

    def __len__(self) -> int:
        return len(self.tokens)

    def split(self, windows: int) -> "list[WindowGroup]":
        """Groups of at most so many windows."""
        if windows >= len(self):
            return [self]
        padding = [None] * len(self) if self.padding is None else self.padding.split(windows)
        pairs = zip(self.tokens.split(windows), padding, strict=False)
        return [WindowGroup(tokens, lacking, self.mask) for tokens, lacking in pairs]


@dataclass(frozen=True)
class WindowLayout:
    """All windows of a grid; every token has one place."""

    places: int  # of one window
    groups: tuple[WindowGroup, ...]


@lru_cache(maxsize=64)
def window_layout(grid: Size, window: int, shifted: bool, device: torch.device) -> WindowLayout:
    """The windows of a grid. Where the grid is no larger than the window there is one window, and no shift."""
    sides = tuple(min(n, window) for n in grid)
    shift = tuple(window // 2 if shifted and n > window else 0 for n in grid)
    padded = tuple(-(-n // side) * side for n, side in zip(grid, sides, strict=True))
    ends = [extra for n, whole in zip(grid[::-1], padded[::-1], strict=True) for extra in (0, whole - n)]
    numbers = torch.arange(grid[0] * grid[1] * grid[2]).view(grid)
    numbers = functional.pad(numbers, ends, value=-1).roll([-s for s in shift], (0, 1, 2))
    tokens, regions = _cut(numbers, sides), _cut(_regions(padded, sides, shift), sides)
    groups = _groups(tokens, regions, device)
    return WindowLayout(tokens.shape[1], groups)


def _groups(
    tokens: Int[Tensor, "window place"], regions: Int[Tensor, "window place"], device: torch.device
) -> tuple[WindowGroup, ...]:
    """Windows by mask, and those with padding apart from those without."""
    # Only which regions differ matters: numbered from a window's first place they name the mask.
    names = regions - regions[:, :1]
    holds_padding = (tokens < 0).any(1, keepdim=True)
    _, group = torch.unique(torch.cat([names, holds_padding], 1), dim=0, return_inverse=True)
    result = []
    for number in range(int(group.max()) + 1):
        members = group == number
        own, region = tokens[members], regions[members][0]
        differ = region[:, None] != region[None, :]
        padding, mask = own < 0, torch.where(differ, MASKED, 0.0)
        result.append(
            WindowGroup(
                own.clamp(min=0).to(device),
                padding.to(device) if padding.any() else None,
                mask.to(device) if differ.any() else None,
            )
        )
    return tuple(result)


def _regions(padded: Size, sides: Size, shift: Size) -> Int[Tensor, "x y z"]:
    """Numbers of the parts that were neighbours before the shift; along an axis: all windows but the last, its two."""
    axes = []
    for n, side, by in zip(padded, sides, shift, strict=True):
        axis = torch.zeros(n, dtype=torch.long)
        if by:
            axis[n - side : n - by], axis[n - by :] = 1, 2
        axes.append(axis)
    x, y, z = axes
    return 9 * x[:, None, None] + 3 * y[:, None] + z


def _cut(grid: Int[Tensor, "x y z"], sides: Size) -> Int[Tensor, "window place"]:
    i, j, k = sides
    return rearrange(grid, "(x i) (y j) (z k) -> (x y z) (i j k)", i=i, j=j, k=k)


def relative_positions(window: int) -> Int[Tensor, "place place"]:
    """For two places of a window the row of the bias table, numbered by their distance along the three axes."""
    places = torch.tensor(list(itertools.product(range(window), repeat=3)))
    apart = places[:, None] - places[None, :] + window - 1
    side = 2 * window - 1
    return (apart[..., 0] * side + apart[..., 1]) * side + apart[..., 2]
