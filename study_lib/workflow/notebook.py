"""Run one notebook headless: strict about its parameters, honest about how it ended."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study_lib.workflow.digest import source_digest
from study_lib.workflow.parameters import checked_parameters, declared_parameters, papermill_path

__all__ = ["NotebookFailure", "run_notebook", "source_digest"]

CELL_FAILED, TIMED_OUT, KERNEL_DIED = 1, 124, 138  # 1 and 138 are papermill's, 124 is timeout(1)'s
CALL_AGAIN = 75  # that of `study_lib.training.interruption`, whose package takes seconds to import
WIDGET = "application/vnd.jupyter.widget-view+json"
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class NotebookFailure(RuntimeError):
    """A notebook that did not end well; `exit_code` says how."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_notebook(
    notebook: str | Path,
    output: str | Path,
    parameters: dict[str, Any] | None = None,
    log: str | Path | None = None,
    timeout: int | None = None,
    products: Sequence[str | Path] = (),
) -> None:
    """Execute `notebook` into `output`, in the notebook's folder; both it and `log` are kept however it ends.

    `timeout` is in seconds and per cell. `products` are files that this run must write: a kernel that quits
    early looks like success to everybody else.
    """
    notebook, output = Path(notebook).resolve(), Path(output).resolve()
    if not notebook.is_file():
        raise FileNotFoundError(f"notebook: expected a file at {notebook}")
    checked = checked_parameters(declared_parameters(notebook), parameters or {}, str(notebook))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)  # whatever is there afterwards is of this run
    before = [_signature(path) for path in products]
    with _logging_to(Path(log) if log else output.with_suffix(".log")) as logger, _batch_environment():
        try:
            _execute(notebook, output, checked, timeout)
            _check_products(products, before)
        except NotebookFailure as failure:
            logger.error("%s", failure)
            raise


def _execute(notebook: Path, output: Path, parameters: dict[str, Any], timeout: int | None) -> None:
    """papermill, with its ways of failing told apart."""
    import papermill  # takes seconds, and a mistaken parameter should not wait for it
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from traitlets.config import Config

    try:
        papermill.execute_notebook(
            papermill_path(notebook),
            papermill_path(output),
            parameters,
            progress_bar=False,
            log_output=True,
            cwd=notebook.parent,
            execution_timeout=timeout,
            start_timeout=180,
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        )
    except papermill.PapermillExecutionError as error:
        code = CALL_AGAIN if error.ename == "CallAgain" else CELL_FAILED
        raise NotebookFailure(_cell_error(error), code) from error
    except CellTimeoutError as error:
        raise NotebookFailure(f"a cell took longer than {timeout} s: {error}", TIMED_OUT) from error
    except DeadKernelError as error:
        raise NotebookFailure(
            "the kernel died: killed from outside, or by the system for want of memory", KERNEL_DIED
        ) from error


def _cell_error(error: Any) -> str:
    """What went wrong where; the traceback without its colours."""
    traceback = ANSI_COLOUR.sub("", "\n".join(error.traceback))
    return f"cell In [{error.exec_count}] raised {error.ename}: {error.evalue}\n{traceback}"


def _check_products(products: Sequence[str | Path], before: list[tuple[int, int] | None]) -> None:
    pairs = zip(products, before, strict=True)
    unwritten = [str(path) for path, old in pairs if _signature(path) in (None, old)]
    if unwritten:
        raise NotebookFailure(
            f"ended without writing {', '.join(unwritten)}: "
            "the last cell must call run.record, and no cell may call exit()",
            CELL_FAILED,
        )


def _signature(path: str | Path) -> tuple[int, int] | None:
    """Tells one writing of a file from another."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextmanager
def _logging_to(log: Path) -> Iterator[logging.Logger]:
    """Let papermill write what cells print, and how they end, into a new text file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("papermill")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield logger
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def _batch_environment() -> Iterator[None]:
    """The kernel inherits these: few progress lines, no debugger warning at its start, nothing to turn by hand."""
    batch = {"TQDM_MININTERVAL": "30", "PYDEVD_DISABLE_FILE_VALIDATION": "1", "STUDY_BATCH": "1"}
    before = {name: os.environ.get(name) for name in batch}
    os.environ.update(batch)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def notebook_html(executed: str | Path) -> str:
    """An executed notebook as one web page that asks nothing of the network.

    Progress bars are left out: they are widgets, whose code a page would fetch, and show nothing after the run.
    """
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    page, _ = HTMLExporter(mathjax_url="", require_js_url="").from_notebook_node(
        notebook, resources={"metadata": {"name": Path(executed).stem}}
    )
    return page
