"""Reading and writing manifests."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from study_lib.files import atomic_write_json, atomic_write_text
from study_lib.manifest.columns import COLUMN_SPECS, COLUMNS
from study_lib.manifest.problems import ManifestError, Problem, exclusion_table
from study_lib.manifest.rules import row_problems, row_warnings
from study_lib.manifest.schema import cell_problems, parse_numbers
from study_lib.manifest.text import header_problems, read_text_table

ROW_ORDER = ["cohort", "subject", "session"]


@dataclass(frozen=True)
class Manifest:
    """Scans that passed (`table`), those left out (`excluded`), odd ones that are kept (`warnings`)."""

    table: pd.DataFrame
    excluded: pd.DataFrame
    warnings: pd.DataFrame
    root: Path
    checksum: str

    def path(self, row: pd.Series | Mapping | tuple, column: str) -> Path:
        """Where the file of `column` lies; `row` comes from `table` by `iloc`, `iterrows` or `itertuples`."""
        cells = row if isinstance(row, pd.Series | Mapping) else row._asdict()
        if not cells[column]:
            whose = f"subject {cells['subject']!r} (session {cells['session']!r})"
            raise KeyError(f"{whose} has no file in column {column!r}: select rows where it is not empty")
        return self.root / cells[column]


def load_manifest(
    csv: str | Path,
    root: str | Path | None = None,
    check_files: bool = True,
    n_jobs: int = 1,
    progress: bool = False,
    read_bold: bool = False,
) -> Manifest:
    """Read and validate a manifest; the module's text says what raises and what is listed.

    Paths are relative to `root`, else to "Root" in the JSON file beside the CSV, else to the CSV's folder.
    `check_files` opens every file, on `n_jobs` workers; functional runs are read whole only with `read_bold`.
    """
    csv = Path(csv)
    text = read_text_table(csv)
    table = validate(text, csv)
    root = _data_root(csv, root)
    warnings, excluded = row_warnings(table, csv.name), []
    if check_files:
        # Here, because a table without its files needs no imaging library.
        from study_lib.manifest.file_checks import check_rows

        found = check_rows(table, _existing(root, csv), n_jobs=n_jobs, progress=progress, read_bold=read_bold)
        excluded, warnings = found.excluded, warnings + found.warnings
    bad_lines = {row["line"] for row in excluded}
    good = table[~table.index.isin(bad_lines)].reset_index(drop=True)
    return Manifest(good, exclusion_table(excluded), exclusion_table(warnings), root, checksum_of(table))


def write_manifest(table: pd.DataFrame, csv: str | Path, root: str | Path) -> None:
    """Validate `table` and write it as CSV in order, with the data root in a JSON file beside it.

    Optional columns may be absent. Both files are written whole or not at all.
    """
    csv = Path(csv)
    problems = header_problems(list(table.columns))
    if problems:
        raise ManifestError(csv, problems)
    text = _in_order(as_text(table.reindex(columns=list(COLUMNS))))
    text.index = pd.RangeIndex(2, len(text) + 2, name="line")
    validate(text, csv)
    atomic_write_json(csv.with_suffix(".json"), _sidecar(csv, Path(root)))
    atomic_write_text(csv, _csv_text(text))


def validate(text: pd.DataFrame, csv: Path) -> pd.DataFrame:
    """The typed table of a table of strings indexed by line; raises with every fault there is."""
    table, problems = parse_numbers(text)
    problems += cell_problems(table)
    known = {(problem.line, problem.column) for problem in problems}
    problems += [p for p in row_problems(table) if (p.line, p.column) not in known]
    if not len(table):
        problems.append(Problem(0, "", "", "at least one scan", "none", "write one row per scan"))
    if problems:
        raise ManifestError(csv, problems)
    return table


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Every cell as the manifest writes it: missing values empty, numbers in their shortest form."""
    return table.astype(object).map(_cell_text).astype(str)


def checksum_of(table: pd.DataFrame) -> str:
    """SHA-256 of the table's content; the order of rows and the way numbers are written do not matter."""
    return hashlib.sha256(_csv_text(_in_order(as_text(table))).encode()).hexdigest()


def _cell_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    if isinstance(value, int | np.integer):
        return str(int(value))
    return repr(float(value)).removesuffix(".0")


def _in_order(text: pd.DataFrame) -> pd.DataFrame:
    by = ROW_ORDER + [name for name in COLUMNS if name not in ROW_ORDER]
    return text.sort_values(by, kind="stable")


def _csv_text(text: pd.DataFrame) -> str:
    return text.to_csv(index=False, lineterminator="\n")


def _sidecar(csv: Path, root: Path) -> dict[str, object]:
    columns = {}
    for column in COLUMN_SPECS:
        columns[column.name] = {"Description": column.meaning} | ({"Units": column.unit} if column.unit else {})
    return {"Root": Path(os.path.relpath(root, csv.parent)).as_posix(), "Columns": columns}


def _data_root(csv: Path, root: str | Path | None) -> Path:
    if root is not None:
        return Path(root)
    sidecar = csv.with_suffix(".json")
    if not sidecar.is_file():
        return csv.parent
    try:
        return csv.parent / json.loads(sidecar.read_text(encoding="utf-8")).get("Root", ".")
    except (ValueError, AttributeError, TypeError) as error:
        problem = Problem(0, "", "", 'a JSON object with "Root"', f"{error}", f"mend or remove {sidecar}")
        raise ManifestError(sidecar, [problem]) from error


def _existing(root: Path, csv: Path) -> Path:
    if not root.is_dir():
        fix = f'give load_manifest(root=...), or set "Root" in {csv.with_suffix(".json").name}'
        raise ManifestError(csv, [Problem(0, "", "", "a folder as data root", str(root), fix)])
    return root
