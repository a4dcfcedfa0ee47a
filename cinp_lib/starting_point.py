"""What pre-training begins with: statistics of the training pairs, and components of both sides already aligned.

Our addition for cohorts of some hundred people; the study has none, nor has the preset `paper`. The components' part of
the projections learns first and alone, by the same contrastive loss, on up to LARGEST people at once: a step costs no
look at a volume. Encoders then add to what components say, and begin by adding nothing.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cinp_lib.augmentation import replayed
from cinp_lib.model import Cinp, Features, known_edges
from cinp_lib.objective import contrastive_loss
from cinp_lib.pair_sampler import PairSampler
from cinp_lib.pair_store import PairStore
from cinp_lib.pretraining_state import PretrainingConfig
from study_lib.training import stream

LARGEST = 1024  # pairs that are told from each other at once
RATE, WARM_UP, DECAY = 3e-3, 10, 5.0  # of AdamW; chosen on validation people of the built-in cohort


def begin(model: Cinp, store: PairStore, config: PretrainingConfig) -> None:
    """Statistics, then components; the same for the same pairs and settings."""
    fit_inputs(model, store)
    if config.component_steps:
        align_components(model, store, config)


def fit_inputs(model: Cinp, store: PairStore) -> None:
    """Means, deviations and components of the pairs of a store, as far as the model asks for them."""
    if model.voxels is not None:
        model.voxels.fit(store.volume_batches())
    if model.image_components is not None:
        model.image_components.fit(torch.cat([_rows(model, volumes) for volumes in store.volume_batches()]).numpy())
        model.network_components.fit(edges_of(store).numpy())


def align_components(model: Cinp, store: PairStore, config: PretrainingConfig) -> None:
    """Own partners nearer than strangers' by components alone."""
    components = _components(model, store)
    layers = [side.of_components for side in (model.image_projection, model.network_projection)]
    weights = [layer.weight for layer in layers]
    people = store.table.groupby("site" if config.within_site else lambda _: 0)["family"].nunique().min()
    sampler = PairSampler(store, min(int(people), LARGEST), config.seed, config.within_site)
    optimiser = torch.optim.AdamW(weights, RATE, betas=(0.9, 0.98), weight_decay=DECAY)
    seed = int(stream(config.seed, "components", 0).integers(2**62))
    with replayed(seed, model.log_tau.device):
        for step in range(config.component_steps):
            places = torch.from_numpy(sampler.draw(step))
            dropped = (functional.dropout(side[places], config.model.feature_dropout) for side in components)
            sides = (functional.normalize(one(rows), dim=-1) for one, rows in zip(layers, dropped, strict=True))
            loss, _ = contrastive_loss(model, *sides, config.objective)
            share = (step + 0.5) / config.component_steps
            optimiser.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * (1 + np.cos(np.pi * share)) / 2
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.grad = gradient
            optimiser.step()


@torch.no_grad()
def _components(model: Cinp, store: PairStore) -> tuple[Features, Features]:
    """Those of all pairs, in the store's order."""
    device = model.log_tau.device
    images = [model.image_components(_rows(model, volumes).to(device)) for volumes in store.volume_batches()]
    return torch.cat(images), model.network_components(edges_of(store).to(device))


def edges_of(store: PairStore) -> Tensor:
    """One row for each network of a store, in its order."""
    return known_edges(torch.from_numpy(store.networks(np.arange(len(store)))))


@torch.no_grad()
def _rows(model: Cinp, volumes: np.ndarray) -> Tensor:
    """Standard voxels, a row for each volume."""
    seen = torch.from_numpy(np.asarray(volumes, np.float32))[:, None].to(model.log_tau.device)
    return model.voxels(seen).flatten(1).cpu()
