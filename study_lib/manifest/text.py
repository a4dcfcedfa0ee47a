"""From bytes to a table of strings whose index is the line in the file.

Only UTF-8 (with or without a byte order mark) and commas are read. Guessing another encoding or separator
would sometimes succeed with wrong letters or shifted columns, so everything else is refused with the command
that converts it.
"""

import csv
import io
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from study_lib.manifest.columns import COLUMN_SPECS, COLUMNS, column_names
from study_lib.manifest.problems import ManifestError, Problem

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_text_table(path: Path) -> pd.DataFrame:
    """The CSV as strings, all manifest columns in order, indexed by line; raises ManifestError."""
    if not path.is_file():
        message = f"no manifest at {path}: make one with `python -m study_lib.sources --help`, or mend the path"
        raise FileNotFoundError(message)
    text = _decode(path, path.read_bytes())
    _refuse_other_separators(path, text)
    header, records = _records(path, text)
    _refuse_wrong_header(path, header)
    table = pd.DataFrame([cells for _, cells in records], columns=header, dtype=str)
    table.index = pd.Index([line for line, _ in records], name="line")
    return table.reindex(columns=list(COLUMNS), fill_value="").astype(str)


def _file_problem(expected: str, got: str, fix: str, line: int = 0) -> Problem:
    return Problem(line, "", "", expected, got, fix)


def _decode(path: Path, raw: bytes) -> str:
    expected = "UTF-8 text with commas"
    if raw.startswith(b"PK\x03\x04"):
        problem = _file_problem(expected, "a spreadsheet (zip)", "save it as 'CSV UTF-8 (comma delimited)'")
        raise ManifestError(path, [problem])
    if raw.startswith(UTF16_MARKS) or b"\x00" in raw:
        fix = f"save it as 'CSV UTF-8', or run `iconv -f UTF-16 -t UTF-8 {path.name} > utf8.csv`"
        raise ManifestError(path, [_file_problem(expected, "UTF-16 (or binary) bytes", fix)])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(path, [_encoding_problem(path, raw, error.start)]) from error


def _encoding_problem(path: Path, raw: bytes, offset: int) -> Problem:
    line = raw[:offset].count(b"\n") + 1
    got = f"byte 0x{raw[offset]:02x} ({raw[offset : offset + 1].decode('latin-1')!r} in latin-1)"
    fix = f"save it as 'CSV UTF-8', or run `iconv -f LATIN1 -t UTF-8 {path.name} > utf8.csv`"
    return _file_problem("UTF-8 text", got, fix, line)


def _refuse_other_separators(path: Path, text: str) -> None:
    header = text.split("\n", 1)[0]
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if header.count(separator) > header.count(","):
            fix = "export with commas and decimal points ('CSV UTF-8 (comma delimited)' in an English locale)"
            raise ManifestError(path, [_file_problem("columns separated by commas", name, fix, 1)])


def _records(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and records, each with the line it starts on (a quoted cell may span lines)."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    start = 1
    try:
        for cells in reader:
            if cells:
                rows.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        problem = _file_problem("well-formed CSV", str(error), "mend the quotes on this line", start)
        raise ManifestError(path, [problem]) from error
    if len(rows) < 2:
        fix = "write one row per scan below a header line"
        raise ManifestError(path, [_file_problem("a header and at least one scan", f"{len(rows)} lines", fix)])
    header = rows[0][1]
    _refuse_ragged(path, len(header), rows[1:])
    return header, rows[1:]


def _refuse_ragged(path: Path, width: int, rows: list[tuple[int, list[str]]]) -> None:
    fix = "write a decimal point instead of a decimal comma; put quotes round a cell that holds a comma"
    problems = [
        Problem(line, "", cells[0], f"{width} cells as in the header", str(len(cells)), fix)
        for line, cells in rows
        if len(cells) != width
    ]
    if problems:
        raise ManifestError(path, problems)


def _refuse_wrong_header(path: Path, header: list[str]) -> None:
    problems = header_problems(header)
    if problems:
        raise ManifestError(path, problems)


def header_problems(header: list[str]) -> list[Problem]:
    """Unknown, repeated and absent columns; optional columns may be absent."""
    problems = []
    for name in dict.fromkeys(header):
        if name not in COLUMNS:
            close = get_close_matches(name.strip().lower(), COLUMNS, n=1)
            fix = f"rename it to {close[0]!r}" if close else "remove it"
            problems.append(Problem(1, name, "", "a column of the manifest", "an unknown name", fix))
        elif header.count(name) > 1:
            got = f"{header.count(name)} columns of this name"
            problems.append(Problem(1, name, "", "one column", got, "remove all but one"))
    meaning = {column.name: column.meaning for column in COLUMN_SPECS}
    for name in column_names(["label", "code"], required=True):
        if name not in header:
            problems.append(Problem(1, name, "", "this column", "none", f"add it: {meaning[name]}"))
    return problems
