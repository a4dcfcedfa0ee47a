"""What each cell of a manifest may hold, as a pandera schema with the fix for each kind of fault."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from study_lib.manifest.columns import (
    COLUMN_SPECS,
    DIAGNOSES,
    REPETITION_TIME_KINDS,
    ROLES,
    SEXES,
    Column,
    column_names,
    is_missing_marker,
)
from study_lib.manifest.problems import Problem

IMAGE_COLUMNS = ("t1w", "t1w_mask", "bold")
VENDORS = ("GE", "Philips", "Siemens")
FIELD_STRENGTH_T = (0.05, 12.0)
ECHO_TIME_MS = (0.5, 150.0)
# From the shortest time between excitations to the longest between inversions (MP2RAGE at 7 T).
REPETITION_TIME_MS = (3.0, 15000.0)
EMPTY_CELL = "leave the cell empty when the value is not known"


@dataclass(frozen=True)
class Rule:
    """What a cell must fulfil; `fix` turns the offending value into an instruction."""

    expected: str
    holds: Callable[[pd.Series], pd.Series]
    fix: Callable[[object], str]


def cell_problems(table: pd.DataFrame) -> list[Problem]:
    """Faults of single cells of a typed table that is indexed by line."""
    try:
        _schema().validate(table, lazy=True)
    except SchemaErrors as errors:
        return _problems(table, errors.failure_cases)
    return []


@cache
def _schema() -> pa.DataFrameSchema:
    columns = {}
    for column in COLUMN_SPECS:
        # The rule's text identifies it in pandera's list of failures.
        checks = [pa.Check(rule.holds, error=rule.expected) for rule in cell_rules(column)]
        dtype = float if column.kind == "number" else str
        columns[column.name] = pa.Column(dtype, checks, nullable=column.kind == "number")
    return pa.DataFrameSchema(columns, strict=True)


def _problems(table: pd.DataFrame, failures: pd.DataFrame) -> list[Problem]:
    rules = {(c.name, rule.expected): rule for c in COLUMN_SPECS for rule in cell_rules(c)}
    problems = {}
    for failure in failures.itertuples():
        rule = rules[failure.column, failure.check]
        line, got = int(failure.index), failure.failure_case
        subject = str(table.loc[line, "subject"])
        problem = Problem(line, failure.column, subject, rule.expected, _shown(got), rule.fix(got))
        problems.setdefault((line, failure.column), problem)  # the first fault of a cell is the telling one
    return list(problems.values())


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


def cell_rules(column: Column) -> list[Rule]:
    """The rules of one column, the most telling first."""
    if column.kind == "number":
        return [_NUMBER_RULES[column.name]]
    rules = [_required(column)] if column.required else []
    if column.name in _CODES:
        return [*rules, _code(_CODES[column.name], may_be_empty=not column.required)]
    rules.append(_not_missing_marker(column))
    rules.append(_no_blanks())
    if column.kind == "checksum":
        rules.append(_matching("64 hexadecimal digits in lower case", r"(?:[0-9a-f]{64})?", _fix_checksum))
    if column.kind == "path":
        rules.append(_matching("a path relative to the data root, with '/' and without '..'", PATH, _fix_path))
    if column.name in IMAGE_COLUMNS:
        rules.append(_matching("a NIfTI file (.nii or .nii.gz)", r"(?:.*\.nii(?:\.gz)?)?", _fix_image))
    return rules + _LABEL_RULES.get(column.name, [])


# Not absolute, no drive or scheme, no '~', no backslash, and no part that is '..'.
PATH = r"(?:(?![/~])(?![A-Za-z][A-Za-z0-9+.-]*:)(?!(?:.*/)?\.\.(?:/|$))[^\\\n]+)?"


def _matching(expected: str, pattern: str, fix: Callable[[object], str]) -> Rule:
    return Rule(expected, lambda cells: cells.str.fullmatch(pattern), fix)


def _required(column: Column) -> Rule:
    fix = "write 'unknown' when it is not known" if column.name == "diagnosis" else f"write the {column.meaning}"
    return Rule("a value", lambda cells: cells != "", lambda _: fix)


def _not_missing_marker(column: Column) -> Rule:
    fix = EMPTY_CELL
    if column.required:
        fix = "write a real value, or leave the scan out of the manifest and list it as excluded"
    return Rule("a value or an empty cell", lambda cells: ~cells.map(is_missing_marker), lambda _: fix)


def _no_blanks() -> Rule:
    return Rule(
        "no blanks at the ends",
        lambda cells: cells == cells.str.strip(),
        lambda cell: f"write {cell.strip()!r}",
    )


def _code(codes: Collection[str], may_be_empty: bool) -> Rule:
    allowed = [code for code in codes if code]
    empty = "; or leave the cell empty" if may_be_empty else ""

    def fix(cell: object) -> str:
        if is_missing_marker(cell):
            return "write 'unknown'" if "unknown" in codes else EMPTY_CELL
        close = get_close_matches(str(cell).strip().lower(), allowed, n=1)
        return (f"write {close[0]!r}" if close else "write one of these codes") + empty

    return Rule(f"one of {', '.join(allowed)}", lambda cells: cells.isin(list(codes)), fix)


def _between(low: float, high: float, unit: str, fix: Callable[[float], str]) -> Rule:
    def fix_or_empty(value: object) -> str:
        return EMPTY_CELL if is_missing_marker(f"{value:g}") else fix(value)

    return Rule(f"{low:g} to {high:g} {unit}", lambda v: v.isna() | v.between(low, high), fix_or_empty)


def _fix_age(value: float) -> str:
    if 120 < value < 1500:
        return f"write years: if these are months, {value / 12:.2f}; or leave the cell empty"
    return "write the age in years at the scan, or leave the cell empty"


def _fix_milliseconds(value: float) -> str:
    if value <= 0:
        return EMPTY_CELL
    return f"write milliseconds: if {value:g} is in seconds, {value * 1000:g}"


def _fix_field_strength(value: float) -> str:
    return f"write tesla: if {value:g} is in gauss, {value / 10000:g}" if value > 100 else "write tesla, e.g. 3"


def _fix_checksum(cell: object) -> str:
    return "write what `sha256sum FILE` prints, in lower case, or leave the cell empty"


def _fix_path(cell: object) -> str:
    return "move the file below the data root, or set a higher data root, and write its path from there"


def _fix_image(cell: object) -> str:
    return f"convert it with `nib-convert {cell} OUT.nii.gz`"


def _fix_vendor(cell: object) -> str:
    known = {vendor.lower(): vendor for vendor in VENDORS} | {"general electric": "GE"}
    return f"write {next((v for k, v in known.items() if str(cell).lower().startswith(k)), str(cell).title())!r}"


def _vendor_is_canonical(cells: pd.Series) -> pd.Series:
    of_the_three = cells.str.fullmatch(r"(?i:ge|general electric|philips|siemens)\b.*")
    return cells.isin(VENDORS) | (~of_the_three & (cells == cells.str.title()))


def _label(prefix: str) -> Rule:
    return _matching(
        f"letters, digits and .+_- without {prefix!r}",
        rf"(?:(?!{prefix})[A-Za-z0-9._+-]+)?",
        lambda cell: f"write the label without {prefix!r}, and no names, blanks or slashes",
    )


_CODES: dict[str, Collection[str]] = {
    "repetition_time_kind": REPETITION_TIME_KINDS,
    "sex": SEXES,
    "diagnosis": DIAGNOSES,
    "role": ROLES,
}
_NUMBER_RULES = {
    "field_strength_t": _between(*FIELD_STRENGTH_T, "T", _fix_field_strength),
    "echo_time_ms": _between(*ECHO_TIME_MS, "ms", _fix_milliseconds),
    "repetition_time_ms": _between(*REPETITION_TIME_MS, "ms", _fix_milliseconds),
    "age_years": Rule("0 < age < 120 years", lambda v: v.isna() | v.between(0, 120, "neither"), _fix_age),
}
_LABEL_RULES: dict[str, list[Rule]] = {
    "subject": [_label("sub-")],
    "family": [_label("sub-")],
    "session": [_label("ses-")],
    "vendor": [
        Rule("GE, Philips, Siemens, or another maker in title case", _vendor_is_canonical, _fix_vendor),
    ],
}


def parse_numbers(text: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """Number columns as floats (an empty cell as NaN), and the cells that hold no finite number."""
    table, problems = text.copy(), []
    for name in column_names(["number"]):
        cells = text[name]
        table[name] = pd.to_numeric(cells.where(cells != ""), errors="coerce").astype(float)
        bad = (cells != "") & ~table[name].map(math.isfinite)
        for line, cell in cells[bad].items():
            fix = EMPTY_CELL if is_missing_marker(cell) else "write a number with a decimal point and no unit"
            subject = str(text.loc[line, "subject"])
            problems.append(Problem(int(line), name, subject, "a number or an empty cell", repr(cell), fix))
        table[name] = table[name].where(~bad)
    return table, problems
