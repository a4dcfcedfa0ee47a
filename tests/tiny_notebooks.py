"""Small real notebooks and a short story, for the tests of what runs them."""

import json
from pathlib import Path
from typing import Any

PARAMETERS = 'profile: str = "smoke"  # size of the run\nseed: int = 0  # of all randomness'
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
