"""Draws of slices: what they hold, how they are balanced, and that they depend on seed and step alone."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_slices import CONFIG, PEOPLE, Person, decode, write_cohort

from gan_lib.slices import PLANES, DrawConfig, SliceSampler, SliceStore

NAMES = {person.number: person for person in PEOPLE}


def build(folder, people, config=CONFIG):
    cohort = write_cohort(folder, people)
    return SliceStore.build(cohort.table, cohort, folder / "store", config, n_jobs=1, progress=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three sites: three subjects, of whom one has two sessions; one subject with two full slices; two subjects."""
    return build(tmp_path_factory.mktemp("cohort"), PEOPLE)


def decoded(images, masks):
    return [decode(image[0].numpy(), mask[0].numpy()) for image, mask in zip(images, masks, strict=True)]


def tensors(batch):
    return {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}


def assert_same(one, other):
    for name, value in tensors(one).items():
        assert torch.equal(value, tensors(other)[name]), name
    assert (one.subjects, one.reference_subjects, one.where) == (other.subjects, other.reference_subjects, other.where)


def test_a_pair_is_two_adjacent_slices_of_one_volume_of_the_source_site(store):
    sampler = SliceSampler(store, 7, seed=3)
    steps = []
    for step in range(60):
        batch = sampler.draw(step)
        pairs = zip(decoded(batch.images, batch.masks), decoded(batch.neighbours, batch.neighbour_masks), strict=True)
        for k, ((person, z), (other, neighbour)) in enumerate(pairs):
            assert person == other and abs(z - neighbour) == 1
            steps.append(neighbour - z)
            assert NAMES[person].name == batch.subjects[k]
            assert NAMES[person].site == store.sites[batch.source_site[k]]
            assert batch.where[k].startswith(f"{NAMES[person].name} (axial slice {z - store.box.low[0]}, ")
    assert 0.4 < np.mean(np.array(steps) == 1) < 0.6


def test_references_are_two_slices_of_the_target_site_by_different_people_where_there_are_two(store):
    sampler = SliceSampler(store, 9, seed=4)
    for step in range(40):
        batch = sampler.draw(step)
        for k, site in enumerate(batch.target_site.tolist()):
            found = []
            for images in (batch.references, batch.second_references):
                image = images[k, 0].numpy()
                found.append(NAMES[decode(image, image > 0)[0]])
            assert {person.site for person in found} == {store.sites[site]}
            assert batch.reference_subjects[k] == found[0].name
            assert (found[0].name == found[1].name) == (store.sites[site] == "Beta")


@pytest.mark.parametrize("plane", PLANES)
def test_images_and_masks_are_the_slices_that_were_picked(store, plane):
    sampler = SliceSampler(store.in_plane(plane), 5, seed=1)
    for step in range(5):
        picks, batch = sampler.picks(step), sampler.draw(step)
        for k in range(5):
            slices, masks = sampler.store.stack(picks.source[k])
            other = sampler.store.stack(picks.reference[1, k])[0]
            np.testing.assert_array_equal(batch.images[k, 0], slices[picks.slices[k]])
            np.testing.assert_array_equal(batch.neighbours[k, 0], slices[picks.neighbours[k]])
            np.testing.assert_array_equal(batch.masks[k, 0], masks[picks.slices[k]])
            np.testing.assert_array_equal(batch.neighbour_masks[k, 0], masks[picks.neighbours[k]])
            np.testing.assert_array_equal(batch.second_references[k, 0], other[picks.reference_slices[1, k]])


@pytest.mark.parametrize("plane", PLANES)
def test_slices_with_little_brain_are_never_drawn_and_all_others_are(store, plane):
    view = store.in_plane(plane)
    sampler, full = SliceSampler(view, 12), view.full()
    drawn, references = np.zeros_like(full), np.zeros_like(full)
    for step in range(400):
        picks = sampler.picks(step)
        drawn[picks.source, picks.slices] = drawn[picks.source, picks.neighbours] = True
        references[picks.reference, picks.reference_slices] = True
    np.testing.assert_array_equal(drawn, full)
    np.testing.assert_array_equal(references, full)
    assert not full.all()


def test_a_slice_alone_between_empty_ones_is_a_reference_but_never_a_pair(store):
    gap = np.array(store.areas["axial"])
    first = np.flatnonzero(store.full()[0])[0]
    gap[0, first + 1] = 0
    sampler = SliceSampler(replace(store, areas=store.areas | {"axial": gap}), 12)
    picks = [sampler.picks(step) for step in range(300)]
    assert not any(((p.source == 0) & ((p.slices <= first + 1) | (p.neighbours <= first + 1))).any() for p in picks)
    assert any(((p.reference == 0) & (p.reference_slices == first)).any() for p in picks)


@pytest.mark.parametrize("batch", [1, 3, 8, 10])
def test_every_batch_has_equal_shares_of_sites_and_the_rest_goes_round(store, batch):
    sampler = SliceSampler(store, batch, seed=5)
    total = Counter()
    for step in range(6):
        counts = Counter(sampler.picks(step).source_site.tolist())
        shares = [counts[site] for site in range(3)]
        assert sum(shares) == batch and max(shares) - min(shares) <= 1
        total += counts
    assert [total[site] for site in range(3)] == [2 * batch] * 3


def test_within_a_site_people_are_drawn_equally_whatever_their_number_of_scans(store):
    sampler = SliceSampler(store, 9, seed=6)
    picks = [sampler.picks(step) for step in range(500)]
    for drawn in (np.concatenate([p.source for p in picks]), np.concatenate([p.reference.ravel() for p in picks])):
        of_alpha = np.array([PEOPLE[v].name for v in drawn if PEOPLE[v].site == "Alpha"])
        shares = [np.mean(of_alpha == name) for name in ("ann", "bob", "cem")]
        np.testing.assert_allclose(shares, 1 / 3, atol=0.05)
        of_bob = [PEOPLE[v].session for v in drawn if PEOPLE[v].name == "bob"]
        assert 0.4 < np.mean(np.array(of_bob) == "1") < 0.6


@pytest.mark.parametrize("other_site", [False, True])
def test_targets_are_any_site_or_always_another_one_in_equal_shares(store, other_site):
    sampler = SliceSampler(store, 12, seed=7, config=DrawConfig(other_site=other_site))
    picks = [sampler.picks(step) for step in range(200)]
    pairs = Counter((s, t) for p in picks for s, t in zip(p.source_site.tolist(), p.target_site.tolist(), strict=True))
    expected = {(s, t) for s in range(3) for t in range(3) if s != t or not other_site}
    assert set(pairs) == expected
    np.testing.assert_allclose([n / 2400 for n in pairs.values()], 1 / len(expected), atol=0.03)
    if not other_site:  # one in as many as there are sites translates to itself
        assert all((p.source_site == p.target_site).sum() == 4 for p in picks)


def test_two_sites_can_always_translate_to_the_other(tmp_path):
    sampler = SliceSampler(build(tmp_path, PEOPLE[:5]), 4, config=DrawConfig(other_site=True))
    batch = sampler.draw(0)
    assert torch.equal(batch.target_site, 1 - batch.source_site)


def test_a_draw_depends_on_seed_and_step_alone(store):
    sampler = SliceSampler(store, 6, seed=8)
    expected = sampler.draw(41)
    for step in (3, 40, 7):
        sampler.draw(step)
    assert_same(sampler.draw(41), expected)
    assert_same(SliceSampler(SliceStore.open(store.folder), 6, seed=8).draw(41), expected)
    for other in (sampler.draw(42), SliceSampler(store, 6, seed=9).draw(41)):
        assert not torch.equal(other.images, expected.images)


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_the_parts_of_all_ranks_are_the_batch_of_one(store, world):
    sampler = SliceSampler(store, 6, seed=10)
    whole, parts = sampler.draw(5), [sampler.draw(5, rank, world) for rank in range(world)]
    assert {len(part) for part in parts} == {6 // world}
    for name, value in tensors(whole).items():
        assert torch.equal(value, torch.cat([tensors(part)[name] for part in parts])), name
    for name in ("subjects", "reference_subjects", "where"):
        assert getattr(whole, name) == sum((getattr(part, name) for part in parts), ())


def test_references_can_come_from_the_level_of_the_source(store):
    def distances(match_level):
        sampler = SliceSampler(store, 9, seed=11, config=DrawConfig(match_level=match_level))
        found = []
        for p in map(sampler.picks, range(100)):
            level = levels[p.source, p.slices]
            found.append(np.abs(levels[p.reference, p.reference_slices] - level).max())
        return max(found)

    full = store.full()
    first, count = full.argmax(1)[:, None], full.sum(1)[:, None]
    levels = (np.arange(full.shape[1]) - first + 0.5) / count
    slice_width = 1 / count[count > 2].min()
    assert distances(True) < max(0.05 + slice_width, 0.5)  # the site with two slices knows two levels only
    assert distances(False) > 0.8


def test_images_lie_channels_last_and_masks_are_booleans(store):
    batch = SliceSampler(store, 4).draw(0)
    height, width = store.size
    for name in ("images", "neighbours", "references", "second_references"):
        images = tensors(batch)[name]
        assert images.shape == (4, 1, height, width) and images.dtype == torch.float32
        assert images.stride() == (height * width, 1, width, 1)
        assert torch.nn.Conv2d(1, 3, 1)(images).is_contiguous(memory_format=torch.channels_last)
    assert batch.masks.dtype == batch.neighbour_masks.dtype == torch.bool
    assert batch.source_site.dtype == batch.target_site.dtype == torch.int64
    assert_same(batch.to("cpu"), batch)


def test_the_store_is_not_changed_by_what_is_done_to_a_batch(store):
    sampler = SliceSampler(store, 4)
    batch = sampler.draw(0)
    expected = batch.images.clone()
    batch.images.mul_(0)
    assert torch.equal(sampler.draw(0).images, expected)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda store: SliceSampler(store, 0), "a batch of at least 1, got 0"),
        (
            lambda store: SliceSampler(store, 4).draw(0, rank=0, world=3),
            "share evenly, got step 0, rank 0 of 3, batch 4",
        ),
        (lambda store: SliceSampler(store, 4).draw(0, rank=2, world=2), "rank < world"),
        (lambda store: SliceSampler(store, 4).draw(-1), "step >= 0"),
        (lambda store: store.in_plane("oblique"), "expected one of axial, coronal, sagittal, got 'oblique'"),
    ],
)
def test_draws_that_cannot_be_are_refused(store, act, words):
    with pytest.raises(ValueError, match=words):
        act(store)


def test_nothing_is_drawn_from_people_who_are_for_testing(tmp_path):
    people = [replace(person, role="test") for person in PEOPLE]
    with pytest.raises(ValueError, match="holds role 'test', which nothing is trained on; build one with role 'train'"):
        SliceSampler(build(tmp_path, people, replace(CONFIG, role="test")), 4)


def test_a_validation_store_that_lacks_a_site_cannot_be_drawn_from(store, tmp_path):
    people = [Person(f"v{k}", site, k, role="validation") for k, site in enumerate(["Alpha", "Gamma"])]
    other = build(tmp_path, people, store.companion("validation"))
    assert other.sites == store.sites
    with pytest.raises(ValueError, match=r"no volume of site Beta in .*store; add some, or drop it"):
        SliceSampler(other, 4)
