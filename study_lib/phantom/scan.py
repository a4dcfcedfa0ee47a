"""One person goes through the scanners: every file of that subject, and what is true of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from study_lib.grid import Grid
from study_lib.phantom import bids, bold
from study_lib.phantom.acquisition import SCANNERS, acquire, grid
from study_lib.phantom.anatomy import Anatomy, draw_anatomy, hemisphere_thickness, region_labels, tissue_shares
from study_lib.phantom.connectome import draw_connectome, draw_series
from study_lib.phantom.people import Person
from study_lib.phantom.template import HIGHEST_CORNER_MM, LOWEST_CORNER_MM
from study_lib.phantom.traits import Traits, draw_traits

_LOW, _HIGH = np.array(LOWEST_CORNER_MM), np.array(HIGHEST_CORNER_MM)
_PERSON, _FUNCTION, _FAMILY, _VISIT = range(4)  # streams of random numbers; visits count on from the last


@dataclass(frozen=True)
class ScanSettings:
    """What of the cohort's specification one person's files depend on."""

    seed: int
    coupling: float
    paired_resolution: float
    n_volumes: int
    with_bold: bool


@dataclass(frozen=True)
class PersonTruth:
    """What is true of one person; an empty network for those who have no function."""

    thickness_mm: np.ndarray  # (78,)
    hemisphere_thickness_mm: np.ndarray  # left, right
    log_volume: np.ndarray  # (116,)
    anatomy_traits: np.ndarray
    network_traits: np.ndarray
    network: np.ndarray  # (116, 116) or (0, 0)


def scan_person(folder: Path, person: Person, settings: ScanSettings) -> PersonTruth:
    """Draw a person, write all of that person's files below `folder`, and return the truth."""
    torch.set_num_threads(1)  # one worker, one core, and the same sums on any number of them
    with threadpool_limits(1):
        traits, anatomy = _draw(person, settings)
        for visit in range(len(person.visits)):
            _scan_head(folder, person, visit, anatomy, settings)
        if person.harmonisation:
            _write_true_labels(folder, person, anatomy)
            network = np.empty((0, 0))
        else:
            network = _scan_function(folder, person, traits.network, settings)
    sides = np.array(list(hemisphere_thickness(anatomy.thickness_mm).values()))
    return PersonTruth(anatomy.thickness_mm, sides, anatomy.log_volume, traits.anatomy, traits.network, network)


def _generator(settings: ScanSettings, stream: int, number: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, stream, number])


def _draw(person: Person, settings: ScanSettings) -> tuple[Traits, Anatomy]:
    rng = _generator(settings, _PERSON, person.number)
    family = _generator(settings, _FAMILY, person.family_number) if person.family_number >= 0 else None
    traits = draw_traits(person.diagnosis, settings.coupling, rng, family)
    return traits, draw_anatomy(traits.anatomy, person.age_years, person.sex, rng)


def _scan_head(folder: Path, person: Person, visit: int, anatomy: Anatomy, settings: ScanSettings) -> None:
    session, site = person.visits[visit]
    scanner = SCANNERS[site]
    resolution = 1.0 if person.harmonisation else settings.paired_resolution
    affine, shape = grid(scanner, resolution, _LOW, _HIGH)
    shares = tissue_shares(anatomy, affine, shape)
    image = acquire(shares, scanner, affine, resolution, _generator(settings, _VISIT + visit, person.number))
    bids.write_head(folder, bids.Scan(person.subject, session, scanner), image, shares, affine)


def _write_true_labels(folder: Path, person: Person, anatomy: Anatomy) -> None:
    common = Grid.isotropic(2.0)
    shares = tissue_shares(anatomy, common.affine, common.shape)
    regions = region_labels(anatomy, common.affine, common.shape)
    bids.write_true_labels(folder, person.subject, shares, regions, common.affine)


def _scan_function(folder: Path, person: Person, traits: np.ndarray, settings: ScanSettings) -> np.ndarray:
    rng = _generator(settings, _FUNCTION, person.number)
    connectome = draw_connectome(traits, person.diagnosis, rng)
    series = draw_series(connectome, settings.n_volumes, rng)
    if settings.with_bold:
        bids.write_bold(folder, person.subject, *bold.simulate(series, rng))
    else:
        bids.write_series(folder, person.subject, series)
    return connectome.network
