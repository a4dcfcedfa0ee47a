"""What a notebook's results depend on, as short digests: its own code, and the library code it imports.

The workflow redoes a notebook when one of its digests changes. Outputs, execution counts, cell ids and
prose are left out, so that running, saving and annotating a notebook costs nobody a training run.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from study_lib.provenance import REPOSITORY

LIBRARIES = ("study_lib", "gan_lib", "cinp_lib")


def source_digest(notebook: str | Path) -> str:
    """Digest of the code cells' source and tags, in order."""
    code = [[cell_source(cell), sorted(cell["metadata"].get("tags", []))] for cell in code_cells(notebook)]
    return _digest(json.dumps(code))


def library_digest(notebook: str | Path, root: str | Path = REPOSITORY) -> str:
    """Digest of every module of our libraries that the notebook imports, directly or through others.

    Comments and layout do not count. Modules only named by a string (`torchrun -m gan_lib.train`) do.
    """
    return modules_digest(
        set().union(*(_imports(_parsed(cell_source(cell)), "") for cell in code_cells(notebook))), root
    )


def modules_digest(names: Iterable[str], root: str | Path = REPOSITORY) -> str:
    """The same of these modules, by their dotted names, and all that they import."""
    root, waiting = Path(root), set(names)
    modules: dict[str, Path] = {}
    while waiting:
        for module, path in _module_files(waiting.pop(), root):
            if module not in modules:
                modules[module] = path
                waiting |= _imports_of(path, module)
    return _digest("".join(f"{module}:{_meaning(path)}\n" for module, path in sorted(modules.items())))


def code_cells(notebook: str | Path) -> list[dict]:
    """The code cells of a notebook file, as its JSON has them."""
    content = json.loads(Path(notebook).read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def cell_source(cell: dict) -> str:
    """A cell's text; the file format allows one string or a list of lines."""
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _parsed(source: str) -> ast.Module:
    """The syntax tree of a cell, less the lines that only IPython reads; empty where it has mistakes."""
    lines = ["" if line.lstrip().startswith(("%", "!", "?")) else line for line in source.splitlines()]
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:  # running the notebook shows it, with the line
        return ast.Module(body=[], type_ignores=[])


def _imports(tree: ast.Module, package: str) -> set[str]:
    """Dotted names that the code imports, or spells as a string, from our libraries."""
    names = {name for node in ast.walk(tree) for name in _names(node, package)}
    return {name for name in names if name.split(".")[0] in LIBRARIES}


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*parents, *([node.module] if node.module else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
        yield node.value


def _module_files(name: str, root: Path) -> Iterator[tuple[str, Path]]:
    """The files that importing `name` runs: each package's `__init__` on the way, and the module itself."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        module = ".".join(parts[:length])
        place = root.joinpath(*parts[:length])
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                yield module, path


def _tree(path: Path) -> ast.Module:
    return _tree_as_of(path, path.stat().st_mtime_ns)


@cache
def _tree_as_of(path: Path, modified: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imports_of(path: Path, module: str) -> set[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return _imports(_tree(path), package)


def _meaning(path: Path) -> str:
    return _digest(ast.dump(_tree(path)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
