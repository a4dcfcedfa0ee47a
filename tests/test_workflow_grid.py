"""Variants and seeds as jobs between notebooks: one failure leaves the others, and only what is missing is done."""

import json
import os
import subprocess
import sys

import pytest
from tiny_notebooks import COMMON, begin, write_notebook

from study_lib.workflow.grid import Grid, cards_given
from study_lib.workflow.pipeline import Request, plan
from study_lib.workflow.story import STORY as OURS

STORY = """
from pathlib import Path
from study_lib.workflow.grid import Grid
from study_lib.workflow.story import COHORT, Notebook, Story

GRID = Grid("tiny_variant --variant {variant} --seed {seed} --out 02_compare/runs", "runs/{variant}-{seed}.json",
            ("left", "right", "phantom"), ("phantom",), ("right",), ("factor",))
STORY = Story(
    Path(__file__).parent / "notebooks",
    (
        Notebook("01_first", "First", "Who?", (), {"smoke": 0.1}),
        Notebook("02_compare", "Compare", "Which?", (COHORT, "01_first"), {"smoke": 0.2}, grid=GRID),
    ),
)
"""
COMMAND = """
import argparse, json, os, pathlib
parser = argparse.ArgumentParser()
for name, kind in (("variant", str), ("seed", int), ("out", pathlib.Path), ("factor", float)):
    parser.add_argument(f"--{name}", type=kind, default=1.0)
given = parser.parse_args()
with open("done.txt", "a") as file:
    file.write(f"{given.variant}-{given.seed} on {os.environ['OMP_NUM_THREADS']}\\n")
if given.variant == os.environ.get("FAILING"):
    raise SystemExit(f"{given.variant} cannot be made")
result = {"value": given.factor * len(given.variant) + given.seed}
(given.out / f"{given.variant}-{given.seed}.json").write_text(json.dumps(result))
"""
COMPARED = """
import json
paths = sorted((run.folder / "runs").glob("*.json"))
values = {p.stem.replace("-", "_"): json.loads(p.read_text())["value"] for p in paths}
run.record(values, "phantom")
"""
MORE = '\nmanifest: str = ""  # a cohort\nn_seeds: int = 1  # of each variant\nfactor: float = 1.0  # of something'


class Project:
    """A story of a notebook and a comparison on disk, and `./run figures` on it."""

    def __init__(self, folder):
        self.folder, self.root = folder, folder / "out" / "smoke"
        (folder / "grid_story.py").write_text(STORY, encoding="utf-8")
        (folder / "tiny_variant.py").write_text(COMMAND, encoding="utf-8")
        (folder / "cohort.csv").write_text("subject\na\n", encoding="utf-8")
        first, second = (folder / "notebooks" / f"{name}.ipynb" for name in ("01_first", "02_compare"))
        write_notebook(first, begin("01_first"), "run.record({'one': 1}, 'phantom')", parameters=COMMON)
        write_notebook(second, begin("02_compare"), COMPARED, parameters=COMMON + MORE)

    def figures(self, *arguments, **variables):
        command = [sys.executable, "-P", "-m", "study_lib", "figures", "--profile", "smoke", "--cores", "2"]
        command += ["--story", "grid_story:STORY", "--manifest", "cohort.csv", "--output-root", "out", *arguments]
        environment = os.environ | {"PYTHONPATH": str(self.folder), "CUDA_VISIBLE_DEVICES": ""} | variables
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=900)
        return done.returncode, done.stdout + done.stderr

    def done(self):
        """Jobs since the last question, with the cores that each had."""
        path = self.root / "done.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return sorted(lines)

    def would_run(self, *arguments):
        code, text = self.figures("--dry-run", *arguments)
        assert code == 0, text
        lines = text.splitlines()
        return sorted(line.split()[1].rstrip(":") for line in lines if line.startswith("rule 0"))

    @property
    def metrics(self):
        path = self.root / "02_compare" / "metrics.json"
        return json.loads(path.read_text(encoding="utf-8"))["metrics"] if path.exists() else None


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """What four calls said, which jobs each ran, and the metrics after it."""
    project = Project(tmp_path_factory.mktemp("a grid"))
    told = {}
    for name, arguments, variables in (
        ("failing", (), {"FAILING": "left"}),
        ("mended", (), {}),
        ("more seeds", ("--seeds", "2"), {}),
        ("other option", ("--set", "02.factor=2"), {}),
    ):
        told[name] = (*project.figures(*arguments, **variables), project.done(), project.metrics)
    return project, told


@pytest.mark.slow
def test_a_job_that_fails_leaves_the_others_and_is_told_with_its_log(calls):
    project, told = calls
    code, text, jobs, metrics = told["failing"]
    assert code == 1
    assert jobs == ["left-0 on 1", "right-0 on 1"]
    assert "FAILED: 02_compare: left-0: left cannot be made" in text
    assert f"log:      {project.root / '02_compare' / 'runs' / 'left-0.log'}" in text
    assert "notebook:" not in text
    assert "Not finished" not in text or "02_compare" in text
    assert metrics is None


@pytest.mark.slow
def test_the_next_call_does_what_is_missing_alone(calls):
    code, text, jobs, metrics = calls[1]["mended"]
    assert (code, jobs) == (0, ["left-0 on 1"]), text
    assert metrics == {"left_0": 4.0, "right_0": 5.0}


@pytest.mark.slow
def test_more_seeds_are_more_jobs_and_nothing_else_is_done_again(calls):
    code, text, jobs, metrics = calls[1]["more seeds"]
    assert (code, jobs) == (0, ["left-1 on 1", "right-1 on 1"]), text
    assert metrics == {"left_0": 4.0, "left_1": 5.0, "right_0": 5.0, "right_1": 6.0}


@pytest.mark.slow
def test_another_option_redoes_the_jobs_that_take_it_and_the_notebook_that_compares_them(calls):
    code, text, jobs, metrics = calls[1]["other option"]
    assert (code, jobs) == (0, ["left-0 on 1", "right-0 on 1"]), text
    assert metrics["left_0"] == 8.0 and "Done: ran 02_compare." in text
    assert "01_first" not in text.split("The report grows")[1].split("Done")[0]


@pytest.mark.slow
def test_with_all_there_nothing_is_done_and_a_deleted_result_is_made_again(calls):
    project, _ = calls
    again = ("--set", "02.factor=2")
    assert project.would_run(*again) == []
    (project.root / "02_compare" / "runs" / "right-0.json").unlink()
    assert project.would_run(*again) == ["02_compare", "02_compare_longest"]


def test_variants_that_need_the_phantom_are_left_out_for_a_manifest():
    grid = Grid("m --variant {variant} --seed {seed}", "{variant}-{seed}.json", ("a", "b"), phantom_only=("b",))
    assert grid.results({}) == ["a-0.json", "b-0.json"]
    assert grid.results({"manifest": "own.csv", "seed": 3, "n_seeds": 2}) == ["a-3.json", "a-4.json"]


def test_what_takes_longest_begins_first():
    grid = Grid("m {variant} {seed}", "{variant}-{seed}", ("a", "b", "c"), longest=("b",))
    assert list(grid.groups().items()) == [("longest", ("b",)), ("variant", ("a", "c"))]
    assert Grid("m {variant} {seed}", "{variant}-{seed}", ("a",)).groups() == {"variant": ("a",)}


def test_several_graphics_cards_get_a_process_each(monkeypatch):
    grid = Grid("m.n --variant {variant} --seed {seed}", "{variant}-{seed}.json", ("a",), options=("to_do",))
    words, tail = {"variant": "a", "seed": 3, "profile": "smoke"}, ["m.n", "--variant", "a", "--seed", "3"]
    assert grid.command_line(words, {}) == grid.command_line(words, {}, 1) == [sys.executable, "-P", "-m", *tail]
    several = grid.command_line(words, {"to_do": 0.5}, 4)
    assert several[3:] == ["torch.distributed.run", "--standalone", "--nproc-per-node=4", "-m", *tail, "--to-do", "0.5"]
    assert grid.own_options({"to_do": 1, "other": 2}) == {"to_do": 1}
    for named, expected in (("", 0), ("-1", 0), ("2", 1), ("0,1,3", 3), ("GPU-a,GPU-b", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert cards_given() == expected


def test_a_command_or_a_result_that_would_be_the_same_for_all_jobs_is_refused():
    with pytest.raises(ValueError, match=r"expected \{seed\} in 'm --variant \{variant\}'"):
        Grid("m --variant {variant}", "{variant}-{seed}.json", ("a",))
    with pytest.raises(ValueError, match=r"expected \{variant\} and \{seed\} in 'result.json'"):
        Grid("m {variant} {seed}", "result.json", ("a",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "--seeds: expected 1 or more; got 0"),
        ({"seeds": 2, "settings": ("10.n_seeds=3",)}, "parameter 'n_seeds' is set twice"),
    ],
)
def test_seeds_without_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(Request(profile="smoke", **changes))


def test_seeds_are_a_setting_of_the_notebooks_that_compare_variants():
    assert plan(Request(profile="smoke", seeds=3)).settings == {"10_loss_ablation": {"n_seeds": 3}}
    assert plan(Request(profile="smoke", seeds=3, until="07")).settings == {}


def test_our_grid_names_the_variants_that_the_library_has_and_options_that_its_command_knows():
    from cinp_lib import ablate_command
    from cinp_lib.ablations import VARIANTS

    grid = OURS.numbered("10").grid
    assert set(grid.variants) == set(VARIANTS)
    assert set(grid.phantom_only) == {name for name, own in VARIANTS.items() if own.pairs == "uncoupled"}
    words = {"variant": "inc", "seed": 1, "profile": "smoke"}
    line = grid.command_line(words, dict.fromkeys(grid.options, 0))
    options = {name for parameter in _parameters(ablate_command.app) for name in parameter.opts}
    assert {word for word in line if word.startswith("--")} <= options
    assert grid.result.format(**words) == "variants/inc-1.json"


def _parameters(app):
    import typer

    return typer.main.get_command(app).params
