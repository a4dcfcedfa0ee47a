"""study_lib.manifest: a table that cannot be trusted raises, a bad file costs its row alone, nothing is silent."""

import json
import pickle
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from small_heads import AFFINE, SHAPE, brain_mask, cohort, head, row, save, save_run, with_header

from study_lib.manifest import (
    COLUMNS,
    DIAGNOSES,
    EXCLUDED_COLUMNS,
    Manifest,
    ManifestError,
    exclusion,
    exclusion_table,
    load_manifest,
    sha256_of,
    write_manifest,
)
from study_lib.manifest.problems import Problem
from study_lib.manifest.rules import conflicting_roles, likely_kind

MIRRORED = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def table_of(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


def written(folder: Path, *rows: dict[str, object]) -> Path:
    """A manifest of these rows, written without the library's own checks."""
    table = table_of(*rows).reindex(columns=list(COLUMNS))
    path = folder / "cohort.csv"
    table.to_csv(path, index=False)
    return path


def raised(folder: Path, *rows: dict[str, object]) -> ManifestError:
    with pytest.raises(ManifestError) as error:
        load_manifest(written(folder, *rows), check_files=False)
    return error.value


def only(error: ManifestError) -> Problem:
    assert len(error.problems) == 1, str(error)
    return error.problems[0]


# Reading and writing


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = [
        row("b", session="", age_years=np.nan, sex="", vendor="", diagnosis="unknown", role="pre-training"),
        row("a", age_years=24, echo_time_ms=3.25, t1w="", bold="func/a.nii.gz", bold_sha256="0" * 64),
    ]
    write_manifest(table_of(*rows), tmp_path / "m.csv", tmp_path)
    manifest = load_manifest(tmp_path / "m.csv", check_files=False)
    assert list(manifest.table.columns) == list(COLUMNS)
    for cells, expected in zip(manifest.table.to_dict("records"), reversed(rows), strict=True):
        for column in COLUMNS:
            missing = np.nan if column.endswith(("_ms", "_t", "_years")) else ""
            np.testing.assert_equal(cells[column], expected.get(column, missing), column)
    assert manifest.excluded.empty and manifest.warnings.empty
    assert list(manifest.excluded.columns) == list(manifest.warnings.columns) == list(EXCLUDED_COLUMNS)


def test_rows_are_written_by_cohort_subject_and_session(tmp_path: Path) -> None:
    keys = [("x", "c", "2"), ("x", "a", "2"), ("x", "a", "1"), ("w", "b", "1")]
    rows = [row(s, session=v, cohort=c, t1w=f"{s}{v}.nii") for c, s, v in keys]
    write_manifest(table_of(*rows), tmp_path / "m.csv", tmp_path)
    table = load_manifest(tmp_path / "m.csv", check_files=False).table
    assert list(table[["cohort", "subject", "session"]].itertuples(index=False, name=None)) == sorted(keys)


def test_the_same_content_has_the_same_checksum_and_other_content_another(tmp_path: Path) -> None:
    rows = [row("a"), row("b")]
    one = load_manifest(written(tmp_path, *rows), check_files=False).checksum
    text = (tmp_path / "cohort.csv").read_text().splitlines()
    restyled = [text[0], text[2].replace("2530.0", "2530"), text[1].replace("24.5", "24.50")]
    (tmp_path / "cohort.csv").write_bytes(("\ufeff" + "\r\n".join(restyled) + "\r\n").encode())
    assert load_manifest(tmp_path / "cohort.csv", check_files=False).checksum == one
    other = load_manifest(written(tmp_path, row("a"), row("b", age_years=24.6)), check_files=False).checksum
    assert other != one and len(other) == 64


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    write_manifest(table_of(row("a"), row("b")), tmp_path / "m.csv", tmp_path)
    before = (tmp_path / "m.csv").read_bytes()
    write_manifest(load_manifest(tmp_path / "m.csv", check_files=False).table, tmp_path / "m.csv", tmp_path)
    assert (tmp_path / "m.csv").read_bytes() == before


def test_a_table_that_would_not_be_read_is_not_written_and_the_old_file_stays(tmp_path: Path) -> None:
    write_manifest(table_of(row("a")), tmp_path / "m.csv", tmp_path)
    before = (tmp_path / "m.csv").read_bytes()
    with pytest.raises(ManifestError, match="age_years"):
        write_manifest(table_of(row("a", age_years=230)), tmp_path / "m.csv", tmp_path)
    with pytest.raises(ManifestError, match="Height"):
        write_manifest(table_of(row("a", Height=170)), tmp_path / "m.csv", tmp_path)
    assert (tmp_path / "m.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.csv", "m.json"]


def test_optional_columns_may_be_absent(tmp_path: Path) -> None:
    needed = ["subject", "family", "cohort", "site", "diagnosis", "role", "t1w"]
    table_of(row("a"))[needed].to_csv(tmp_path / "m.csv", index=False)
    table = load_manifest(tmp_path / "m.csv", check_files=False).table
    assert list(table.columns) == list(COLUMNS)
    assert table.loc[0, "sex"] == "" and np.isnan(table.loc[0, "age_years"])


def test_the_data_root_is_the_argument_else_the_sidecars_else_the_folder(tmp_path: Path) -> None:
    csv = tmp_path / "tables" / "m.csv"
    write_manifest(cohort(tmp_path / "data", "a"), csv, tmp_path / "data")
    assert json.loads(csv.with_suffix(".json").read_text())["Root"] == "../data"
    assert len(load_manifest(csv).table) == 1
    shutil.copytree(tmp_path / "data", tmp_path / "elsewhere")
    manifest = load_manifest(csv, root=tmp_path / "elsewhere")
    assert manifest.path(manifest.table.iloc[0], "t1w").is_relative_to(tmp_path / "elsewhere")
    csv.with_suffix(".json").unlink()
    assert load_manifest(csv, check_files=False).root == csv.parent


def test_a_data_root_that_is_no_folder_raises_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r'nowhere.*Fix: give load_manifest\(root=...\), or set "Root"'):
        load_manifest(written(tmp_path, row("a")), root=tmp_path / "nowhere")


def test_a_path_is_given_for_every_kind_of_row_and_refused_where_there_is_no_file(tmp_path: Path) -> None:
    manifest = load_manifest(written(tmp_path, row("a")), check_files=False)
    expected = tmp_path / "sub-a" / "anat" / "sub-a_T1w.nii.gz"
    rows = [manifest.table.iloc[0], next(manifest.table.itertuples()), manifest.table.to_dict("records")[0]]
    assert [manifest.path(cells, "t1w") for cells in rows] == [expected] * 3
    with pytest.raises(KeyError, match=r"subject 'a'.*has no file in column 'bold'"):
        manifest.path(rows[0], "bold")


# Tables in another shape


def test_a_missing_manifest_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no manifest at .*m\.csv.*study_lib\.sources"):
        load_manifest(tmp_path / "m.csv")


def reencoded(folder: Path, encoding: str, site: str = "NYU") -> Path:
    path = written(folder, row("a", site=site))
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    return path


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    manifest = load_manifest(reencoded(tmp_path, "utf-8-sig", site="Zürich"), check_files=False)
    assert manifest.table.loc[0, "subject"] == "a" and manifest.table.loc[0, "site"] == "Zürich"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused_with_the_command_that_converts_it(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(
        ManifestError, match=r"(?s)cohort\.csv.*expected UTF-8.*UTF-16.*Fix: .*iconv -f UTF-16"
    ) as error:
        load_manifest(reencoded(tmp_path, encoding))
    assert isinstance(error.value, ValueError)


def test_latin_1_is_refused_with_line_byte_and_command(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"line 2: .*byte 0xfc \('ü' in latin-1\).*iconv -f LATIN1"):
        load_manifest(reencoded(tmp_path, "latin-1", site="Zürich"))


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_another_separator_is_refused_by_name(tmp_path: Path, separator: str, name: str) -> None:
    path = written(tmp_path, row("a"))
    path.write_text(path.read_text().replace(",", separator))
    with pytest.raises(ManifestError, match=f"line 1: expected columns separated by commas, got {name}"):
        load_manifest(path)


def test_a_workbook_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ManifestError, match="spreadsheet"):
        load_manifest(tmp_path / "m.csv")


def test_a_decimal_comma_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, row("a"), row("b"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1], lines[2].replace("24.5", "24,5")]))
    with pytest.raises(ManifestError, match=r"line 3, subject 'b': expected 23 cells.*got 24.*decimal comma"):
        load_manifest(path)


def test_an_open_quote_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, row("a"))
    path.write_text(path.read_text().replace("MPRAGE", '"MPRAGE'))
    with pytest.raises(ManifestError, match=r"line 2: .*quotes"):
        load_manifest(path)


def test_lines_are_those_of_the_file_also_after_blank_lines_and_cells_over_two_lines(tmp_path: Path) -> None:
    path = written(tmp_path, row("a", sequence="MPRAGE"), row("b", age_years=230))
    first, second, third = path.read_text().splitlines()
    path.write_text("\n".join([first, "", second.replace("MPRAGE", '"MP\nRAGE"'), "", third]) + "\n")
    with pytest.raises(ManifestError) as error:
        load_manifest(path, check_files=False)
    assert only(error.value).line == 6


@pytest.mark.parametrize("text", ["", "subject,family\n"])
def test_a_manifest_without_scans_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ManifestError, match="at least one scan"):
        load_manifest(tmp_path / "m.csv")


def test_wrong_columns_are_named_with_the_right_ones(tmp_path: Path) -> None:
    table = table_of(row("a")).rename(columns={"age_years": "age_year", "role": "Purpose"})
    table.to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(ManifestError) as error:
        load_manifest(tmp_path / "m.csv")
    problems = {problem.column: problem for problem in error.value.problems}
    assert set(problems) == {"age_year", "Purpose", "role"}
    assert problems["age_year"].fix == "rename it to 'age_years'"
    assert "add it: what the scan is used for" in problems["role"].fix


def test_a_column_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, row("a"))
    first, second = path.read_text().splitlines()
    path.write_text(f"{first},sex\n{second},M\n")
    with pytest.raises(ManifestError, match="column 'sex': expected one column, got 2"):
        load_manifest(path)


# Cells


@pytest.mark.parametrize(
    ("column", "cell", "expected", "fix"),
    [
        ("age_years", 0, "0 < age < 120", "leave the cell empty"),
        ("age_years", 230, "0 < age < 120", "months, 19.17"),
        ("age_years", -9999, "0 < age < 120", "leave the cell empty"),
        ("age_years", "n/a", "a number", "leave the cell empty"),
        ("age_years", "nan", "a number", "leave the cell empty"),
        ("age_years", "24 y", "a number", "no unit"),
        ("age_years", "inf", "a number", "decimal point"),
        ("field_strength_t", 15000, "0.05 to 12 T", "1.5"),
        ("echo_time_ms", 0.00298, "0.5 to 150 ms", "in seconds, 2.98"),
        ("repetition_time_ms", 2.0, "3 to 15000 ms", "in seconds, 2000"),
        ("repetition_time_ms", 0.0066, "3 to 15000 ms", "in seconds, 6.6"),
        ("diagnosis", "autsm", "one of control, autism", "'autism'"),
        ("diagnosis", "ADHD", "one of control", "'adhd'"),
        ("diagnosis", "pending", "one of control", "'unknown'"),
        ("diagnosis", "n/a", "one of control", "'unknown'"),
        ("diagnosis", "", "a value", "'unknown'"),
        ("diagnosis", "1", "one of control", "one of these codes"),
        ("sex", "male", "one of F, M", "codes"),
        ("sex", "-9999", "one of F, M", "leave the cell empty"),
        ("role", "training", "one of pre-training, train", "'pre-training'"),
        ("subject", "sub-a", "without 'sub-'", "without 'sub-'"),
        ("subject", "DOE^JANE", "letters, digits", "no names"),
        ("session", "ses-1", "without 'ses-'", "without 'ses-'"),
        ("family", "", "a value", "own id"),
        ("site", "n/a", "a value", "leave the scan out"),
        ("site", " NYU", "no blanks", "'NYU'"),
        ("vendor", "SIEMENS", "title case", "'Siemens'"),
        ("vendor", "GE MEDICAL SYSTEMS", "title case", "'GE'"),
        ("vendor", "-9999", "or an empty cell", "leave the cell empty"),
        ("t1w", "no_filename", "or an empty cell", "leave the cell empty"),
        ("t1w", "../other/t1.nii.gz", "without '..'", "below the data root"),
        ("t1w", "a/../../t1.nii.gz", "without '..'", "below the data root"),
        ("t1w", "/data/t1.nii.gz", "relative to the data root", "below the data root"),
        ("t1w", "~/t1.nii.gz", "relative to the data root", "below the data root"),
        ("t1w", "C:/t1.nii.gz", "relative to the data root", "below the data root"),
        ("t1w", "s3://bucket/t1.nii.gz", "relative to the data root", "below the data root"),
        ("t1w", "sub-a\\t1.nii.gz", "with '/'", "below the data root"),
        ("t1w", "t1.mgz", "NIfTI", "nib-convert t1.mgz"),
        ("t1w_sha256", "ABC", "64 hexadecimal digits", "sha256sum"),
    ],
)
def test_a_bad_cell_is_named_by_file_line_subject_and_column_with_the_fix(
    tmp_path: Path, column: str, cell: object, expected: str, fix: str
) -> None:
    error = raised(tmp_path, row("z"), row("a") | {column: cell})
    problem = only(error)
    assert (problem.line, problem.column) == (3, column)
    assert expected in problem.expected and fix in problem.fix
    whose = "" if column == "subject" else "subject 'a', "
    assert "cohort.csv" in str(error) and f"line 3, {whose}" in str(error) and f"column {column!r}" in str(error)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("age_years", 119.9),
        ("age_years", 0.01),
        ("vendor", "Canon"),
        ("vendor", "GE"),
        ("subject", "029_S_4585"),
        ("t1w", "a..b/..c/t1.nii"),
        ("t1w", "sub-01/ses 1/t1.nii.gz"),
        ("t1w_sha256", "0123456789abcdef" * 4),
    ],
)
def test_an_unusual_but_right_cell_is_accepted(tmp_path: Path, column: str, cell: object) -> None:
    manifest = load_manifest(written(tmp_path, row("a") | {column: cell}), check_files=False)
    assert manifest.table.loc[0, column] == cell


def test_every_diagnosis_code_is_accepted(tmp_path: Path) -> None:
    rows = [row(f"s{n}", diagnosis=code, t1w=f"{n}.nii.gz") for n, code in enumerate(DIAGNOSES)]
    assert list(load_manifest(written(tmp_path, *rows), check_files=False).table["diagnosis"]) == list(DIAGNOSES)


def test_all_problems_are_told_at_once_and_the_message_shows_twenty(tmp_path: Path) -> None:
    error = raised(tmp_path, *(row(f"s{n}", age_years=200 + n) for n in range(25)))
    assert len(error.problems) == 25
    assert str(error).count("age_years") == 20 and "25 problems" in str(error) and "… and 5 more" in str(error)


def test_the_error_survives_a_process_boundary(tmp_path: Path) -> None:
    error = raised(tmp_path, row("a", age_years=0))
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) and copy.problems == error.problems


# Cells and rows against each other


@pytest.mark.parametrize(
    ("value", "kind", "fix"),
    [
        (6.6, "inversion", "write 'excitation'"),
        (2300, "excitation", "write 'inversion'"),
        (5.0, "inversion", "5000 if the value is in seconds"),
    ],
)
def test_a_repetition_time_of_the_other_kind_raises(tmp_path: Path, value: float, kind: str, fix: str) -> None:
    error = raised(tmp_path, row("a", repetition_time_ms=value, repetition_time_kind=kind))
    assert only(error).column == "repetition_time_ms" and fix in only(error).fix


def test_a_kind_without_a_repetition_time_raises(tmp_path: Path) -> None:
    assert only(raised(tmp_path, row("a", repetition_time_ms=np.nan))).column == "repetition_time_kind"


def test_both_conventions_stand_beside_each_other_when_named(tmp_path: Path) -> None:
    rows = [row("a"), row("b", repetition_time_ms=6.6, repetition_time_kind="excitation")]
    manifest = load_manifest(written(tmp_path, *rows), check_files=False)
    assert manifest.warnings.empty
    assert [likely_kind(value) for value in manifest.table["repetition_time_ms"]] == ["inversion", "excitation"]


def test_a_repetition_time_without_its_kind_is_kept_with_a_warning(tmp_path: Path) -> None:
    manifest = load_manifest(written(tmp_path, row("a", repetition_time_kind="")), check_files=False)
    warning = manifest.warnings.iloc[0]
    assert (warning["line"], warning["subject"], warning["column"]) == (2, "a", "repetition_time_kind")
    assert "2530 ms" in warning["reason"] and "'inversion'" in warning["fix"] and len(manifest.table) == 1


def test_a_row_without_any_scan_raises(tmp_path: Path) -> None:
    assert "a file in t1w, bold or time_series" in only(raised(tmp_path, row("a", t1w=""))).expected


def test_a_row_given_twice_raises(tmp_path: Path) -> None:
    problem = only(raised(tmp_path, row("a"), row("b"), row("a", t1w="other.nii.gz")))
    assert (problem.line, problem.column, problem.subject) == (4, "session", "a")
    assert "first on line 2" in problem.got


@pytest.mark.parametrize("column", ["t1w", "bold"])
def test_a_file_given_twice_raises_also_between_columns(tmp_path: Path, column: str) -> None:
    shared = {"t1w": "", "bold": ""} | {column: "./x.nii.gz"}
    problem = only(raised(tmp_path, row("a", t1w="x.nii.gz"), row("b", **shared)))
    assert (problem.line, problem.column, problem.subject) == (3, column, "b")
    assert "first on line 2, column 't1w'" in problem.got


def test_a_t1w_as_its_own_mask_raises_while_a_shared_template_mask_does_not(tmp_path: Path) -> None:
    same = row("a", t1w="x.nii.gz", t1w_mask="x.nii.gz")
    assert only(raised(tmp_path, same)).column == "t1w_mask"
    rows = [row(subject, t1w_mask="mni_mask.nii.gz") for subject in "ab"]
    assert len(load_manifest(written(tmp_path, *rows), check_files=False).table) == 2


def test_one_id_for_two_cohorts_or_families_raises(tmp_path: Path) -> None:
    again = row("a", session="2", t1w="2.nii.gz")
    assert only(raised(tmp_path, row("a"), again | {"cohort": "cnp"})).column == "cohort"
    assert only(raised(tmp_path, row("a"), again | {"family": "f"})).column == "family"


@pytest.mark.parametrize("later", ["train", "validation", "test", "travelling"])
def test_a_subject_in_pre_training_and_anything_else_raises(tmp_path: Path, later: str) -> None:
    rows = [row("a", role="pre-training"), row("a", session="2", t1w="2.nii.gz", role=later)]
    problem = only(raised(tmp_path, *rows))
    assert (problem.line, problem.column, problem.subject) == (3, "role", "a")
    assert problem.got == f"'pre-training' on line 2 and {later!r} on line 3"


def test_a_family_on_two_sides_of_a_split_raises_once(tmp_path: Path) -> None:
    rows = [row("a", family="f", role="train"), row("b", family="f", role="test"), row("c", role="test")]
    problem = only(raised(tmp_path, *rows))
    assert problem.subject == "b" and "one role for family 'f'" in problem.expected and "splits" in problem.fix


def test_rows_without_a_family_are_not_taken_for_one_family(tmp_path: Path) -> None:
    rows = [row("a", family="", role="train"), row("b", family="", role="test")]
    assert [problem.column for problem in raised(tmp_path, *rows).problems] == ["family", "family"]


def test_conflicts_of_roles_are_those_of_a_table() -> None:
    roles = ["pre-training", "train", "validation", "test", "travelling"]
    harmless = {frozenset({"test", "travelling"})} | {frozenset({role}) for role in roles}
    for one in roles:
        for other in roles:
            found = conflicting_roles(pd.Series([one, other]))
            assert (found is None) == (frozenset({one, other}) in harmless), (one, other)


def test_an_unassigned_session_conflicts_with_nothing(tmp_path: Path) -> None:
    rows = [row("a", role="test"), row("a", session="2", t1w="2.nii.gz", role="unassigned")]
    assert len(load_manifest(written(tmp_path, *rows), check_files=False).table) == 2


def test_a_travelling_subject_may_belong_to_several_cohorts(tmp_path: Path) -> None:
    rows = [row("a", cohort=c, t1w=f"{c}.nii.gz", role="travelling") for c in ("phantom-smc", "phantom-gmc")]
    assert len(load_manifest(written(tmp_path, *rows), check_files=False).table) == 2


def test_a_subject_of_two_sexes_is_kept_with_a_warning(tmp_path: Path) -> None:
    rows = [row("a", sex="F"), row("a", session="2", sex="M", t1w="2.nii.gz")]
    warning = load_manifest(written(tmp_path, *rows), check_files=False).warnings.iloc[0]
    assert (warning["line"], warning["column"]) == (3, "sex") and "F on line 2" in warning["reason"]


# Files


def loaded(folder: Path, table: pd.DataFrame, **options: object) -> Manifest:
    write_manifest(table, folder / "cohort.csv", folder)
    manifest = load_manifest(folder / "cohort.csv", **options)
    lines = set(manifest.excluded["line"])
    assert len(manifest.table) + len(lines) == len(table), "a row was dropped in silence"
    return manifest


def assert_only_c_is_excluded(manifest: Manifest, column: str, file: str, reason: str, fix: str) -> None:
    assert list(manifest.table["subject"]) == ["a", "b", "d"]
    entry = manifest.excluded.iloc[0]
    assert len(manifest.excluded) == 1, manifest.excluded.to_string()
    assert (entry["line"], entry["subject"], entry["session"]) == (4, "c", "1")
    assert (entry["column"], entry["file"]) == (column, file)
    assert reason in entry["reason"] and fix in entry["fix"], entry.to_dict()


def test_good_files_exclude_nobody_and_warn_of_nothing(tmp_path: Path) -> None:
    manifest = loaded(tmp_path, cohort(tmp_path))
    assert manifest.excluded.empty and manifest.warnings.empty and len(manifest.table) == 4


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def replaced_by_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


FAULTS = {
    "missing": (Path.unlink, "missing", "fetch"),
    "truncated": (truncated, "truncated", "download"),
    "zero bytes": (lambda p: p.write_bytes(b""), "zero bytes", "download"),
    "4D": (lambda p: save_run(p), "expected a 3D volume, got 4D", "'bold'"),
    "all zero": (lambda p: save(p, np.zeros(SHAPE, np.float32)), "every voxel is 0", "leave it out"),
    "constant": (lambda p: save(p, np.ones(SHAPE, np.float32)), "every voxel is 1", "leave it out"),
    "NaN": (lambda p: save(p, np.where(head(3) > 1200, np.nan, head(3))), "NaN", "set them to 0"),
    "singular": (lambda p: with_header(p, srow_z=[8, 0, 0, 0]), "affine is singular", "again"),
    "annex": (lambda p: replaced_by_link(p, ".git/annex/objects/k/k"), "git-annex", "datalad get"),
    "text": (lambda p: p.write_text("not an image"), "not NIfTI", "convert"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_t1w_excludes_its_row_alone_with_reason_and_fix(tmp_path: Path, fault: str) -> None:
    table = cohort(tmp_path)
    spoil, reason, fix = FAULTS[fault]
    file = "sub-c/anat/sub-c_T1w.nii.gz"
    spoil(tmp_path / file)
    assert_only_c_is_excluded(loaded(tmp_path, table), "t1w", file, reason, fix)


def test_a_checksum_that_does_not_match_excludes_the_row(tmp_path: Path) -> None:
    table = cohort(tmp_path)
    table["t1w_sha256"] = [sha256_of(tmp_path / file) for file in table["t1w"]]
    assert loaded(tmp_path, table).excluded.empty
    file = "sub-c/anat/sub-c_T1w.nii.gz"
    save(tmp_path / file, head(7))
    assert_only_c_is_excluded(loaded(tmp_path, table), "t1w", file, "checksum: SHA-256 is", "new checksum")


def test_a_link_out_of_the_data_root_excludes_the_row(tmp_path: Path) -> None:
    table = cohort(tmp_path / "data")
    file = "sub-c/anat/sub-c_T1w.nii.gz"
    outside = tmp_path / "outside.nii.gz"
    shutil.move(tmp_path / "data" / file, outside)
    (tmp_path / "data" / file).symlink_to(outside)
    manifest = loaded(tmp_path / "data", table)
    assert_only_c_is_excluded(manifest, "t1w", file, "leads out of the data root", "copy the file")


def test_a_linked_folder_out_of_the_data_root_excludes_the_row(tmp_path: Path) -> None:
    table = cohort(tmp_path / "data")
    shutil.move(tmp_path / "data" / "sub-c", tmp_path / "outside")
    (tmp_path / "data" / "sub-c").symlink_to(tmp_path / "outside")
    manifest = loaded(tmp_path / "data", table)
    assert "leads out of the data root" in manifest.excluded.loc[0, "reason"]


def test_links_inside_the_data_root_and_a_linked_root_are_followed(tmp_path: Path) -> None:
    table = cohort(tmp_path / "data")
    file = tmp_path / "data" / "sub-c" / "anat" / "sub-c_T1w.nii.gz"
    shutil.move(file, tmp_path / "data" / "store.nii.gz")
    file.symlink_to("../../store.nii.gz")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert loaded(tmp_path / "link", table).excluded.empty


@pytest.mark.parametrize("likeness", ["bytes", "orientation", "rescaled and moved", "mirrored"])
def test_one_scan_under_two_subjects_excludes_both_and_nobody_else(tmp_path: Path, likeness: str) -> None:
    table = cohort(tmp_path)
    original, copy = (tmp_path / f"sub-{s}" / "anat" / f"sub-{s}_T1w.nii.gz" for s in "bc")
    voxels = nib.load(original).get_fdata(dtype=np.float32)
    if likeness == "bytes":
        shutil.copy(original, copy)
    elif likeness == "orientation":
        save(copy, voxels[::-1], MIRRORED)
    elif likeness == "mirrored":
        save(copy, np.round(voxels[::-1] * 3.7).astype(np.int16))
    else:
        moved = MIRRORED.copy()
        moved[:3, 3] += [12, -40, 7]
        save(copy, np.pad(np.round(voxels[::-1] * 3.7 + 11).astype(np.int16), 2, constant_values=11), moved)
    manifest = loaded(tmp_path, table)
    assert list(manifest.table["subject"]) == ["a", "d"]
    told = manifest.excluded.set_index("subject")
    assert list(told.index) == ["b", "c"] and set(told["column"]) == {"t1w"}
    assert "subject 'c' on line 4" in told.loc["b", "reason"] and "subject 'b' on line 3" in told.loc["c", "reason"]
    assert told["fix"].str.contains("whose scan it is").all()
    assert ("mirror image" in told.loc["b", "reason"]) == (likeness == "mirrored")


def test_a_public_head_that_circulates_under_two_names_is_found(tmp_path: Path, shared_data: Path) -> None:
    image = nib.load(shared_data / "t1w" / "brainchop_t1_crop.nii.gz")
    shutil.copy(shared_data / "t1w" / "brainchop_t1_crop.nii.gz", tmp_path / "a.nii.gz")
    turned = nib.as_closest_canonical(image)
    rescaled = np.round(turned.get_fdata(dtype=np.float32)[::2, ::2, ::2] * 7.3 + 11).astype(np.int16)
    save(tmp_path / "b.nii.gz", rescaled, turned.affine @ np.diag([2.0, 2, 2, 1]))
    shutil.copy(shared_data / "t1w" / "studyforrest_T1w_1p5mm.nii.gz", tmp_path / "c.nii.gz")
    manifest = loaded(tmp_path, table_of(*(row(s, t1w=f"{s}.nii.gz") for s in "abc")))
    assert list(manifest.table["subject"]) == ["c"]
    assert manifest.excluded["reason"].str.contains("same head").all()


def test_a_copy_under_another_subject_tells_more_than_one_under_the_same(tmp_path: Path) -> None:
    table = cohort(tmp_path, "abc")
    shutil.copy(tmp_path / table.loc[0, "t1w"], tmp_path / "again.nii.gz")
    save(tmp_path / table.loc[1, "t1w"], np.round(head(ord("a")) * 3.7).astype(np.int16))
    manifest = loaded(tmp_path, pd.concat([table, table_of(row("a", session="2", t1w="again.nii.gz"))]))
    assert list(manifest.table["subject"]) == ["c"] and list(manifest.excluded["subject"]) == ["a", "a", "b"]


def test_one_scan_under_two_sessions_of_a_subject_is_kept_with_a_warning(tmp_path: Path) -> None:
    table = cohort(tmp_path, "a")
    shutil.copy(tmp_path / table.loc[0, "t1w"], tmp_path / "again.nii.gz")
    table = pd.concat([table, table_of(row("a", session="2", t1w="again.nii.gz"))])
    manifest = loaded(tmp_path, table)
    assert len(manifest.table) == 2 and manifest.warnings["reason"].str.contains("same scan").all()


def sessions_of_a(folder: Path, flipped: tuple[int, ...], count: int) -> pd.DataFrame:
    """Sessions of one subject, with other noise each, some with left and right swapped."""
    rows = []
    for session in range(count):
        voxels = head(1, session)
        save(folder / f"{session}.nii.gz", voxels[::-1] if session in flipped else voxels)
        rows.append(row("a", session=str(session), t1w=f"{session}.nii.gz"))
    return table_of(*rows, *cohort(folder, "bc").to_dict("records"))


def test_sessions_that_agree_are_left_alone(tmp_path: Path) -> None:
    manifest = loaded(tmp_path, sessions_of_a(tmp_path, (), 3))
    assert manifest.excluded.empty and manifest.warnings.empty


def test_of_three_sessions_the_left_right_flipped_one_is_excluded(tmp_path: Path) -> None:
    manifest = loaded(tmp_path, sessions_of_a(tmp_path, (1,), 3))
    entry = manifest.excluded.iloc[0]
    assert len(manifest.excluded) == 1 and (entry["subject"], entry["session"]) == ("a", "1")
    assert "left and right are swapped" in entry["reason"] and "when mirrored" in entry["reason"]
    assert "convert the other again" in entry["fix"]


def test_of_two_sessions_both_are_excluded_when_one_is_flipped(tmp_path: Path) -> None:
    manifest = loaded(tmp_path, sessions_of_a(tmp_path, (1,), 2))
    assert list(manifest.excluded["session"]) == ["0", "1"] and list(manifest.table["subject"]) == ["b", "c"]


def test_the_same_voxels_with_a_mirrored_affine_are_excluded_as_flipped(tmp_path: Path) -> None:
    table = sessions_of_a(tmp_path, (), 2)
    save(tmp_path / "1.nii.gz", nib.load(tmp_path / "0.nii.gz").get_fdata(dtype=np.float32), MIRRORED)
    manifest = loaded(tmp_path, table)
    assert manifest.excluded["reason"].str.contains("left and right are swapped").sum() == 2


def test_a_mask_that_is_flipped_against_its_t1w_excludes_the_row(tmp_path: Path) -> None:
    table = cohort(tmp_path)
    table["t1w_mask"] = [f"sub-{s}/anat/sub-{s}_mask.nii.gz" for s in table["subject"]]
    for subject, file in zip(table["subject"], table["t1w_mask"], strict=True):
        save(tmp_path / file, brain_mask(ord(subject)), MIRRORED if subject == "c" else AFFINE)
    manifest = loaded(tmp_path, table)
    assert_only_c_is_excluded(manifest, "t1w_mask", table.loc[2, "t1w_mask"], "left and right are swapped", "resample")


def test_a_t1w_that_is_a_map_is_kept_with_a_warning_that_names_it(tmp_path: Path) -> None:
    table = cohort(tmp_path)
    save(tmp_path / table.loc[2, "t1w"], brain_mask(3).astype(np.float32))
    manifest = loaded(tmp_path, table)
    warning = manifest.warnings.iloc[0]
    assert len(manifest.table) == 4 and len(manifest.warnings) == 1
    assert (warning["line"], warning["subject"], warning["file"]) == (4, "c", table.loc[2, "t1w"])
    assert "not T1-like: only 2 distinct values" in warning["reason"] and "within [0, 1]" in warning["reason"]


def with_runs(folder: Path) -> pd.DataFrame:
    table = cohort(folder)
    table["bold"] = [f"sub-{s}/func/sub-{s}_bold.nii.gz" for s in table["subject"]]
    for seed, file in enumerate(table["bold"]):
        save_run(folder / file, seed)
    return table


def test_a_volume_in_the_column_of_runs_excludes_the_row(tmp_path: Path) -> None:
    table = with_runs(tmp_path)
    save(tmp_path / table.loc[2, "bold"], head(3))
    manifest = loaded(tmp_path, table)
    assert_only_c_is_excluded(manifest, "bold", table.loc[2, "bold"], "expected a 4D run", "whole functional run")


def test_a_truncated_run_excludes_the_row_without_reading_it(tmp_path: Path) -> None:
    table = with_runs(tmp_path)
    truncated(tmp_path / table.loc[2, "bold"])
    assert_only_c_is_excluded(loaded(tmp_path, table), "bold", table.loc[2, "bold"], "truncated", "again")


def test_a_run_under_two_subjects_is_found_by_reading_or_by_the_checksums(tmp_path: Path) -> None:
    table = with_runs(tmp_path)
    shutil.copy(tmp_path / table.loc[1, "bold"], tmp_path / table.loc[2, "bold"])
    assert list(loaded(tmp_path, table, read_bold=True).table["subject"]) == ["a", "d"]
    table["bold_sha256"] = [sha256_of(tmp_path / file) for file in table["bold"]]
    manifest = loaded(tmp_path, table)
    assert list(manifest.table["subject"]) == ["a", "d"] and set(manifest.excluded["column"]) == {"bold"}


def test_region_series_are_checked_for_presence_checksum_and_twins(tmp_path: Path) -> None:
    contents = {
        "a": b"1 2\n2 1\n",
        "b": b"3 4\n4 3\n",
        "c": b"3 4\n4 3\n",
        "d": b"",
        "e": b"5 6\n6 5\n",
        "g": b"7 8\n8 7\n",
    }
    for subject, content in contents.items():
        (tmp_path / f"{subject}.1D").write_bytes(content)
    rows = [row(s, t1w="", time_series=f"{s}.1D") for s in "abcdefg"]
    rows[4]["time_series_sha256"] = "0" * 64
    manifest = loaded(tmp_path, table_of(*rows))
    assert list(manifest.table["subject"]) == ["a", "g"]
    kinds = dict(zip(manifest.excluded["subject"], manifest.excluded["reason"].str.split(":").str[0], strict=True))
    assert kinds == {"b": "same file", "c": "same file", "d": "empty", "e": "checksum", "f": "missing"}


def test_every_fault_of_a_row_is_listed(tmp_path: Path) -> None:
    table = with_runs(tmp_path)
    (tmp_path / table.loc[2, "t1w"]).unlink()
    truncated(tmp_path / table.loc[2, "bold"])
    manifest = loaded(tmp_path, table)
    assert list(manifest.excluded["column"]) == ["t1w", "bold"] and set(manifest.excluded["subject"]) == {"c"}


def test_workers_and_progress_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = with_runs(tmp_path)
    truncated(tmp_path / table.loc[1, "bold"])
    shutil.copy(tmp_path / table.loc[2, "t1w"], tmp_path / table.loc[3, "t1w"])
    alone = loaded(tmp_path, table)
    assert capsys.readouterr().err == ""
    together = loaded(tmp_path, table, n_jobs=2, progress=True)
    assert "checking files" in capsys.readouterr().err
    for part in ("table", "excluded", "warnings"):
        pd.testing.assert_frame_equal(getattr(alone, part), getattr(together, part))
    assert alone.checksum == together.checksum


def test_without_file_checks_no_file_is_needed(tmp_path: Path) -> None:
    assert len(load_manifest(written(tmp_path, row("a")), check_files=False).table) == 1


def test_exclusions_make_a_table_of_fixed_columns_in_order_of_lines() -> None:
    cells = {"subject": "a", "session": "", "column": "t1w", "file": "x", "reason": "r", "fix": "f"}
    table = exclusion_table([exclusion(line=9, **cells), exclusion(line=2, **cells), exclusion(line=9, **cells)])
    assert list(table.columns) == list(EXCLUDED_COLUMNS) and list(table["line"]) == [2, 9]
    assert list(exclusion_table([]).columns) == list(EXCLUDED_COLUMNS)
