"""Checks of tables that stand for a functional run: region series and confounds, by their first and last rows."""

import re
from pathlib import Path

from study_lib.scan_checks.findings import Finding
from study_lib.scan_checks.values import FETCH

TEXT_SUFFIXES = (".tsv", ".csv", ".txt", ".1D")
FEWEST_ROWS = 2
_MISSING = {"n/a", "na", "nan", ""}


def check_table(path: str | Path, content: bytes) -> list[Finding]:
    """Faults of a text table; other formats (`.mat`, `.npy`) are left to the reader that knows them."""
    path = Path(path)
    if not path.name.endswith(TEXT_SUFFIXES):
        return []
    try:
        lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        return [Finding("no table", f"{path.name} is no text", FETCH)]
    header, rows = (lines[0], lines[1:]) if lines and not _numbers(lines[0]) else ("", lines)
    if len(rows) < FEWEST_ROWS:
        message = f"{path.name} has {len(rows)} rows of values, expected one per volume"
        return [Finding("no table", message, FETCH)]
    widths = {len(_cells(line)) for line in (rows[0], rows[-1], *([header.lstrip("#")] if header else []))}
    if len(widths) > 1 or not (_numbers(rows[1]) and _numbers(rows[-1])):
        message = f"{path.name} does not hold rows of numbers of one width from its first to its last row"
        return [Finding("no table", message, FETCH)]
    return []


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"[\t,;]|\s+" if "\t" not in line else r"\t", line.strip("\n\r "))]


def _numbers(line: str) -> bool:
    """Whether a row holds numbers: missing values are allowed beside at least one number."""
    cells = [cell for cell in _cells(line) if cell.lower() not in _MISSING]
    return bool(cells) and all(_is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
