"""Batches of pairs: each family once, every epoch everybody's family, the same after a restart."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from small_pairs import PAIRS, Person, networks_of, people, write_cohort, write_store

from cinp_lib.pair_sampler import PairSampler
from cinp_lib.pair_store import PairStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """11 families: one of three scans, one of two."""
    group = people(9)
    traits = (0.0, 1.0, 2.0, 3.0)
    group += [Person("a", "Alpha", traits, s, "f") for s in ("1", "2")] + [Person("b", "Alpha", traits, family="f")]
    group += [Person(name, "Beta", traits, family="g") for name in ("c", "d")]
    return write_store(tmp_path_factory.mktemp("sampler"), group)


def test_no_batch_holds_two_scans_of_a_subject_or_family(store):
    sampler = PairSampler(store, 4)
    for iteration in range(200):
        families = store.table["family"].iloc[sampler.draw(iteration)]
        assert len(families) == 4 == len(set(families))


def test_an_epoch_holds_each_family_at_most_once_and_leaves_out_less_than_a_batch(store):
    sampler = PairSampler(store, 4)
    assert sampler.per_epoch == 2
    for epoch in range(20):
        drawn = np.concatenate([sampler.draw(2 * epoch + k) for k in range(2)])
        assert len(set(store.table["family"].iloc[drawn])) == 8


def test_over_time_every_scan_of_a_family_comes_equally_often(store):
    sampler = PairSampler(store, 5, seed=1)
    counts = Counter(
        store.table["subject"].iloc[place] + store.table["session"].iloc[place]
        for n in range(1200)
        for place in sampler.draw(n)
    )
    singles = [counts[f"p{k:02d}"] for k in range(9)]
    expected = 600 * 10 / 11
    assert np.abs(np.array(singles) - expected).max() < 5 * np.sqrt(600 * 10 / 121)
    for name in ("a1", "a2", "b"):
        assert abs(counts[name] - expected / 3) < 5 * np.sqrt(expected * 2 / 9)


def test_a_draw_depends_on_seed_and_iteration_alone(store):
    one, other = PairSampler(store, 4, seed=5), PairSampler(store, 4, seed=5)
    later = [one.draw(n) for n in range(7)][6]
    assert np.array_equal(other.draw(6), later)
    assert not np.array_equal(PairSampler(store, 4, seed=6).draw(6), later)
    assert not np.array_equal(one.draw(5), later)


def test_batches_within_a_site_are_of_one_site_and_reach_all(store):
    sampler = PairSampler(store, 3, within_site=True)
    sites = [set(store.table["site"].iloc[sampler.draw(n)]) for n in range(40)]
    assert all(len(one) == 1 for one in sites)
    assert set().union(*sites) == {"Alpha", "Beta"}


def test_too_large_a_batch_says_which_would_do(store):
    with pytest.raises(
        ValueError, match=r"batch of 12 holds each family once; .*all sites 11\. Choose a batch of at most 11"
    ):
        PairSampler(store, 12)
    with pytest.raises(ValueError, match=r"too few families: Beta 5\. Choose a batch of at most 5, or batches across"):
        PairSampler(store, 6, within_site=True)
    with pytest.raises(ValueError, match="at least two pairs, got 1"):
        PairSampler(store, 1)


def test_images_without_a_network_are_never_trained_on(tmp_path):
    group = people(3)
    cohort = write_cohort(tmp_path, group)
    config = replace(PAIRS, alone=True)
    alone = PairStore.build(cohort.table, cohort, networks_of(group[:2]), tmp_path / "pairs", config, 1)
    with pytest.raises(ValueError, match="expected a network of everybody, none of p02"):
        PairSampler(alone, 2)
