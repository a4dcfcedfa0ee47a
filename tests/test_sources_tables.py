import csv
import io

import pytest

from study_lib.sources.tables import column, find_column, read_table

HEADER, ROWS = ["participant_id", "age", "Secondary Dx "], [["sub-01", "30", "ODD"], ["sub-02", "n/a", ""]]


def text(separator: str) -> str:
    return "\n".join(separator.join(row) for row in [HEADER, *ROWS]) + "\n"


@pytest.mark.parametrize(
    "raw",
    [
        text(",").encode(),
        text("\t").encode(),
        text(";").encode(),
        text(",").encode("utf-8-sig"),
        text("\t").encode("utf-16"),
        text(",").replace("\n", "\r\n").encode(),
        text(",").replace("ODD", "trouble oppositionnel à l'école").encode("latin-1"),
    ],
    ids=["comma", "tab", "semicolon", "byte order mark", "utf-16", "windows line ends", "latin-1"],
)
def test_separator_and_encoding_do_not_matter(tmp_path, raw):
    path = tmp_path / "participants.tsv"
    path.write_bytes(raw)
    table = read_table(path)
    assert list(table.columns) == ["participant_id", "age", "Secondary Dx"]
    assert table["age"].tolist() == ["30", "n/a"] and table.index.tolist() == [2, 3]


def test_the_index_is_the_line_even_after_blank_lines_and_cells_over_several_lines(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('id,note\n1,"two\nlines"\n\n2,x\n3,y\n')
    assert dict(zip(read_table(path)["id"], read_table(path).index, strict=True)) == {"1": 2, "2": 5, "3": 6}


def test_read_table_agrees_with_the_csv_module_on_every_real_cell(shared_data):
    path = shared_data / "abide/phenotypic/Phenotypic_V1_0b_preprocessed1.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    table = read_table(path)
    for name in ("SUB_ID", "FILE_ID", "DX_GROUP", "AGE_AT_SCAN"):
        assert table[name].tolist() == [row[name] for row in rows]


def test_a_row_with_more_cells_than_the_header_is_refused_with_its_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(ValueError, match=r"t\.csv, line 3: expected at most 2 cells as in the header, got 3"):
        read_table(path)


def test_a_table_that_was_not_fetched_is_told_from_one_that_is_not_there(tmp_path):
    link = tmp_path / "participants.tsv"
    link.symlink_to(tmp_path / ".git/annex/objects/xx")
    with pytest.raises(FileNotFoundError, match="datalad get"):
        read_table(link)
    with pytest.raises(FileNotFoundError, match="no table at"):
        read_table(tmp_path / "absent.tsv")


def test_columns_are_found_in_any_spelling_and_the_first_name_wins(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("scandir_id,Age,AGE_AT_SCAN\n1,2,3\n")
    table = read_table(path)
    assert find_column(table, ["ScanDir ID", "ID"]) == "scandir_id"
    assert column(table, ["age at scan", "age"]).tolist() == ["3"]
    assert column(table, ["sex"]).tolist() == [""]
