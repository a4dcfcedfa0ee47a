"""What running a notebook headless costs beside its cells: kernel start, and saving after each cell."""

import statistics
import tempfile
import time
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from study_lib.workflow.notebook import run_notebook

CELLS, REPEATS = 30, 3


def measure() -> dict[str, float]:
    """Median seconds for a notebook of one empty cell, and for each further cell."""
    with tempfile.TemporaryDirectory() as folder:
        _seconds(Path(folder), 1)  # the first run imports papermill
        short, long = (statistics.median(_seconds(Path(folder), n) for _ in range(REPEATS)) for n in (1, CELLS))
    return {"seconds_per_notebook": round(short, 3), "seconds_per_cell": round((long - short) / (CELLS - 1), 4)}


def _seconds(folder: Path, cells: int) -> float:
    notebook = new_notebook(cells=[new_code_cell("pass") for _ in range(cells)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "empty.ipynb")
    begin = time.monotonic()
    run_notebook(folder / "empty.ipynb", folder / "executed.ipynb")
    return time.monotonic() - begin
