"""Reading the tables that data sets come with, whatever their separator, encoding and spelling of columns."""

import codecs
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or TSV as stripped strings, indexed by the line each row starts on (the header is line 1)."""
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"{path} is a link whose content is not here: run `datalad get {path.name}`")
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}: check the path given to --phenotypic or --root")
    text = _decode(path.read_bytes())
    header, rows = _records(text, path)
    names = [name.strip() for name in header]
    table = pd.DataFrame([cells for _, cells in rows], columns=range(len(names)), dtype=str)
    table.index = pd.Index([line for line, _ in rows], name="line", dtype=int)
    keep = [i for i, name in enumerate(names) if name not in names[:i]]
    table = table[keep].set_axis([names[i] for i in keep], axis=1)
    return table.apply(lambda cells: cells.str.strip())


def _decode(raw: bytes) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Ids, ages and codes are ASCII; an accent in some comment column must not stop the reading.
        return raw.decode("latin-1")


def _records(text: str, path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    first = text.split("\n", 1)[0]
    separator = max("\t,;", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows: list[tuple[int, list[str]]] = []
    start = 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            rows.append((start, cells))
        start = reader.line_num + 1
    if not rows:
        raise ValueError(f"{path} is empty: expected a header and one row per subject; download it again")
    header = rows[0][1]
    return header, [(line, _fitted(cells, len(header), line, path)) for line, cells in rows[1:]]


def _fitted(cells: list[str], width: int, line: int, path: Path) -> list[str]:
    if any(cell.strip() for cell in cells[width:]):
        message = f"{path}, line {line}: expected at most {width} cells as in the header, got {len(cells)}"
        raise ValueError(f"{message}; quote cells that hold the separator")
    return (cells + [""] * width)[:width]


def column(table: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """The first of these columns that the table has, in any case and spacing; empty cells if it has none."""
    found = find_column(table, names)
    return table[found] if found is not None else pd.Series("", index=table.index, dtype=str)


def find_column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """How the table spells the first of `names` that it has ("ScanDir ID" is found as "scandir_id")."""
    spelt = {_plain(name): name for name in reversed(list(table.columns))}
    return next((spelt[_plain(name)] for name in names if _plain(name) in spelt), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def find_tables(root: Path, patterns: Sequence[str], depth: int = 2) -> list[Path]:
    """Tables under `root` whose names match, at most `depth` folders down; the nearest level counts."""
    for level in range(depth + 1):
        found = {path for pattern in patterns for path in root.glob("*/" * level + pattern)}
        if found:
            return sorted(found)
    return []


def relative_to(path: Path, root: Path) -> str:
    """`path` as seen from the data root where it lies below it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
