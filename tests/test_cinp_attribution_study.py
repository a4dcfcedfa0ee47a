"""Attribution of a task's decisions on tiny pairs, and hit rates of planted truths."""

import json

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from small_cinp import CALM
from small_pairs import PAIRS, REGIONS, people, write_store

from cinp_lib import attribution_figures
from cinp_lib.attribution import AttributionPlan
from cinp_lib.attribution_study import Explained, Scene, explain_task, hit_metrics, hit_table
from cinp_lib.connectivity import Atlas
from cinp_lib.embeddings import embed_pairs
from cinp_lib.model import Cinp
from cinp_lib.pair_store import PairStore
from cinp_lib.prompt_study import Material
from cinp_lib.tasks import tasks_of
from study_lib.grid import Grid

matplotlib.use("Agg")
NAMES = tuple("abcdefgh")


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    """Eight boxes about the middle of the head."""
    grid = Grid.isotropic(2.0)
    labels, middle = np.zeros(grid.shape, np.int16), np.array(grid.shape) // 2
    for k in range(REGIONS):
        low = middle + 12 * np.array([k // 4 - 1, k // 2 % 2 - 1, k % 2 - 1])
        labels[tuple(slice(start, start + 12) for start in low)] = k + 1
    return Atlas("boxes", NAMES, labels, grid.affine)


@pytest.fixture(scope="module")
def explained(tmp_path_factory, atlas):
    store = write_store(tmp_path_factory.mktemp("task"), people(40, sites=("Alpha",)))
    diagnosis = np.where(np.arange(40) % 2, "autism", "control")
    table = store.table.assign(cohort="abide", role="unassigned", diagnosis=diagnosis)
    store = PairStore(**{**vars(store), "table": table})
    torch.manual_seed(0)
    model = Cinp(CALM).eval()
    material = Material.of(tasks_of(table)["abide"], embed_pairs(model, store))
    plan = AttributionPlan(people=7, steps=12, fraction=0.5, draws=5)
    return explain_task(Scene(model, store, PAIRS.grid, atlas), material, plan)


def planted(disorder: str, people_of: int = 40, seed: int = 0) -> Explained:
    """Decisions that regions a and b and the edge between them carry."""
    rng = np.random.default_rng(seed)
    regions, edges = 0.1 * rng.normal(size=(people_of, 9)), 0.1 * rng.normal(size=(people_of, 28))
    regions[:, :2] += rng.normal(size=(people_of, 2))
    edges[:, 0] += rng.normal(size=people_of)
    folds = np.array(["first", "second"])[np.arange(people_of) % 2]
    return Explained(disorder, np.arange(people_of), folds, regions, edges, edges[:, :4], np.ones((8, 4)) / 4, {})


EFFECTS = {
    "affected_regions": ["a", "b"],
    "affected_edges": {"autism": [["b", "a", 0.3]], "adhd": [["a", "b", 0.3], ["g", "h", 0.3]]},
}


def test_test_people_of_several_folds_are_explained_and_everything_adds_up(explained):
    assert list(explained) == ["autism"]
    own = explained["autism"]
    assert len(own.people) == len(set(own.people)) == 7 and len(set(own.folds)) == 2
    assert own.regions.shape == (7, REGIONS + 1) and own.edges.shape == (7, 28) and own.clusters.shape == (7, 4)
    assert max(own.incompleteness.values()) < 0.1
    assert own.edges.sum(1) == pytest.approx(own.clusters.sum(1), abs=0.1 * float(own.edges.sum(1).std()))
    assert own.shares("edges").sum() == pytest.approx(1) and own.shares("regions").shape == (REGIONS,)


def test_planted_regions_and_edges_are_found(explained):
    table = hit_table({name: planted(name) for name in ("autism", "adhd")}, EFFECTS, NAMES)
    rates = table.set_index(["disorder", "parts"])["rate"]
    assert rates["autism", "regions"] == rates["autism", "edges"] == rates["all", "regions"] == 1
    assert rates["adhd", "edges"] == 0.5  # the edge between g and h carries nothing here
    metrics = hit_metrics(table)
    assert metrics["region_hit_rate"] == 1 and metrics["region_hit_chance"] == 0.25
    assert metrics["edge_hit_rate"] == 0.75 and metrics["edge_hit_chance"] == pytest.approx((1 / 28 + 2 / 28) / 2)
    assert json.loads(json.dumps(metrics))["edge_hit_rate_adhd"] == 0.5


def test_figures_mark_what_is_true_and_draw_chance():
    shares = {"autism": planted("autism").shares("regions")}
    truth = np.arange(8) < 2
    axes = attribution_figures.top_regions(shares, NAMES, truth).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()][:2] in (["a", "b"], ["b", "a"])
    axes = attribution_figures.hit_curves(shares, {"autism": truth}).axes[0]
    assert axes.lines[0].get_ydata()[[1, -1]] == pytest.approx([1, 0.25])
    assert 0.25 in [line.get_ydata()[0] for line in axes.lines[1:]]
    figure = attribution_figures.clusters({"autism": planted("autism").shares("clusters")}, np.ones((8, 4)) / 4)
    assert figure.axes[1].images[0].get_array().shape == (8, 4)
    plt.close("all")


def test_edges_become_a_symmetric_matrix_and_only_the_strongest_are_kept():
    shares = np.linspace(-0.1, 0.4, 28)
    whole, few = attribution_figures.edge_matrix(shares, 8), attribution_figures.edge_matrix(shares, 8, 3)
    assert np.array_equal(whole, whole.T) and whole[0, 1] == shares[0] and whole[6, 7] == shares[-1]
    assert np.count_nonzero(np.triu(few)) == 3 and few[6, 7] == shares[-1]


def test_interactive_views_hold_all_they_need(tmp_path, atlas):
    view = attribution_figures.connectome_view(np.linspace(-0.1, 0.4, 28), atlas, 5, "phantom")
    view.save_as_html(str(tmp_path / "edges.html"))
    page = (tmp_path / "edges.html").read_text(encoding="utf-8")
    assert 'src="http' not in page and 'href="http' not in page.split("</head>")[0]
    assert attribution_figures.connectome_view(np.zeros(28), atlas) is None
    page = attribution_figures.brain_view(np.linspace(0, 0.3, 8), atlas, "phantom").html
    assert 'src="http' not in page


def test_the_table_names_every_disorder_with_people_and_guesses():
    table = hit_table({"autism": planted("autism")}, EFFECTS, NAMES)
    assert isinstance(table, pd.DataFrame) and table["disorder"].tolist() == ["autism", "autism", "all"]
    first = table.iloc[0]
    assert first["chance_low"] <= first["chance"] <= first["chance_high"] and first["low"] <= first["rate"]
    assert first["people"] == 40
