"""Slices for site classifiers: the right ones, of the right people, in one order for all methods."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from site_slices import site_slices

from gan_lib.site_classifier.examples import SiteSlices, SliceChoice, gather, split_rows, visits_of
from gan_lib.site_classifier.planting import Mark, planted
from gan_lib.slices import SliceBox
from gan_lib.travelling import Visit
from study_lib.grid import Grid
from study_lib.intensity import StudyNormaliser
from study_lib.manifest import load_manifest
from study_lib.preparation import PreparedScan
from study_lib.splits import LeakError

SHAPE = (11, 13, 9)
BOX = SliceBox(SHAPE, (1, 0, 0), (8, 13, 11))


def scan(subject: str, site: str, low: int = 2) -> Visit:
    """A brain whose voxels count the slices."""
    mask = np.zeros(SHAPE, bool)
    mask[2:9, 3:11, low:8] = True
    mask[4, 4, low - 1] = True  # a slice with too little brain
    volume = np.where(mask, (1 + np.arange(SHAPE[2])) / 16, 0).astype(np.float32)
    return Visit(PreparedScan(subject, "", site, 100 * volume, mask), volume)


def visits():
    return [(scan("a", "Y"), "train"), (scan("b", "X", low=3), "validation"), (scan("c", "Y"), "test")]


def test_every_step_th_slice_with_enough_brain_is_taken():
    mask = scan("a", "X").mask
    expected = [z for z in range(SHAPE[2]) if mask[:, :, z].sum() >= 0.35 * max(mask[:, :, k].sum() for k in range(9))]
    assert SliceChoice(step=2).of(mask).tolist() == expected[::2] == [2, 4, 6]
    with pytest.raises(ValueError, match="the mask is empty"):
        SliceChoice().of(np.zeros(SHAPE, bool))
    with pytest.raises(ValueError, match="step >= 1"):
        SliceChoice(step=0)


def test_slices_are_those_of_each_method_with_site_subject_and_role():
    methods = {"before": lambda v: v.volume, "half": lambda v: v.volume / 2}
    found = gather(iter(visits()), methods, BOX, SliceChoice(step=2))
    before = found["before"]
    expected = [(z, s, r) for v, r in visits() for s, z in [(v.subject, z) for z in SliceChoice(step=2).of(v.mask)]]
    assert before.names == ("X", "Y")
    assert list(zip(before.subjects.tolist(), before.roles.tolist(), strict=True)) == [(s, r) for _, s, r in expected]
    assert [before.names[k] for k in before.labels] == ["X" if s == "b" else "Y" for _, s, _ in expected]
    assert before.images.shape == (len(expected), 13, 11)
    for image, (z, subject, _) in zip(before.images, expected, strict=True):
        own = next(v for v, _ in visits() if v.subject == subject)
        np.testing.assert_allclose(image, own.volume[:, :, z].T, atol=1e-3)
    np.testing.assert_allclose(found["half"].images, before.images / 2, atol=1e-3)


def test_what_a_method_leaves_outside_the_mask_is_not_seen():
    found = gather(iter(visits()), {"loud": lambda v: v.volume + 1}, BOX, SliceChoice())["loud"]
    assert set(np.unique(found.images == 0)) == {False, True}
    assert (found.images[0] != 0).sum() == visits()[0][0].mask[:, :, 2].sum()


def test_images_of_unequal_shapes_and_without_numbers_are_refused_by_name():
    with pytest.raises(ValueError, match=r"cut, subject a of Y: the image has shape \(10, 13, 9\)"):
        gather(iter(visits()), {"cut": lambda v: v.volume[1:]}, BOX, SliceChoice())
    with pytest.raises(ValueError, match=r"bad, subject a of Y: NaN"):
        gather(iter(visits()), {"bad": lambda v: v.volume * np.nan}, BOX, SliceChoice())
    with pytest.raises(ValueError, match="sites Y are none of X"):
        gather(iter(visits()), {"before": lambda v: v.volume}, BOX, SliceChoice(), names=("X",))


def test_two_sites_are_labelled_in_the_order_given():
    slices = site_slices()
    pair = slices.of_sites(("Gamma", "Alpha"))
    assert pair.names == ("Gamma", "Alpha") and len(pair) == 2 * len(slices) // 3
    assert {(s[:-1], pair.names[k].lower()) for s, k in zip(pair.subjects, pair.labels, strict=True)} == {
        ("alpha", "alpha"),
        ("gamma", "gamma"),
    }
    with pytest.raises(KeyError, match="expected one of Alpha, Beta, Gamma, got 'Delta'"):
        slices.of_sites(("Alpha", "Delta"))


def test_one_site_is_taken_as_another_method_leaves_it():
    slices = site_slices()
    other = replace(slices, images=slices.images + np.float16(0.1))
    mixed = slices.with_site_of(other, "Beta")
    assert np.array_equal(mixed.images[mixed.labels == 1], other.images[other.labels == 1])
    assert np.array_equal(mixed.images[mixed.labels != 1], slices.images[slices.labels != 1])
    with pytest.raises(ValueError, match="the same scans in the same order"):
        slices.with_site_of(other.where(np.arange(len(other))[::-1]), "Beta")


def test_too_few_subjects_one_site_and_leaks_are_refused():
    slices = site_slices()
    assert slices.check() is slices
    without = slices.where(~((slices.labels == 1) & (slices.roles == "validation")))
    with pytest.raises(ValueError, match="Beta: expected at least 1 subjects with role 'validation', got 0"):
        without.check()
    with pytest.raises(ValueError, match="two sites or more, got only Alpha"):
        slices.of_sites(("Alpha",)).check()
    roles = slices.roles.copy()
    roles[0] = "test"
    with pytest.raises(LeakError, match="several roles: alpha0"):
        replace(slices, roles=roles).check()


def test_slices_come_back_from_a_file(tmp_path):
    slices = site_slices()
    slices.save(tmp_path / "slices.npz")
    again = SiteSlices.load(tmp_path / "slices.npz")
    assert again.names == slices.names
    for name in ("images", "labels", "subjects", "roles"):
        assert np.array_equal(getattr(again, name), getattr(slices, name))


def test_the_phantom_is_read_with_its_roles_and_without_travellers(phantom):
    cohort = load_manifest(phantom, check_files=False)
    rows = split_rows(cohort.table).groupby("site").head(1)
    found = list(visits_of(cohort, rows, Grid.isotropic(8.0), StudyNormaliser()))
    assert [(v.subject, role) for v, role in found] == list(zip(rows["subject"], rows["role"], strict=True))
    assert not split_rows(cohort.table)["subject"].str.startswith("travelling").any()
    with pytest.raises(ValueError, match="no T1w with a role of train, validation, test"):
        split_rows(cohort.table.assign(role="travelling"))


def test_a_mark_is_planted_on_half_of_the_subjects_of_every_role_and_nowhere_else():
    slices = site_slices(roles=("train",) * 4 + ("validation",) * 2 + ("test",) * 4)
    mark = Mark(amplitude=0.05)
    marked = planted(slices, mark, seed=3)
    people = pd.DataFrame({"s": slices.subjects, "r": slices.roles, "m": marked.labels}).drop_duplicates()
    assert people["s"].is_unique
    assert people.groupby("r")["m"].mean().eq(0.5).all()
    assert np.array_equal(marked.images[marked.labels == 0], slices.images[marked.labels == 0])
    change = (marked.images.astype(float) - slices.images)[marked.labels == 1]
    brain = slices.images[marked.labels == 1] != 0
    assert (change[~brain] == 0).all()
    rows = np.arange(slices.images.shape[1])[:, None]
    expected = np.broadcast_to(0.05 * np.cos(2 * np.pi * rows / mark.period), brain.shape)
    inside = brain & (slices.images[marked.labels == 1] < 0.9) & (slices.images[marked.labels == 1] > 0.1)
    np.testing.assert_allclose(change[inside], expected[inside], atol=1e-3)
    assert np.array_equal(planted(slices, mark, 3).labels, marked.labels)
    assert not np.array_equal(planted(slices, mark, 4).labels, marked.labels)
