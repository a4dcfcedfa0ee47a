"""One step of training: what is shared changes nothing, and every loss moves the networks that it should."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from small_gan import BATCH, NETWORKS, TRAINING, batch_of, noise

from benchmarks.plain_gan import PlainNetworks
from benchmarks.plain_step import PlainTraining
from gan_lib.losses import LossWeights
from gan_lib.train import train_step
from gan_lib.train_step import Networks, Optimisers, Step, StepConfig, groups_of
from gan_lib.training_state import State
from study_lib.training import Ranks, stream

NAMES = ("generator", "mapping", "encoder", "discriminator")
# Losses are computed in float32 whatever the networks are in: so far, and no further, both ways can agree.
CLOSE = 1e-5
# Every loss counts, each at a weight of its own.
WEIGHTS = LossWeights(cycle=2.0, style=0.7, diversification=0.4, r1=0.3, diversification_iterations=100)
SCHEDULES = ("separate", "merged", "alternating")


@pytest.fixture
def ranks(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return Ranks("cpu")


def config_of(schedule="separate", weights=WEIGHTS, **changes):
    step = StepConfig(weights=weights, schedule=schedule, **changes)
    return replace(TRAINING, step=step, learning_rate=0.02, mapping_rate=0.01, discriminator_rate=0.03, decay_from=1.0)


def state_of(config, dtype=torch.float64):
    """Training by plain gradient descent, so that what a weight moves by is its gradient."""
    state = State.fresh(config, torch.device("cpu"))
    state.networks.to(dtype)
    state.networks.mapping.register_forward_pre_hook(lambda _, given: (given[0].to(dtype), given[1]))
    optimisers = {name: torch.optim.SGD(getattr(state.networks, name).parameters(), lr=1.0) for name in NAMES}
    return replace(state, optimisers=Optimisers(**optimisers), average=_Nothing())


class _Nothing:
    """An average that is not kept."""

    def update(self):
        """Leave it."""


def plain_of(state):
    """The plain step from the same weights."""
    networks = PlainNetworks(state.config.networks).to(torch.float64)
    networks.load_state_dict(state.networks.state_dict())
    training, config = PlainTraining(networks, state.config), state.config
    rates = (config.learning_rate, config.mapping_rate, config.learning_rate, config.discriminator_rate)
    training.optimisers = {
        name: torch.optim.SGD(getattr(networks, name).parameters(), lr=rate)
        for name, rate in zip(NAMES, rates, strict=True)
    }
    return training


def latents_of(config, iteration):
    """Two drafts of z for every image, by the iteration alone."""
    drawn = stream(config.seed, "latents", iteration).standard_normal((2, BATCH, config.networks.latent))
    return tuple(torch.from_numpy(drawn).float().double())


def weights_of(networks):
    return {name: value.detach().clone() for name, value in networks.named_parameters()}


def moves(before, networks):
    return {name: value.detach() - before[name] for name, value in networks.named_parameters()}


def expect_equal_moves(one, other):
    """Every parameter of every network, to `CLOSE` of the largest of its move; biases before a norm do not move."""
    assert one.keys() == other.keys()
    for network in NAMES:
        names = [name for name in one if name.startswith(network)]
        largest = max(other[name].abs().max() for name in names)
        for name in names:
            allowed = CLOSE * max(other[name].abs().max(), 0.01 * largest)
            assert (one[name] - other[name]).abs().max() <= allowed, name


def moved_networks(before, networks):
    return {name.split(".")[0] for name, move in moves(before, networks).items() if move.any()}


@pytest.mark.parametrize("residual", [False, True])
def test_what_is_made_once_gives_the_losses_and_gradients_of_four_separate_passes(ranks, residual):
    """Fakes shared by discriminator and generator, gradients that nobody uses left out, over two iterations."""
    config = config_of()
    config = replace(config, networks=replace(NETWORKS, residual=residual))
    state = state_of(config)
    plain = plain_of(state)
    for iteration in range(2):
        before, plain_before = weights_of(state.networks), weights_of(plain.networks)
        batch = batch_of(seed=iteration, dtype=torch.float64)
        ours = train_step(state, batch, ranks)
        theirs = plain.step(batch, latents_of(config, iteration))
        state.iteration += 1
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=CLOSE), name
        expect_equal_moves(moves(before, state.networks), moves(plain_before, plain.networks))


def test_the_merged_schedule_moves_by_the_sum_of_what_separate_passes_would(ranks):
    """The discriminator by both kinds at once; then, with it, the generator by both and the others by latent styles."""
    config = config_of("merged")
    state, batch = state_of(config), batch_of(dtype=torch.float64)
    plain, latents = plain_of(state), latents_of(config, 0)
    before = weights_of(state.networks)
    train_step(state, batch, ranks)

    for moved, loss_of in ((("discriminator",), plain.discriminator_loss), (NAMES[:3], plain.generator_loss)):
        total = dict.fromkeys(moved, 0.0)
        gradients = Counter()
        for kind in ("latent", "reference"):
            plain.networks.zero_grad()
            loss_of(kind, batch, latents)[0].backward()
            for name, value in plain.networks.named_parameters():
                network = name.split(".")[0]
                if network in total and (kind == "latent" or network in ("generator", "discriminator")):
                    gradients[name] = gradients[name] + value.grad
        for name, value in plain.networks.named_parameters():
            if name in gradients:
                value.data -= plain.optimisers[name.split(".")[0]].param_groups[0]["lr"] * gradients[name]
    expect_equal_moves(moves(before, state.networks), moves(before, plain.networks))


@pytest.mark.parametrize(
    ("iteration", "moved"),
    [(0, {"generator", "mapping", "encoder", "discriminator"}), (1, {"generator", "discriminator"})],
)
def test_styles_of_references_move_the_generator_alone(ranks, iteration, moved):
    """The alternating schedule has one kind an iteration: latent styles in even ones, references in odd ones."""
    state = state_of(config_of("alternating"))
    state.iteration = iteration
    before = weights_of(state.networks)
    parts = train_step(state, batch_of(dtype=torch.float64), ranks)
    assert moved_networks(before, state.networks) == moved
    kind = "reference" if iteration else "latent"
    assert {name.split("_")[-1] for name in parts if name.startswith(("cycle", "style", "temporal"))} == {kind}


@pytest.mark.parametrize("kind", ["latent", "reference"])
def test_the_generator_s_losses_leave_no_gradient_on_the_discriminator_nor_by_references_on_encoders(kind):
    networks = Networks(NETWORKS)
    step = step_of(networks)
    loss, _ = step.generator_loss(kind, *step.translation(kind))
    loss.backward()
    held = {name.split(".")[0] for name, value in networks.named_parameters() if value.grad is not None}
    assert held == ({"generator", "mapping", "encoder"} if kind == "latent" else {"generator"})
    assert all(value.requires_grad for value in networks.parameters())


def test_the_discriminator_s_losses_leave_no_gradient_elsewhere():
    networks = Networks(NETWORKS)
    step = step_of(networks)
    step.discriminator_loss([step.translation(kind)[1] for kind in ("latent", "reference")])[0].backward()
    held = {name.split(".")[0] for name, value in networks.named_parameters() if value.grad is not None}
    assert held == {"discriminator"}


def step_of(networks, iteration=0, batch=None, weights=WEIGHTS, **changes):
    config = StepConfig(weights=weights, **changes)
    batch = batch or batch_of()
    latents = noise(len(batch), NETWORKS.latent, seed=1), noise(len(batch), NETWORKS.latent, seed=2)
    return Step(networks, config, batch, latents, iteration)


def test_a_kept_translation_is_the_one_that_would_be_made_again():
    torch.manual_seed(0)
    networks = Networks(NETWORKS)
    step = step_of(networks)
    for kind in ("latent", "reference"):
        one, other = step.translation(kind), step.translation(kind)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_lazy_r1_is_due_once_in_so_many_iterations_at_so_many_times_the_weight(ranks):
    lazy = config_of(weights=replace(WEIGHTS, r1_every=3))
    state = state_of(lazy)
    for iteration in range(5):
        parts = train_step(state, batch_of(seed=iteration, dtype=torch.float64), ranks)
        state.iteration += 1
        penalty = 3 * WEIGHTS.r1 * parts["r1"] if iteration % 3 == 0 else 0.0
        assert ("r1" in parts) == (iteration % 3 == 0)
        expected = parts["discriminator_real"] + parts["discriminator_fake"] + penalty
        assert float(parts["discriminator"]) == pytest.approx(float(expected), rel=1e-6)


def test_over_a_round_lazy_r1_pulls_as_much_as_in_every_step():
    torch.manual_seed(0)
    networks = Networks(NETWORKS)
    fakes = [step_of(networks).translation("latent")[1]]

    def pull(every):
        """The gradient of R1 alone, summed over six iterations of the same batch."""
        total = 0.0
        for iteration in range(6):
            gradients = []
            for weight in (WEIGHTS.r1, 0.0):
                step = step_of(networks, iteration, weights=replace(WEIGHTS, r1_every=every, r1=weight))
                loss, _ = step.discriminator_loss(fakes)
                gradients.append(torch.autograd.grad(loss, networks.discriminator.trunk.last.weight)[0])
            total = total + gradients[0] - gradients[1]
        return total

    torch.testing.assert_close(pull(3), pull(1), rtol=1e-4, atol=1e-6)


def calls_of(network):
    """How often a network is called from now on."""
    counts = Counter()
    network.register_forward_hook(lambda *_: counts.update(["calls"]))
    return counts


@pytest.mark.parametrize(("schedule", "first", "after"), [("separate", 9, 7), ("merged", 8, 6), ("alternating", 4, 3)])
def test_the_second_translation_is_not_made_once_the_diversification_has_decayed(ranks, schedule, first, after):
    """Per kind: the translation, a second, the way back, the neighbour; `separate` makes one anew after an update."""
    state = state_of(config_of(schedule, replace(WEIGHTS, diversification_iterations=4)))
    calls = calls_of(state.networks.generator)
    for iteration, expected in ((0, first), (3, first), (4, after), (90, after)):
        calls.clear()
        state.iteration = iteration
        parts = train_step(state, batch_of(dtype=torch.float64), ranks)
        assert calls["calls"] == expected
        assert any(name.startswith("diversification") for name in parts) == (expected == first)


def test_the_weight_of_the_diversification_falls_with_the_iteration():
    torch.manual_seed(0)
    networks = Networks(NETWORKS)
    for iteration in (0, 25, 99):
        step = step_of(networks, iteration)
        _, parts = step.generator_loss("latent", *step.translation("latent"))
        rest = parts["adversarial"] + 2.0 * parts["cycle"] + 0.7 * parts["style"] + 0.5 * parts["temporal"]
        expected = rest - 0.4 * (1 - iteration / 100) * parts["diversification"]
        assert float(parts["generator"]) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("kind", ["latent", "reference"])
def test_neighbours_that_join_are_members_like_any_other_and_carry_the_temporal_loss(kind):
    torch.manual_seed(0)
    networks = Networks(NETWORKS)
    batch = batch_of()
    alone = step_of(networks, batch=batch)
    both = {
        name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in vars(batch).items() if torch.is_tensor(value)
    }
    both |= {
        "images": torch.cat([batch.images, batch.neighbours]),
        "masks": torch.cat([batch.masks, batch.neighbour_masks]),
    }
    doubled = step_of(networks, batch=replace(batch, **both), weights=replace(WEIGHTS, temporal=0))
    doubled.latents = tuple(z.repeat(2, 1) for z in alone.latents)
    joined = step_of(networks, batch=batch, neighbours_join=True)

    _, parts = joined.generator_loss(kind, *joined.translation(kind))
    _, of_members = doubled.generator_loss(kind, *doubled.translation(kind))
    _, of_pairs = alone.generator_loss(kind, *alone.translation(kind))
    for name in ("adversarial", "style", "cycle", "diversification"):
        assert float(parts[name]) == pytest.approx(float(of_members[name]), rel=1e-5), name
    assert float(parts["temporal"]) == pytest.approx(float(of_pairs["temporal"]), rel=1e-5)
    _, told = joined.discriminator_loss([joined.translation(kind)[1]])
    _, told_doubled = doubled.discriminator_loss([doubled.translation(kind)[1]])
    assert {name: float(value) for name, value in told.items()} == pytest.approx(
        {name: float(value) for name, value in told_doubled.items()}, rel=1e-5
    )


def test_neighbours_that_join_cost_no_translation_of_their_own(ranks):
    state = state_of(config_of("merged", neighbours_join=True))
    calls = calls_of(state.networks.generator)
    train_step(state, batch_of(dtype=torch.float64), ranks)
    assert calls["calls"] == 6


@pytest.mark.parametrize("join", [False, True])
def test_background_that_is_kept_is_0_wherever_a_translation_is_looked_at(join):
    """Discriminator and style encoder get it, and the way back starts from it."""
    torch.manual_seed(0)
    networks, seen = Networks(NETWORKS), []
    step = step_of(networks, keep_background=True, neighbours_join=join)
    styles, fakes = step.translation("latent")
    assert not fakes[~step.members.masks].any() and fakes[step.members.masks].any()
    for network in (networks.discriminator, networks.encoder, networks.generator):
        network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    step.generator_loss("latent", styles, fakes)
    assert len(seen) == (
        5 if join else 6
    )  # D(fake), E(fake), E(x), G(fake), G(x, s2), and G(neighbour) unless it joins
    union = step.batch.masks | step.batch.neighbour_masks
    outside = torch.cat([~union] * (2 if join else 1))
    assert all(not images[outside].any() for images in seen)
    free = step_of(networks, neighbours_join=join).translation("latent")[1]
    assert free[~step.members.masks].any()
    assert torch.equal(free * step.members.masks, fakes)


def test_the_identity_loss_is_computed_where_it_has_a_weight():
    torch.manual_seed(0)
    networks = Networks(NETWORKS)
    step = step_of(networks, weights=replace(WEIGHTS, identity=3.0))
    _, parts = step.generator_loss("latent", *step.translation("latent"))
    batch = step.batch
    own = networks.generator(batch.images, networks.encoder(batch.images, batch.source_site)).detach()
    assert float(parts["identity"]) == pytest.approx(float((own - batch.images).abs().mean()), rel=1e-6)
    without = step_of(networks).generator_loss("latent", *step.translation("latent"))[1]
    assert float(parts["generator"] - without["generator"]) == pytest.approx(3 * float(parts["identity"]), rel=1e-4)
    assert "identity" not in without


def test_in_bfloat16_r1_is_still_computed_in_float32():
    torch.manual_seed(0)
    networks, kinds = Networks(NETWORKS), []
    step = step_of(networks)
    fakes = [step.translation("latent")[1]]
    exact = step.discriminator_loss(fakes)[1]["r1"]
    networks.discriminator.register_forward_hook(lambda _, given, logits: kinds.append(logits.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = step.discriminator_loss(fakes)[1]["r1"]
    assert kinds == [torch.bfloat16, torch.bfloat16, torch.float32]
    torch.testing.assert_close(coarse, exact)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="expected separate, merged or alternating; got 'both'"):
        groups_of("both", 0)


def test_on_one_batch_the_cycle_loss_falls_below_a_tenth(ranks):
    weights = LossWeights(cycle=50.0, style=0, diversification=0, temporal=0, r1_every=1000)
    networks = replace(NETWORKS, size=(16, 16), width=8, cap=16)
    config = replace(config_of("alternating", weights), networks=networks, batch=2, learning_rate=0.01)
    config = replace(config, discriminator_rate=None, betas=(0.5, 0.99), weight_decay=0.0)
    state, batch, cycles = State.fresh(config, torch.device("cpu")), batch_of(2, networks.size), []
    for iteration in range(60):
        state.iteration = iteration
        parts = train_step(state, batch, ranks)
        cycles += [float(value) for name, value in parts.items() if name.startswith("cycle")]
    assert min(cycles[-10:]) < cycles[0] / 10
    assert batch.images.mean() > 2 * min(cycles[-10:])  # better than a black image
