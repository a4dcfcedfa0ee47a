"""Small real notebooks and a short story, for the tests of what runs them."""

import json
from pathlib import Path
from typing import Any

PARAMETERS = 'profile: str = "smoke"  # size of the run\nseed: int = 0  # of all randomness'
COMMON = PARAMETERS + '\noutput_root: str = ""  # where outputs go'
MANIFEST = '\nmanifest: str = ""  # a cohort of your own'
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def code(source: str, *tags: str) -> dict[str, Any]:
    """A code cell that was never run."""
    return {
        "cell_type": "code",
        "id": "",
        "metadata": {"tags": list(tags)} if tags else {},
        "source": source,
        "execution_count": None,
        "outputs": [],
    }


def prose(source: str) -> dict[str, Any]:
    """A markdown cell."""
    return {"cell_type": "markdown", "id": "", "metadata": {}, "source": source}


def write_notebook(path: Path, *sources: str, parameters: str = PARAMETERS) -> Path:
    """A notebook of a title, a parameters cell and code cells."""
    cells = [prose("# Title"), code(parameters, "parameters"), *(code(source) for source in sources)]
    return write_cells(path, cells)


def write_cells(path: Path, cells: list[dict[str, Any]]) -> Path:
    """A notebook of these cells; their ids are their places."""
    cells = [cell | {"id": f"cell-{place}"} for place, cell in enumerate(cells)]
    content = {"cells": cells, "metadata": {"kernelspec": KERNEL}, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def begin(name: str, manifest: str = "''") -> str:
    """A cell that starts the notebook's run; `manifest` is an expression."""
    given = f"{name!r}, profile, seed, output_root, {{'manifest': {manifest}}}"
    return f"from study_lib.run import start\nrun = start({given})"


def write_curation(folder: Path) -> Path:
    """A first notebook that counts the rows of its manifest, and the manifest."""
    (folder / "cohort.csv").write_text("subject\na\nb\n", encoding="utf-8")
    count = "lines = len(run.manifest.read_text().splitlines())"
    cells = begin("01_first", "manifest"), count, "run.record({'subjects': lines - 1}, 'phantom')"
    return write_notebook(folder / "note books" / "01_first.ipynb", *cells, parameters=COMMON + MANIFEST)
