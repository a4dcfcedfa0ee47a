"""What the house asks of a notebook: an argument in 20 to 35 cells, no logic, no outputs in git."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from study_lib.workflow.digest import cell_source
from study_lib.workflow.parameters import TYPES, ParameterError, declared_parameters

FEWEST_CELLS, MOST_CELLS, MOST_PARAMETERS = 20, 35, 8
STRIP = 'nbstripout --extra-keys "metadata.papermill cell.metadata.papermill"'


def problems(notebook: str | Path) -> list[str]:
    """Everything about a notebook that breaks a rule, each with its cell (counted from 0)."""
    path = Path(notebook)
    content = json.loads(path.read_text(encoding="utf-8"))
    return [
        *_shape(content["cells"]),
        *_parameters(content["cells"], path),
        *(problem for index, cell in enumerate(content["cells"]) for problem in _code(index, cell)),
        *_outputs(_committed(path) or content),
    ]


def _shape(cells: list[dict[str, Any]]) -> Iterator[str]:
    if not FEWEST_CELLS <= len(cells) <= MOST_CELLS:
        yield f"expected {FEWEST_CELLS} to {MOST_CELLS} cells; got {len(cells)}"
    if not cells or cells[0]["cell_type"] != "markdown":
        yield "cell 0: expected markdown: title, question, learning goals"


def _parameters(cells: list[dict[str, Any]], path: Path) -> Iterator[str]:
    tagged = [index for index, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", [])]
    if tagged != [1]:
        yield f"expected the tag `parameters` on cell 1 alone; got it on cells {tagged}"
        return
    source = cell_source(cells[1])
    lines = [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
    if len(lines) > MOST_PARAMETERS:
        yield f"cell 1: expected at most {MOST_PARAMETERS} parameters; got {len(lines)}"
    for line in lines:
        if not re.fullmatch(rf"\w+: ({'|'.join(TYPES)}) = [^=]+  # [^=]+", line):
            yield f"cell 1: expected `name: type = literal  # meaning`, all papermill reads; got `{line}`"
    try:
        declared = declared_parameters(path)
    except ParameterError as error:
        yield f"cell 1: {error}"
        return
    written = [line.split(":")[0].strip() for line in lines]
    if list(declared) != written:
        yield f"cell 1: papermill reads {list(declared)} where the cell has {written}"


def _code(index: int, cell: dict[str, Any]) -> Iterator[str]:
    """No logic, no installing, no quitting: an early exit() looks like success to the workflow."""
    if cell["cell_type"] != "code":
        return
    source = cell_source(cell)
    if re.search(r"^\s*[!%]\s*(pip|conda|uv)\b|^\s*!", source, flags=re.MULTILINE):
        yield f"cell {index}: no shell lines and no installing; dependencies belong into pyproject.toml"
        return
    try:
        tree = ast.parse(re.sub(r"^\s*%.*$", "", source, flags=re.MULTILINE))
    except SyntaxError as error:
        yield f"cell {index}: {error}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield f"cell {index}: `{node.name}` is logic; it belongs into a library"
        elif isinstance(node, ast.Call) and _dotted(node.func) in {"exit", "quit", "sys.exit", "os._exit"}:
            yield f"cell {index}: {_dotted(node.func)}() ends the run early, which looks like success"


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _outputs(content: dict[str, Any]) -> Iterator[str]:
    """Outputs, and the traces that a headless run leaves."""
    cells = content["cells"]
    counts = [cell.get("execution_count") for cell in cells]
    used = [i for i, cell in enumerate(cells) if cell.get("outputs") or counts[i] is not None]
    if used:
        yield f"committed with outputs or execution counts in cells {used}; strip them: {STRIP}"
    if "papermill" in content["metadata"] or any("papermill" in cell["metadata"] for cell in cells):
        yield f"committed with papermill's metadata; strip it: {STRIP}"


def _committed(path: Path) -> dict[str, Any] | None:
    """The notebook as git would commit it, or None where git does not know it.

    A student may run and save a notebook; only what is about to be shared must be clean.
    """
    command = ["git", "-C", str(path.parent), "show", f":./{path.name}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return json.loads(answer.stdout) if answer.returncode == 0 else None
