"""The pre-training loop: `fit` yields records, so that whoever calls it owns printing and plotting.

Killed anywhere and called again, it ends in the same weights: what an iteration draws depends on seed, iteration and
place in the batch alone, and everything else lies in the last checkpoint. Several ranks share each batch; the first one
writes.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cinp_lib import losses
from cinp_lib.augmentation import augmented_networks, augmented_volumes, replayed
from cinp_lib.gradient_cache import Seen, backward, chunks_of
from cinp_lib.masking import draw_mask
from cinp_lib.model import Cinp, Features, Masks
from cinp_lib.objective import pair_loss
from cinp_lib.pair_sampler import Batch, PairSampler
from cinp_lib.pair_store import PairStore
from cinp_lib.pretraining_state import PretrainingConfig, State
from cinp_lib.starting_point import begin
from cinp_lib.validation import validation_scores
from study_lib.training import CallAgain, Checkpoints, Interruption, Precision, Ranks, check_finite, stream
from study_lib.training.records import Record
from study_lib.workflow.digest import modules_digest


def fit(
    store: PairStore,
    folder: str | Path,
    config: PretrainingConfig,
    validation: PairStore | None = None,
    ranks: Ranks | None = None,
) -> Iterator[Record]:
    """Train in `folder`, or go on there. Yields a record per `record_every` iterations, also those of before.

    With `validation`, `checkpoints/best` is the state that was best on these subjects: so training that begins to
    memorise pairs is stopped early in effect. The newest state is always there. Where components are aligned before
    the first iteration, `checkpoints/start` is the state after that, with a record of iteration 0.
    """
    ranks = ranks or Ranks()
    _check_sizes(store, config)
    sampler = PairSampler(store, config.batch, config.seed, config.within_site)
    state, checkpoints = State.fresh(config, ranks.device), Checkpoints(Path(folder) / "checkpoints")
    if not state.resume(checkpoints):
        _begin(state, (store, validation), checkpoints, ranks)
    ranks.agree("iteration to resume from", state.iteration)
    yield from list(state.records)
    with Interruption() as interruption:
        while state.iteration < config.iterations:
            began = time.monotonic()
            places = sampler.draw(state.iteration)
            parts = train_step(state, store, places, ranks)
            state.sums.add(parts | {"seconds": torch.tensor(time.monotonic() - began)})
            state.iteration += 1
            record = state.add_record(ranks) if state.is_due(config.record_every) else None
            if validation is not None and state.is_due(config.validate_every):
                state.add_validation(validation_scores(state.model, validation, config), checkpoints, ranks)
            stopping = ranks.any(interruption.requested)
            if (state.is_due(config.save_every) or stopping) and ranks.is_first:
                state.save(checkpoints)
            if record:
                yield record
            if stopping and state.iteration < config.iterations:
                raise CallAgain(state.iteration, interruption.reason)


def _begin(state: State, stores: tuple[PairStore, PairStore | None], checkpoints: Checkpoints, ranks: Ranks) -> None:
    """The starting point, which may be the best state already."""
    (store, validation), model = stores, state.model
    begin(model, store, state.config)
    if not state.config.component_steps:
        return
    aligned = model.image_projection.of_components.weight.detach()
    ranks.agree("size of the components that training begins with", float(aligned.abs().sum()))
    state.records.append({"iteration": 0})
    if validation is not None:
        state.add_validation(validation_scores(model, validation, state.config), checkpoints, ranks)
    if ranks.is_first:
        state.save(checkpoints, "start")


def train_step(state: State, store: PairStore, places: Batch, ranks: Ranks) -> dict[str, Tensor]:
    """One update on the pairs at these places of the store. Gives the named losses."""
    config, model = state.config, state.model
    state.set_rate()
    model.train()
    state.optimiser.zero_grad(set_to_none=True)
    parts = batch_gradients(state, store, places, ranks)
    trained = [parameter for group in state.optimiser.param_groups for parameter in group["params"]]
    ranks.mean_gradients(trained)
    parts["gradient_norm"] = torch.nn.utils.clip_grad_norm_(trained, config.clip)
    check_finite(parts, state.iteration, _where(store, places))
    state.optimiser.step()
    model.clamp_tau()
    return parts


def batch_gradients(state: State, store: PairStore, places: Batch, ranks: Ranks) -> dict[str, Tensor]:
    """Add the gradients of the whole objective on a batch, chunk by chunk; gives the named losses."""
    config, model = state.config, state.model
    objective, families = config.objective, store.families[places]
    # The first time a chunk is seen only features are needed: without I*, where that changes no random number.
    short = config.model.image.dropout == config.model.image.drop_path == 0

    def see(chunk: slice, whole: bool) -> Seen:
        masked = range(chunk.start, chunk.stop) if objective.reconstructs and (whole or not short) else ()
        masked = [place for place in masked if place % config.reconstruct_every == 0]
        with replayed(_seed(state, "chunks", chunk.start), state.device):
            return _seen(state, store, (places, chunk), masked)

    def compare(features: tuple[Features, Features]) -> losses.Loss:
        _check_features(features, state, store, places)
        rng = stream(config.seed, "strangers", state.iteration)
        with replayed(_seed(state, "projections"), state.device):
            return pair_loss(model, features, objective, families, rng)

    chunks = chunks_of(ranks.part(len(places)), config.chunk)
    parts = backward(see, chunks, compare if objective.pairs else None, ranks)
    named = {name: parts[name] for name, weight in vars(objective.weights).items() if weight}
    return parts | {"loss": losses.total(named, objective.weights)[1]["total"]}


def _seen(state: State, store: PairStore, pairs: tuple[Batch, slice], masked: list[int]) -> Seen:
    """A chunk of the batch, changed at random, through the encoders; with the loss of those whose image is masked."""
    (places, chunk), config, dtype = pairs, state.config, state.model.log_tau.dtype
    volumes = torch.from_numpy(store.volumes(places[chunk]))[:, None].to(state.device, dtype)
    networks = torch.from_numpy(store.networks(places[chunk])).to(state.device, dtype)
    volumes = augmented_volumes(volumes, config.augmentation)
    networks = augmented_networks(networks, config.augmentation)
    masks, own = (_masks(state, masked), [place - chunk.start for place in masked]) if masked else (None, None)
    with Precision(config.precision).autocast(state.device):
        views, network_features = state.model.see(volumes, masks, own), state.model.read(networks)
    features = views.features.to(dtype), network_features.to(dtype)
    if masks is None:
        return Seen(*features, None, {})
    loss, parts = losses.masked_image_modelling(volumes[own], views.reconstructions, masks, config.objective.over)
    # A chunk counts by its pairs: so that every masked image counts alike, whatever chunk it falls to.
    share = len(masked) / -(-len(places) // config.reconstruct_every) * len(places) / len(volumes)
    return Seen(
        *features, share * config.objective.weights.reconstruction * loss, {n: share * p for n, p in parts.items()}
    )


def _masks(state: State, masked: Sequence[int]) -> Masks:
    """A mask for each place of the batch, whatever chunk and rank it falls to."""
    config = state.config
    drawn = [
        draw_mask(config.model.image.size, config.mask_share, config.mask_block, _rng(state, "masks", place))
        for place in masked
    ]
    return torch.from_numpy(np.stack(drawn))[:, None].to(state.device)


def _rng(state: State, name: str, place: int) -> np.random.Generator:
    return stream(state.config.seed, f"{name} {place}", state.iteration)


def _seed(state: State, name: str, place: int = 0) -> int:
    return int(_rng(state, name, place).integers(2**62))


def _where(store: PairStore, places: np.ndarray) -> list[str]:
    """The people of a batch, in words."""
    rows = store.table.iloc[places]
    return [f"{subject} ({site})" for subject, site in zip(rows["subject"], rows["site"], strict=True)]


def _check_features(features: tuple[Features, Features], state: State, store: PairStore, places: Batch) -> None:
    """Name the people whose features are no numbers, before the losses refuse them by number."""
    for kind, values in zip(("image", "network"), features, strict=True):
        broken = (~values.isfinite().all(1)).nonzero()[:, 0].tolist()
        if broken:
            check_finite({f"{kind}_features": values.detach()}, state.iteration, _where(store, places[broken]))


def _check_sizes(store: PairStore, config: PretrainingConfig) -> None:
    image, network = config.model.image, config.model.network
    if tuple(store.size) != image.size or store.regions != network.regions:
        raise ValueError(
            f"{store.folder}: expected volumes of {image.size} voxels and networks of {network.regions} regions, as "
            f"the model is made for; got {tuple(store.size)} and {store.regions}. Prepare the pairs in the model's "
            "size (PairConfig), or make a model for theirs"
        )


def training_key(config: PretrainingConfig, store: PairStore) -> str:
    """Names a training by its settings, its pairs and the code that trains; each key has a folder of its own."""
    words = json.dumps([config.plain(), store.digest, modules_digest(["cinp_lib.pretrain"])], sort_keys=True)
    return hashlib.sha256(words.encode("utf-8")).hexdigest()[:12]


def trained_model(
    folder: str | Path, config: PretrainingConfig, kept: Literal["best", "newest", "start"] = "best"
) -> tuple[Cinp, Record]:
    """The model that training left in `folder`, in eval mode, and the record of its iteration.

    Of the best validation score; where there was no validation, that of the newest checkpoint.
    """
    state, checkpoints = State.fresh(config, torch.device("cpu")), Checkpoints(Path(folder) / "checkpoints")
    named = kept != "newest" and state.resume(checkpoints, kept)
    if not named and (kept == "start" or not state.resume(checkpoints)):
        raise FileNotFoundError(f"{checkpoints.folder}: expected checkpoints of a training run; train first")
    return state.model.eval(), state.records[-1]
