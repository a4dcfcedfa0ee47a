"""The rules of the house for notebooks: each broken one is named with its cell."""

import json
import subprocess

import pytest
from tiny_notebooks import PARAMETERS, code, prose, write_cells

from study_lib.workflow.notebook_rules import problems

FILLING = [prose("Why."), code("x = 1")] * 9


def notebook(path, *extra, parameters=PARAMETERS):
    cells = [prose("# Title"), code(parameters, "parameters"), *FILLING, *extra]
    return write_cells(path / "03_x.ipynb", cells)


def test_a_good_notebook_has_no_problems(tmp_path):
    assert problems(notebook(tmp_path, code("%matplotlib inline\nprint(x)"))) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def load():\n    pass", "cell 20: `load` is logic"),
        ("if x:\n    class Model: ...", "cell 20: `Model` is logic"),
        ("exit()", "cell 20: exit() ends the run early"),
        ("import sys\nif x: sys.exit(0)", "cell 20: sys.exit() ends the run early"),
        ("!pip install x", "cell 20: no shell lines and no installing"),
        ("%pip install x", "cell 20: no shell lines and no installing"),
        ("x = = 1", "cell 20: invalid syntax"),
    ],
)
def test_code_that_does_not_belong_is_named_with_its_cell(tmp_path, source, message):
    assert [problem[: len(message)] for problem in problems(notebook(tmp_path, code(source)))] == [message]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("n: int | None = 3  # steps", "cell 1: expected `name: type = literal  # meaning`"),
        ("n: int = 3", "cell 1: expected `name: type = literal  # meaning`"),
        ("n: int = 3  # steps, n=3 by default", "cell 1: expected `name: type = literal  # meaning`"),
        ("n: int = a + b  # steps", "cell 1: "),
        ("\n".join(f"n{i}: int = {i}  # steps" for i in range(9)), "cell 1: expected at most 8 parameters"),
    ],
)
def test_a_parameters_cell_that_papermill_cannot_read_is_refused(tmp_path, parameters, message):
    found = problems(notebook(tmp_path, parameters=parameters))
    assert found
    assert found[0].startswith(message)


def test_the_number_of_cells_and_the_place_of_the_parameters_are_rules(tmp_path):
    short = write_cells(tmp_path / "03_x.ipynb", [code("x = 1"), prose("Why.")])
    assert [problem.split(";")[0] for problem in problems(short)] == [
        "expected 20 to 35 cells",
        "cell 0: expected markdown: title, question, learning goals",
        "expected the tag `parameters` on cell 1 alone",
    ]


def test_a_student_may_save_outputs_but_not_commit_them(tmp_path):
    """The tests of the checkout stay green while somebody works in a notebook."""
    path = notebook(tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", path.name], check=True)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["cells"][3] |= {"execution_count": 1, "outputs": [{"output_type": "stream", "text": "1"}]}
    content["metadata"]["papermill"] = {}
    path.write_text(json.dumps(content), encoding="utf-8")
    assert problems(path) == []
    subprocess.run([*git, "add", path.name], check=True)
    assert [problem.split("; ")[0] for problem in problems(path)] == [
        "committed with outputs or execution counts in cells [3]",
        "committed with papermill's metadata",
    ]
