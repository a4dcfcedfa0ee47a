"""4D BOLD of a person in MNI space with what spoils it, and the confounds that fMRIPrep would have estimated."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import ndimage

from study_lib.phantom.atlas import load_atlas
from study_lib.phantom.connectome import REPETITION_TIME_S
from study_lib.phantom.template import HIGHEST_CORNER_MM, LOWEST_CORNER_MM, load_template

VOXEL_MM = 4.0
BASELINE = 10_000.0
# Relative to the baseline: the signal, and what hides it. Our choice, of the order seen at 3 T.
NEURAL, VOXEL_NOISE, PHYSIOLOGY, PHYSIOLOGY_IN_GREY, DRIFT, SPIKE = 0.010, 0.020, 0.020, 0.012, 0.010, 0.03
MOTION_STEP_MM, SPIKES_PER_MINUTE, SPIKE_MM = 0.03, 0.7, 0.6
HEAD_RADIUS_MM = 50.0  # turns degrees of rotation into millimetres, after Power et al. 2012
FD_LIMIT_MM, DVARS_LIMIT = 0.5, 1.5  # fMRIPrep's limits for motion outliers
HIGH_PASS_S = 128.0
N_COMPCOR = 5
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")


@dataclass(frozen=True)
class BoldGrid:
    """What every BOLD image of the phantom shares: its voxels, and which tissue and region each holds."""

    affine: np.ndarray
    brain: np.ndarray
    labels: np.ndarray  # of the brain's voxels, 0 = no region
    white: np.ndarray
    fluid: np.ndarray
    baseline: np.ndarray
    gradients: np.ndarray  # (3, voxel) of the baseline per mm: what a shift of the head changes


@lru_cache(maxsize=1)
def load_grid() -> BoldGrid:
    """Sample the template at the BOLD voxels."""
    template, atlas = load_template(), load_atlas()
    step = int(VOXEL_MM)
    affine = np.diag([VOXEL_MM] * 3 + [1.0])
    affine[:3, 3] = LOWEST_CORNER_MM
    coarse = tuple(slice(0, int(h - lo) + 1, step) for lo, h in zip(LOWEST_CORNER_MM, HIGHEST_CORNER_MM, strict=True))
    brain = template.brain_distance[coarse] < 0
    white = (template.white_distance[coarse] < -3) & (template.ventricle_distance[coarse] > 3)
    white &= template.deep_grey[coarse] < 0.1
    fluid = template.ventricle_distance[coarse] < -0.5
    # Fluid is bright in T2*-weighted images, and the signal fades towards the rim.
    contrast = np.where(fluid, 1.3, np.where(white, 0.85, 1.0)) * brain
    image = BASELINE * ndimage.gaussian_filter(contrast, 0.6)
    gradients = np.stack([g[brain] for g in np.gradient(image, VOXEL_MM)])
    flat = [a[brain] for a in (atlas.labels[coarse], white, fluid, image.astype(np.float32))]
    return BoldGrid(affine, brain, *flat, gradients.astype(np.float32))


def simulate(series: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, pd.DataFrame, dict]:
    """Turn region series into a 4D image (x, y, z, volume), its confounds table and their description."""
    grid, n_volumes = load_grid(), len(series)
    motion = draw_motion(n_volumes, rng)
    displacement = framewise_displacement(motion)
    data = VOXEL_NOISE * rng.standard_normal((grid.labels.size, n_volumes), dtype=np.float32)
    data += NEURAL * np.vstack([np.zeros(n_volumes), series.T])[grid.labels].astype(np.float32)
    data += _physiology(n_volumes, rng)
    data += _drift(n_volumes, rng)
    data *= grid.baseline[:, None]
    data += grid.baseline[:, None] + grid.gradients.T @ _shift(motion).astype(np.float32)
    data -= np.outer(grid.baseline, SPIKE * np.minimum(displacement, 2)).astype(np.float32)
    table, description = confounds(data, motion, displacement)
    volume = np.zeros((*grid.brain.shape, n_volumes), np.float32)
    volume[grid.brain] = data
    return volume, table, description


def draw_motion(n_volumes: int, rng: np.random.Generator) -> np.ndarray:
    """Six parameters (mm, radians) that wander slowly and jump now and then."""
    steps = MOTION_STEP_MM * rng.normal(size=(n_volumes, 6))
    n_spikes = rng.poisson(SPIKES_PER_MINUTE * n_volumes * REPETITION_TIME_S / 60)
    at = rng.choice(np.arange(5, n_volumes), size=min(n_spikes, n_volumes - 5), replace=False)
    jumps = SPIKE_MM * rng.normal(size=(at.size, 6))
    steps[at] += jumps
    steps[np.minimum(at + 1, n_volumes - 1)] -= 0.8 * jumps  # most of a jump is taken back
    wander = np.cumsum(steps, axis=0)
    wander[:, 3:] /= HEAD_RADIUS_MM
    return wander - wander[0]


def framewise_displacement(motion: np.ndarray) -> np.ndarray:
    """Power et al. 2012: the sum of the absolute changes, rotations on a sphere of 50 mm; 0 for the first volume."""
    change = np.abs(np.diff(motion, axis=0, prepend=motion[:1]))
    return change[:, :3].sum(1) + HEAD_RADIUS_MM * change[:, 3:].sum(1)


def _shift(motion: np.ndarray) -> np.ndarray:
    """What realignment leaves behind: a quarter of the motion, (3, volume)."""
    return 0.25 * (motion[:, :3] + HEAD_RADIUS_MM * motion[:, 3:]).T


def _physiology(n_volumes: int, rng: np.random.Generator) -> np.ndarray:
    """Breath and pulse: strong in fluid and white matter, weaker in grey, the same everywhere."""
    grid = load_grid()
    waves = ndimage.gaussian_filter1d(rng.normal(size=(2, n_volumes)), 1.5, axis=1)
    waves /= waves.std(axis=1, keepdims=True)
    in_grey = ~(grid.white | grid.fluid)
    strength = np.where(in_grey, PHYSIOLOGY_IN_GREY, PHYSIOLOGY)
    share = np.where(grid.fluid, 0.3, np.where(grid.white, 0.8, 0.6))
    mixed = np.outer(strength * share, waves[0]) + np.outer(strength * (1 - share), waves[1])
    return mixed.astype(np.float32)


def _drift(n_volumes: int, rng: np.random.Generator) -> np.ndarray:
    grid = load_grid()
    time = np.linspace(-1, 1, n_volumes)
    weights = 1 + 0.3 * rng.standard_normal(grid.labels.size)
    return (DRIFT * np.outer(weights, rng.normal() * time + rng.normal() * (time**2 - 1 / 3))).astype(np.float32)


def confounds(data: np.ndarray, motion: np.ndarray, displacement: np.ndarray) -> tuple[pd.DataFrame, dict]:
    """The columns of fMRIPrep that confound strategies read, and their JSON description."""
    grid = load_grid()
    signals = {"csf": data[grid.fluid], "white_matter": data[grid.white], "global_signal": data}
    columns = {}
    for name, values in signals.items():
        columns |= _expansions(name, values.mean(0, dtype=np.float64))
    dvars = np.append(np.nan, np.sqrt(np.square(np.diff(data, axis=1)).mean(0, dtype=np.float64)))
    columns |= {"dvars": dvars, "std_dvars": dvars / np.nanmedian(dvars)}
    columns["framewise_displacement"] = np.append(np.nan, displacement[1:])
    for name, values in zip(MOTION, motion.T, strict=True):
        columns |= _expansions(name, values)
    components, description = _compcor(data)
    columns |= components | _cosines(data.shape[1])
    spikes = (displacement > FD_LIMIT_MM) | (np.nan_to_num(columns["std_dvars"]) > DVARS_LIMIT)
    for number, volume in enumerate(np.flatnonzero(spikes)):
        columns[f"motion_outlier{number:02d}"] = (np.arange(data.shape[1]) == volume).astype(float)
    return pd.DataFrame(columns), description


def _expansions(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    derivative = np.append(np.nan, np.diff(values))
    return {
        name: values,
        f"{name}_derivative1": derivative,
        f"{name}_power2": values**2,
        f"{name}_derivative1_power2": derivative**2,
    }


def _cosines(n_volumes: int) -> dict[str, np.ndarray]:
    """The discrete cosine basis that high-pass filters at 128 s."""
    order = int(np.floor(2 * n_volumes * REPETITION_TIME_S / HIGH_PASS_S))
    time = (np.arange(n_volumes) + 0.5) * np.pi / n_volumes
    return {f"cosine{k - 1:02d}": np.sqrt(2 / n_volumes) * np.cos(k * time) for k in range(1, order + 1)}


def _compcor(data: np.ndarray) -> tuple[dict[str, np.ndarray], dict]:
    """Anatomical CompCor: the main components of white matter and fluid, apart and together."""
    grid = load_grid()
    masks = {"CSF": grid.fluid, "WM": grid.white, "combined": grid.fluid | grid.white}
    filters = np.column_stack([np.ones(data.shape[1]), *_cosines(data.shape[1]).values()])
    columns, description = {}, {}
    for mask_name, mask in masks.items():
        values = data[mask].T.astype(np.float64)
        values -= filters @ np.linalg.lstsq(filters, values, rcond=None)[0]
        values /= values.std(axis=0) + 1e-12
        u, s, _ = np.linalg.svd(values @ values.T, hermitian=True)
        variance = s / s.sum()
        for k in range(N_COMPCOR):
            name = f"a_comp_cor_{len(columns):02d}"
            columns[name] = u[:, k] * np.sign(u[np.abs(u[:, k]).argmax(), k])
            description[name] = {
                "Method": "aCompCor",
                "Mask": mask_name,
                "Retained": True,
                "SingularValue": float(np.sqrt(s[k])),
                "VarianceExplained": float(variance[k]),
                "CumulativeVarianceExplained": float(variance[: k + 1].sum()),
            }
    return columns, description
