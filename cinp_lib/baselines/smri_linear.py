"""Linear classifiers on what a T1 shows region by region: measures from a table, tissue maps, or intensities.

FreeSurfer's or CAT12's thickness and volumes come as a table. fMRIPrep's maps of grey matter give a volume for each
region of the atlas. Where there is neither, the prepared volumes themselves give every region's mean intensity and how
much of it is fluid, grey and white by the scan's own contrast; or simply all voxels. No label is looked at here.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from jaxtyping import Float32, Int
from joblib import Parallel, delayed
from skimage.filters import threshold_multiotsu

from cinp_lib.connectivity.atlas import Atlas
from cinp_lib.folds import Method
from cinp_lib.probing import ProbeConfig, linear_probe
from cinp_lib.tasks import Task
from study_lib.grid import Grid
from study_lib.manifest import Manifest
from study_lib.shapes import Embeddings

Labels = Int[np.ndarray, "x y z"]
MASK_ENDING, GREY_ENDING = "desc-brain_mask.nii.gz", "label-GM_probseg.nii.gz"
TISSUES = 3  # fluid, grey, white


def smri_linear(measures: Embeddings, task: Task, config: ProbeConfig | None = None) -> Method:
    """Row k holds the measures of person k of the task."""
    return linear_probe(measures, task, config)


def regional_intensities(volumes: Float32[np.ndarray, "subject x y z"], labels: Labels) -> Embeddings:
    """For each region that the grid has: mean intensity, and the shares of its voxels that are grey and white.

    Of a scan that holds background 0 and the brain above it, as a `PairStore` does; `labels`: `Atlas.on_grid`.
    """
    if volumes.shape[1:] != labels.shape:
        raise ValueError(
            f"regional intensities: expected volumes on the labels' grid {labels.shape}, got {volumes.shape[1:]}"
        )
    regions = np.unique(labels[labels > 0])
    counts = np.bincount(labels.ravel())[regions]
    return np.array([_intensities(volume, labels, regions, counts) for volume in volumes])


def brain_voxels(volumes: Float32[np.ndarray, "subject x y z"]) -> Embeddings:
    """Every voxel that is brain in at least half of the people."""
    common = (volumes != 0).mean(0) >= 0.5
    return volumes[:, common].astype(np.float64)


def _intensities(volume: np.ndarray, labels: Labels, regions: np.ndarray, counts: np.ndarray) -> np.ndarray:
    borders = threshold_multiotsu(volume[volume > 0], classes=TISSUES)
    parts = [volume, (volume > borders[0]) & (volume <= borders[1]), volume > borders[1]]
    sums = [np.bincount(labels.ravel(), weights=part.ravel())[regions] for part in parts]
    return np.concatenate(sums) / np.tile(counts, len(parts))


def grey_volumes(cohort: Manifest, rows: pd.DataFrame, atlas: Atlas, n_jobs: int = 1) -> Embeddings | None:
    """Millilitres of grey matter in every region, from the maps that fMRIPrep leaves beside its brain masks.

    None where somebody has no such map. Maps and atlas have to be in one space.
    """
    paths = [grey_map(cohort, row) for _, row in rows.iterrows()]
    if any(path is None for path in paths):
        return None
    jobs = (delayed(_grey_volume)(path, atlas) for path in paths)
    return np.array(Parallel(n_jobs=n_jobs, prefer="threads")(jobs))


def grey_map(cohort: Manifest, row: pd.Series) -> Path | None:
    """The map of one person, if there is one."""
    if not row["t1w_mask"].endswith(MASK_ENDING):
        return None
    path = cohort.root / (row["t1w_mask"].removesuffix(MASK_ENDING) + GREY_ENDING)
    return path if path.is_file() else None


def _grey_volume(path: Path, atlas: Atlas) -> np.ndarray:
    image = nib.as_closest_canonical(nib.load(path))
    grid = Grid(image.shape, image.affine)
    labels, share = atlas.on_grid(grid), np.asarray(image.dataobj, dtype=np.float64)
    if not np.isfinite(share).all():
        raise ValueError(f"{path}: expected shares of grey matter, got NaN or infinity; make the map again")
    if share.max() > 1.5:  # in percent, as some tools write maps
        share = share / 100
    sums = np.bincount(labels.ravel(), weights=share.ravel(), minlength=len(atlas.names) + 1)[1:]
    return sums * np.prod(grid.spacing_mm) / 1000


def measures_of(path: str | Path, task: Task) -> Embeddings:
    """Rows of a table (CSV with a column `subject` and numbers) in the order of the task's people."""
    table = pd.read_csv(path, dtype={"subject": str})
    if "subject" not in table or table["subject"].duplicated().any():
        raise ValueError(f"{path}: expected a column subject that names everybody once")
    numbers = table.set_index("subject").select_dtypes("number")
    missing = sorted(set(task.table["subject"]) - set(numbers.index))
    own = numbers.reindex(task.table["subject"])
    gaps = own.columns[own.drop(index=missing).isna().any()].tolist()
    if missing or gaps or not len(numbers.columns):
        raise ValueError(
            f"{path}: expected numbers for each of {len(task)} people of {task.name}; nobody called "
            f"{', '.join(missing[:10]) or '-'}, empty cells in {', '.join(gaps[:10]) or '-'}; complete the table, or "
            "leave these people or columns out by name"
        )
    return own.to_numpy(float)
