"""The harmonisation study's losses: pure functions of tensors, each returning `(loss, parts)`.

`loss` carries the gradient, `parts` are its named, detached numbers. All is computed in float32, also under autocast.
`L1` is the mean absolute difference over all entries. Nothing is detached but where it says so: which networks a loss
moves is decided by whoever holds the optimisers. Sums take the losses under the names of `LossWeights`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, Self, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from gan_lib.networks import Images, Styles

PerImage = Float[Tensor, "batch"]
Scalar = Float[Tensor, ""]
Masks = Shaped[Tensor, "batch 1 height width"]  # 1 or True = brain
Loss = tuple[Tensor, dict[str, Tensor]]
TemporalKind = Literal["difference", "gain_free", "gradient"]

GAIN_LIMITS = (0.5, 2.0)  # beyond, a flattened stack would come too cheap (at gain 0 it is free)
# Keeps the gradient finite where a translation has no change between slices: a root mean square of 1e-4 in [0, 1].
FLAT_ENERGY = 1e-8


@dataclass(frozen=True)
class LossWeights:
    """L = star_gan (adversarial + cycle + style - diversification + identity) + temporal; each with its weight.

    The study gives `star_gan` and `temporal` and names the others without a value. Those are our choice: StarGAN v2's
    own defaults, but for the decay, which StarGAN v2 ends after its 100,000 iterations and we at the study's 16,000.
    """

    star_gan: float = 1.0  # the study's
    temporal: float = 0.5  # the study's
    cycle: float = 1.0
    style: float = 1.0
    diversification: float = 1.0
    identity: float = 0.0  # not in the study
    r1: float = 1.0
    r1_every: int = 1  # lazily: in one of so many steps, at so many times the weight
    diversification_iterations: int = 16_000  # the diversification falls linearly to 0 over these

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 1 if field.type is int else 0
            if not least <= value < float("inf"):
                raise ValueError(f"LossWeights.{field.name}: expected a number from {least} on, got {value}")

    def at(self, iteration: int) -> Self:
        """The weights in force at an iteration, the first being 0."""
        now = diversification_weight(self.diversification, iteration, self.diversification_iterations)
        return replace(self, diversification=now)

    def r1_at(self, iteration: int) -> float:
        """The weight of R1 at an iteration: 0 where it is not due and need not be computed."""
        return self.r1 * self.r1_every if iteration % self.r1_every == 0 else 0.0


def adversarial_discriminator(real_logits: PerImage, fake_logits: PerImage) -> Loss:
    """Cross-entropy of telling real from fake: E[-log D(x)] + E[-log(1 - D(G(x, s)))], D the logits' sigmoid."""
    _check_filled("adversarial_discriminator", real_logits, fake_logits)
    real, fake = functional.softplus(-real_logits.float()).mean(), functional.softplus(fake_logits.float()).mean()
    return real + fake, {"discriminator_real": real.detach(), "discriminator_fake": fake.detach()}


def adversarial_generator(fake_logits: PerImage) -> Loss:
    """E[-log D(G(x, s))]: the form that does not saturate while the discriminator wins."""
    _check_filled("adversarial_generator", fake_logits)
    return _named("adversarial", functional.softplus(-fake_logits.float()).mean())


def r1(real_logits: PerImage, real_images: Images) -> Loss:
    """1/2 E || d D(x) / d x ||^2 on real images, which must ask for gradients; the result can be differentiated."""
    if not real_images.requires_grad:
        raise ValueError("r1: expected real_images that ask for gradients; call requires_grad_() before discriminating")
    (gradient,) = torch.autograd.grad(real_logits.float().sum(), real_images, create_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError("r1: real_logits do not depend on real_images; pass the very tensor that was discriminated")
    return _named("r1", gradient.float().square().flatten(1).sum(1).mean() / 2)


def cycle(images: Images, cycled: Images) -> Loss:
    """|| x - G(G(x, s), E(x)) ||, L1."""
    return _named("cycle", _l1("cycle", images, cycled))


def style_reconstruction(styles: Styles, recovered: Styles) -> Loss:
    """|| s - E(G(x, s)) ||, L1; as in StarGAN v2 the gradient reaches `styles` too, and the mapping network by it."""
    return _named("style", _l1("style_reconstruction", styles, recovered))


def diversification(first: Images, second: Images) -> Loss:
    """|| G(x, s1) - G(x, s2) ||, L1, to be maximised: `generator_total` subtracts it. `second` is detached."""
    return _named("diversification", _l1("diversification", first, second.detach()))


def identity(images: Images, same_site_translated: Images) -> Loss:
    """|| x - G(x, E(x)) ||, L1: an image in its own style is itself. Not in the study."""
    return _named("identity", _l1("identity", images, same_site_translated))


def diversification_weight(initial: float, iteration: int, iterations: int) -> float:
    """A weight that falls linearly from `initial` at iteration 0 to 0 at `iterations`, and stays there."""
    if iteration < 0 or iterations < 1:
        raise ValueError(
            f"diversification_weight: expected iteration >= 0 of at least 1, got {iteration} of {iterations}"
        )
    return initial * max(0.0, 1 - iteration / iterations)


def temporal(
    images: Images,
    neighbours: Images,
    translated: Images,
    translated_neighbours: Images,
    masks: Masks,
    kind: TemporalKind = "difference",
) -> Loss:
    """How far the change from a slice to its neighbour is not what it was before translation; one style for both.

    With dx = neighbour - slice, dG the same of the translations, both inside the union brain mask B of the pair:
    `difference` || dG - dx ||_1 / |B|, our reading of the study, which does not publish its formula;
    `gain_free`  || dG - a dx ||_1 / |B|, a the pair's least-squares gain, clamped to [0.5, 2] and detached;
    `gradient`   1 - <dG, dx> / (||dG|| ||dx||). Means are not removed: a slice that is brighter as a whole must show.
    The mean is over pairs, each counting once whatever its size. A pair without brain is left out, for `gradient` also
    one without any change before translation; if no pair is left the loss is 0.
    """
    _check_pairs(masks, images, neighbours, translated, translated_neighbours)
    if kind not in get_args(TemporalKind):
        raise ValueError(f"temporal: expected kind {', '.join(get_args(TemporalKind))}, got {kind!r}")
    inside = masks.float()
    before = (neighbours.float() - images.float()) * inside
    after = (translated_neighbours.float() - translated.float()) * inside
    entries = inside.flatten(1).sum(1) * images.shape[1]
    if kind == "gradient":
        return _named("temporal", _mean_where(*_unlikeness(before, after, entries)))
    gain = _gain(before, after) if kind == "gain_free" else torch.ones_like(entries)
    each = (after - gain[:, None, None, None] * before).abs().flatten(1).sum(1) / entries.clamp(min=1)
    return _named("temporal", _mean_where(each, entries > 0))


def generator_total(losses: Mapping[str, Tensor], weights: LossWeights) -> Loss:
    """The study's sum, 1.0 StarGAN v2's and 0.5 temporal, of losses by name; only one of weight 0 may be missing."""
    inner = {"adversarial": 1.0, "cycle": weights.cycle, "style": weights.style}
    inner |= {"diversification": -weights.diversification, "identity": weights.identity}
    signed = {name: weights.star_gan * weight for name, weight in inner.items()} | {"temporal": weights.temporal}
    return _weighted_sum("generator", losses, signed)


def discriminator_total(losses: Mapping[str, Tensor], r1_weight: float) -> Loss:
    """`adversarial` plus `r1`, at the weight that `LossWeights.r1_at` gives for the iteration."""
    return _weighted_sum("discriminator", losses, {"adversarial": 1.0, "r1": r1_weight})


def _weighted_sum(name: str, losses: Mapping[str, Tensor], weights: dict[str, float]) -> Loss:
    unknown, missing = set(losses) - set(weights), {n for n, w in weights.items() if w != 0} - set(losses)
    if unknown or missing:
        raise KeyError(
            f"{name}_total: expected losses named {', '.join(weights)}; "
            f"not known: {', '.join(sorted(unknown)) or '-'}; of weight above 0 but missing: "
            f"{', '.join(sorted(missing)) or '-'}"
        )
    total = sum(weights[key] * loss.float() for key, loss in losses.items() if weights[key] != 0)
    return total, {key: loss.detach() for key, loss in losses.items()} | {name: total.detach()}


def _gain(before: Images, after: Images) -> PerImage:
    """Per pair the a that makes || after - a before ||_2 least, clamped; 1 where nothing changed before."""
    before, after = before.detach().flatten(1), after.detach().flatten(1)
    energy = before.square().sum(1)
    gain = (before * after).sum(1) / energy.clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(energy > 0, gain.clamp(*GAIN_LIMITS), torch.ones_like(gain))


def _unlikeness(before: Images, after: Images, entries: PerImage) -> tuple[Tensor, Tensor]:
    """Per pair 1 - normalised cross-correlation, and whether it is defined."""
    before, after = before.flatten(1), after.flatten(1)
    energy = before.square().sum(1)
    flat = FLAT_ENERGY * entries.clamp(min=1)
    scale = torch.sqrt(energy + flat) * torch.sqrt(after.square().sum(1) + flat)
    return 1 - (before * after).sum(1) / scale, energy > 0


def _mean_where(values: Tensor, counts: Tensor) -> Scalar:
    """The mean of the values that count, 0 where none does; no branch, so that a GPU need not wait."""
    return torch.where(counts, values, torch.zeros_like(values)).sum() / counts.sum().clamp(min=1)


def _l1(name: str, first: Tensor, second: Tensor) -> Scalar:
    if first.shape != second.shape:
        raise ValueError(
            f"{name}: expected two tensors of one shape, got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    _check_filled(name, first)
    return (first.float() - second.float()).abs().mean()


def _named(name: str, loss: Tensor) -> Loss:
    return loss, {name: loss.detach()}


def _check_filled(name: str, *tensors: Tensor) -> None:
    if any(tensor.numel() == 0 for tensor in tensors):
        raise ValueError(f"{name}: expected at least one example, got shapes {[tuple(t.shape) for t in tensors]}")


def _check_pairs(masks: Tensor, images: Tensor, *others: Tensor) -> None:
    batch, _, height, width = images.shape
    if any(other.shape != images.shape for other in others) or masks.shape != (batch, 1, height, width):
        got = ", ".join(str(tuple(t.shape)) for t in (images, *others, masks))
        raise ValueError(
            "temporal: expected slices, neighbours and their translations of one shape (batch, channel, height, width) "
            f"and masks (batch, 1, height, width), got {got}"
        )
    _check_filled("temporal", images)
