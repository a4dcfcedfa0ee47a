"""Pairs: who gets in and why not, what is written, and how it is read."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from small_pairs import PAIRS, Person, head, network, networks_of, people, write_cohort, write_store

from cinp_lib.pair_store import PairStore, parts_of, pretraining_rows
from cinp_lib.pairs import PairConfig, SubjectNetworks
from study_lib.intensity import ZScoreNormaliser
from study_lib.splits import LeakError

GROUP = [
    *people(6),
    Person("twin1", "Alpha", (1.0, 0.0, -1.0, 0.5), session="1", family="twins"),
    Person("twin1", "Alpha", (1.0, 0.1, -1.0, 0.5), session="2", family="twins"),
    Person("twin2", "Beta", (0.5, 0.5, 0.5, -2.0), family="twins"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("pairs"), GROUP)


def test_every_pair_holds_its_own_normalised_volume_and_its_own_network(store):
    for k, person in enumerate(GROUP):
        volume, mask = head(person)
        expected = np.zeros(volume.shape)
        low, high = float(volume[mask].min()), float(volume[mask].max())
        for place in np.argwhere(mask):
            expected[tuple(place)] = (float(volume[tuple(place)]) - low) / (high - low)
        np.testing.assert_allclose(store.volumes(np.array([k]))[0], expected, atol=6e-4)  # half precision
        np.testing.assert_array_equal(store.networks(np.array([k]))[0], network(person))
    assert (store.volumes(np.arange(len(store)))[:, ~head(GROUP[0])[1]] == 0).all()
    assert store.table["subject"].tolist() == [person.name for person in GROUP]
    assert store.size == (16, 16, 16) and store.regions == 8


def test_the_same_inputs_are_prepared_once_and_other_ones_anew(tmp_path):
    group = people(3)
    first = write_store(tmp_path, group)
    made = (first.folder / "pairs.json").stat().st_mtime_ns, (first.folder / "volumes.npy").stat().st_ino
    again = write_store_again(tmp_path, group)
    assert again.digest == first.digest
    assert made == ((again.folder / "pairs.json").stat().st_mtime_ns, (again.folder / "volumes.npy").stat().st_ino)
    other = write_store_again(tmp_path, [replace(group[0], trait=(3.0, 0.0, 0.0, 0.0)), *group[1:]])
    assert other.digest != first.digest
    assert not np.array_equal(other.networks(np.array([0])), np.array([network(group[0])]))


def write_store_again(folder, group):
    """The same files, networks as of `group`."""
    from study_lib.manifest import load_manifest

    cohort = load_manifest(folder / "data" / "manifest.csv", check_files=False)
    return PairStore.build(cohort.table, cohort, networks_of(group), folder / "pairs", PAIRS, 1)


def test_a_build_that_was_stopped_goes_on_with_the_volumes_it_has(tmp_path, monkeypatch):
    import cinp_lib.pairs as module

    group, done = people(4), []
    prepare = module.placed_scan

    def stops(cohort, row, grid):
        if len(done) == 2:
            raise MemoryError
        done.append(row["subject"])
        return prepare(cohort, row, grid)

    monkeypatch.setattr(module, "placed_scan", stops)
    with pytest.raises(MemoryError):
        write_store(tmp_path, group)
    with pytest.raises(FileNotFoundError, match="expected whole files of pairs"):
        PairStore.open(tmp_path / "pairs")
    monkeypatch.setattr(module, "placed_scan", lambda *given: (done.append(given[1]["subject"]), prepare(*given))[1])
    assert len(write_store_again(tmp_path, group)) == 4
    assert sorted(done) == sorted(person.name for person in group)


def test_nobody_is_left_out_without_a_reason(tmp_path):
    group = people(6)
    cohort = write_cohort(tmp_path, group)
    networks = networks_of(group)
    networks.matrices[1, 2, 3] = np.nan
    places = {name: own for name, own in networks.places.items() if name != "p00"} | {"p02": {"1": 2, "2": 3}}
    _, mask = head(group[4])
    nib.save(nib.Nifti1Image(np.where(mask, 5.0, 0).astype(np.float32), PAIRS.grid.affine), tmp_path / "p04_T1w.nii")
    table = cohort.table.copy()
    table.loc[5, "t1w"] = ""
    store = PairStore.build(table, cohort, SubjectNetworks(places, networks.matrices), tmp_path / "pairs", PAIRS, 1)
    assert store.table["subject"].tolist() == ["p03"]
    reasons = store.excluded.set_index("subject")["reason"]
    assert "no network of this subject" in reasons["p00"]
    assert "NaN" in reasons["p01"]
    assert "sessions 1, 2, none of ''" in reasons["p02"]
    assert "percentiles" in reasons["p04"]  # no statistics of intensity can be had from it
    assert "names no T1w" in reasons["p05"]
    assert store.excluded["fix"].str.len().min() > 0


def test_sessions_kept_apart_each_find_their_own_network(store):
    own = networks_of(GROUP)
    assert own.place({"subject": "twin1", "session": "2"}) == 7
    assert own.place({"subject": "twin2", "session": ""}) == 8


def test_images_may_come_alone_where_they_are_only_embedded(tmp_path):
    group = people(3)
    cohort = write_cohort(tmp_path, group)
    config = replace(PAIRS, alone=True)
    store = PairStore.build(cohort.table, cohort, networks_of(group[:2]), tmp_path / "pairs", config, 1)
    assert store.table["has_network"].tolist() == [True, True, False]
    assert (store.networks(np.array([2])) == 0).all()


def test_a_scan_in_native_space_lies_where_its_brain_is(tmp_path):
    group = people(2)
    cohort = write_cohort(tmp_path, group)
    moved = np.array(PAIRS.grid.affine)
    moved[:3, 3] += 150
    for suffix in ("T1w", "mask"):
        image = nib.load(tmp_path / f"p01_{suffix}.nii", mmap=False)
        nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), moved), tmp_path / f"p01_{suffix}.nii")
    store = PairStore.build(cohort.table, cohort, networks_of(group), tmp_path / "pairs", PAIRS, 1)
    inside = store.volumes(np.array([0, 1])) != 0
    assert abs(inside[1].sum() / inside[0].sum() - 1) < 0.1
    for axis in (0, 1, 2):
        spans = [np.flatnonzero(one.any(tuple({0, 1, 2} - {axis}))) for one in inside]
        assert abs(spans[0].mean() - spans[1].mean()) <= 0.51


def test_shuffled_pairs_keep_the_images_and_exchange_networks_within_sites_only(store):
    shuffled = store.shuffled(0)
    everything = np.arange(len(store))
    np.testing.assert_array_equal(shuffled.volumes(everything), store.volumes(everything))
    assert sorted(shuffled.network_places) == sorted(store.network_places)
    sites = store.table["site"].to_numpy()
    assert (sites[shuffled.network_places] == sites).all()
    assert (shuffled.network_places != store.network_places).sum() >= 4
    assert shuffled.digest != store.digest
    assert store.shuffled(0).digest == shuffled.digest


def test_a_selection_keeps_rows_volumes_and_networks_together(store):
    few = store.select(store.table["site"].eq("Beta").to_numpy())
    for k, name in enumerate(few.table["subject"]):
        place = store.table["subject"].tolist().index(name)
        np.testing.assert_array_equal(few.volumes(np.array([k])), store.volumes(np.array([place])))
        np.testing.assert_array_equal(few.networks(np.array([k])), store.networks(np.array([place])))
    assert store.one_per_subject().table["subject"].tolist() == list(dict.fromkeys(p.name for p in GROUP))
    with pytest.raises(ValueError, match="at least one pair in the selection"):
        store.select(np.zeros(len(store), bool))


def test_parts_hold_everybody_once_and_families_whole(tmp_path):
    group = [*people(40), *GROUP[6:]]
    parts = parts_of(write_store(tmp_path, group), seed=3)
    tables = [part.table for part in (parts.training, parts.validation, parts.test)]
    assert sum(len(table) for table in tables) == len(group)
    families = [set(table["family"]) for table in tables]
    assert not families[0] & families[1] and not families[0] & families[2] and not families[1] & families[2]
    assert len(tables[0]) > 6 * len(tables[1]) > 0 and len(tables[2])
    assert parts_of(PairStore.open(tmp_path / "pairs"), 3).test.digest == parts.test.digest


def test_pretraining_never_reads_somebody_who_has_another_role(tmp_path):
    group = people(4)
    cohort = write_cohort(tmp_path, [*group[:3], replace(group[3], role="unassigned")])
    assert pretraining_rows(cohort)["subject"].tolist() == ["p00", "p01", "p02"]
    nobody = write_cohort(tmp_path / "own", [replace(person, role="unassigned") for person in group])
    assert len(pretraining_rows(nobody)) == 4
    sibling = replace(group[3], role="unassigned", family="p01")
    with pytest.raises(LeakError, match="shared family"):
        pretraining_rows(write_cohort(tmp_path / "leak", [*group[:3], sibling]))
    tested = [replace(person, role="test") for person in group]
    with pytest.raises(ValueError, match="role pre-training or unassigned with a T1w, got test"):
        pretraining_rows(write_cohort(tmp_path / "tested", tested))


def test_a_normaliser_without_its_statistics_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match="the ZScoreNormaliser is not fitted; fit it on training volumes first"):
        PairConfig(normaliser=ZScoreNormaliser())


def test_the_studys_box_holds_a_brain_in_mni_space():
    grid = PairConfig().grid
    assert grid.shape == (96, 96, 96) and grid.spacing_mm == (2.0, 2.0, 2.0)
    corners = np.array([grid.affine[:3, 3], grid.affine[:3, 3] + 2.0 * 95])
    assert (corners[0] <= (-72, -108, -74)).all() and (corners[1] >= (72, 74, 82)).all()
    assert PairConfig((32, 32, 32), 6.0).grid.spacing_mm == (6.0, 6.0, 6.0)
