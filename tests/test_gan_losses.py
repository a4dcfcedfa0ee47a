"""The harmonisation losses beside loops over single voxels."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from scipy.ndimage import gaussian_filter

from gan_lib import losses
from gan_lib.losses import (
    LossWeights,
    adversarial_discriminator,
    adversarial_generator,
    cycle,
    discriminator_total,
    diversification,
    diversification_weight,
    generator_total,
    identity,
    r1,
    style_reconstruction,
    temporal,
)

KINDS = ("difference", "gain_free", "gradient")
SHAPE = (3, 1, 7, 5)


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def pairs(shape=SHAPE):
    """Slices, neighbours, their translations, and masks of unlike sizes."""
    slices = [noise(*shape, seed=seed) for seed in range(4)]
    masks = torch.rand(shape[0], 1, *shape[2:], generator=torch.Generator().manual_seed(4)) < 0.6
    masks[0, :, 2:] = False
    return *slices, masks


def stack():
    """A smooth random stack in [-1, 1], as in the study's toy check but smaller."""
    values = gaussian_filter(np.random.default_rng(3).normal(size=(24, 33, 31)), 3)
    return torch.from_numpy((values / np.abs(values).max()).astype(np.float32))[:, None]


def of_stack(before, after, kind):
    masks = torch.ones_like(before[1:], dtype=torch.bool)
    return float(temporal(before[:-1], before[1:], after[:-1], after[1:], masks, kind)[0])


def naive_pair(x, y, gx, gy, inside, kind):
    """One pair, voxel by voxel: the loss, or None where it is not defined."""
    dx, dg = [], []
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            for k in range(x.shape[2]):
                if inside[0, j, k]:
                    dx.append(float(y[i, j, k]) - float(x[i, j, k]))
                    dg.append(float(gy[i, j, k]) - float(gx[i, j, k]))
    if not dx:
        return None
    if kind == "gradient":
        dot = sum(a * b for a, b in zip(dx, dg, strict=True))
        return 1 - dot / math.sqrt(sum(a * a for a in dx)) / math.sqrt(sum(b * b for b in dg))
    gain = 1.0
    if kind == "gain_free":
        gain = sum(a * b for a, b in zip(dx, dg, strict=True)) / sum(a * a for a in dx)
        gain = min(max(gain, 0.5), 2.0)
    return sum(abs(b - gain * a) for a, b in zip(dx, dg, strict=True)) / len(dx)


def test_adversarial_losses_equal_the_logarithms_of_the_sigmoid():
    real, fake = noise(5), noise(7, seed=1)
    probability = lambda logit: 1 / (1 + math.exp(-float(logit)))  # noqa: E731
    expected_real = -sum(math.log(probability(v)) for v in real) / 5
    expected_fake = -sum(math.log(1 - probability(v)) for v in fake) / 7
    loss, parts = adversarial_discriminator(real, fake)
    assert loss.item() == pytest.approx(expected_real + expected_fake, rel=1e-5)
    assert float(parts["discriminator_real"]) == pytest.approx(expected_real, rel=1e-5)
    assert float(parts["discriminator_fake"]) == pytest.approx(expected_fake, rel=1e-5)
    expected = -sum(math.log(probability(v)) for v in fake) / 7
    assert float(adversarial_generator(fake)[0]) == pytest.approx(expected, rel=1e-5)


def test_a_discriminator_at_chance_loses_two_logarithms_of_two():
    assert float(adversarial_discriminator(torch.zeros(4), torch.zeros(4))[0]) == pytest.approx(2 * math.log(2))


def test_a_losing_generator_still_learns_and_in_the_right_direction():
    logits = torch.full((2,), -40.0, requires_grad=True)
    adversarial_generator(logits)[0].backward()
    assert torch.allclose(logits.grad, torch.tensor([-0.5, -0.5]))


def test_r1_equals_the_analytic_gradient_of_a_quadratic():
    images, weights = noise(3, 2, 5, 7), noise(2, 5, 7, seed=1)
    expected = 0.0
    for image in images.numpy():
        for w, x in zip(weights.numpy().ravel(), image.ravel(), strict=True):
            expected += (2 * float(w) * float(x)) ** 2 / 2 / 3
    images.requires_grad_()
    loss, parts = r1((weights * images**2).flatten(1).sum(1), images)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert not parts["r1"].requires_grad


def test_r1_reaches_the_discriminators_weights():
    images, weight = noise(*SHAPE).requires_grad_(), torch.tensor(3.0, requires_grad=True)
    loss, _ = r1((weight * images).flatten(1).sum(1), images)
    loss.backward()
    assert loss.item() == pytest.approx(9 * 35 / 2)
    assert float(weight.grad) == pytest.approx(3 * 35)


def test_r1_says_what_is_missing():
    with pytest.raises(ValueError, match="call requires_grad_"):
        r1(torch.zeros(3), noise(*SHAPE))
    images = noise(*SHAPE).requires_grad_()
    with pytest.raises(ValueError, match="pass the very tensor"):
        r1((2 * images.detach().requires_grad_()).flatten(1).sum(1), images)


@pytest.mark.parametrize(
    ("function", "name"), [(cycle, "cycle"), (identity, "identity"), (diversification, "diversification")]
)
def test_image_losses_are_mean_absolute_differences(function, name):
    first, second = noise(*SHAPE), noise(*SHAPE, seed=1)
    total = sum(abs(float(a) - float(b)) for a, b in zip(first.ravel(), second.ravel(), strict=True))
    loss, parts = function(first, second)
    assert loss.item() == pytest.approx(total / (3 * 7 * 5), rel=1e-5)
    assert list(parts) == [name] and float(parts[name]) == loss.item()


def test_style_reconstruction_moves_the_style_and_its_reading():
    styles, recovered = noise(3, 9).requires_grad_(), noise(3, 9, seed=1).requires_grad_()
    loss, _ = style_reconstruction(styles, recovered)
    loss.backward()
    total = sum(
        abs(float(a) - float(b)) for a, b in zip(styles.detach().ravel(), recovered.detach().ravel(), strict=True)
    )
    assert loss.item() == pytest.approx(total / 27, rel=1e-5)
    assert torch.equal(styles.grad, -recovered.grad) and styles.grad.abs().sum() > 0


def test_diversification_moves_only_the_first_and_the_total_drives_it_away_from_the_second():
    first, second = torch.zeros(*SHAPE, requires_grad=True), torch.ones(*SHAPE, requires_grad=True)
    loss, _ = diversification(first, second)
    weights = LossWeights(cycle=0, style=0, temporal=0)
    generator_total({"adversarial": torch.tensor(0.0), "diversification": loss}, weights)[0].backward()
    assert second.grad is None
    with torch.no_grad():
        stepped = first - 0.1 * first.grad  # descent on the total
    assert float(diversification(stepped, second)[0]) > loss.item()


@pytest.mark.parametrize(("iteration", "expected"), [(0, 2.0), (25, 1.5), (99, 0.02), (100, 0.0), (4000, 0.0)])
def test_the_diversification_decays_to_zero_and_never_below(iteration, expected):
    assert diversification_weight(2.0, iteration, 100) == pytest.approx(expected)
    weights = LossWeights(diversification=2.0, diversification_iterations=100, cycle=7)
    assert weights.at(iteration) == replace(weights, diversification=diversification_weight(2.0, iteration, 100))


def test_lazy_r1_costs_as_much_per_step_on_average():
    for every in (1, 4, 16):
        due = [LossWeights(r1=0.3, r1_every=every).r1_at(step) for step in range(32)]
        assert sum(due) / 32 == pytest.approx(0.3)
        assert sum(weight > 0 for weight in due) == 32 // every


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [SHAPE, (4, 3, 5, 9)])
def test_the_coherence_loss_equals_a_loop_over_voxels(kind, shape):
    *slices, masks = pairs(shape)
    expected = [naive_pair(*(s[b] for s in slices), masks[b], kind) for b in range(shape[0])]
    loss, parts = temporal(*slices, masks, kind)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5, abs=1e-6)
    assert list(parts) == ["temporal"]


@pytest.mark.parametrize("gain", [0.1, 0.8, 1.7, 30.0])
def test_the_gain_is_the_least_squares_one_within_its_limits(gain):
    images, neighbours, *_, masks = pairs()
    off = 0.1 * noise(*SHAPE, seed=8)
    slices = (images, neighbours, gain * images, gain * neighbours + off)
    expected = [naive_pair(*(s[b] for s in slices), masks[b], "gain_free") for b in range(3)]
    assert float(temporal(*slices, masks, "gain_free")[0]) == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_outside_the_mask_never_matters(kind):
    *slices, masks = pairs()
    loud = [torch.where(masks, s, 100 * noise(*SHAPE, seed=9)) for s in slices]
    assert float(temporal(*loud, masks, kind)[0]) == pytest.approx(float(temporal(*slices, masks, kind)[0]), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_without_brain_are_left_out_and_none_at_all_costs_nothing(kind):
    *slices, masks = pairs()
    slices = [s.requires_grad_() for s in slices]
    blank = masks.clone()
    blank[1] = False
    kept = [s[[0, 2]] for s in slices]
    assert temporal(*slices, blank, kind)[0].item() == pytest.approx(temporal(*kept, masks[[0, 2]], kind)[0].item())
    loss, _ = temporal(*slices, torch.zeros_like(masks), kind)
    loss.backward()
    assert loss.item() == 0 and all(torch.isfinite(s.grad).all() and not s.grad.any() for s in slices)


@pytest.mark.parametrize("kind", KINDS)
def test_slices_without_any_change_give_finite_gradients(kind):
    images, *_, masks = pairs()
    translated, neighbours = noise(*SHAPE, seed=5).requires_grad_(), noise(*SHAPE, seed=5).requires_grad_()
    temporal(images, images, translated, neighbours, masks, kind)[0].backward()
    assert torch.isfinite(translated.grad).all() and torch.isfinite(neighbours.grad).all()


def test_the_same_offset_on_both_slices_is_free_for_every_kind():
    images, neighbours, *_, masks = pairs()
    for kind in KINDS:
        assert float(temporal(images, neighbours, images + 0.3, neighbours + 0.3, masks, kind)[0]) < 1e-6


@pytest.mark.parametrize("gain", [0.55, 0.8, 1.9])
def test_a_change_of_contrast_is_free_but_for_the_plain_difference(gain):
    images, neighbours, *_, masks = pairs()
    slices = (images, neighbours, gain * images, gain * neighbours)
    assert float(temporal(*slices, masks, "gain_free")[0]) < 1e-6
    assert float(temporal(*slices, masks, "gradient")[0]) < 1e-6
    plain = float(temporal(images, neighbours, 0 * images, 0 * images, masks)[0])
    assert float(temporal(*slices, masks)[0]) == pytest.approx(abs(gain - 1) * plain, rel=1e-5)


def test_the_gain_carries_no_gradient():
    images, neighbours, translated, translated_neighbours, masks = pairs()
    translated.requires_grad_()
    temporal(images, neighbours, translated, translated_neighbours, masks, "gain_free")[0].backward()
    inside = masks.float()
    before, after = (neighbours - images) * inside, (translated_neighbours - translated).detach() * inside
    gain = ((before * after).sum((1, 2, 3)) / before.square().sum((1, 2, 3))).clamp(0.5, 2)[:, None, None, None]
    expected = -torch.sign(after - gain * before) * inside / inside.sum((1, 2, 3), keepdim=True) / 3
    assert torch.allclose(translated.grad, expected, atol=1e-7)


def test_flicker_costs_less_than_a_legitimate_gain_only_where_the_gain_is_not_free():
    before = stack()
    rng = np.random.default_rng(1)
    per_slice = torch.from_numpy(rng.normal(1, 0.05, size=(len(before), 1, 1, 1)).astype(np.float32))
    legitimate, flicker = 0.8 * before, per_slice * before
    assert of_stack(before, legitimate, "difference") > of_stack(before, flicker, "difference")
    for kind in ("gain_free", "gradient"):
        assert of_stack(before, flicker, kind) > 100 * of_stack(before, legitimate, kind)


def test_offsets_that_jump_from_slice_to_slice_cost_in_every_kind():
    before = stack()
    offsets = torch.from_numpy(np.random.default_rng(1).normal(0, 0.05, (len(before), 1, 1, 1)).astype(np.float32))
    change = float((before[1:] - before[:-1]).abs().mean())
    for kind in ("difference", "gain_free"):
        assert of_stack(before, before + offsets, kind) > change / 2
    assert of_stack(before, before + offsets, "gradient") > 0.1


def test_a_flattened_or_blurred_stack_is_never_free():
    before = stack()
    change = float((before[1:] - before[:-1]).abs().mean())
    flat = torch.zeros_like(before)
    assert of_stack(before, flat, "difference") == pytest.approx(change, rel=1e-5)
    assert of_stack(before, flat, "gain_free") == pytest.approx(0.5 * change, rel=1e-5)  # the clamp is the guard
    assert of_stack(before, flat, "gradient") == pytest.approx(1)
    blurred = torch.from_numpy(gaussian_filter(before.numpy(), (2, 0, 0, 0)))
    for kind in KINDS:
        assert of_stack(before, blurred, kind) > 100 * max(of_stack(before, before, kind), 1e-7)


def test_translating_both_slices_alike_is_what_training_finds():
    images, neighbours, translated, translated_neighbours, masks = pairs()
    masks = torch.ones_like(masks)
    for kind in KINDS:
        moved = translated_neighbours.clone().requires_grad_()
        first = temporal(images, neighbours, translated, moved, masks, kind)[0].item()
        for step in range(100):
            loss, _ = temporal(images, neighbours, translated, moved, masks, kind)
            (gradient,) = torch.autograd.grad(loss, moved)
            with torch.no_grad():
                moved -= 0.2 * 0.95**step * gradient.sign()
        assert loss.item() < 0.05 * first


def study_losses():
    names = ("adversarial", "cycle", "style", "diversification", "temporal")
    return {name: torch.tensor(value) for name, value in zip(names, (0.7, 0.2, 0.3, 0.11, 0.05), strict=True)}


def test_the_total_is_the_studys_sum():
    given = study_losses()
    loss, parts = generator_total(given, LossWeights(cycle=2, style=3, diversification=4))
    assert loss.item() == pytest.approx(1.0 * (0.7 + 2 * 0.2 + 3 * 0.3 - 4 * 0.11) + 0.5 * 0.05)
    assert set(parts) == {*given, "generator"}
    plain, _ = generator_total(given, LossWeights())
    assert float(plain) == pytest.approx(0.7 + 0.2 + 0.3 - 0.11 + 0.025)
    half, _ = generator_total(given, LossWeights(star_gan=0.5, temporal=0))
    assert float(half) == pytest.approx((0.7 + 0.2 + 0.3 - 0.11) / 2)


def test_the_identity_counts_only_where_it_has_a_weight():
    given = study_losses() | {"identity": torch.tensor(0.4)}
    without, parts = generator_total(given, LossWeights())
    assert float(without) == pytest.approx(float(generator_total(study_losses(), LossWeights())[0]))
    assert float(parts["identity"]) == pytest.approx(0.4)
    assert float(generator_total(given, LossWeights(identity=2))[0]) == pytest.approx(float(without) + 0.8)


def test_a_loss_forgotten_or_misspelt_is_named():
    given = study_losses()
    with pytest.raises(KeyError, match=r"not known: cycles; of weight above 0 but missing: cycle\b"):
        generator_total({"cycles": given.pop("cycle"), **given}, LossWeights())
    with pytest.raises(KeyError, match="missing: r1"):
        discriminator_total({"adversarial": torch.tensor(1.0)}, 0.5)


def test_the_discriminators_total_weighs_r1():
    given = {"adversarial": torch.tensor(1.3), "r1": torch.tensor(0.2)}
    assert float(discriminator_total(given, 4.0)[0]) == pytest.approx(2.1)
    loss, parts = discriminator_total({"adversarial": torch.tensor(1.3)}, 0.0)
    assert loss.item() == pytest.approx(1.3) and set(parts) == {"adversarial", "discriminator"}


def test_parts_carry_no_gradient_and_the_loss_does():
    logits = noise(3).requires_grad_()
    images, styles = noise(*SHAPE).requires_grad_(), noise(3, 9).requires_grad_()
    *slices, masks = pairs()
    for loss, parts in (
        adversarial_discriminator(logits, logits),
        adversarial_generator(logits),
        cycle(slices[0], images),
        style_reconstruction(styles, styles.detach()),
        diversification(images, slices[0]),
        identity(slices[0], images),
        temporal(slices[0], slices[1], images, slices[3], masks),
    ):
        assert loss.requires_grad and not any(part.requires_grad for part in parts.values())


def test_half_precision_inputs_are_summed_in_float32():
    *slices, masks = pairs()
    low = [s.bfloat16() for s in slices]
    exact = [s.float() for s in low]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for kind in KINDS:
            loss, _ = temporal(*low, masks, kind)
            assert loss.dtype == torch.float32 and torch.equal(loss, temporal(*exact, masks, kind)[0])
        assert torch.equal(cycle(low[0], low[1])[0], cycle(exact[0], exact[1])[0])
        logits = noise(5).bfloat16()
        assert torch.equal(adversarial_generator(logits)[0], adversarial_generator(logits.float())[0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cycle(noise(3, 1, 7, 5), noise(3, 1, 7, 4)), r"cycle: .*one shape, got \(3, 1, 7, 5\) and .*4\)"),
        (lambda: cycle(noise(0, 1, 7, 5), noise(0, 1, 7, 5)), "at least one example"),
        (lambda: style_reconstruction(noise(3, 9), noise(9)), r"style_reconstruction: .*\(3, 9\) and \(9,\)"),
        (lambda: adversarial_generator(noise(0)), "at least one example"),
        (lambda: temporal(*pairs()[:4], torch.ones(3, 7, 5)), r"masks \(batch, 1, height, width\), got .*\(3, 7, 5\)"),
        (lambda: temporal(*pairs(), kind="smooth"), "expected kind difference, gain_free, gradient, got 'smooth'"),
        (lambda: diversification_weight(1.0, 3, 0), "got 3 of 0"),
        (lambda: LossWeights(cycle=-1.0), "LossWeights.cycle: expected a number from 0 on, got -1"),
        (lambda: LossWeights(r1_every=0), "LossWeights.r1_every: expected a number from 1 on, got 0"),
        (lambda: LossWeights(style=float("nan")), "LossWeights.style: .* got nan"),
    ],
)
def test_what_cannot_be_a_loss_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_shapes_are_what_the_annotations_say():
    checked = jaxtyped(typechecker=beartype)(losses.temporal)
    *slices, masks = pairs()
    checked(*slices, masks, "gain_free")
    with pytest.raises(TypeCheckError):
        checked(*slices, masks[:2], "gain_free")
