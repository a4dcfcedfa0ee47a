"""Figures and tables as files: the same bytes whenever the numbers are the same."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study_lib.files import atomic_path, atomic_write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

# Without these matplotlib writes its version and the time of day.
NO_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
DPI = 150


def check_name(name: str) -> str:
    """Exhibit names become file names, links and LaTeX labels: lower case, digits and underscores."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise ValueError(f"exhibit name: expected lower case letters, digits and underscores; got {name!r}")
    return name


def write_figure(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """Write `figure` as PNG (150 dpi) and PDF."""
    written = []
    for suffix, metadata in NO_METADATA.items():
        path = folder / f"{check_name(name)}{suffix}"
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=DPI, bbox_inches="tight", metadata=metadata)
        written.append(path)
    return written


def write_table(table: "DataFrame", folder: Path, name: str, caption: str) -> list[Path]:
    """Write `table` as CSV with every digit, and as LaTeX (booktabs) with four; a named index is a column."""
    plain = table if table.index.names == [None] else table.reset_index()
    comma, latex = (folder / f"{check_name(name)}{suffix}" for suffix in (".csv", ".tex"))
    atomic_write_text(comma, plain.to_csv(index=False, lineterminator="\n"))
    text = plain.to_latex(
        index=False, escape=True, caption=_latex(caption), label=f"tab:{name}", float_format="%.4g", na_rep=""
    )
    atomic_write_text(latex, text)
    return [comma, latex]


def _latex(caption: str) -> str:
    """pandas escapes cells and column names, but not the caption."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in caption)
