"""Retrieval beside loops over single subjects, and what chance is."""

import numpy as np
import pytest

from cinp_lib.retrieval import age_bands, retrieval, retrieval_table


def embeddings(number=9, feature=4, noise=0.7, seed=0):
    """Images, and networks that resemble their own image."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(number, feature))
    networks = images + noise * rng.normal(size=(number, feature))
    return images, networks


def naive(images, networks, groups):
    """Hits to the network and back, and sizes of galleries, subject by subject."""
    hits, back, sizes, ranks = [], [], [], []
    for k in range(len(images)):
        gallery = [j for j in range(len(images)) if groups[j] == groups[k]]
        if len(gallery) < 2:
            continue
        there = {j: sum(a * b for a, b in zip(images[k], networks[j], strict=True)) for j in gallery}
        other = {j: sum(a * b for a, b in zip(images[j], networks[k], strict=True)) for j in gallery}
        hits.append(max(there, key=there.get) == k)
        back.append(max(other, key=other.get) == k)
        sizes.append(len(gallery))
        ranks.append(np.mean([1 / (1 + sum(s > seen[k] for s in seen.values())) for seen in (there, other)]))
    return hits, back, sizes, ranks


@pytest.mark.parametrize("groups", [[0] * 9, ["a", "b", "a", "c", "b", "a", "b", "d", "a"]])
def test_retrieval_is_what_a_loop_over_subjects_finds(groups):
    images, networks = embeddings()
    hits, back, sizes, ranks = naive(images, networks, groups)
    found = retrieval(images, networks, groups)
    assert found.to_network.tolist() == hits and found.to_image.tolist() == back
    assert found.gallery.tolist() == sizes
    assert found.r1 == pytest.approx((np.mean(hits) + np.mean(back)) / 2)
    assert found.chance == pytest.approx(np.mean([1 / size for size in sizes]))
    assert found.reciprocal_rank == pytest.approx(ranks)


def test_nobody_who_is_alone_in_a_group_counts():
    images, networks = embeddings(5)
    assert retrieval(images, networks, ["a", "a", "b", "c", "c"]).places.tolist() == [0, 1, 3, 4]
    with pytest.raises(ValueError, match="group of at least two subjects, got none"):
        retrieval(images, networks, list("abcde"))


def test_embeddings_that_say_nothing_are_at_chance_and_not_at_1():
    """Where all are equally alike the own one is no winner: a collapsed model must not seem to retrieve."""
    alike = np.ones((8, 3))
    found = retrieval(alike, alike)
    assert found.r1 == pytest.approx(1 / 8) == found.chance
    assert found.mean_reciprocal_rank == pytest.approx(1 / 4.5)


def test_strangers_are_found_as_often_as_chance_says():
    rng = np.random.default_rng(0)
    found = [retrieval(*rng.normal(size=(2, 20, 6))).r1 for _ in range(300)]
    assert np.mean(found) == pytest.approx(1 / 20, abs=4 * np.sqrt(0.05 / 20 / 300))


def test_the_order_of_subjects_does_not_matter():
    images, networks = embeddings()
    order = np.random.default_rng(1).permutation(9)
    assert retrieval(images[order], networks[order]).r1 == retrieval(images, networks).r1


def test_the_interval_is_over_subjects():
    interval = retrieval(*embeddings(40)).interval()
    assert interval.n == 40 and interval.unit == "subjects"
    assert interval.low < interval.value < interval.high


def test_embeddings_that_do_not_fit_are_refused():
    images, networks = embeddings()
    with pytest.raises(ValueError, match=r"at least two subjects.*got shapes \(1, 4\) and \(1, 4\)"):
        retrieval(images[:1], networks[:1])
    with pytest.raises(ValueError, match=r"of one size, got shapes \(9, 4\) and \(9, 3\)"):
        retrieval(images, networks[:, :3])
    with pytest.raises(ValueError, match="a group for each of 9 subjects, got 2"):
        retrieval(images, networks, ["a", "b"])
    images[2] = np.nan
    with pytest.raises(ValueError, match="expected finite embeddings"):
        retrieval(images, networks)


def test_bands_of_age_have_names_and_the_unknown_are_one_of_their_own():
    assert age_bands([17.9, 18, 24, np.nan]).tolist() == [
        "0 to 18 years",
        "18 to 25 years",
        "18 to 25 years",
        "unknown",
    ]


def test_the_table_has_both_ways_and_the_interval_of_every_gallery():
    rng = np.random.default_rng(3)
    images, networks = rng.normal(size=(2, 15, 4))
    found = {"everybody": retrieval(images, networks), "own site": retrieval(images, networks, list("abc") * 5)}
    for row, own in zip(retrieval_table(found).to_dict("records"), found.values(), strict=True):
        interval = own.interval()
        assert (row["low"], row["high"]) == (interval.low, interval.high)
        assert row["first"] == pytest.approx((row["image_to_network"] + row["network_to_image"]) / 2)
        assert row["size"] * row["chance"] == pytest.approx(1)
