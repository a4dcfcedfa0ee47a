"""Region series that come as files: ABIDE's .1D, .mat with `ROISignals`, CSV, TSV, plain text, .npy."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from cinp_lib.connectivity.aal import AAL_REGIONS, N_REGIONS
from cinp_lib.connectivity.atlas import Atlas
from cinp_lib.connectivity.problems import SubjectError

# DPABI writes several atlases side by side; the first 116 of these 1833 columns are AAL.
DPABI_COLUMNS = 1833
MISSING = ["n/a", "NA", "NaN", "nan", ""]


def read_series(path: str | Path, atlas: Atlas) -> tuple[np.ndarray, tuple[str, ...]]:
    """(volume, 116) in the atlas's order, NaN for regions that the file does not have; and what was noticed."""
    path = Path(path)
    if not path.is_file():
        raise SubjectError(path, "no such file", "fetch the series, or mend its path in the manifest")
    try:
        columns, values = _reader_of(path)(path)
    except SubjectError:
        raise
    except Exception as error:  # each format's parser has its own exceptions
        reason = f"cannot be read as region series ({type(error).__name__}: {str(error)[:160]})"
        raise SubjectError(path, reason, "give one column per region and one row per volume") from error
    if columns is None:
        values, notes = _in_given_order(path, values, atlas)
    else:
        values, notes = _by_name(path, columns, values, atlas)
    empty = np.isnan(values).all(axis=1)
    if empty.any():
        notes += (f"{empty.sum()} volumes without any value, left out",)
    return values[~empty], notes


def _reader_of(path: Path):
    suffix = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    readers = {"mat": _read_mat, "npy": _read_npy, "1d": _read_text, "csv": _read_text, "tsv": _read_text}
    readers["txt"] = _read_text
    if suffix not in readers:
        raise SubjectError(path, f"series of type .{suffix}", f"convert it to one of {', '.join(readers)}")
    return readers[suffix]


def _read_mat(path: Path) -> tuple[None, np.ndarray]:
    from scipy.io import loadmat

    content = loadmat(path)
    if "ROISignals" not in content:
        named = ", ".join(key for key in content if not key.startswith("__"))
        raise SubjectError(path, f"no variable ROISignals, there are {named}", "save the series under that name")
    values = np.asarray(content["ROISignals"], dtype=float)
    return None, values[:, :N_REGIONS] if values.ndim == 2 and values.shape[1] == DPABI_COLUMNS else values


def _read_npy(path: Path) -> tuple[None, np.ndarray]:
    return None, np.load(path, allow_pickle=False).astype(float)


def _read_text(path: Path) -> tuple[list[str] | None, np.ndarray]:
    with gzip.open(path, "rt") if path.name.endswith(".gz") else path.open(encoding="utf-8-sig") as file:
        first = file.readline()
    separator = "\t" if "\t" in first else "," if "," in first else r"\s+"
    cells = [c.strip().strip('"') for c in (first.split() if separator == r"\s+" else first.split(separator))]
    numbered = _counts_columns(cells)
    codes = all(cell.isdigit() and int(cell) in AAL_REGIONS for cell in cells)
    header = numbered or codes or not all(_is_value(cell) for cell in cells)
    table = pd.read_csv(
        path, sep=separator, header=None, skiprows=int(header), na_values=MISSING, encoding="utf-8-sig", dtype=float
    )
    values = table.to_numpy()
    if header and len(cells) == values.shape[1] + 1 and cells[0] in ("#", ""):
        cells = cells[1:]  # "# 2001 2002 ..."
    if header and cells[0] == "" and len(cells) == values.shape[1]:
        cells, values = cells[1:], values[:, 1:]  # the row numbers that pandas writes
    if header and len(cells) != values.shape[1]:
        raise SubjectError(path, f"{len(cells)} names for {values.shape[1]} columns", "mend the header")
    return (cells if header and not numbered else None), values


def _counts_columns(cells: list[str]) -> bool:
    """Whether a first row is 0, 1, 2, ... or 1, 2, 3, ...: a header of columns without names, no volume."""
    if len(cells) < 3 or not all(cell.isdigit() for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return numbers in (list(range(len(cells))), list(range(1, len(cells) + 1)))


def _is_value(cell: str) -> bool:
    if cell in MISSING:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _in_given_order(path: Path, values: np.ndarray, atlas: Atlas) -> tuple[np.ndarray, tuple[str, ...]]:
    if values.ndim != 2 or values.shape[1] != N_REGIONS:
        _refuse_other_atlas(path, values.shape, atlas)
    return values, ()


def _refuse_other_atlas(path: Path, shape: tuple[int, ...], atlas: Atlas) -> None:
    reason = f"expected (volumes, {N_REGIONS} regions of {atlas.name}), got shape {shape}"
    if len(shape) == 2 and shape[0] == N_REGIONS:
        raise SubjectError(path, reason, "transpose it: one row per volume")
    raise SubjectError(path, reason + ": series of another atlas", f"extract the series with {atlas.name}")


def _by_name(path: Path, columns: list[str], values: np.ndarray, atlas: Atlas) -> tuple[np.ndarray, tuple[str, ...]]:
    names = [_region_of(cell) for cell in columns]
    known = {name: k for k, name in enumerate(atlas.names)}
    strange = [cell for cell, name in zip(columns, names, strict=True) if name not in known]
    if strange:
        if len(columns) != N_REGIONS:
            _refuse_other_atlas(path, values.shape, atlas)
        reason = f"{len(strange)} columns are no regions of {atlas.name}: {', '.join(strange[:4])}"
        raise SubjectError(path, reason, f"name the columns by {atlas.name}, or extract the series with it")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SubjectError(path, f"columns given twice: {', '.join(twice[:4])}", "keep one column per region")
    ordered = np.full((len(values), N_REGIONS), np.nan)
    ordered[:, [known[name] for name in names]] = values
    gone = [name for name in atlas.names if name not in set(names)]
    return ordered, (f"{len(gone)} regions not in the file: {', '.join(gone)}",) if gone else ()


def _region_of(cell: str) -> str:
    """A column's region: codes of AAL, as `#2001`, become names."""
    code = cell.removeprefix("#").strip()
    return AAL_REGIONS.get(int(code), cell) if code.isdigit() else cell
