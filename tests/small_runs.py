"""A functional run of a few thousand voxels, laid out and named as fMRIPrep does, for tests."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from cinp_lib.connectivity import Atlas, load_atlas
from study_lib.grid import Grid
from study_lib.manifest import COLUMNS, Manifest, load_manifest

GRID = Grid.isotropic(8.0)
SPACE = "space-MNI152NLin2009cAsym"
N_VOLUMES = 120
AXES = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
EXPANSIONS = ("", "_derivative1", "_power2", "_derivative1_power2")


def brain_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid, and 116 regions that fill most of it."""
    points = np.argwhere(np.ones(GRID.shape, bool)) * 8.0 + GRID.affine[:3, 3]
    radius = np.sqrt((((points - (0, -18, 9)) / (70, 88, 66)) ** 2).sum(1))
    inside = points[radius < 0.9]
    seeds = inside[np.linspace(0, len(inside) - 1, 116).astype(int)]
    labels = np.where(radius < 0.9, 1 + cKDTree(seeds).query(points)[1], 0)
    return (radius < 1).reshape(GRID.shape), labels.reshape(GRID.shape)


def write_atlas(folder: Path) -> Atlas:
    """The atlas's image, and the atlas as loaded."""
    path = folder / "tpl-MNI152_atlas-small_dseg.nii.gz"
    nib.save(nib.Nifti1Image(brain_and_labels()[1].astype(np.int16), GRID.affine), path)
    return load_atlas(path, check_place=False)


def write_run(folder: Path, subject: str = "a", *, run: str = "", seed: int = 0, **changes) -> Path:
    """BOLD, sidecar, mask and confounds; the path of the BOLD.

    `changes`: `volumes` (their number), `space`, `repetition_time` (0: none), `labels` (regions with signal),
    `dtype`, `table` (a function that changes the confounds), `mask` (False: none).
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    n_volumes = changes.get("volumes", N_VOLUMES)
    brain, labels = brain_and_labels()
    waves = np.concatenate([np.zeros((1, n_volumes)), 50 * rng.normal(size=(116, n_volumes))])
    data = brain[..., None] * (1000 + waves[labels] + rng.normal(0, 20, (*GRID.shape, n_volumes)))
    image = nib.Nifti1Image(data.astype(changes.get("dtype", np.int16)), GRID.affine)
    repetition_time = changes.get("repetition_time", 2.0)
    image.header.set_zooms((8, 8, 8, repetition_time))
    image.header.set_xyzt_units("mm", "sec")
    entities = f"sub-{subject}_task-rest" + (f"_run-{run}" if run else "")
    stem = folder / f"{entities}_{changes.get('space', SPACE)}"
    bold = Path(f"{stem}_desc-preproc_bold.nii.gz")
    nib.save(image, bold)
    sidecar = {"RepetitionTime": repetition_time} if repetition_time else {"TaskName": "rest"}
    Path(f"{stem}_desc-preproc_bold.json").write_text(json.dumps(sidecar))
    if changes.get("mask", True):
        nib.save(nib.Nifti1Image(brain.astype(np.uint8), GRID.affine), f"{stem}_desc-brain_mask.nii.gz")
    table = confounds_table(n_volumes, rng)
    table = changes.get("table", lambda t: t)(table)
    write_confounds(folder / f"{entities}_desc-confounds_timeseries.tsv", table)
    return bold


def confounds_table(n_volumes: int, rng: np.random.Generator) -> pd.DataFrame:
    """The columns of fMRIPrep that strategies read; derivatives have no first value."""
    names = [axis + e for axis in (*AXES, "csf", "white_matter", "global_signal") for e in EXPANSIONS]
    names += [f"a_comp_cor_{k:02d}" for k in range(10)] + ["cosine00", "cosine01"]
    table = pd.DataFrame(rng.normal(size=(n_volumes, len(names))), columns=names)
    table["framewise_displacement"] = 0.1
    table["std_dvars"] = 1.0
    table.loc[40:41, "framewise_displacement"] = 0.9
    table.loc[0, [name for name in table if "derivative" in name or "displacement" in name]] = np.nan
    return table


def write_confounds(path: Path, table: pd.DataFrame) -> None:
    """The table and the JSON that tells CompCor's masks."""
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    compcor = [name for name in table if name.startswith("a_comp_cor")]
    masks = {name: {"Method": "aCompCor", "Mask": "CSF" if k < 5 else "WM"} for k, name in enumerate(compcor)}
    path.with_suffix(".json").write_text(json.dumps(masks))


def write_small_manifest(folder: Path, rows: list[dict]) -> Manifest:
    """A manifest of rows that give subject and files only."""
    about = {"cohort": "test", "site": "x", "diagnosis": "control", "role": "unassigned"}
    table = pd.DataFrame([about | {"family": row["subject"]} | row for row in rows])
    csv = folder / "manifest.csv"
    table.reindex(columns=list(COLUMNS)).to_csv(csv, index=False)
    return load_manifest(csv, check_files=False)
