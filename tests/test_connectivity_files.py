"""Region series that come as files: real ABIDE ones, and those that must be refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from cinp_lib.connectivity import (
    AAL,
    AAL_NAMES,
    AAL_REGIONS,
    FunctionalConnectivity,
    SubjectError,
    file_series,
    read_series,
)

SERIES = np.random.default_rng(0).normal(size=(80, 116))


def test_forty_real_abide_subjects_in_forty_networks_out(shared_data: Path) -> None:
    folder = shared_data / "abide" / "timeseries_aal116"
    paths = sorted([*folder.glob("mat/*.mat"), *folder.glob("pcp_1D/*.1D")])
    series = {path.stem: file_series(path, AAL) for path in paths}
    estimator = FunctionalConnectivity()
    networks = estimator.fit_transform([s.time_series for s in series.values()])
    assert networks.shape == (40, 116, 116) and np.isfinite(networks).all()
    assert {key: s.missing_names for key, s in series.items() if s.missing.any()} == {
        "50007": ["Cerebelum_7b_L", "Cerebelum_7b_R", "Cerebelum_10_L"],
        "50016": ["Cerebelum_7b_R"],
        "50026": ["Cerebelum_7b_R"],
        "50050": ["Cerebelum_7b_R", "Cerebelum_10_L"],
    }
    np.testing.assert_array_equal(estimator.missing_, [s.missing for s in series.values()])


def test_codes_in_the_header_of_abides_1d_files_become_names(shared_data: Path) -> None:
    for path in sorted((shared_data / "abide" / "timeseries_aal116" / "pcp_1D").glob("*.1D")):
        raw = pd.read_csv(path, sep=r"\s+")
        values, notes = read_series(path, AAL)
        assert notes == () and [AAL_REGIONS[int(c.strip("#"))] for c in raw.columns] == list(AAL_NAMES)
        np.testing.assert_array_equal(values, raw.to_numpy())


def test_the_regions_are_aals_by_its_own_table(shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "atlas/aal_bids_labels/tpl-MNIColin27_atlas-AAL_res-1_dseg.tsv", sep="\t")
    assert dict(zip(table["index"], table["name"], strict=True)) == {0: "Background", **AAL_REGIONS}


@pytest.mark.parametrize("form", ["mat", "csv", "tsv", "txt", "npy", "1D", "csv.gz"])
@pytest.mark.parametrize("header", [True, False])
def test_every_form_reads_the_same_series(tmp_path: Path, form: str, header: bool) -> None:
    path = tmp_path / f"series.{form}"
    table = pd.DataFrame(SERIES, columns=list(AAL_NAMES))
    if form == "mat":
        savemat(path, {"ROISignals": SERIES})
    elif form == "npy":
        np.save(path, SERIES)
    else:
        separator = {"csv": ",", "csv.gz": ",", "txt": " "}.get(form, "\t")
        table.to_csv(path, sep=separator, index=False, header=header)
    np.testing.assert_allclose(read_series(path, AAL)[0], SERIES)


def test_named_columns_are_put_in_atlas_order_and_absent_ones_are_missing(tmp_path: Path) -> None:
    shuffled = np.random.default_rng(1).permutation(116)[:-2]
    path = tmp_path / "series.csv"
    pd.DataFrame(SERIES[:, shuffled], columns=[AAL_NAMES[k] for k in shuffled]).to_csv(path, index=False)
    series = file_series(path, AAL)
    gone = sorted(set(range(116)) - set(shuffled))
    assert np.flatnonzero(series.missing).tolist() == gone and series.time_series.shape == (80, 116)
    assert series.notes[0].startswith("2 regions not in the file: ")
    whole = file_series_of(tmp_path, SERIES)
    np.testing.assert_allclose(series.time_series[:, shuffled], whole.time_series[:, shuffled], atol=1e-12)


def file_series_of(folder: Path, values: np.ndarray):
    np.save(folder / "given.npy", values)
    return file_series(folder / "given.npy", AAL)


def test_dpabis_side_by_side_atlases_give_their_first_116_columns(tmp_path: Path) -> None:
    path = tmp_path / "ROISignals.mat"
    wide = np.random.default_rng(2).normal(size=(60, 1833))
    savemat(path, {"ROISignals": wide})
    np.testing.assert_array_equal(read_series(path, AAL)[0], wide[:, :116])


def test_volumes_without_values_are_left_out_and_a_region_with_gaps_is_missing(tmp_path: Path) -> None:
    values = SERIES.copy()
    values[0] = np.nan
    values[10, 4] = np.nan
    series = file_series_of(tmp_path, values)
    assert series.kept_volumes == 79 and series.missing_names == [AAL_NAMES[4]]
    assert "1 volumes without any value" in series.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones((80, 200)), r"got shape \(80, 200\): series of another atlas"),
        (np.ones((116, 80)), "transpose it: one row per volume"),
        (np.ones((80, 116)), "116 of 116 regions are constant"),
        (np.ones((30, 116)), "expected at least 50 volumes, got 30"),
    ],
)
def test_series_that_give_no_network_are_refused(tmp_path: Path, content: np.ndarray, message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        file_series_of(tmp_path, content)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.1D", "#1\t#2\t#3\n1\t2\t3\n", "series of another atlas"),
        ("b.csv", ",".join(["Region"] * 116) + "\n" + ",".join("1" * 116), "no regions of AAL: Region"),
        ("c.csv", ",".join([AAL_NAMES[0]] * 116) + "\n" + ",".join("1" * 116), "columns given twice: Precentral_L"),
        ("d.csv", "Precentral_L,Precentral_R\n1,x\n", "cannot be read as region series"),
        ("e.dat", "1 2 3", "series of type .dat"),
        ("f.mat", "no matlab file", "cannot be read as region series"),
        ("g.csv", "", "cannot be read as region series"),
    ],
)
def test_files_of_another_kind_are_refused_by_name(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SubjectError, match=message) as error:
        read_series(tmp_path / name, AAL)
    assert name in str(error.value) and error.value.fix


def test_a_mat_file_without_roisignals_says_what_it_has(tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", {"signals": SERIES})
    with pytest.raises(SubjectError, match="no variable ROISignals, there are signals"):
        read_series(tmp_path / "x.mat", AAL)


@pytest.mark.parametrize("start", [0, 1])
def test_a_header_that_counts_the_columns_is_no_volume(tmp_path, start):
    values = np.random.default_rng(0).normal(size=(60, 116))
    path = tmp_path / "series.csv"
    pd.DataFrame(values, columns=range(start, start + 116)).to_csv(path, index=False)
    read, _ = read_series(path, AAL)
    np.testing.assert_allclose(read, values)


def test_codes_without_a_hash_are_a_header_and_the_row_numbers_of_pandas_no_region(tmp_path):
    values = np.random.default_rng(0).normal(size=(60, 116))
    codes, named = tmp_path / "codes.csv", tmp_path / "named.csv"
    pd.DataFrame(values, columns=sorted(AAL_REGIONS)).to_csv(codes, index=False)
    pd.DataFrame(values, columns=AAL_NAMES).to_csv(named)
    for path in (codes, named):
        np.testing.assert_allclose(read_series(path, AAL)[0], values)
