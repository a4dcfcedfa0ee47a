"""Who may import whom, and what a notebook may hold."""

import ast

import pytest

from study_lib.provenance import REPOSITORY
from study_lib.workflow.digest import LIBRARIES
from study_lib.workflow.notebook_rules import problems
from study_lib.workflow.story import STORY

ALLOWED = {
    "study_lib": {"study_lib"},
    "gan_lib": {"gan_lib", "study_lib"},
    "cinp_lib": {"cinp_lib", "study_lib"},
}
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def imported_libraries(path):
    """Libraries of ours that a module imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names & set(LIBRARIES)


@pytest.mark.parametrize("library", LIBRARIES)
def test_imports_point_one_way(library):
    modules = sorted((REPOSITORY / library).rglob("*.py"))
    assert modules
    wrong = {
        str(path.relative_to(REPOSITORY)): extra
        for path in modules
        if (extra := imported_libraries(path) - ALLOWED[library])
    }
    assert wrong == {}


def test_no_module_is_a_drawer_for_odds_and_ends():
    names = {path.stem for library in LIBRARIES for path in (REPOSITORY / library).rglob("*.py")}
    assert not names & {"utils", "helpers", "misc", "common", "tools"}


def test_every_notebook_is_in_the_story_and_the_story_has_no_other():
    assert [path.stem for path in NOTEBOOKS] == [notebook.name for notebook in STORY.notebooks]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_keeps_the_rules_of_the_house(path):
    assert problems(path) == []
