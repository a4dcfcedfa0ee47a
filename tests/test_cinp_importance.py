"""Shares of a decision beside loops, and hit rates beside what guessing gives."""

import numpy as np
import pytest

from cinp_lib.connectivity import Atlas
from cinp_lib.importance import (
    affected_edges,
    affected_regions,
    hit_interval,
    hits,
    importance,
    on_regions,
    region_shares,
    region_sums,
)
from study_lib.grid import Grid
from study_lib.statistics import BootstrapSettings


def parts(number=40, size=12, seed=0):
    """The first three parts move the margin, the others cancel each other out in pairs or hardly matter."""
    rng = np.random.default_rng(seed)
    values = 0.1 * rng.normal(size=(number, size))
    values[:, :3] += rng.normal(size=(number, 3))
    loud = 5 * rng.normal(size=number)
    values[:, 3] += loud
    values[:, 4] -= loud
    return values


def test_shares_are_covariances_with_the_margin_within_groups():
    values, groups = parts(), ["a"] * 15 + ["b"] * 25
    expected = []
    for part in range(12):
        above = below = 0.0
        for group in "ab":
            own = [row for row, name in zip(values, groups, strict=True) if name == group]
            margin, mean = [sum(row) for row in own], np.mean([row[part] for row in own])
            centre = np.mean(margin)
            above += sum((row[part] - mean) * (m - centre) for row, m in zip(own, margin, strict=True))
            below += sum((m - centre) ** 2 for m in margin)
        expected.append(above / below)
    assert importance(values, groups) == pytest.approx(np.array(expected))
    assert importance(values, groups).sum() == pytest.approx(1)


def test_parts_that_move_the_margin_come_before_loud_ones_that_cancel_out():
    shares = importance(parts(200))
    assert set(np.argsort(-shares)[:3]) == {0, 1, 2}
    assert abs(shares[3] + shares[4]) < 0.15


def test_a_difference_between_folds_is_no_importance():
    values = parts()
    shifted = values + np.repeat([[0.0], [9.0]], 20, axis=0) * np.eye(12)[7]
    groups = np.repeat(["a", "b"], 20)
    assert importance(shifted, groups) == pytest.approx(importance(values, groups))


def test_random_shares_hit_as_often_as_chance_says():
    rng, affected = np.random.default_rng(0), np.arange(50) < 10
    found = [hits(rng.normal(size=50), affected) for _ in range(300)]
    assert found[0].chance == 0.2 and found[0].chance_low <= 0.2 <= found[0].chance_high
    assert np.mean([own.rate for own in found]) == pytest.approx(0.2, abs=0.03)
    inside = [own.chance_low <= own.rate <= own.chance_high for own in found]
    assert np.mean(inside) >= 0.95
    assert hits(-np.arange(50.0), affected).rate == 1
    with pytest.raises(ValueError, match="expected some affected among 50 parts, got 0 of 50"):
        hits(np.zeros(50), np.zeros(50, bool))


def test_the_interval_of_hits_is_over_people():
    values, groups, affected = parts(), ["a"] * 15 + ["b"] * 25, np.isin(np.arange(11), [0, 2, 8])
    interval = hit_interval(values, affected, groups, BootstrapSettings(draws=50))
    assert interval.n == 40 and interval.low <= interval.value <= interval.high
    assert interval.value == hits(importance(values, groups)[:11], affected).rate


def test_two_people_have_no_importance():
    with pytest.raises(ValueError, match="three people or more whose margins differ, got 2"):
        importance(parts(2))


def cubes() -> Atlas:
    """Two cubes of 16 mm beside each other on a grid of 2 mm."""
    grid = Grid.isotropic(2.0)
    labels = np.zeros(grid.shape, np.int16)
    labels[40:48, 40:48, 40:48] = 1
    labels[48:56, 40:48, 40:48] = 2
    return Atlas("cubes", ("one", "two"), labels, grid.affine)


def test_voxels_of_a_coarse_grid_are_shared_out_to_the_regions_in_them_and_nothing_is_lost():
    atlas, grid = cubes(), Grid.isotropic(6.0)
    shares = region_shares(atlas, grid)
    assert shares.shape == (2, *grid.shape)
    total = shares.sum(0)
    assert set(np.unique(np.round(total, 5))) == {0.0, 1.0}
    middle = tuple(np.argwhere(total > 0).mean(0).round().astype(int))
    assert total[middle] == pytest.approx(1) and not total[0, 0, 0]
    values = np.random.default_rng(0).normal(size=(3, *grid.shape))
    sums = region_sums(values, shares)
    assert sums.sum(1) == pytest.approx(values.sum((1, 2, 3)))
    assert sums[0, 0] == pytest.approx((values[0] * shares[0]).sum())


def test_a_map_shows_every_region_its_share():
    image = np.asarray(on_regions(np.array([0.25, -1.0]), cubes()).dataobj)
    assert image[41, 41, 41] == 0.25 and image[50, 44, 44] == -1 and image[0, 0, 0] == 0


def test_the_truth_is_read_by_the_names_of_regions():
    names = ["a", "b", "c", "d"]
    effects = {"affected_regions": ["c", "a"], "affected_edges": {"autism": [["d", "b", 0.3], ["a", "b", -0.3]]}}
    assert affected_regions(effects, names).tolist() == [True, False, True, False]
    edges = [(names[i], names[j]) for i, j in zip(*np.triu_indices(4, 1), strict=True)]
    marked = affected_edges(effects, names, "autism")
    assert {edge for edge, own in zip(edges, marked, strict=True) if own} == {("b", "d"), ("a", "b")}
