"""Networks, batches and a cohort so small that the harmonisation GAN trains on them in seconds, for tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from small_slices import CONFIG, Person, write_cohort

from gan_lib.losses import LossWeights
from gan_lib.networks import NetworkConfig
from gan_lib.slices import SliceBatch, SliceStore
from gan_lib.train_step import StepConfig
from gan_lib.training_state import TrainingConfig

SIZE = (16, 24)  # height, width
NETWORKS = NetworkConfig(size=SIZE, sites=3, width=4, cap=8, latent=4, style=6, hidden=8)
BATCH = 4
# Three sites, two people to train on and one to validate on at each; slices of 32 x 16 pixels.
PEOPLE = tuple(
    Person(f"{site.lower()}{n}", site, 3 * place + n, role, low=(3 + place, 2, 2), shape=(11, 18, 11 + n))
    for place, site in enumerate(("Alpha", "Beta", "Gamma"))
    for n, role in enumerate(("train", "train", "validation"))
)
# All that a run can do, in few iterations: lazy R1, a diversification that ends on the way, rates that fall.
TRAINING = TrainingConfig(
    networks=NETWORKS,
    step=StepConfig(weights=LossWeights(r1_every=2, diversification_iterations=6), schedule="alternating"),
    iterations=8,
    batch=BATCH,
    learning_rate=1e-3,
    mapping_rate=1e-4,
    decay_from=0.5,
    record_every=1,
    save_every=3,
    validate_every=4,
)


def write_stores(folder: Path) -> tuple[SliceStore, SliceStore]:
    """Slices to train on, and to validate on."""
    cohort = write_cohort(folder, PEOPLE)
    config = replace(CONFIG, multiple=16)
    training = SliceStore.build(cohort.table, cohort, folder / "training", config, 1, progress=False)
    companion = training.companion("validation")
    return training, SliceStore.build(cohort.table, cohort, folder / "validation", companion, 1, progress=False)


def training_for(store: SliceStore, **changes) -> TrainingConfig:
    """`TRAINING` for the slices of a store, with changes."""
    networks = replace(NETWORKS, size=store.size, sites=len(store.sites))
    return replace(TRAINING, **{"networks": networks} | changes)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Normal numbers that are the same everywhere."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def batch_of(
    number: int = BATCH, size: tuple[int, int] = SIZE, sites: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32
) -> SliceBatch:
    """Smooth slices in [0, 1] with background 0, every one with another mask and pair of sites."""
    rng = np.random.default_rng(seed)
    values = gaussian_filter(rng.standard_normal((4, number, 1, *size)), (0, 0, 0, 2, 2))
    values = (values - values.min()) / (values.max() - values.min())
    rows, columns = np.indices(size)
    radius = np.hypot((rows + 0.5) / size[0] - 0.5, (columns + 0.5) / size[1] - 0.5)
    masks = np.stack([radius < limit for limit in np.linspace(0.3, 0.48, 2 * number)])[:, None]
    both = masks[:number], masks[number:]
    images = [torch.from_numpy(v * m).to(dtype) for v, m in zip(values, (*both, *both), strict=True)]
    return SliceBatch(
        images=images[0],
        neighbours=images[1],
        masks=torch.from_numpy(both[0]),
        neighbour_masks=torch.from_numpy(both[1]),
        references=images[2],
        second_references=images[3],
        source_site=torch.arange(number) % sites,
        target_site=torch.arange(1, number + 1) * 2 % sites,
        subjects=tuple(f"s{n}" for n in range(number)),
        reference_subjects=tuple(f"r{n}" for n in range(number)),
        where=tuple(f"s{n} (axial slice {n})" for n in range(number)),
    )
