"""A person's functional network, and region series that have it.

Regions listen to eight functional systems; two regions are correlated as far as they listen to the same ones. So every
network is a true correlation matrix, and a trait that makes a region listen more to a system changes above all the
edges between that region and the system's members. Which edges a disorder moves, and by how much, is computed
(`edge_effects`), not assumed.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.signal import lfilter

from study_lib.phantom.atlas import N_REGIONS, cluster_centres, load_atlas
from study_lib.phantom.traits import N_DISORDER_TRAITS, N_TRAITS, affected_pairs, network_shift

N_SYSTEMS = 8
OWN_LOADING, OTHER_LOADING = 0.62, 0.12
TRAIT_LOADING = 0.36  # change of loading per standard deviation of a disorder trait
GENERAL_TRAIT_GAIN = 0.14  # relative change of a whole system's loadings
PERSONAL_LOADING = 0.15  # everybody's own deviation, in every region and system
DIRECT_LOADING = -0.10  # disorders also loosen two pairs of deep regions, in the network alone
UNSHARED = 0.72  # standard deviation of what a region shares with nobody
REPETITION_TIME_S = 2.0
AUTOCORRELATION = 0.4  # from volume to volume, as slow BOLD fluctuations have it
_MAP_SEED = 8116


@dataclass(frozen=True)
class SystemMap:
    """Which system each region belongs to, and what traits do to the loadings; the same for all people."""

    systems: np.ndarray  # (116,)
    base: np.ndarray  # (116, 8)
    trait_effects: np.ndarray  # (traits, 116, 8)
    direct_effect: np.ndarray  # (116, 8)


@lru_cache(maxsize=1)
def load_system_map() -> SystemMap:
    """Systems are left-right symmetric neighbourhoods of regions."""
    rng = np.random.default_rng(_MAP_SEED)
    centres = load_atlas().centres
    folded = np.column_stack([np.abs(centres[:, 0]), centres[:, 1:]])
    hubs = cluster_centres(folded, N_SYSTEMS)
    systems = ((folded[:, None] - hubs) ** 2).sum(2).argmin(1)
    base = OTHER_LOADING * rng.normal(size=(N_REGIONS, N_SYSTEMS))
    base[np.arange(N_REGIONS), systems] += OWN_LOADING
    effects = _trait_effects(systems, base, rng)
    direct = np.zeros_like(base)
    deep = [i for i, name in enumerate(load_atlas().names) if name.startswith("Deep")][:4]
    direct[deep, systems[deep]] = DIRECT_LOADING
    return SystemMap(systems, base, effects, direct)


def _trait_effects(systems, base, rng) -> np.ndarray:
    effects = np.zeros((N_TRAITS, *base.shape))
    for trait, pair in enumerate(affected_pairs()):
        regions = [2 * pair, 2 * pair + 1]
        target = rng.choice(np.setdiff1d(np.arange(N_SYSTEMS), systems[regions]))
        effects[trait, regions, target] = TRAIT_LOADING
    for trait in range(N_DISORDER_TRAITS, N_TRAITS):
        gains = GENERAL_TRAIT_GAIN * rng.choice((-1.0, 1.0), N_SYSTEMS)
        effects[trait] = base * gains[systems][:, None]
    return effects


@dataclass(frozen=True)
class Connectome:
    """One person's loadings and the correlation matrix that follows from them."""

    loadings: np.ndarray
    network: np.ndarray


def draw_connectome(traits: np.ndarray, diagnosis: str, rng: np.random.Generator) -> Connectome:
    """Draw the network of a person with these traits."""
    system_map = load_system_map()
    loadings = system_map.base + np.tensordot(traits, system_map.trait_effects, axes=1)
    loadings = loadings + PERSONAL_LOADING * rng.normal(size=loadings.shape)
    if diagnosis != "control":
        loadings = loadings + system_map.direct_effect
    covariance = loadings @ loadings.T + UNSHARED**2 * np.eye(N_REGIONS)
    deviation = np.sqrt(np.diag(covariance))
    return Connectome(loadings, covariance / np.outer(deviation, deviation))


@lru_cache(maxsize=8)
def edge_effects(diagnosis: str, n_people: int = 300) -> np.ndarray:
    """(116, 116) Cohen's d of every edge: the same people with and without the disorder, over the spread of healthy."""
    shift = np.zeros(N_TRAITS)
    shift[:N_DISORDER_TRAITS] = network_shift(diagnosis)
    healthy, patients = np.empty((2, n_people, N_REGIONS, N_REGIONS), np.float32)
    for k in range(n_people):
        traits = np.random.default_rng([_MAP_SEED, k]).normal(size=N_TRAITS)
        healthy[k] = draw_connectome(traits, "control", np.random.default_rng(k)).network
        patients[k] = draw_connectome(traits + shift, diagnosis, np.random.default_rng(k)).network
    spread = healthy.std(0)
    return (patients - healthy).mean(0) / np.where(spread > 0, spread, 1)


def draw_series(connectome: Connectome, n_volumes: int, rng: np.random.Generator) -> np.ndarray:
    """Region series (volume, region) whose correlation approaches the network as the scan gets longer."""
    shared = _fluctuations((n_volumes, N_SYSTEMS), rng)
    own = _fluctuations((n_volumes, N_REGIONS), rng)
    return shared @ connectome.loadings.T + UNSHARED * own


def _fluctuations(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """First-order autoregressive noise of unit variance; the first volumes, before it is stationary, are cut off."""
    start = 20
    noise = rng.normal(size=(shape[0] + start, shape[1]))
    gain = np.sqrt(1 - AUTOCORRELATION**2)
    return lfilter([gain], [1, -AUTOCORRELATION], noise, axis=0)[start:]
