"""What network prompting looks at: integrated gradients of its margin on voxels, edges and readout clusters.

The margin of an image v is v^T (w_disorder - w_control), the difference of its similarities to two classes' prompts. It
is followed from the mean of the training people to each test person (Sundararajan et al. 2017), so that what everybody
shares explains nothing, and values add up to how much larger the margin became on the way. Clusters explain what goes
through the network encoder's readout alone; components go around it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerIntegratedGradients
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from cinp_lib.connectivity import edges
from cinp_lib.folds import Fold
from cinp_lib.model import Cinp
from cinp_lib.prompt_study import Material, prompt

Direction = Float[np.ndarray, " feature"]
Margin = Callable[[Tensor], Float[Tensor, " person"]]


@dataclass(frozen=True)
class AttributionPlan:
    """How many people are explained, in how many steps, and with which prompts."""

    people: int = 60  # of each task
    steps: int = 8  # of the path of volumes; Gauss-Legendre quadrature needs few
    network_steps: int = 32  # of that of networks, which bends more and costs little
    batch: int = 32  # volumes or networks in one pass
    fraction: float = 0.1
    n_subsets: int = 1  # references are means of all drawn networks
    draws: int = 100  # prompts are means over them


PLANS = {
    "smoke": AttributionPlan(people=12),
    "demo": AttributionPlan(),
    "paper": AttributionPlan(people=200, steps=32, batch=8),
}


@dataclass(frozen=True, eq=False)
class Attribution:
    """`parts` (voxels, edges, clusters) of each person add up to `margins`: that of the person less the baseline's.

    Of clusters: less that of the person with the baseline's readout.
    """

    parts: np.ndarray
    margins: Float[np.ndarray, " person"]


def incompleteness(found: Sequence[Attribution]) -> float:
    """The largest gap between a person's sum and margin, in standard deviations of all margins: what steps miss."""
    sums = np.concatenate([reduce(own.parts, "person ... -> person", "sum") for own in found])
    margins = np.concatenate([own.margins for own in found])
    if len(margins) < 2 or not margins.std() > 0:
        raise ValueError(f"incompleteness: expected two people or more whose margins differ, got {len(margins)}")
    return float(np.abs(sums - margins).max() / margins.std())


def explained_people(folds: list[Fold], people: int) -> Iterator[tuple[Fold, np.ndarray]]:
    """Test people of one fold after the other, each once, until there are enough of them."""
    seen: set[int] = set()
    for fold in folds:
        own = np.array([k for k in fold.test if k not in seen][: people - len(seen)], dtype=int)
        if len(own):
            yield fold, own
        seen |= set(own.tolist())


def prompt_direction(material: Material, fold: Fold, disorder: str, plan: AttributionPlan, state: int) -> Direction:
    """w_disorder - w_control, means over draws of the training part's networks."""
    cell = plan.fraction, plan.n_subsets, False
    prompts = prompt(material, fold, cell, plan.draws, state).prompts_.mean(axis=0)
    classes = material.task.classes
    if disorder not in classes[1:]:
        raise KeyError(f"disorder: expected one of {', '.join(classes[1:])}, got {disorder!r}")
    return prompts[classes.index(disorder)] - prompts[0]


def image_attribution(
    model: Cinp, volumes: np.ndarray, baseline: np.ndarray, direction: Direction, plan: AttributionPlan
) -> Attribution:
    """Of voxels: (person, x, y, z)."""
    margin = _margin(model.embed_images, direction, model)
    found = _integrated(
        margin, _inputs(model, volumes)[:, None], _inputs(model, baseline)[None, None], (plan.steps, plan.batch)
    )
    return Attribution(rearrange(found.parts, "person 1 x y z -> person x y z"), found.margins)


def edge_attribution(
    model: Cinp, networks: np.ndarray, baseline: np.ndarray, direction: Direction, plan: AttributionPlan
) -> Attribution:
    """Of edges, (person, edge) in the order of the upper triangle: how far each makes networks resemble a prompt."""
    margin = _margin(model.embed_networks, direction, model)
    found = _integrated(
        margin, _inputs(model, networks), _inputs(model, baseline)[None], (plan.network_steps, plan.batch)
    )
    both = found.parts + found.parts.transpose(0, 2, 1)
    return Attribution(edges(both), found.margins - np.einsum("pii->p", found.parts))


def cluster_attribution(
    model: Cinp, networks: np.ndarray, baseline: np.ndarray, direction: Direction, plan: AttributionPlan
) -> Attribution:
    """Of the readout's clusters: (person, cluster)."""
    margin = _margin(model.embed_networks, direction, model)
    method = LayerIntegratedGradients(margin, model.network_encoder.readout)
    inputs, start = _inputs(model, networks), _inputs(model, baseline)[None]
    found = [
        method.attribute(own, start, n_steps=plan.network_steps, internal_batch_size=plan.batch)
        for own in inputs.split(plan.batch)
    ]
    values = reduce(torch.cat(found).detach().cpu().numpy(), "person cluster feature -> person cluster", "sum")
    return Attribution(values, _gained_by_clusters(model, margin, inputs, start))


def regions_of_clusters(model: Cinp, networks: np.ndarray) -> Float[np.ndarray, "region cluster"]:
    """How much of every region goes to every cluster, mean over people; rows of regions add to 1."""
    with torch.no_grad():
        return model.network_encoder.assignment(_inputs(model, networks)).mean(dim=0).cpu().numpy()


def _margin(embed: Callable[[Tensor], Tensor], direction: Direction, model: Cinp) -> Margin:
    weights = torch.as_tensor(direction, dtype=torch.float32, device=model.log_tau.device)
    return lambda inputs: embed(inputs).float() @ weights


def _integrated(margin: Margin, inputs: Tensor, baseline: Tensor, effort: tuple[int, int]) -> Attribution:
    method, (steps, batch) = IntegratedGradients(margin), effort
    found = [method.attribute(own, baseline, n_steps=steps, internal_batch_size=batch) for own in inputs.split(batch)]
    return Attribution(torch.cat(found).detach().cpu().numpy(), _gained(margin, inputs, baseline))


def _gained(margin: Margin, inputs: Tensor, baseline: Tensor) -> Float[np.ndarray, " person"]:
    with torch.no_grad():
        start = margin(baseline)
        return torch.cat([margin(own) - start for own in inputs.split(64)]).cpu().numpy()


def _gained_by_clusters(model: Cinp, margin: Margin, inputs: Tensor, start: Tensor) -> Float[np.ndarray, " person"]:
    """What goes around the readout, such as components, stays the person's own."""
    readout = model.network_encoder.readout
    with torch.no_grad():
        whole, kept = torch.cat([margin(own) for own in inputs.split(64)]), []
        with _hooked(readout, lambda *seen: kept.append(seen[-1])):
            margin(start)
        with _hooked(readout, lambda *seen: kept[0].expand_as(seen[-1])):
            without = torch.cat([margin(own) for own in inputs.split(64)])
    return (whole - without).cpu().numpy()


@contextmanager
def _hooked(module: torch.nn.Module, hook: Callable) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _inputs(model: Cinp, values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(model.log_tau.device)
