"""BOLD to the mean of each region and volume, in one pass over the compressed file."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from cinp_lib.connectivity.aal import N_REGIONS
from cinp_lib.connectivity.atlas import Atlas
from cinp_lib.connectivity.problems import SubjectError
from cinp_lib.connectivity.runs import Run, space_of
from cinp_lib.connectivity.volumes import BoldHeader, VolumeStream, read_header
from study_lib.grid import Grid
from study_lib.scan_checks import UnreadableScan
from study_lib.scan_checks.reading import read_scan

# Of AAL 97 % of the voxels lie in the MNI152 brain, and about 85 % in a field of view without cerebellum.
LEAST_OVERLAP = 0.6
SPACE_FIX = "take the BOLD in MNI space (fMRIPrep --output-spaces MNI152NLin2009cAsym:res-2), or an atlas in its space"


@dataclass(frozen=True)
class RegionMeans:
    """(volume, region) means with one column per region of the atlas, 0 where there is nothing to average."""

    time_series: np.ndarray
    coverage: np.ndarray  # (region,) share of the region's volume that lies in the brain mask
    header: BoldHeader
    sha256: str
    n_not_finite: int  # volumes with NaN or infinite voxels inside regions, which were left out of the mean


@dataclass(frozen=True)
class RegionVoxels:
    """Where the voxels of each region lie in a volume as the file stores it."""

    index: np.ndarray  # flat, region after region
    starts: np.ndarray  # of each present region in `index`
    present: np.ndarray  # numbers of the regions that have voxels
    counts: np.ndarray  # (present,)


def region_means(run: Run, atlas: Atlas) -> RegionMeans:
    """Average the labelled voxels inside the run's brain mask."""
    stream = VolumeStream(run.bold)
    grid = stream.header.grid
    _refuse_other_space(run.bold, atlas)
    mask = read_mask(run, grid)
    labels = atlas.on_grid(grid)
    _refuse_little_overlap(run, atlas, labels, mask)
    voxels = locate(labels, mask)
    values, n_not_finite = _averaged(stream, voxels)
    slope, intercept = stream.header.nifti.get_slope_inter()
    slope, intercept = (1.0 if slope is None else slope), (0.0 if intercept is None else intercept)
    values[:, voxels.present] = slope * values[:, voxels.present] + intercept
    return RegionMeans(values, _coverage(atlas, voxels, grid), stream.header, stream.sha256, n_not_finite)


def locate(labels: np.ndarray, mask: np.ndarray) -> RegionVoxels:
    """Sort the labelled voxels by region, so that each volume is gathered once and summed in runs."""
    flat = np.where(mask, labels, 0).ravel(order="F")  # NIfTI's order: x fastest
    index = np.flatnonzero(flat)
    index = index[np.argsort(flat[index], kind="stable")]
    present, starts, counts = np.unique(flat[index], return_index=True, return_counts=True)
    return RegionVoxels(index, starts, present.astype(int) - 1, counts)


def read_mask(run: Run, grid: Grid) -> np.ndarray:
    """The run's brain mask; refused where absent or on another grid."""
    if run.mask is None:
        reason = "no brain mask beside the run (desc-brain_mask), so its place and field of view cannot be told"
        raise SubjectError(run.bold, reason, "copy fMRIPrep's mask of the same space and resolution beside the BOLD")
    try:
        scan = read_scan(run.mask)
    except UnreadableScan as error:
        raise SubjectError(run.mask, error.finding.message, error.finding.fix) from error
    same_place = np.allclose(scan.affine, grid.affine, atol=1e-3)
    if scan.voxels.shape != grid.shape or not same_place:
        where = "with another affine" if scan.voxels.shape == grid.shape else f"of shape {scan.voxels.shape}"
        reason = f"expected the mask on the grid of the BOLD {grid.shape}, got one {where}"
        raise SubjectError(run.mask, reason, "take BOLD and mask of the same space and resolution")
    return scan.voxels > 0.5


def _averaged(stream: VolumeStream, voxels: RegionVoxels) -> tuple[np.ndarray, int]:
    values = np.zeros((stream.header.n_volumes, N_REGIONS))
    n_not_finite = 0
    for number, volume in enumerate(stream):
        gathered = volume[voxels.index]
        sums = np.add.reduceat(gathered, voxels.starts, dtype=np.float64)
        counts = voxels.counts
        if not np.isfinite(sums).all():
            finite = np.isfinite(gathered)
            n_not_finite += 1
            sums = np.add.reduceat(np.where(finite, gathered, 0), voxels.starts, dtype=np.float64)
            counts = np.add.reduceat(finite, voxels.starts, dtype=np.int64)
        with np.errstate(invalid="ignore"):  # a region without any finite voxel is NaN there, not 0
            values[number, voxels.present] = sums / counts
    return values, n_not_finite


def _coverage(atlas: Atlas, voxels: RegionVoxels, grid: Grid) -> np.ndarray:
    covered = np.zeros(N_REGIONS)
    covered[voxels.present] = voxels.counts * float(np.prod(grid.spacing_mm))
    return np.minimum(covered / np.maximum(atlas.volumes_mm3(), 1e-9), 1.0)


def _refuse_other_space(bold: Path, atlas: Atlas) -> None:
    space = space_of(bold)
    if space and space.startswith("MNI") != atlas.space.startswith("MNI"):
        raise SubjectError(bold, f"BOLD in space {space}, atlas {atlas.name} in space {atlas.space}", SPACE_FIX)


def _refuse_little_overlap(run: Run, atlas: Atlas, labels: np.ndarray, mask: np.ndarray) -> None:
    inside = np.count_nonzero(labels[mask])
    spacing = nib.affines.voxel_sizes(read_header(run.bold).grid.affine)
    expected = atlas.volumes_mm3().sum() / float(np.prod(spacing))
    if inside < LEAST_OVERLAP * expected:
        reason = (
            f"only {inside / expected:.0%} of atlas {atlas.name} lies in the brain mask {run.mask.name} "
            f"(expected at least {LEAST_OVERLAP:.0%}): BOLD and atlas are in different spaces"
        )
        raise SubjectError(run.bold, reason, SPACE_FIX)
