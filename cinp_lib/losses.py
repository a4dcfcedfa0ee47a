"""The losses of contrastive image-network pre-training: pure functions of tensors, each returning `(loss, parts)`.

`loss` carries the gradient, `parts` are its named, detached numbers. A temperature is tau itself, not its logarithm.
All is computed in float32 at least, also under autocast. Embeddings are taken as they are: whoever makes them
normalises them. Pair k is row k of both, and every other row is a stranger: a batch holds each family once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

PairEmbeddings = Float[Tensor, "batch feature"]
Volumes = Float[Tensor, "batch 1 x y z"]
Masks = Bool[Tensor, "batch 1 x y z"]  # True = masked, hidden from the encoder
Loss = tuple[Tensor, dict[str, Tensor]]
Region = Literal["volume", "masked"]
NegativeRule = Literal["hard", "next"]


@dataclass(frozen=True)
class LossWeights:
    """L = contrastive + alpha reconstruction + beta matching; alpha = beta = 1 are the study's."""

    contrastive: float = 1.0
    reconstruction: float = 1.0  # alpha
    matching: float = 1.0  # beta

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"LossWeights.{field.name}: expected a number from 0 on, got {value}")
        if not any(vars(self).values()):
            raise ValueError("LossWeights: expected at least one weight above 0, got 0 for all three losses")


def image_network_contrastive(
    image_embeddings: PairEmbeddings, network_embeddings: PairEmbeddings, tau: Tensor | float
) -> Loss:
    """1/2 E[H(y_in, p_in) + H(y_ni, p_ni)], p the softmax of v_I^T w_N / tau over the batch's networks or images."""
    logits = _logits("image_network_contrastive", image_embeddings, network_embeddings, tau)
    own = torch.arange(len(logits), device=logits.device)
    to_network, to_image = functional.cross_entropy(logits, own), functional.cross_entropy(logits.T, own)
    loss = (to_network + to_image) / 2
    directions = {"contrastive_to_network": to_network.detach(), "contrastive_to_image": to_image.detach()}
    return loss, {"contrastive": loss.detach()} | directions


def siglip(
    image_embeddings: PairEmbeddings, network_embeddings: PairEmbeddings, tau: Tensor | float, bias: Tensor | float
) -> Loss:
    """Every pair of the batch by itself (Zhai et al. 2023, not in the study): -1/K sum log sigmoid(z (s / tau + bias)).

    z is 1 on the diagonal and -1 elsewhere. No softmax over the batch, so that its size matters less.
    """
    logits = _logits("siglip", image_embeddings, network_embeddings, tau) + bias
    sign = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
    loss = -functional.logsigmoid(sign * logits).sum(1).mean()
    return loss, {"contrastive": loss.detach()}


def masked_image_modelling(
    volumes: Volumes, reconstructions: Volumes, masks: Masks | None = None, over: Region = "volume"
) -> Loss:
    """E || I - I^ ||_1 as mean absolute difference: over the whole volume as in the study, or its masked voxels only.

    A volume counts once, however many of its voxels are masked; with `over="masked"` each needs at least one.
    """
    if over not in get_args(Region):
        raise ValueError(f"masked_image_modelling: expected over={' or '.join(get_args(Region))}, got {over!r}")
    if volumes.shape != reconstructions.shape or volumes.numel() == 0:
        raise ValueError(
            "masked_image_modelling: expected volumes and reconstructions of one shape, with at least one voxel; "
            f"got {tuple(volumes.shape)} and {tuple(reconstructions.shape)}"
        )
    difference = (_precise(volumes) - _precise(reconstructions)).abs().flatten(1)
    each = difference.mean(1) if over == "volume" else _mean_inside(difference, masks, volumes.shape)
    loss = each.mean()
    return loss, {"reconstruction": loss.detach()}


def image_network_matching(logits: Float[Tensor, "pair 2"], matches: Bool[Tensor, " pair"]) -> Loss:
    """E[H(z, q(I, N))], q the softmax of two logits: column 1 says "same subject"."""
    if logits.ndim != 2 or logits.shape[1] != 2 or matches.shape != logits.shape[:1] or len(logits) == 0:
        raise ValueError(
            "image_network_matching: expected two logits and one truth for each pair, "
            f"got shapes {tuple(logits.shape)} and {tuple(matches.shape)}"
        )
    loss = functional.cross_entropy(_precise(logits), matches.long())
    right = (logits.argmax(1) == matches.long()).double().mean()
    return loss, {"matching": loss.detach(), "matching_accuracy": right}


def matching_negatives(
    similarity: Float[np.ndarray, "image network"],
    rng: np.random.Generator,
    rule: NegativeRule = "hard",
    families: Int[np.ndarray, " image"] | None = None,
) -> tuple[Int[np.ndarray, " image"], Int[np.ndarray, " image"]]:
    """A stranger's network for each image, and a stranger's image for each network.

    `hard`: drawn with the probabilities softmax(similarity) over the strangers, so that alike ones come more often;
    `similarity` is s / tau. `next`: the pair behind in the batch. Equal `families` are no strangers.
    """
    number = len(similarity)
    families = np.arange(number) if families is None else np.asarray(families)
    strangers = families[:, None] != families[None]
    if similarity.shape != (number, number) or families.shape != (number,) or not np.isfinite(similarity).all():
        raise ValueError(
            "matching_negatives: expected finite similarities of as many images as networks, and one family for each; "
            f"got shapes {similarity.shape} and {families.shape}"
        )
    if not strangers.any(1).all():
        raise ValueError(f"matching_negatives: expected two families or more, got {len(set(families.tolist()))}")
    if rule == "hard":
        return _drawn(similarity, strangers, rng), _drawn(similarity.T, strangers, rng)
    if rule == "next":
        behind = (np.arange(number)[:, None] + np.arange(1, number)) % number
        first = behind[np.arange(number), np.take_along_axis(strangers, behind, 1).argmax(1)]
        return first, first.copy()
    raise ValueError(f"matching_negatives: expected rule {' or '.join(get_args(NegativeRule))}, got {rule!r}")


def total(losses: Mapping[str, Tensor], weights: LossWeights) -> Loss:
    """The weighted sum of losses by the names of `LossWeights`; only one of weight 0 may be missing."""
    given = vars(weights)
    unknown, missing = set(losses) - set(given), {name for name, weight in given.items() if weight} - set(losses)
    if unknown or missing:
        raise KeyError(
            f"total: expected losses named {', '.join(given)}; not known: {', '.join(sorted(unknown)) or '-'}; "
            f"of weight above 0 but missing: {', '.join(sorted(missing)) or '-'}"
        )
    loss = sum(given[name] * _precise(value) for name, value in losses.items() if given[name])
    return loss, {name: value.detach() for name, value in losses.items()} | {"total": loss.detach()}


def _logits(name: str, images: Tensor, networks: Tensor, tau: Tensor | float) -> Tensor:
    """s / tau, images in rows."""
    if images.ndim != 2 or images.shape != networks.shape:
        raise ValueError(
            f"{name}: expected as many images as networks, in embeddings of one size; "
            f"got shapes {tuple(images.shape)} and {tuple(networks.shape)}"
        )
    if len(images) < 2:
        raise ValueError(
            f"{name}: expected at least two pairs, got {len(images)}: a pair is told from others; use a larger batch"
        )
    if not (value := float(torch.as_tensor(tau).detach())) > 0:
        raise ValueError(f"{name}: expected a temperature above 0, got {value:g}; pass tau itself, not its logarithm")
    for kind, embeddings in (("image", images), ("network", networks)):
        if not (finite := embeddings.isfinite().all(1)).all():
            rows = (~finite).nonzero()[:, 0].tolist()
            raise ValueError(f"{name}: expected finite {kind} embeddings, got NaN or infinity in rows {rows[:10]}")
    with torch.autocast(images.device.type, enabled=False):  # autocast would take the product to 16 bits again
        return _precise(images) @ _precise(networks).T / tau


def _mean_inside(difference: Tensor, masks: Tensor | None, shape: torch.Size) -> Tensor:
    if masks is None or masks.shape != shape:
        got = "none" if masks is None else tuple(masks.shape)
        raise ValueError(f"masked_image_modelling: expected masks of shape {tuple(shape)} for over='masked', got {got}")
    inside = masks.flatten(1).to(difference.dtype)
    if not (counts := inside.sum(1)).all():
        empty = (counts == 0).nonzero()[:, 0].tolist()
        raise ValueError(f"masked_image_modelling: expected a masked voxel in every volume, got none in {empty[:10]}")
    return (difference * inside).sum(1) / counts


def _drawn(similarity: np.ndarray, allowed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One column for each row, by softmax over the allowed ones: the largest of Gumbel-shifted similarities."""
    shifted = similarity.astype(np.float64) + rng.gumbel(size=similarity.shape)
    return np.where(allowed, shifted, -np.inf).argmax(1)


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
