"""Sizes of the image encoder and its decoder, and one preset per profile."""

import math
from dataclasses import dataclass
from typing import Literal

STAGES = 4  # of the Swin transformer; every stage halves the grid once more
PATCH = 2  # voxels a side of one token
Size = tuple[int, int, int]


@dataclass(frozen=True)
class ImageEncoderConfig:
    """The study's Swin transformer: a volume resized to 96 x 96 x 96, 768 features out."""

    size: Size = (96, 96, 96)
    features: int = 48  # channels after the first step; every stage doubles them
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7  # tokens a side
    embedding: int | None = None  # numbers in the pooled features; 16 x features, here to be checked
    # "legacy" is the octant order that the published weights were trained with, "v2" has every octant once.
    merging: Literal["legacy", "v2"] = "v2"
    dropout: float = 0.0
    drop_path: float = 0.0  # of the last block; it grows linearly from 0 at the first
    checkpoint: bool = False  # activations of a block are computed again in the backward pass, not kept

    def __post_init__(self) -> None:
        for name in ("size", "depths", "heads"):
            object.__setattr__(self, name, tuple(int(n) for n in getattr(self, name)))
        if self.embedding is None:
            object.__setattr__(self, "embedding", self.widths[-1])
        self._check_lengths()
        self._check_numbers()

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels before the first stage and after each: 48, 96, 192, 384, 768."""
        return tuple(self.features * 2**stage for stage in range(STAGES + 1))

    @property
    def grids(self) -> tuple[Size, ...]:
        """Sizes from the volume down to the deepest map: at 96 they are 96, 48, 24, 12, 6, 3; odd ones are padded."""
        halved = (tuple(math.ceil(n / PATCH**level) for n in self.size) for level in range(STAGES + 2))
        return tuple(halved)

    def _check_lengths(self) -> None:
        for name, length in {"size": 3, "depths": STAGES, "heads": STAGES}.items():
            got = getattr(self, name)
            if len(got) != length or min(got) < 1:
                raise ValueError(f"ImageEncoderConfig.{name}: expected {length} numbers of at least 1, got {got}")
        if min(self.size) < PATCH**STAGES:
            raise ValueError(
                f"ImageEncoderConfig.size: expected at least {PATCH**STAGES} voxels a side, got {self.size}; "
                "resample the volumes to smaller voxels or pad them with background"
            )

    def _check_numbers(self) -> None:
        if self.window < 2 or self.features < 1:
            raise ValueError(
                "ImageEncoderConfig: expected a window of at least 2 tokens and at least 1 feature, "
                f"got {self.window}, {self.features}"
            )
        if wrong := [(w, h) for w, h in zip(self.widths, self.heads, strict=False) if w % h]:
            raise ValueError(
                f"ImageEncoderConfig.heads: {wrong[0][1]} heads cannot share {wrong[0][0]} features equally; "
                "choose features that are a multiple of heads"
            )
        if self.embedding != self.widths[-1]:
            raise ValueError(
                f"ImageEncoderConfig.embedding: {self.features} features give {self.widths[-1]} pooled ones, got "
                f"{self.embedding}; leave it out, or set features to embedding / 16"
            )
        if self.merging not in ("legacy", "v2"):
            raise ValueError(f"ImageEncoderConfig.merging: expected legacy or v2, got {self.merging!r}")
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"ImageEncoderConfig.{name}: expected 0 <= {name} < 1, got {getattr(self, name)}")


# Windows of 4 tokens divide 16, 8 and 4, the grids of 32 voxels; windows of 7 would pad 16 to 21, more than twice the
# tokens. 12 features are the least that the study's 3 heads share in fours.
SMALL = ImageEncoderConfig(size=(32, 32, 32), features=12, window=4)

PRESETS = {"smoke": SMALL, "demo": SMALL, "paper": ImageEncoderConfig(merging="legacy")}


def preset(name: str) -> ImageEncoderConfig:
    """The sizes of a profile."""
    if name not in PRESETS:
        raise KeyError(f"image encoder preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
