"""The store of slices on disk: what it holds, what it leaves out, and how it survives."""

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_slices import CONFIG, GRID, PEOPLE, Person, brain, code, decode, head, write_cohort

from gan_lib.slices import PLANES, SliceBox, SliceStore, StoreConfig
from study_lib.intensity import MinMaxNormaliser, StudyNormaliser, ZScoreNormaliser
from study_lib.manifest import load_manifest
from study_lib.preparation import prepare_scan
from study_lib.splits import LeakError


def build(cohort, folder, config=CONFIG, n_jobs=1):
    return SliceStore.build(cohort.table, cohort, folder, config, n_jobs, progress=False)


@contextmanager
def same_stamp(path):
    """Whatever is done to the file inside, its size and time stay."""
    before = path.stat()
    yield
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def overwrite(cohort, person, volume):
    path = cohort.root / f"{person.name}{person.session}_T1w.nii"
    nib.save(nib.Nifti1Image(volume.astype(np.float32), GRID.affine), path)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return build(write_cohort(folder, PEOPLE), folder / "store")


@pytest.fixture(scope="module")
def phantom_store(phantom, tmp_path_factory):
    """One volume of each of two sites."""
    cohort = load_manifest(phantom, check_files=False)
    rows = cohort.table[cohort.table["role"] == "train"].groupby("site").head(1).iloc[[0, 2]]
    folder = tmp_path_factory.mktemp("phantom-store")
    return rows, cohort, SliceStore.build(rows, cohort, folder, progress=False)


@pytest.mark.parametrize("plane", PLANES)
def test_a_stack_is_the_prepared_volume_slice_by_slice_with_its_brain_in_the_middle(phantom_store, plane):
    rows, cohort, store = phantom_store
    view = store.in_plane(plane)
    for index, (_, row) in enumerate(rows.iterrows()):
        scan = prepare_scan(cohort, row, StoreConfig().grid)
        volume = scan.normalised(StudyNormaliser())
        slices, masks = view.stack(index)
        assert slices.dtype == np.float32 and masks.dtype == bool
        assert [n % 16 for n in view.size] == [0, 0]
        np.testing.assert_array_equal(view.box.paste(slices), volume)
        np.testing.assert_array_equal(view.box.paste(masks), scan.mask)
        np.testing.assert_array_equal(slices, view.box.crop(volume))


def test_rows_become_volumes_with_their_own_voxels_and_sites_are_sorted(store):
    assert store.sites == ("Alpha", "Beta", "Gamma")
    assert store.table["subject"].tolist() == [person.name for person in PEOPLE]
    assert [store.volumes(site).tolist() for site in store.sites] == [[0, 1, 2, 3], [4], [5, 6]]
    for index, person in enumerate(PEOPLE):
        slices, masks = store.stack(index)
        np.testing.assert_array_equal(store.box.paste(masks), brain(person))
        np.testing.assert_array_equal(store.box.paste(slices), head(person) / np.float32(1000))
        levels = store.box.low[0] + np.flatnonzero(store.full()[index])
        found = [decode(slices[z - store.box.low[0]], masks[z - store.box.low[0]]) for z in levels]
        assert found == [(person.number, z) for z in levels]


@pytest.mark.parametrize("plane", PLANES)
def test_full_slices_are_those_with_the_least_share_of_brain(store, plane):
    view = store.in_plane(plane)
    height, width = view.inner.size
    for index in range(len(view)):
        areas = [mask.sum() for mask in view.stack(index)[1]]
        assert view.full()[index].tolist() == [area >= 0.02 * height * width for area in areas]


def test_planes_share_one_cache_and_may_be_given_one_size(store):
    views = [store.in_plane(plane, size=(24, 24)) for plane in PLANES]
    assert {view.size for view in views} == {(24, 24)}
    assert all(view.arrays["images"] is store.arrays["images"] for view in views)
    for view in views:
        np.testing.assert_array_equal(view.box.paste(view.stack(5)[0]), store.box.paste(store.stack(5)[0]))


def test_a_finished_store_is_opened_without_reading_an_image(tmp_path):
    cohort = write_cohort(tmp_path, PEOPLE)
    first = build(cohort, tmp_path / "store")
    with same_stamp(path := cohort.root / "ann_T1w.nii"):
        path.write_bytes(bytes(path.stat().st_size))
    for again in (build(cohort, tmp_path / "store"), SliceStore.open(tmp_path / "store")):
        np.testing.assert_array_equal(again.arrays["images"], first.arrays["images"])
        assert again.config == first.config and again.box == first.box


@pytest.mark.parametrize(
    "change",
    [
        replace(CONFIG, normaliser=StudyNormaliser()),
        replace(CONFIG, margin=1),
        replace(CONFIG, grid=replace(GRID, shape=(20, 23, 17))),
    ],
    ids=["normaliser", "margin", "grid"],
)
def test_other_settings_make_another_store_in_its_place(store, tmp_path, change):
    cohort = write_cohort(tmp_path, PEOPLE)
    first = build(cohort, tmp_path / "store")
    before = first.arrays["images"].copy()
    second = build(cohort, tmp_path / "store", change)
    assert second.box != first.box or not np.array_equal(second.arrays["images"], before)
    np.testing.assert_array_equal(first.arrays["images"], before)  # whoever reads the old one is not disturbed


def test_a_changed_file_is_read_again(tmp_path):
    cohort = write_cohort(tmp_path, PEOPLE)
    build(cohort, tmp_path / "store")
    changed = np.where(brain(PEOPLE[0]), 7, 0)
    changed[tuple(np.argwhere(brain(PEOPLE[0]))[0])] = 10
    os.utime(overwrite(cohort, PEOPLE[0], changed), ns=(1, 1))
    slices, masks = build(cohort, tmp_path / "store").stack(0)
    assert np.median(slices[masks]) == 0 and slices.max() == 1


def test_plane_and_multiple_change_the_view_alone(tmp_path):
    cohort = write_cohort(tmp_path, PEOPLE)
    build(cohort, tmp_path / "store")
    stamp = (tmp_path / "store" / "images.npy").stat().st_mtime_ns
    view = build(cohort, tmp_path / "store", replace(CONFIG, plane="coronal", multiple=32))
    assert (view.plane, view.size) == ("coronal", (32, 32))
    assert SliceStore.open(tmp_path / "store").box == view.box
    assert (tmp_path / "store" / "images.npy").stat().st_mtime_ns == stamp


KILLED = """
import sys, time
from pathlib import Path
from dataclasses import replace
import study_lib.intensity as intensity
from small_slices import CONFIG, load_manifest
from gan_lib.slices import SliceStore

class MinMaxNormaliser(intensity.MinMaxNormaliser):
    def transform(self, volume, mask, subject=""):
        if subject in ("p3", "p5"):
            time.sleep(600)
        return super().transform(volume, mask, subject)

cohort = load_manifest(sys.argv[1], check_files=False)
config = replace(CONFIG, normaliser=MinMaxNormaliser())
SliceStore.build(cohort.table, cohort, sys.argv[2], config, n_jobs=2, progress=False)
"""


def test_a_killed_build_goes_on_with_the_volumes_that_are_not_done(tmp_path):
    people = [Person(f"p{k}", "AB"[k % 2], k) for k in range(8)]
    cohort, folder = write_cohort(tmp_path, people), tmp_path / "store"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "manifest.csv"), str(folder)]
    child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)})
    try:
        deadline = time.monotonic() + 300
        while len(list(folder.glob("pieces/[!.]*.npz"))) < 4:  # p0, p1, p2, p4; two workers hang in p3 and p5
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    (folder / "pieces" / ".partial-1-half.npz").write_bytes(b"half")
    with pytest.raises(FileNotFoundError, match="expected a whole store of slices; make it with SliceStore"):
        SliceStore.open(folder)
    for person in (people[0], people[7]):  # done before the kill, and not done
        other = replace(person, number=person.number + 20)
        with same_stamp(cohort.root / f"{person.name}_T1w.nii"):
            overwrite(cohort, person, head(other))
    store = build(cohort, folder)
    found = [decode(slices[5], masks[5])[0] for slices, masks in map(store.stack, range(8))]
    assert found == [0, 1, 2, 3, 4, 5, 6, 27]
    assert list((folder / "pieces").iterdir()) == []


def test_several_builders_of_one_folder_take_turns(tmp_path):
    cohort = write_cohort(tmp_path, PEOPLE)
    with ThreadPoolExecutor(3) as pool:
        stores = list(pool.map(lambda _: build(cohort, tmp_path / "store"), range(3)))
    for store in stores[1:]:
        np.testing.assert_array_equal(store.arrays["images"], stores[0].arrays["images"])
    assert len(stores[0]) == len(PEOPLE)


@pytest.mark.parametrize("name", ["images.npy", "areas.npz", "store.json"])
def test_a_damaged_store_is_named_and_made_again(store, tmp_path, name):
    cohort = write_cohort(tmp_path, PEOPLE)
    build(cohort, tmp_path / "store")
    damaged = tmp_path / "store" / name
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.raises(FileNotFoundError, match=f"{tmp_path / 'store'}: expected a whole store"):
        SliceStore.open(tmp_path / "store")
    again = build(cohort, tmp_path / "store")
    np.testing.assert_array_equal(again.arrays["images"], store.arrays["images"])


def test_a_full_disk_is_an_error_and_leaves_no_half_store(tmp_path):
    cohort = write_cohort(tmp_path, PEOPLE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))  # a piece fits, the array of all does not
    try:
        with pytest.raises(OSError, match="File too large"):
            build(cohort, tmp_path / "store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.suffix in (".npy", ".json")]
    assert len(build(cohort, tmp_path / "store")) == len(PEOPLE)


def test_a_bad_volume_is_listed_with_its_reason_and_the_rest_goes_on(tmp_path):
    people = [*PEOPLE, Person("gus", "Beta", 8), Person("hal", "Beta", 9), Person("ida", "Beta", 10)]
    people += [Person("jon", "Beta", 11, shape=(11, 13, 3))]
    cohort = write_cohort(tmp_path, people)
    (cohort.root / "gus_T1w.nii").write_bytes(b"no image")
    (cohort.root / "hal_T1w.nii").unlink()
    overwrite(cohort, people[9], brain(people[9]) * 5)
    store = build(cohort, tmp_path / "store")
    assert store.table["subject"].tolist() == [person.name for person in PEOPLE]
    listed = store.excluded.set_index("subject")
    assert listed.loc["gus", "file"] == "gus_T1w.nii" and listed.loc["gus", "site"] == "Beta"
    for name, reason in {
        "gus": "cannot be read as an image",
        "hal": "no such image",
        "ida": "constant|both 5",
        "jon": "no two neighbouring axial slices hold brain in 2% of the region",
    }.items():
        assert store.excluded["subject"].tolist().count(name) == 1
        assert any(part in listed.loc[name, "reason"] for part in reason.split("|")), listed.loc[name, "reason"]
    assert (listed["fix"] != "").all()


def test_only_the_rows_of_the_role_enter(tmp_path):
    others = [Person(f"o{k}", "Alpha", 8 + k, role=role) for k, role in enumerate(["validation", "test", "travelling"])]
    store = build(write_cohort(tmp_path, [*PEOPLE, *others]), tmp_path / "store")
    assert store.table["subject"].tolist() == [person.name for person in PEOPLE]
    assert set(store.table["role"]) == {"train"}


@pytest.mark.parametrize("role", ["validation", "test", "travelling"])
def test_a_relative_of_a_training_subject_on_the_other_side_is_a_leak(tmp_path, role):
    cohort = write_cohort(tmp_path, [*PEOPLE, Person("zoe", "Beta", 8, family="ann")])
    roles = cohort.table["role"].where(cohort.table["subject"] != "zoe", role)  # after the manifest was checked
    cohort = replace(cohort, table=cohort.table.assign(role=roles))
    for rows in (cohort.table, cohort.table[roles == "train"]):  # also where the rows given hide it
        with pytest.raises(LeakError, match="1 shared family values: ann"):
            SliceStore.build(rows, cohort, tmp_path / "store", CONFIG, progress=False)


def test_other_people_are_brought_into_the_region_of_the_training_brains(tmp_path):
    held_out = [
        Person("inn", "Gamma", 8, role="test"),
        Person("off", "Beta", 9, role="test", low=(7, 8, 3), shape=(10, 12, 9)),  # sticks out on two sides
        Person("tip", "Beta", 10, role="test", low=(3, 4, 1), shape=(11, 13, 15), cap=3),  # too long by two voxels
        Person("big", "Beta", 11, role="test", low=(2, 2, 2), shape=(11, 20, 11)),
        Person("new", "Delta", 12, role="test"),
    ]
    cohort = write_cohort(tmp_path, [*PEOPLE, *held_out])
    store = build(cohort, tmp_path / "store")
    other = build(cohort, tmp_path / "other", store.companion("test"))
    assert (other.box, other.sites, other.role) == (store.box, store.sites, "test")
    table = other.table.set_index("subject")
    assert table.index.tolist() == ["inn", "off", "tip"]
    assert (table.loc["inn", "moved"], table.loc["inn", "cut"]) == ([0, 0, 0], 0)
    assert min(table.loc["off", "moved"][1:]) < 0 and table.loc["off", "cut"] == 0
    assert table.loc["tip", "cut"] == 2 / brain(held_out[2]).sum()
    for index, person in enumerate(held_out[:2]):
        slices, masks = other.stack(index)
        assert masks.sum() == brain(person).sum()
        np.testing.assert_array_equal(slices[masks], head(person).T[brain(person).T] / np.float32(1000))
    reasons = other.excluded.set_index("subject")["reason"]
    assert "the brain spans (11, 20, 11) voxels" in reasons["big"]
    assert "site 'Delta' is none of Alpha, Beta, Gamma" in reasons["new"]


def test_a_brain_off_the_grid_is_taken_on_a_grid_around_itself(tmp_path):
    shifted = GRID.affine.copy()
    shifted[:3, 3] = (400, -30, 4)
    people = [Person("far", "Alpha", 1, shape=(11, 13, 11)), Person("out", "Beta", 2, shape=(9, 11, 11))]
    store = build(write_cohort(tmp_path, people, shifted), tmp_path / "store")
    assert store.table["centred"].tolist() == [True, True]
    for index, person in enumerate(people):
        slices, masks = store.stack(index)
        np.testing.assert_array_equal(slices[masks], head(person).T[brain(person).T] / np.float32(1000))


@pytest.mark.parametrize(
    ("people", "config", "words"),
    [
        (PEOPLE[:4], CONFIG, "at least two sites, got only 'Alpha'; .* add the rows of another site"),
        ([replace(p, role="unassigned") for p in PEOPLE], CONFIG, "role 'train', got unassigned 7; .*split_subjects"),
    ],
)
def test_rows_that_cannot_train_are_refused(tmp_path, people, config, words):
    with pytest.raises(ValueError, match=words):
        build(write_cohort(tmp_path, people), tmp_path / "store", config)


def test_a_site_whose_volumes_all_fail_is_named_with_the_reasons(tmp_path):
    cohort = write_cohort(tmp_path, PEOPLE)
    (cohort.root / "dia_T1w.nii").write_bytes(b"")
    with pytest.raises(ValueError, match=r"got none at Beta; .* remove the site .* dia \(Beta\): .*the file is empty"):
        build(cohort, tmp_path / "store")


def test_a_share_that_no_slice_reaches_is_an_error(tmp_path):
    cohort = write_cohort(tmp_path, PEOPLE)
    with pytest.raises(ValueError, match=r"none at Alpha, Beta, Gamma; .*hold brain in 90% of the region"):
        build(cohort, tmp_path / "store", replace(CONFIG, least_share=0.9))


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="a share between 0 and 1, got 2"):
        StoreConfig(least_share=2)
    with pytest.raises(ValueError, match="ZScoreNormaliser is not fitted; fit it on training volumes"):
        StoreConfig(normaliser=ZScoreNormaliser())
    region = SliceBox(GRID.shape, (1, 2, 3), (4, 5, 6), "coronal")
    assert replace(CONFIG, region=region).region == region.in_plane("axial")
    with pytest.raises(ValueError, match=r"grid of shape \(91, 109, 91\), got \(19, 23, 17\)"):
        StoreConfig(region=region)
    with pytest.raises(ValueError, match="expected one of axial, coronal, sagittal, got 'oblique'"):
        StoreConfig(plane="oblique")


def test_unknown_sites_and_volumes_are_named(store):
    with pytest.raises(KeyError, match="expected one of Alpha, Beta, Gamma, got 'Delta'"):
        store.volumes("Delta")
    with pytest.raises(KeyError, match="a number from 0 to 6, got 7"):
        store.stack(7)


def test_codes_of_people_and_slices_are_all_different():
    codes = {float(code(p.number, np.array(z))) for p in PEOPLE for z in range(GRID.shape[2])}
    assert len(codes) == len(PEOPLE) * GRID.shape[2] and max(codes) < 1000
    assert isinstance(CONFIG.normaliser, MinMaxNormaliser)
