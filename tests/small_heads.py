"""Small files for tests: heads of 24 x 28 x 24 voxels of 8 mm, functional runs, and manifests of them."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

SHAPE = (24, 28, 24)
AFFINE = np.array([[8.0, 0, 0, -92], [0, 8, 0, -116], [0, 0, 8, -80], [0, 0, 0, 1]])


def head(seed: int, session: int = 0) -> np.ndarray:
    """A T1-like head: bright inside, grey rim, dark ventricles, one person's folds, and noise of the session."""
    x, y, z = (np.indices(SHAPE) - np.array(SHAPE).reshape(3, 1, 1, 1) / 2 + 0.5) / np.reshape(SHAPE, (3, 1, 1, 1))
    radius = np.sqrt(x**2 + y**2 + z**2) / 0.42
    folds = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.0)
    tissue = np.where(radius < 0.75, 900.0, 600.0) + 800.0 * folds
    tissue[np.sqrt((np.abs(x) - 0.06) ** 2 + y**2 / 4 + z**2) < 0.06] = 250.0
    noise = np.random.default_rng([seed, session]).normal(0, 10, SHAPE)
    return np.abs(np.where(radius < 1, tissue, 0.0) + noise).astype(np.float32)


def brain_mask(seed: int) -> np.ndarray:
    """The foreground of `head(seed)`, a little larger on the right so that it has sides."""
    inside = ndimage.binary_closing(ndimage.gaussian_filter(head(seed), 0.7) > 150, iterations=2)
    return inside.astype(np.uint8)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write a NIfTI file, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def with_header(path: Path, **fields: object) -> Path:
    """Overwrite fields of a NIfTI-1 header as they are, without nibabel's mending them."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        raw = file.read()
    header = nib.Nifti1Header(raw[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    with opener(path, "wb") as file:
        file.write(header.binaryblock + raw[348:])
    return path


def save_run(path: Path, seed: int = 0, volumes: int = 24, repetition_s: float = 2.0) -> Path:
    """Write a small functional run."""
    voxels = np.random.default_rng(seed).normal(500, 50, (8, 9, 7, volumes)).astype(np.int16)
    image = nib.Nifti1Image(voxels, np.diag([4.0, 4, 4, 1]))
    image.header.set_zooms((4, 4, 4, repetition_s))
    image.header.set_xyzt_units("mm", "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def row(subject: str, **changes: object) -> dict[str, object]:
    """A row of a manifest that is right; `changes` overwrite cells."""
    cells: dict[str, object] = {
        "subject": subject,
        "family": subject,
        "session": "1",
        "cohort": "abide",
        "site": "NYU",
        "vendor": "Siemens",
        "field_strength_t": 3.0,
        "sequence": "MPRAGE",
        "echo_time_ms": 3.25,
        "repetition_time_ms": 2530.0,
        "repetition_time_kind": "inversion",
        "age_years": 24.5,
        "sex": "F",
        "diagnosis": "autism",
        "role": "train",
        "t1w": f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz",
    }
    return cells | changes


def cohort(folder: Path, subjects: str = "abcd") -> pd.DataFrame:
    """One head per letter on disk, and the rows that name them."""
    rows = [row(subject) for subject in subjects]
    for cells in rows:
        save(folder / str(cells["t1w"]), head(ord(str(cells["subject"]))))
    return pd.DataFrame(rows)
