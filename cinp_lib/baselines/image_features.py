"""Image encoders that no network has taught: one that has seen masked images alone, and one that has learned nothing.

Of both the pooled features are probed, as nothing has taught them a projection.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from cinp_lib.losses import LossWeights
from cinp_lib.model import Cinp
from cinp_lib.pair_store import PairStore, places_in_batches
from cinp_lib.pretraining_state import PretrainingConfig, State
from cinp_lib.starting_point import fit_inputs
from study_lib.shapes import Embeddings


def mim_only(config: PretrainingConfig, **changes) -> PretrainingConfig:
    """The settings of a pre-training with the loss of masked images alone; `changes`: its share of the budget."""
    weights = LossWeights(contrastive=0.0, reconstruction=config.objective.weights.reconstruction or 1.0, matching=0.0)
    alone = replace(config.objective, weights=weights)
    return replace(config.without_components, objective=alone, reconstruct_every=1, **changes)


def random_encoder(config: PretrainingConfig, store: PairStore, seed: int) -> Cinp:
    """The model before any training. Where its input is standardised by voxel, it is by the store's volumes."""
    fresh = replace(config.without_components, seed=seed, image_weights="")
    model = State.fresh(fresh, torch.device("cpu")).model.eval()
    fit_inputs(model, store)
    return model


def pooled_features(model: Cinp, store: PairStore, batch: int = 32) -> Embeddings:
    """What the image encoder sees, before the projection, of all scans of a store in its order."""
    model.eval()
    with torch.no_grad():
        made = [
            model.see(_volumes(model, store, places), None).features.float().cpu()
            for places in places_in_batches(len(store), batch)
        ]
    return torch.cat(made).numpy()


def encoder_inputs(model: Cinp, store: PairStore, places: np.ndarray) -> Float32[np.ndarray, "subject x y z"]:
    """Volumes as the image encoder gets them, for methods that shall have no worse ones."""
    with torch.no_grad():
        volumes = _volumes(model, store, places)
        return (volumes if model.voxels is None else model.voxels(volumes))[:, 0].cpu().numpy()


def _volumes(model: Cinp, store: PairStore, places: np.ndarray) -> Tensor:
    return torch.from_numpy(store.volumes(places))[:, None].to(model.log_tau.device)
