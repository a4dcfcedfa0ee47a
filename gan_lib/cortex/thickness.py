"""Thickness voxel by voxel: the length of the streamlines of Laplace's equation between white matter and fluid.

Jones et al. 2000 (Human Brain Mapping 11:12) for the field, Yezzi and Prince 2003 (IEEE TMI 22:1332) for the lengths
by upwind differences. A digital border lies half a layer of voxels before the first voxel centre beyond it; a plane
with normal n has layers 1 / sum(|n_a| / h_a) thick, so lengths start there at minus half of that, not at 0.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse.linalg import cg

from gan_lib.cortex.labels import OTHER, WHITE, TissueLabels

TOLERANCE, MOST_SWEEPS = 1e-3, 200  # of lengths, in mm
Numbers = Int[np.ndarray, " voxel"]
Values = Float[np.ndarray, " voxel"]
AXES_AND_SIDES = [(axis, side) for axis in range(3) for side in (-1, 1)]


def laplace_thickness(labels: TissueLabels, cortex: Bool[np.ndarray, "x y z"]) -> Float[np.ndarray, "x y z"]:
    """Millimetres in the voxels of the cortex, 0 elsewhere and where a piece of it touches only one tissue."""
    where = np.flatnonzero(cortex)
    order = np.full(cortex.size, -1)
    order[where] = np.arange(len(where))
    tissue = labels.tissues.ravel()
    around = {key: where + key[1] * _stride(cortex.shape, key[0]) for key in AXES_AND_SIDES}
    field = _field(around, order, tissue, labels.spacing_mm)
    direction = _direction(field, around, order, tissue, labels.spacing_mm)
    lengths = [
        _lengths(sign * direction, around, order, tissue == start, labels.spacing_mm)
        for sign, start in ((-1, WHITE), (1, OTHER))
    ]
    total = np.clip(np.sum(lengths, axis=0), 0, None)
    flat = np.abs(direction).sum(axis=0) == 0
    thickness = np.zeros(cortex.size)
    thickness[where] = np.where(flat, 0, total)
    return thickness.reshape(cortex.shape)


def _stride(shape: tuple[int, ...], axis: int) -> int:
    return int(np.prod(shape[axis + 1 :]))


def _field(around: dict, order: Numbers, tissue: np.ndarray, spacing: np.ndarray) -> Values:
    """1 in white matter, 0 in fluid, harmonic between; grey matter that is no cortex lets nothing through."""
    n = len(next(iter(around.values())))
    own, diagonal, known, entries = np.arange(n), np.full(n, 1e-9), np.zeros(n), []
    for (axis, _), neighbour in around.items():
        weight, inside = spacing[axis] ** -2, order[neighbour]
        fixed = (inside < 0) & ((tissue[neighbour] == WHITE) | (tissue[neighbour] == OTHER))
        diagonal += weight * (fixed | (inside >= 0))
        known += weight * (fixed & (tissue[neighbour] == WHITE))
        entries.append((own[inside >= 0], inside[inside >= 0], np.full((inside >= 0).sum(), -weight)))
    rows, columns, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    system = sparse.csr_array((values, (rows, columns)), (n, n)) + sparse.diags_array(diagonal)
    field, failed = cg(system.tocsr(), known, rtol=1e-6, maxiter=2000, M=sparse.diags_array(1 / diagonal))
    if failed:
        raise ValueError(f"Laplace's equation did not converge on {n} voxels of cortex; check the labels")
    return field


def _direction(field: Values, around: dict, order: Numbers, tissue: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """(3, voxel): the unit vector towards white matter; 0 where the field is flat."""
    gradient = np.zeros((3, len(field)))
    for (axis, side), neighbour in around.items():
        inside = order[neighbour]
        value = np.where(tissue[neighbour] == WHITE, 1.0, np.where(tissue[neighbour] == OTHER, 0.0, field))
        value = np.where(inside >= 0, field[inside], value)
        gradient[axis] += side * value / (2 * spacing[axis])
    length = np.linalg.norm(gradient, axis=0)
    return np.divide(gradient, length, out=np.zeros_like(gradient), where=length > 1e-6)


def _lengths(
    towards: np.ndarray, around: dict, order: Numbers, is_start: Bool[np.ndarray, " anywhere"], spacing: np.ndarray
) -> Values:
    """Length of the streamline from the starting tissue; `towards` points along it, away from the start.

    Upwind: L(x) sum_a |n_a|/h_a = 1 + sum_a |n_a|/h_a L(x - sign(n_a) e_a); an axis that leads nowhere is left out.
    """
    n = towards.shape[1]
    steps = np.abs(towards) / spacing[:, None]
    layers = np.maximum(steps.sum(axis=0), 1e-12)
    total, known, entries = np.full(n, 1e-12), np.ones(n), []
    for axis in range(3):
        before = np.where(towards[axis] > 0, around[axis, -1], around[axis, 1])
        inside, weight = order[before], steps[axis]
        starts, within = (inside < 0) & is_start[before], inside >= 0
        total += weight * (starts | within)
        known -= np.where(starts, weight * 0.5 / layers, 0)
        entries.append((np.flatnonzero(within), inside[within], weight[within]))
    rows, columns, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    # a voxel without any way back is half a layer from the border
    stuck = total < 1e-6
    total, known = np.where(stuck, 1.0, total), np.where(stuck, 0.5 / layers.clip(1e-3), known)
    back = sparse.csr_array((values * ~stuck[rows], (rows, columns)), (n, n))
    return _swept(back, known, total)


def _swept(back: sparse.csr_array, known: Values, total: Values) -> Values:
    lengths = known / total
    for _ in range(MOST_SWEEPS):
        again = (known + back @ lengths) / total
        done = np.abs(again - lengths).max(initial=0) < TOLERANCE
        lengths = again
        if done:
            break
    return lengths
