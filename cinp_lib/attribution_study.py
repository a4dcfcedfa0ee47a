"""Attribution of prompting's decisions over test people of a task: regions, edges and clusters, beside the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cinp_lib.attribution import (
    Attribution,
    AttributionPlan,
    cluster_attribution,
    edge_attribution,
    explained_people,
    image_attribution,
    incompleteness,
    prompt_direction,
    regions_of_clusters,
)
from cinp_lib.connectivity import Atlas
from cinp_lib.folds import Fold, repeated_folds
from cinp_lib.importance import (
    Parts,
    affected_edges,
    affected_regions,
    hit_interval,
    hits,
    importance,
    region_shares,
    region_sums,
)
from cinp_lib.model import Cinp
from cinp_lib.pair_store import PairStore
from cinp_lib.prompt_study import Material
from study_lib.grid import Grid

KINDS = ("regions", "edges", "clusters")
REPEATS = 20  # of the split; as many of them are used as it takes to have enough test people


@dataclass(frozen=True, eq=False)
class Scene:
    """What is explained: a model, prepared scans in the rows of its embeddings, and where their voxels lie."""

    model: Cinp
    store: PairStore
    grid: Grid
    atlas: Atlas


@dataclass(frozen=True, eq=False)
class Explained:
    """Attributions of one disorder's decision: a row for each test person, whose fold says which prompts it had.

    The last column of `regions` is what lies in no region.
    """

    disorder: str
    people: np.ndarray  # places in the task
    folds: np.ndarray
    regions: Parts
    edges: Parts
    clusters: Parts
    assignment: np.ndarray  # (region, cluster)
    incompleteness: dict[str, float]

    def shares(self, kind: str) -> np.ndarray:
        """The importance of regions, edges or clusters; that of regions misses 1 by what lies in none."""
        found = importance(getattr(self, kind), self.folds)
        return found[:-1] if kind == "regions" else found


def explain_task(scene: Scene, material: Material, plan: AttributionPlan, seed: int = 0) -> dict[str, Explained]:
    """Every disorder of a task against its controls."""
    folds = repeated_folds(material.task, REPEATS, seed)
    return {name: explain(scene, material, name, folds, plan) for name in material.task.classes[1:]}


def explain(scene: Scene, material: Material, disorder: str, folds: Sequence[Fold], plan: AttributionPlan) -> Explained:
    """Test people with a network, of as many folds as needed, each by the prompts of its own training part."""
    tested = explained_people(list(folds), plan.people)
    chosen = [(fold, material.references(own)) for fold, own in tested]  # both sides are explained on the same people
    found = [explain_fold(scene, material, disorder, (number, *one), plan) for number, one in enumerate(chosen)]
    shares = region_shares(scene.atlas, scene.grid)
    voxels, edges, clusters = zip(*found, strict=True)
    names = np.concatenate([[fold.name] * len(own) for fold, own in chosen])
    people = np.concatenate([own for _, own in chosen])
    networks = scene.store.networks(material.task.places[people])
    return Explained(
        disorder,
        people,
        names,
        np.concatenate([region_sums(own.parts, shares) for own in voxels]),
        np.concatenate([own.parts for own in edges]),
        np.concatenate([own.parts for own in clusters]),
        regions_of_clusters(scene.model, networks),
        {kind: incompleteness(parts) for kind, parts in zip(KINDS, (voxels, edges, clusters), strict=True)},
    )


def explain_fold(
    scene: Scene, material: Material, disorder: str, chosen: tuple[int, Fold, np.ndarray], plan: AttributionPlan
) -> tuple[Attribution, Attribution, Attribution]:
    """Voxels, edges and clusters of some test people, from the mean of the training part."""
    (number, fold, people), places, store = chosen, material.task.places, scene.store
    references = material.references(fold.training)
    direction = prompt_direction(material, fold, disorder, plan, state=number)
    volumes, networks = store.volumes(places[people]), store.networks(places[people])
    mean_volume = np.mean([store.volumes(places[[k]])[0] for k in fold.training], axis=0, dtype=np.float64)
    mean_network = store.networks(places[references]).mean(axis=0)
    return (
        image_attribution(scene.model, volumes, mean_volume, direction, plan),
        edge_attribution(scene.model, networks, mean_network, direction, plan),
        cluster_attribution(scene.model, networks, mean_network, direction, plan),
    )


def hit_table(explained: Mapping[str, Explained], effects: Mapping, names: Sequence[str]) -> pd.DataFrame:
    """How many of the phantom's affected regions and edges are among those that matter most, for every disorder.

    The row `all` ranks regions by their mean share: the phantom's disorders move the same ones.
    """
    regions, rows = affected_regions(effects, names), []
    for name, own in explained.items():
        for kind, truth in (("regions", regions), ("edges", affected_edges(effects, names, own.disorder))):
            interval = hit_interval(getattr(own, kind), truth, own.folds)
            rows.append({"disorder": name, "parts": kind, **vars(hits(own.shares(kind), truth))})
            rows[-1] |= {"low": interval.low, "high": interval.high, "people": interval.n}
    together = hits(np.mean([own.shares("regions") for own in explained.values()], axis=0), regions)
    people = sum(len(own.people) for own in explained.values())
    return pd.DataFrame([*rows, {"disorder": "all", "parts": "regions", **vars(together), "people": people}])


def hit_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Regions: of the mean ranking. Edges: the mean over disorders, which do not share theirs."""
    single = table[table["disorder"] != "all"]
    region, edge = table[table["disorder"] == "all"].iloc[0], single[single["parts"] == "edges"]
    metrics = {"region_hit_rate": region["rate"], "region_hit_chance": region["chance"]}
    metrics |= {"edge_hit_rate": edge["rate"].mean(), "edge_hit_chance": edge["chance"].mean()}
    for row in single.itertuples():
        metrics[f"{row.parts.removesuffix('s')}_hit_rate_{row.disorder}"] = row.rate
    return metrics
