"""Running a notebook headless: real kernels, and an honest account of how each ended."""

import json
import os
import re
from pathlib import Path

import pytest
from tiny_notebooks import write_notebook

from study_lib.workflow.notebook import NotebookFailure, notebook_html, run_notebook
from study_lib.workflow.parameters import ParameterError


def outputs(executed: Path) -> str:
    """Everything the cells of an executed notebook printed."""
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    return "".join("".join(out.get("text", "")) for cell in cells for out in cell.get("outputs", []))


def test_a_run_keeps_the_executed_notebook_and_a_text_log_and_leaves_the_source_alone(tmp_path):
    cell = "import os\nprint(profile, seed, os.path.basename(os.getcwd()), os.environ['TQDM_MININTERVAL'])"
    notebook = write_notebook(tmp_path / "note books {1}" / "01_x.ipynb", cell)
    source = notebook.read_bytes()
    executed = tmp_path / "out" / "01_x.ipynb"
    run_notebook(notebook, executed, {"seed": 7})
    assert outputs(executed) == "smoke 7 note books {1} 30\n"
    assert "smoke 7 note books {1} 30" in executed.with_suffix(".log").read_text(encoding="utf-8")
    assert notebook.read_bytes() == source
    assert "TQDM_MININTERVAL" not in os.environ


@pytest.mark.parametrize(
    ("cell", "timeout", "exit_code", "message"),
    [
        ("1 / 0", None, 1, "cell In [4] raised ZeroDivisionError: division by zero"),
        ("import os\nos.kill(os.getpid(), 9)", None, 138, "the kernel died"),
        ("import time\ntime.sleep(60)", 2, 124, "a cell took longer than 2 s"),
    ],
    ids=["error", "killed", "stuck"],
)
def test_each_way_of_failing_has_its_exit_code_and_keeps_notebook_and_log(tmp_path, cell, timeout, exit_code, message):
    notebook = write_notebook(tmp_path / "01_x.ipynb", "print('before')", cell, "print('after')")
    executed, log = tmp_path / "out" / "01_x.ipynb", tmp_path / "out" / "x.log"
    with pytest.raises(NotebookFailure) as caught:
        run_notebook(notebook, executed, {"seed": 1}, log, timeout)
    assert caught.value.exit_code == exit_code
    assert str(caught.value).startswith(message)
    assert message in log.read_text(encoding="utf-8")
    assert "before" in outputs(executed)
    assert "after" not in outputs(executed)


def test_quitting_early_is_no_success(tmp_path):
    """papermill itself calls `exit()` a success; here the product tells, even when an older one lies there."""
    product = tmp_path / "metrics.json"
    product.write_text("{}", encoding="utf-8")
    notebook = write_notebook(tmp_path / "01_x.ipynb", "exit()")
    with pytest.raises(NotebookFailure, match=r"ended without writing .*metrics\.json: .* no cell may call exit"):
        run_notebook(notebook, tmp_path / "out.ipynb", products=[product])


def test_a_mistaken_parameter_is_refused_before_anything_is_written(tmp_path):
    notebook = write_notebook(tmp_path / "01_x.ipynb", "print(seed)")
    with pytest.raises(ParameterError, match=r"unknown parameter 'sed' \(did you mean 'seed'"):
        run_notebook(notebook, tmp_path / "out" / "01_x.ipynb", {"sed": 1})
    assert not (tmp_path / "out").exists()


def test_a_missing_notebook_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a file at .*09_none\.ipynb"):
        run_notebook(tmp_path / "09_none.ipynb", tmp_path / "out.ipynb")


def test_the_page_of_an_executed_notebook_asks_nothing_of_the_network(tmp_path):
    notebook = write_notebook(tmp_path / "01_x.ipynb", "print('text <here>')")
    page = notebook_html(notebook)
    assert "Title" in page
    assert re.findall(r"""(?:src=|<link[^>]*href=|url\(|import)\s*["']?(?:https?:)?//[^"')\s]+""", page) == []
