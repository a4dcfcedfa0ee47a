"""How well the model does on people it is not trained on: the criterion for the state that is kept."""

import numpy as np
import torch

from cinp_lib import losses
from cinp_lib.embeddings import embed_pairs
from cinp_lib.masking import draw_mask
from cinp_lib.model import Cinp
from cinp_lib.pair_store import PairStore, places_in_batches
from cinp_lib.pretraining_state import PretrainingConfig
from cinp_lib.retrieval import retrieval
from study_lib.training import stream


def validation_scores(model: Cinp, store: PairStore, config: PretrainingConfig) -> dict[str, float]:
    """Named scores in eval mode; `error` is what shall be small.

    Everybody is in one gallery, one scan each. Where no loss compares pairs, the error is that of reconstructions.
    """
    people = store.one_per_subject()
    if not config.objective.pairs:
        error = reconstruction_error(model, people, config)
        return {"reconstruction": error, "error": error}
    embedded = embed_pairs(model, people)
    found = retrieval(embedded.images, embedded.networks)
    sides = torch.from_numpy(embedded.images), torch.from_numpy(embedded.networks)
    contrastive = float(losses.image_network_contrastive(*sides, float(model.tau.detach()))[0])
    error = contrastive if config.best_by == "loss" else -found.mean_reciprocal_rank
    scores = {"contrastive": contrastive, "r1": found.r1, "reciprocal_rank": found.mean_reciprocal_rank}
    return scores | {"error": error}


def reconstruction_error(model: Cinp, store: PairStore, config: PretrainingConfig, batch: int = 32) -> float:
    """Mean absolute error of reconstructions, with a mask for each person that is the same at every call."""
    model.eval()
    errors = []
    with torch.no_grad():
        for places in places_in_batches(len(store), batch):
            rngs = [stream(config.seed, "validation masks", int(place)) for place in places]
            drawn = [draw_mask(store.size, config.mask_share, config.mask_block, rng) for rng in rngs]
            device = model.log_tau.device
            masks = torch.from_numpy(np.stack(drawn))[:, None].to(device)
            volumes = torch.from_numpy(store.volumes(places))[:, None].to(device)
            made = model.see(volumes, masks).reconstructions
            loss, _ = losses.masked_image_modelling(volumes, made, masks, config.objective.over)
            errors.append(float(loss) * len(places))
    return sum(errors) / len(store)
