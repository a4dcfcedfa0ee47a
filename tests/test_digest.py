"""What redoes a notebook and what does not, as its two digests have it."""

import json

import pytest
from tiny_notebooks import code, prose, write_cells, write_notebook

from study_lib.provenance import REPOSITORY
from study_lib.workflow.digest import library_digest, source_digest


@pytest.fixture
def notebook(tmp_path):
    return write_notebook(tmp_path / "03_x.ipynb", "x = 1", "print(x)")


def edited(notebook, edit):
    content = json.loads(notebook.read_text(encoding="utf-8"))
    edit(content)
    notebook.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return source_digest(notebook)


def run_and_save(content):
    for number, cell in enumerate(content["cells"][1:], start=1):
        cell["execution_count"] = number
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]
        cell["id"] = f"new-{number}"
        cell["source"] = cell["source"].splitlines(keepends=True)
        cell["metadata"]["collapsed"] = True
    content["metadata"]["language_info"] = {"name": "python", "version": "3.12"}


def annotate(content):
    content["cells"][0]["source"] = "# Title\nMy notes."
    content["cells"].append(prose("More notes."))


@pytest.mark.parametrize("edit", [run_and_save, annotate])
def test_running_saving_and_annotating_change_nothing(notebook, edit):
    before = source_digest(notebook)
    assert edited(notebook, edit) == before


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content["cells"][2].update(source="x = 2"),
        lambda content: content["cells"][1].update(source='profile: str = "demo"  # size of the run'),
        lambda content: content["cells"][1].update(metadata={}),
        lambda content: content["cells"].pop(),
        lambda content: content["cells"].append(code("x = 3")),
        lambda content: content["cells"].reverse(),
    ],
    ids=["source", "default", "tag", "removed", "added", "order"],
)
def test_a_changed_code_cell_changes_the_digest(notebook, edit):
    before = source_digest(notebook)
    assert edited(notebook, edit) != before


@pytest.fixture
def libraries(tmp_path):
    """Two libraries of ours: `volume` imports `shapes`, `train` imports `losses`; `report` stands alone."""
    files = {
        "study_lib/__init__.py": "",
        "study_lib/volume.py": "from study_lib import shapes\n\n\ndef load():\n    return shapes.AXES\n",
        "study_lib/shapes.py": "AXES = 3\n",
        "study_lib/report.py": "PAGE = 1\n",
        "gan_lib/__init__.py": "",
        "gan_lib/train/__init__.py": "from .fit import fit\n",
        "gan_lib/train/fit.py": "from ..losses import loss\n\n\ndef fit():\n    return loss\n",
        "gan_lib/losses.py": "loss = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("cell", "changes"),
    [
        ("from study_lib.volume import load", {"study_lib", "study_lib.volume", "study_lib.shapes"}),
        (
            "from gan_lib.train import fit",
            {"gan_lib", "gan_lib.train", "gan_lib.train.fit", "gan_lib.losses"},
        ),
        ("import study_lib.report as page", {"study_lib", "study_lib.report"}),
        ("command = ['torchrun', '-m', 'gan_lib.losses']", {"gan_lib", "gan_lib.losses"}),
        ("%matplotlib inline\nimport numpy", set()),
        ("this is no Python", set()),
    ],
)
def test_exactly_the_modules_that_are_imported_count(tmp_path, libraries, cell, changes):
    notebook = write_cells(tmp_path / "03_x.ipynb", [code(cell)])
    before, changed = library_digest(notebook, libraries), set()
    for path in sorted(libraries.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        path.write_text(text + "\nADDED = 1\n", encoding="utf-8")
        if library_digest(notebook, libraries) != before:
            parts = path.relative_to(libraries).with_suffix("").parts
            changed.add(".".join(part for part in parts if part != "__init__"))
        path.write_text(text, encoding="utf-8")
    assert changed == changes
    assert library_digest(notebook, libraries) == before


def test_a_comment_in_a_library_redoes_nothing(tmp_path, libraries):
    notebook = write_cells(tmp_path / "03_x.ipynb", [code("import study_lib.shapes")])
    before = library_digest(notebook, libraries)
    (libraries / "study_lib/shapes.py").write_text("# three of them\nAXES  =  3\n", encoding="utf-8")
    assert library_digest(notebook, libraries) == before


def test_telling_another_story_or_another_report_redoes_no_notebook(tmp_path, monkeypatch):
    """`study_lib.run`, which every notebook imports, must not reach the modules that name all notebooks."""
    import study_lib.workflow.digest as digest

    notebook = write_cells(tmp_path / "03_x.ipynb", [code("from study_lib.run import start")])
    read = []
    tree = digest._tree
    monkeypatch.setattr(digest, "_tree", lambda path: read.append(path.stem) or tree(path))
    library_digest(notebook, REPOSITORY)
    assert {"run", "files", "exhibits"} <= set(read)
    assert not {"story", "report", "report_page", "pipeline", "notebook"} & set(read)
