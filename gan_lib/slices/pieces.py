"""One volume prepared, cropped to its brain and kept as a file until all volumes are there."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gan_lib.slices.box import PLANES, SliceBox
from gan_lib.slices.rows import exclusion
from study_lib.files import atomic_path
from study_lib.grid import Grid
from study_lib.intensity import Normaliser
from study_lib.manifest import Manifest
from study_lib.preparation import placed_scan

VERSION = 1  # goes up when the same inputs give other slices


@dataclass(frozen=True)
class Piece:
    """A prepared volume that waits for its place among the others."""

    row: dict
    path: Path
    box: SliceBox
    areas: dict[str, np.ndarray]  # brain voxels per slice of each plane, within the box
    centred: bool  # on a grid around itself, since it lay off the common one

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Image and mask, axial slices of the box."""
        with np.load(self.path) as saved:
            return saved["image"], saved["mask"]


def piece_key(cohort: Manifest, row: pd.Series, grid: Grid, normaliser: Normaliser) -> str:
    """Changes with the row, its files and the settings."""
    files = [_identity(cohort.path(row, column)) for column in ("t1w", "t1w_mask") if row[column]]
    who = [str(row[name]) for name in ("subject", "session", "site", "t1w", "t1w_mask")]
    settings = [grid.shape, grid.affine.tolist(), type(normaliser).__name__, asdict(normaliser)]
    return digest_of([VERSION, files, who, settings])


def digest_of(content: object) -> str:
    """SHA-256 of anything that JSON takes."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


def make_piece(cohort: Manifest, row: pd.Series, grid: Grid, normaliser: Normaliser, path: Path) -> dict | None:
    """Write one piece, if it is not there; a volume that cannot be used gives its exclusion."""
    if path.is_file():
        return None
    try:
        scan, centred = placed_scan(cohort, row, grid)
        box = SliceBox.covering(scan.mask)
        image = box.crop(scan.normalised(normaliser))
    except MemoryError:
        raise
    except Exception as error:  # whatever is wrong with one file, the others go on
        known = isinstance(error, ValueError | OSError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        return exclusion(row, reason, "mend or fetch the file again, or remove the row")
    mask = box.crop(scan.mask)
    with atomic_path(path) as temporary:
        np.savez(temporary, image=image, mask=mask, low=box.low, shape=box.shape, centred=centred, **slice_areas(mask))
    return None


def read_piece(row: pd.Series, path: Path, grid: Grid) -> Piece:
    """All but the voxels."""
    with np.load(path) as saved:
        box = SliceBox(grid.shape, saved["low"], saved["shape"])
        return Piece(row.to_dict(), path, box, {plane: saved[plane] for plane in PLANES}, bool(saved["centred"]))


def slice_areas(mask: np.ndarray) -> dict[str, np.ndarray]:
    """Voxels of an axial stack of masks in each slice of each plane."""
    along = {plane: PLANES["axial"].index(order[0]) for plane, order in PLANES.items()}
    return {plane: mask.sum(tuple({0, 1, 2} - {axis}), dtype=np.int32) for plane, axis in along.items()}


def _identity(path: Path) -> list:
    status = path.stat() if path.is_file() else None
    return [status.st_size, status.st_mtime_ns] if status else ["absent"]
