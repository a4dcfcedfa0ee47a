"""JupyterLab as people use it: a real server, a real browser, a notebook opened and all its cells run.

Another notebook joins by one line in `OPENED`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from waiting import free_port, wait_for

from study_lib.provenance import REPOSITORY
from study_lib.slice_viewer import BATCH

pytestmark = pytest.mark.slow

# Notebook, up to which cell it is run (None: all); figures, progress bars and sliders that must be there.
OPENED = [("01_data_curation", None, 5, 1, 1)]
TOKEN = "of-this-test"
CELLS = "window.jupyterapp.shell.currentWidget.content.widgets"
OUTPUTS = (
    f"{CELLS}.filter(cell => cell.model.type === 'code').map(cell => cell.model.sharedModel.getOutputs())"
    ".map(outputs => outputs.map(output => [output.output_type, Object.keys(output.data ?? {}), output.evalue ?? '']))"
)


def copied(name: str, folder: Path, manifest: Path) -> Path:
    """The notebook as a student would set it: a small cohort, outputs elsewhere. The original is never opened."""
    content = json.loads((REPOSITORY / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    (cell,) = [cell for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    cell["source"] = "".join(cell["source"]) + f"\nmanifest = {str(manifest)!r}\noutput_root = {str(folder / 'out')!r}"
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory, phantom):
    """What `./run lab` starts, on copies of the notebooks and with settings of its own."""
    folder = tmp_path_factory.mktemp("lab")
    for name, *_ in OPENED:
        copied(name, folder, phantom)
    port = free_port()
    command = [sys.executable, "-m", "jupyter", "lab", "--notebook-dir", str(folder / "notebooks"), "--no-browser"]
    command += [f"--port={port}", f"--IdentityProvider.token={TOKEN}", "--LabApp.expose_app_in_browser=True"]
    command += ["--allow-root", "--LabApp.extension_manager=readonly"]
    own = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    environment = {name: value for name, value in os.environ.items() if name not in (BATCH, "JPY_SESSION_NAME")} | own
    environment |= {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1"}
    with open(folder / "server.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    wait_for(lambda: answers(f"{address}/api?token={TOKEN}"), 120, "JupyterLab does not answer")
    yield address
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()


def answers(url: str) -> bool:
    try:
        return urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def run_cells(browser, until):
    """Run as the menu does; a promise that outlives the call says how it went."""
    if until is not None:
        browser.evaluate(f"window.jupyterapp.shell.currentWidget.content.activeCellIndex = {until}")
    command = "notebook:run-all-cells" if until is None else "notebook:run-all-above"
    browser.evaluate(
        "window.ended = null; window.jupyterapp.commands.execute('" + command + "')"
        ".then(() => { window.ended = 'done' }, error => { window.ended = String(error) }); 0"
    )
    browser.wait("window.ended", 900)


@pytest.mark.parametrize(("name", "until", "figures", "bars", "sliders"), OPENED, ids=[name for name, *_ in OPENED])
def test_all_cells_run_and_show_figures_and_a_progress_bar(lab, browser, tmp_path, name, until, figures, bars, sliders):
    browser.look(1280)
    browser.open(f"{lab}/lab/tree/{name}.ipynb?token={TOKEN}")
    browser.wait("window.jupyterapp?.shell.currentWidget?.context?.isReady", 120)
    session = "window.jupyterapp.shell.currentWidget.sessionContext"
    browser.wait(f"{session}.session?.kernel?.status === 'idle'", 120)
    asked = "{code: '', user_expressions: {prefix: '__import__(\"sys\").prefix'}}"
    reply = browser.evaluate(f"{session}.session.kernel.requestExecute({asked}).done.then(reply => reply.content)")
    assert reply["user_expressions"]["prefix"]["data"]["text/plain"] == repr(sys.prefix), "another environment's kernel"
    run_cells(browser, until)
    outputs = [output for cell in browser.evaluate(OUTPUTS) for output in cell]
    assert [text for kind, _, text in outputs if kind == "error"] == []
    kinds = [kind for _, kinds, _ in outputs for kind in kinds]
    assert kinds.count("image/png") >= figures
    assert kinds.count("application/vnd.jupyter.widget-view+json") >= bars
    for what, least in (
        (".jp-RenderedImage img", figures),
        ("[class*=hprogress]", bars),
        ("[class*=hslider]", sliders),
    ):
        assert seen(browser, what) >= least, what
    browser.screenshot(tmp_path / f"{name}.png")


def seen(browser, selector: str) -> int:
    """Elements met while scrolling through the notebook, which keeps only what is near in the page."""
    content, found = "window.jupyterapp.shell.currentWidget.content", 0
    for place in range(browser.evaluate(f"{CELLS}.length")):
        browser.evaluate(f"{content}.scrollToItem({place}, 'start')")
        shown = f"{CELLS}[{place}].node.querySelectorAll({selector!r})"
        found += browser.evaluate(f"[...{shown}].filter(e => e.getBoundingClientRect().width > 0).length")
    return found
