"""A label image of 116 regions for the phantom, laid out as AAL is: 78 cortical, 12 deep, 18 cerebellar, 8 vermis.

Left and right mirror each other and alternate in the order, as in AAL. It is an offline stand-in made from the tissue
maps; real data uses AAL itself.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from study_lib.phantom.template import Template, load_template

CORTICAL_PAIRS, DEEP_PAIRS, CEREBELLAR_PAIRS, VERMIS_REGIONS = 39, 6, 9, 8
N_CORTICAL = 2 * CORTICAL_PAIRS
N_REGIONS = N_CORTICAL + 2 * (DEEP_PAIRS + CEREBELLAR_PAIRS) + VERMIS_REGIONS
ATLAS_NAME = "phantom116"


@dataclass(frozen=True)
class Atlas:
    """Regions 0 to 115; label k in the image is region k - 1."""

    names: tuple[str, ...]
    centres: np.ndarray  # (region, 3) in mm
    labels: np.ndarray  # on the template's 1 mm grid, 0 = no region
    affine: np.ndarray

    @property
    def hemispheres(self) -> np.ndarray:
        """ "L", "R" or "M" (midline) of every region."""
        return np.array([name[-1] if name[-2:] in ("_L", "_R") else "M" for name in self.names])


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """Divide the template's grey matter into the 116 regions."""
    template = load_template()
    cortex = template.cortex > 0.5
    ribbon = cortex & (template.white_distance > -0.5) & (template.white_distance < 3.5)
    hindbrain = template.hindbrain_grey > 0.5
    groups = [
        ("", ribbon, CORTICAL_PAIRS, True),
        ("Deep", template.deep_grey > 0.3, DEEP_PAIRS, True),
        ("Cerebellum", _cerebellum(hindbrain, template, vermis=False), CEREBELLAR_PAIRS, True),
        ("Vermis", _cerebellum(hindbrain, template, vermis=True), VERMIS_REGIONS, False),
    ]
    labels = np.zeros(template.cortex.shape, np.int16)
    names: list[str] = []
    centres: list[np.ndarray] = []
    for kind, mask, count, paired in groups:
        own_centres = cluster_centres(_folded(_points(mask, template), paired), count)
        labels[mask] = len(names) + 1 + _nearest(_points(mask, template), own_centres, paired)
        new_names, new_centres = _describe(kind, own_centres, paired)
        names += new_names
        centres += new_centres
    return Atlas(tuple(names), np.array(centres), labels, template.affine)


def cluster_centres(points: np.ndarray, count: int, iterations: int = 25) -> np.ndarray:
    """Lloyd's algorithm from farthest-point seeds: the same result on every machine, without a random start."""
    sample = points[:: max(1, len(points) // 20_000)]
    centres = [sample[np.argmin(((sample - sample.mean(0)) ** 2).sum(1))]]
    distance = ((sample - centres[0]) ** 2).sum(1)
    for _ in range(count - 1):
        centres.append(sample[distance.argmax()])
        distance = np.minimum(distance, ((sample - centres[-1]) ** 2).sum(1))
    result = np.array(centres)
    for _ in range(iterations):
        owner = cKDTree(result).query(sample)[1]
        result = np.array([sample[owner == k].mean(0) for k in range(count)])
    return result[np.lexsort(result.T)]  # from the lowest to the highest


def nearest_cortical_region(points: np.ndarray, atlas: Atlas) -> np.ndarray:
    """For any point of the cerebrum, the cortical region (0 to 77) whose centre is nearest on its own side."""
    left_centres = atlas.centres[:N_CORTICAL:2] * (-1, 1, 1)
    return _nearest(points, left_centres, paired=True)


def _points(mask: np.ndarray, template: Template) -> np.ndarray:
    return np.argwhere(mask) + template.affine[:3, 3]


def _folded(points: np.ndarray, paired: bool) -> np.ndarray:
    return np.abs(points * (1, 0, 0)) + points * (0, 1, 1) if paired else points


def _nearest(points: np.ndarray, centres: np.ndarray, paired: bool) -> np.ndarray:
    """Index of the nearest centre; for pairs 2k on the left (x < 0) and 2k + 1 on the right."""
    owner = cKDTree(centres).query(_folded(points, paired))[1]
    return 2 * owner + (points[:, 0] >= 0) if paired else owner


def _cerebellum(grey: np.ndarray, template: Template, vermis: bool) -> np.ndarray:
    """The cerebellum without the brain stem, its midline strip or the rest."""
    x, y = (np.arange(n) + offset for n, offset in zip(grey.shape[:2], template.affine[:2, 3], strict=True))
    midline = np.abs(x)[:, None, None] < 8
    behind = (y < -42)[None, :, None]
    return ndimage.binary_opening(grey & behind) & (midline if vermis else ~midline)


def _describe(kind: str, centres: np.ndarray, paired: bool) -> tuple[list[str], list[np.ndarray]]:
    names, positions = [], []
    for number, centre in enumerate(centres, start=1):
        name = f"{kind or _lobe(centre)}_{number:02d}"
        names += [f"{name}_L", f"{name}_R"] if paired else [name]
        positions += [centre * (-1, 1, 1), centre] if paired else [centre]
    return names, positions


def _lobe(centre: np.ndarray) -> str:
    """A coarse name by place, so that a table can be read; not an anatomical claim."""
    x, y, z = centre
    if y < -68 and z < 30:
        return "Occipital"
    if z < 4 and (abs(x) > 32 or y < -8) and y < 18:
        return "Temporal"
    return "Parietal" if y < -22 else "Frontal"
