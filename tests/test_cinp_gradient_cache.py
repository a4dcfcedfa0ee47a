"""Gradients in chunks are those of the plain step, for every parameter and the temperature."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_cinp import CALM, STILL, TRAINING, give_statistics
from small_pairs import Person, people, write_store

from cinp_lib import losses
from cinp_lib.augmentation import augmented_networks, augmented_volumes, replayed
from cinp_lib.gradient_cache import Seen, backward, chunks_of
from cinp_lib.masking import draw_mask
from cinp_lib.objective import ObjectiveConfig, pair_loss
from cinp_lib.pretrain import _masks, _seed, batch_gradients
from cinp_lib.pretraining_state import State
from study_lib.training import Ranks, stream

PLACES = np.array([3, 0, 5, 1, 4, 6, 2])
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("cache"), people(7))


def state_of(dtype=torch.float64, **changes):
    state = State.fresh(replace(TRAINING, component_steps=0, **changes), CPU)
    if state.model.voxels is not None:
        give_statistics(state.model)
    state.model.to(dtype).train()
    state.iteration = 5
    return state


def gradients(state):
    return {name: parameter.grad for name, parameter in state.model.named_parameters() if parameter.grad is not None}


def in_chunks(state, store, places=PLACES):
    parts = batch_gradients(state, store, places, Ranks("cpu"))
    return gradients(state), parts


def plain(state, store, chunk, places=PLACES):
    """The whole graph at once: encoders on the same groups of pairs with the same seeds, every loss on all of them."""
    config, model, dtype = state.config, state.model, state.model.log_tau.dtype
    images, networks, volumes, made = [], [], [], []
    for start in range(0, len(places), chunk):
        group = places[start : start + chunk]
        with replayed(_seed(state, "chunks", start), CPU):
            volume = torch.from_numpy(store.volumes(group))[:, None].to(dtype)
            volume = augmented_volumes(volume, config.augmentation)
            network = augmented_networks(torch.from_numpy(store.networks(group)).to(dtype), config.augmentation)
            views = model.see(volume, _masks(state, range(start, start + len(group))))
            networks.append(model.read(network))
        images.append(views.features)
        volumes.append(volume)
        made.append(views.reconstructions)
    with replayed(_seed(state, "projections"), CPU):
        rng = stream(config.seed, "strangers", state.iteration)
        features = torch.cat(images), torch.cat(networks)
        loss, _ = pair_loss(model, features, config.objective, store.families[places], rng)
    loss = loss + losses.masked_image_modelling(torch.cat(volumes), torch.cat(made))[0]
    loss.backward()
    return gradients(state)


def expect_equal(found, expected, rtol, atol):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_gradients_in_chunks_are_those_of_the_plain_step_with_all_that_is_random_on(store, chunk):
    """Dropout, drop-path, masks, noise on volumes and edges, flips; 7 pairs do not divide into threes."""
    found, _ = in_chunks(state_of(chunk=chunk), store)
    expected = plain(state_of(chunk=chunk), store, chunk)
    assert {"log_tau", "matching.weight", "decoder", "image_encoder", "network_encoder"} <= {
        name if name in ("log_tau", "matching.weight") else name.split(".")[0] for name in found
    }
    assert found["log_tau"].abs() > 1e-3
    expect_equal(found, expected, rtol=1e-10, atol=1e-12)


def test_gradients_in_chunks_are_those_of_the_plain_step_in_float32(store):
    found, _ = in_chunks(state_of(torch.float32, chunk=2), store)
    expected = plain(state_of(torch.float32, chunk=2), store, 2)
    largest = max(value.abs().max().item() for value in expected.values())
    expect_equal(found, expected, rtol=1e-5, atol=1e-5 * largest)


def test_where_nothing_is_random_chunks_are_the_model_on_the_whole_batch(store):
    """The forward of Figure 1 in one go, not a part of it chunked."""
    still = {"model": CALM, "augmentation": STILL}
    found, parts = in_chunks(state_of(chunk=3, **still), store)
    state = state_of(**still)
    volumes = torch.from_numpy(store.volumes(PLACES))[:, None].double()
    networks = torch.from_numpy(store.networks(PLACES)).double()
    pairs = state.model(volumes, _masks(state, range(7)), networks)
    sides = pairs.image_embeddings, pairs.network_embeddings
    contrastive, _ = losses.image_network_contrastive(*sides, state.model.tau)
    similarity = (sides[0] @ sides[1].T / state.model.tau).detach().float().numpy()
    chosen = losses.matching_negatives(similarity, stream(0, "strangers", 5))
    logits = [state.model.match(*sides), state.model.match(sides[0], sides[1][chosen[0]])]
    logits.append(state.model.match(sides[0][chosen[1]], sides[1]))
    matching, _ = losses.image_network_matching(torch.cat(logits), torch.arange(21) < 7)
    reconstruction, _ = losses.masked_image_modelling(volumes, pairs.reconstructions)
    named = {"contrastive": contrastive, "matching": matching, "reconstruction": reconstruction}
    total, expected_parts = losses.total(named, losses.LossWeights())
    total.backward()
    expect_equal(found, gradients(state), rtol=1e-9, atol=1e-11)
    for name, value in (expected_parts | {"loss": expected_parts["total"]}).items():
        if name in parts:
            assert float(parts[name]) == pytest.approx(float(value), rel=1e-9)


@pytest.mark.parametrize("chunk", [1, 2, 3, None])
def test_of_one_in_three_masked_images_each_counts_alike_whatever_chunk_it_falls_to(store, chunk):
    """Places 0, 3 and 6 of 7: their mean error, as if they were a batch of their own."""
    state = state_of(chunk=chunk, model=CALM, augmentation=STILL, reconstruct_every=3)
    found, parts = in_chunks(state, store)
    alone = state_of(model=CALM, augmentation=STILL)
    volumes = torch.from_numpy(store.volumes(PLACES[[0, 3, 6]]))[:, None].double()
    made = alone.model.see(volumes, _masks(alone, [0, 3, 6])).reconstructions
    loss, _ = losses.masked_image_modelling(volumes, made)
    loss.backward()
    assert float(parts["reconstruction"]) == pytest.approx(loss.item(), rel=1e-9)
    decoder = {name: value for name, value in gradients(alone).items() if name.startswith("decoder")}
    assert decoder
    expect_equal({name: found[name] for name in decoder}, decoder, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "weights", [losses.LossWeights(1, 0, 0), losses.LossWeights(0, 1, 0), losses.LossWeights(0.5, 2, 0)]
)
def test_a_loss_that_is_off_moves_nothing(store, weights):
    found, parts = in_chunks(state_of(chunk=3, objective=ObjectiveConfig(weights=weights)), store)
    assert any(name.startswith("decoder") for name in found) == bool(weights.reconstruction)
    assert any(name.startswith("network_encoder") for name in found) == bool(weights.contrastive)
    assert not any(name.startswith("matching") for name in found)
    assert ("reconstruction" in parts, "contrastive" in parts) == (
        bool(weights.reconstruction),
        bool(weights.contrastive),
    )


def test_the_order_in_which_chunks_are_added_does_not_matter(store):
    state = state_of(chunk=2)
    groups = chunks_of(slice(0, 7), 2)
    results = []
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        state.model.zero_grad()
        backward(see_plain(state, store), [groups[k] for k in order], loss_plain(state, store), Ranks("cpu"))
        results.append({name: value.clone() for name, value in gradients(state).items()})
    expect_equal(*results, rtol=1e-10, atol=1e-12)


def see_plain(state, store):
    """Encoders alone, with dropout."""

    def see(chunk, _):
        with replayed(chunk.start, CPU):
            volumes = torch.from_numpy(store.volumes(PLACES[chunk]))[:, None].double()
            networks = torch.from_numpy(store.networks(PLACES[chunk])).double()
            return Seen(state.model.see(volumes, None).features, state.model.read(networks), None, {})

    return see


def loss_plain(state, store):
    def compare(features):
        with replayed(0, CPU):
            return pair_loss(
                state.model, features, state.config.objective, store.families[PLACES], np.random.default_rng(0)
            )

    return compare


def test_the_last_chunk_is_looked_at_once_and_the_others_twice(store):
    state, seen = state_of(chunk=2), []
    see = see_plain(state, store)
    groups = chunks_of(slice(0, 7), 3)
    backward(
        lambda chunk, whole: (seen.append(chunk.start), see(chunk, whole))[1],
        groups,
        loss_plain(state, store),
        Ranks("cpu"),
    )
    assert sorted(seen) == [0, 0, 3, 3, 6]


def test_chunks_cover_the_part_of_a_rank_whatever_its_size():
    assert chunks_of(slice(4, 11), 3) == [slice(4, 7), slice(7, 10), slice(10, 11)]
    assert chunks_of(slice(0, 5), None) == [slice(0, 5)] == chunks_of(slice(0, 5), 9)


def test_standardisation_is_over_the_whole_batch_and_its_statistics_move_once(store):
    whole, cut = state_of(model=CALM, augmentation=STILL), state_of(model=CALM, augmentation=STILL, chunk=2)
    in_chunks(whole, store), in_chunks(cut, store)
    for one, other in zip(whole.model.buffers(), cut.model.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert int(cut.model.image_projection.standardise.num_batches_tracked) == 1


def test_a_strangers_choice_never_falls_on_a_sibling(tmp_path):
    """The families reach the matching loss through the step."""
    traits = (0.1, 0.2, 0.3, 0.4)
    group = [Person("a", "Alpha", traits, family="f"), Person("b", "Alpha", traits, family="f")]
    siblings = write_store(tmp_path, group)
    with pytest.raises(ValueError, match="two families or more, got 1"):
        in_chunks(state_of(), siblings, np.array([0, 1]))


def test_masks_depend_on_the_place_in_the_batch_and_not_on_chunks():
    state = state_of()
    whole = _masks(state, range(6))
    assert torch.equal(whole, torch.cat([_masks(state, range(4)), _masks(state, range(4, 6))]))
    assert len({mask.numpy().tobytes() for mask in whole}) == 6
    expected = draw_mask((16, 16, 16), 0.3, 4, stream(0, "masks 2", 5))
    assert np.array_equal(whole[2, 0].numpy(), expected)
    state.iteration = 6
    assert not torch.equal(whole, _masks(state, range(6)))
