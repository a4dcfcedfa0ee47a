"""The training loop: `fit` yields records, so that whoever calls it owns printing and plotting.

Killed anywhere and called again, it ends in the same weights: what an iteration draws depends on seed and iteration
alone, and everything else lies in the last checkpoint. Several ranks share each batch; the first one writes.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from gan_lib.networks import Images, Styles
from gan_lib.slices import SliceBatch, SliceSampler, SliceStore
from gan_lib.train_step import Kind, Networks, Step
from gan_lib.training_state import State, TrainingConfig
from gan_lib.validation import validation_error
from study_lib.training import CallAgain, Checkpoints, Interruption, Precision, Ranks, check_finite, stream
from study_lib.training.records import Record
from study_lib.workflow.digest import modules_digest


def fit(
    store: SliceStore,
    folder: str | Path,
    config: TrainingConfig,
    validation: SliceStore | None = None,
    ranks: Ranks | None = None,
) -> Iterator[Record]:
    """Train in `folder`, or go on there. Yields a record per `record_every` iterations, also those of before.

    With `validation`, `checkpoints/best` is the state of the lowest `validation_error`; the newest is always there.
    """
    ranks = ranks or Ranks()
    sampler = SliceSampler(store, config.batch, config.seed, config.draw)
    state, checkpoints = State.fresh(config, ranks.device), Checkpoints(Path(folder) / "checkpoints")
    state.resume(checkpoints)
    ranks.agree("iteration to resume from", state.iteration)
    yield from list(state.records)
    with Interruption() as interruption:
        while state.iteration < config.iterations:
            began = time.monotonic()
            batch = sampler.draw(state.iteration, ranks.rank, ranks.world).to(ranks.device)
            parts = train_step(state, batch, ranks)
            check_finite(parts, state.iteration, batch.where)
            state.sums.add(parts | {"seconds": torch.tensor(time.monotonic() - began)})
            state.iteration += 1
            record = state.add_record(ranks) if state.is_due(config.record_every) else None
            if validation is not None and state.is_due(config.validate_every):
                error = validation_error(state.average.module, store, validation)
                state.add_validation({"error": error.total} | asdict(error), checkpoints, ranks)
            stopping = ranks.any(interruption.requested)
            if (state.is_due(config.save_every) or stopping) and ranks.is_first:
                state.save(checkpoints)
            if record:
                yield record
            if stopping and state.iteration < config.iterations:
                raise CallAgain(state.iteration, interruption.reason)


def train_step(state: State, batch: SliceBatch, ranks: Ranks) -> dict[str, Tensor]:
    """One iteration: the discriminator's updates, then the generator's, then the average. Gives the named losses."""
    state.set_rates()
    optimisers, autocast = state.optimisers, lambda: Precision(state.config.precision).autocast(state.device)
    step = Step(state.networks, state.config.step, batch, _latents(state, ranks), state.iteration)
    parts: dict[str, Tensor] = {}
    kept: dict[Kind, tuple[Styles, Images]] = {}
    for number, group in enumerate(step.groups):
        # The generator does not move before its own first update, which takes these translations with their graph.
        with autocast(), torch.set_grad_enabled(number == 0):
            fakes = {kind: step.translation(kind) for kind in group}
        with autocast():
            loss, named = step.discriminator_loss([images for _, images in fakes.values()])
        optimisers.discriminator.zero_grad(set_to_none=True)
        loss.backward()
        _move([optimisers.discriminator], ranks)
        kept, parts = (fakes if number == 0 else kept), parts | named
    for group in step.groups:
        for optimiser in optimisers.of(group):
            optimiser.zero_grad(set_to_none=True)
        for kind in group:
            with autocast():
                styles, images = kept.pop(kind) if kind in kept else step.translation(kind)
                loss, named = step.generator_loss(kind, styles, images)
            loss.backward()
            parts |= {f"{name}_{kind}": value for name, value in named.items()}
        _move(optimisers.of(group), ranks)
    state.average.update()
    return parts


def _move(optimisers: Sequence[torch.optim.Optimizer], ranks: Ranks) -> None:
    for optimiser in optimisers:
        ranks.mean_gradients(p for group in optimiser.param_groups for p in group["params"])
        optimiser.step()


def _latents(state: State, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Two drafts of z for each image of this rank, from the draft of the global batch."""
    config = state.config
    drawn = stream(config.seed, "latents", state.iteration).standard_normal((2, config.batch, config.networks.latent))
    first, second = torch.from_numpy(drawn).float().to(state.device)
    return ranks.share(first), ranks.share(second)


def training_key(config: TrainingConfig, store: SliceStore) -> str:
    """Names a training by its settings, its slices and the code that trains; each key has a folder of its own."""
    slices = json.loads((store.folder / "store.json").read_text(encoding="utf-8"))["digest"]
    words = json.dumps([config.plain(), slices, modules_digest(["gan_lib.train"])], sort_keys=True)
    return hashlib.sha256(words.encode("utf-8")).hexdigest()[:12]


def trained_networks(folder: str | Path, config: TrainingConfig, best: bool = True) -> tuple[Networks, Record]:
    """The averaged networks that training left in `folder`, and the record of their iteration.

    `best`: of the lowest validation error. Otherwise, or where there was no validation, those of the newest checkpoint.
    """
    state, checkpoints = State.fresh(config, torch.device("cpu")), Checkpoints(Path(folder) / "checkpoints")
    if not ((best and state.resume(checkpoints, "best")) or state.resume(checkpoints)):
        raise FileNotFoundError(f"{checkpoints.folder}: expected checkpoints of a training run; train first")
    return state.average.module, state.records[-1]
