"""Latent traits, what they do to regions and edges, and how diagnosis shifts them.

The sizes are set once, from published effects, and are not to be tuned to any model:

- Structure: d = 0.3 in thickness and somewhat less in volume per affected region, between the 0.2 of ENIGMA's largest
  regional differences in autism (van Rooij et al. 2018, doi 10.1176/appi.ajp.2017.17010100) and the 0.5 of mean
  thickness in schizophrenia (van Erp et al. 2018, doi 10.1016/j.biopsych.2018.04.023).
- Connectivity: d around 0.45 per affected edge, at the upper end of what single studies report (our choice).
- Spread between healthy people of one age and sex: about 8 % of thickness in the association regions that carry the
  traits of disorders and 3 to 4 % elsewhere, the range of FreeSurfer's regional measures (our choice). The constants
  below are larger, since painting the cortex smooths neighbours into each other.

Each of the eleven disorder traits belongs to one mirrored pair of cortical regions and to the edges between that pair
and one functional system. So 22 of 116 regions (19 %) carry the effect of diagnosis on anatomy. All disorders shift the
same traits, each in its own pattern of signs. In anatomy the shifts add up to a distance of 0.335 * sqrt(11) = 1.11
standard deviations: an oracle that knows the true anatomical traits of a person, and nothing else, decides between two
classes with Phi(1.11 / 2) = 71.1 % balanced accuracy. Who sees the network can know more: Phi(0.60 * sqrt(11) / 2) =
84.0 % from its traits alone.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from study_lib.phantom.atlas import N_CORTICAL, N_REGIONS, load_atlas

N_DISORDER_TRAITS = 11
N_GENERAL_TRAITS = 3
N_TRAITS = N_DISORDER_TRAITS + N_GENERAL_TRAITS

TRAIT_SHARE = 0.80
"""Share of the variance of regional scores that traits explain; of realised thickness it is the same, of realised
volume less, since head size and folding act on volume as well."""
ANATOMY_SHIFT = 0.335
"""By how many standard deviations diagnosis moves each disorder trait in the anatomy: d = 0.335 * sqrt(0.80) = 0.30."""
DEMENTIA_SHIFT = 1.0
"""Dementia (harmonisation cohort only) thins the same regions by d = 0.89: atrophy is stronger (our choice)."""
NETWORK_SHIFT = 0.60
"""The same in the network, where disorders show more."""

THICKNESS_SPREAD = 0.04
THICKNESS_SPREAD_ASSOCIATION = 0.11
VOLUME_SPREAD = 0.05
VOLUME_SPREAD_ASSOCIATION = 0.18

# One sign per disorder trait. The two disorders of one task differ in 7 of the 11 signs, so they can be told apart.
DIAGNOSIS_SIGNS = {
    "control": (0,) * N_DISORDER_TRAITS,
    "dementia": (-1,) * N_DISORDER_TRAITS,
    "autism": (1, -1, 1, 1, -1, -1, 1, -1, 1, -1, 1),
    "adhd": (-1, -1, 1, -1, 1, -1, -1, 1, 1, 1, -1),
    "depression": (-1, 1, 1, -1, -1, 1, -1, -1, 1, -1, 1),
    "schizophrenia": (-1, -1, -1, -1, 1, -1, 1, -1, -1, 1, 1),
}

_MAP_SEED = 116


@dataclass(frozen=True)
class TraitMap:
    """How traits act on anatomy; rows are regions, columns traits."""

    loadings: np.ndarray  # (116, traits), rows of unit length: the trait-driven part of each region
    affected_regions: np.ndarray  # indices of the regions that carry the effect of diagnosis
    thickness_spread: np.ndarray  # (78,) relative standard deviation
    volume_spread: np.ndarray  # (116,) standard deviation of the log volume


@lru_cache(maxsize=1)
def load_trait_map() -> TraitMap:
    """The same for every cohort and seed, as anatomy is the same for all people."""
    rng = np.random.default_rng(_MAP_SEED)
    pairs = affected_pairs()
    affected = np.sort(np.concatenate([2 * pairs, 2 * pairs + 1]))
    loadings = np.zeros((N_REGIONS, N_TRAITS))
    for trait, pair in enumerate(pairs):
        loadings[[2 * pair, 2 * pair + 1], trait] = 1.0
    others = np.setdiff1d(np.arange(N_REGIONS), affected)
    loadings[others, N_DISORDER_TRAITS:] = _smooth_loadings(others, rng)
    in_affected = np.isin(np.arange(N_REGIONS), affected)
    thickness = np.where(in_affected, THICKNESS_SPREAD_ASSOCIATION, THICKNESS_SPREAD)[:N_CORTICAL]
    volume = np.where(in_affected, VOLUME_SPREAD_ASSOCIATION, VOLUME_SPREAD)
    return TraitMap(loadings, affected, thickness, volume)


def affected_pairs() -> np.ndarray:
    """Eleven cortical pairs, spread evenly: every third in the order of their height."""
    return np.arange(2, N_CORTICAL // 2, 3)[:N_DISORDER_TRAITS]


def _smooth_loadings(regions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """General traits are smooth, left-right symmetric gradients over the brain; every row has unit length."""
    centres = load_atlas().centres[regions]
    folded = np.column_stack([np.abs(centres[:, 0]), centres[:, 1], centres[:, 2]]) / 40.0
    directions = rng.normal(size=(N_GENERAL_TRAITS, 3))
    phases = rng.uniform(0, 2 * np.pi, N_GENERAL_TRAITS)
    waves = np.cos(folded @ directions.T + phases)
    return waves / np.linalg.norm(waves, axis=1, keepdims=True)


@dataclass(frozen=True)
class Traits:
    """One person's traits, as they act on the anatomy and on the network."""

    anatomy: np.ndarray
    network: np.ndarray


def anatomy_shift(diagnosis: str, coupling: float = 1.0) -> np.ndarray:
    """How far diagnosis moves the disorder traits in the anatomy: not at all without coupling."""
    size = DEMENTIA_SHIFT if diagnosis == "dementia" else ANATOMY_SHIFT
    return (size if coupling > 0 else 0.0) * np.array(DIAGNOSIS_SIGNS[diagnosis])


def network_shift(diagnosis: str) -> np.ndarray:
    """How far diagnosis moves the disorder traits in the network."""
    return NETWORK_SHIFT * np.array(DIAGNOSIS_SIGNS[diagnosis])


def draw_traits(
    diagnosis: str, coupling: float, rng: np.random.Generator, family: np.random.Generator | None = None
) -> Traits:
    """Draw a person: `coupling` is the correlation between the traits behind anatomy and those behind the network.

    With coupling 0 the two are independent and diagnosis acts on the network alone. Siblings are drawn with equal
    `family` generators and share half of the variance of their traits.
    """
    if not 0 <= coupling <= 1:
        raise ValueError(f"coupling must lie between 0 and 1, got {coupling}")
    common, own = rng.normal(size=(2, N_TRAITS))
    if family is not None:
        common = np.sqrt(0.5) * (common + family.normal(size=N_TRAITS))
    network = coupling * common + np.sqrt(1 - coupling**2) * own
    anatomy = common.copy()
    network[:N_DISORDER_TRAITS] += network_shift(diagnosis)
    anatomy[:N_DISORDER_TRAITS] += anatomy_shift(diagnosis, coupling)
    return Traits(anatomy, network)


def regional_scores(traits: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Standard scores of thickness (78 cortical regions) and log volume (116) that these traits give one person.

    Thickness and volume share the traits' part and have chance of their own.
    """
    driven = np.sqrt(TRAIT_SHARE) * load_trait_map().loadings @ traits
    chance = np.sqrt(1 - TRAIT_SHARE) * rng.normal(size=(2, N_REGIONS))
    return (driven + chance[0])[:N_CORTICAL], driven + chance[1]
