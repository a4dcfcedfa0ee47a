"""Table 1 and the scanners' table."""

import pandas as pd

from study_lib.cohort_tables import people_of, scanners, table_one
from study_lib.manifest import load_manifest


def _scans(**columns):
    base = {"cohort": "x", "site": "A", "age_years": 30.0, "diagnosis": "control", "bold": "", "time_series": ""}
    frame = pd.DataFrame({"subject": ["a", "a", "b", "c"], "sex": ["F", "F", "M", ""], **columns})
    return frame.assign(**{name: value for name, value in base.items() if name not in frame})


def test_people_are_counted_once_however_many_scans_they_have():
    scans = _scans(age_years=[20.0, 20.0, 30.0, 40.0], bold=["x", "", "", ""])
    assert people_of(scans)["subject"].tolist() == ["a", "b", "c"]
    row = table_one(scans).iloc[0]
    assert (row["subjects"], row["scans"], row["bold"], row["series"]) == (3, 4, 1, 0)
    assert row["age_years"] == "30.0 (10.0)"
    assert row["diagnoses"] == "control 3"


def test_unknown_sex_counts_on_neither_side():
    assert table_one(_scans()).iloc[0]["female_percent"] == "50"
    assert table_one(_scans(sex=[""] * 4)).iloc[0]["female_percent"] == ""


def test_every_cohort_at_every_site_has_a_row_of_its_own():
    table = table_one(_scans(site=["A", "B", "A", "B"], cohort=["x", "x", "y", "y"]))
    assert table[["cohort", "site"]].to_numpy().tolist() == [["x", "A"], ["x", "B"], ["y", "A"], ["y", "B"]]


def test_scanners_are_listed_with_the_axes_and_voxels_of_their_files(phantom):
    table = scanners(load_manifest(phantom, check_files=False))
    full = table[table["voxel_mm"].isin(["2 x 2.4 x 2", "2 x 2 x 2.4", "1.9 x 1.9 x 2", "2 x 2 x 2"])]
    assert dict(zip(full["site"], full["orientation"], strict=True)) == {
        "SMC": "RAS", "ADNI": "LIA", "GSEV": "LAS", "GMC": "LIA",
    }  # fmt: skip
    assert set(table["stored_as"]) == {"int16"}
