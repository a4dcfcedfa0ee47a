"""The report in a real browser: nothing is missing, nothing is asked of the network, nothing sticks out."""

import matplotlib.figure
import nbformat
import numpy as np
import pandas as pd
import pytest
from nilearn.plotting import view_connectome
from waiting import wait_for

from study_lib.run import start
from study_lib.workflow.notebook import notebook_html, run_notebook
from study_lib.workflow.report import build_report
from study_lib.workflow.story import STORY

PHONE, WIDE = 375, 1280
LINKS = "[...document.querySelectorAll('a[href]')].map(link => link.getAttribute('href'))"
CONTRAST = """
[...document.querySelectorAll('main p, main td, main th, main a, main h2, nav a, nav span, dt, dd, li, figcaption')]
.filter(e => e.innerText.trim()).map(e => {
  const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126*r + 0.7152*g + 0.0722*b; };
  let behind = e; while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
  const [a, b] = [light(getComputedStyle(e).color), light(getComputedStyle(behind).backgroundColor)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }).reduce((a, b) => Math.min(a, b))
"""
PROGRESS = "from tqdm.notebook import tqdm\nfor _ in tqdm(range(3)): pass\nprint('after the bar')"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two notebooks of our story, with a wide table, a figure, a viewer and an executed notebook that has a widget."""
    root = tmp_path_factory.mktemp("out puts")
    run = start("01_data_curation", "smoke", 0, root)
    run.save_table(pd.DataFrame(np.zeros((60, 14)), columns=[f"a_long_column_{i}" for i in range(14)]), "table_one")
    run.record({"subjects": 60, "excluded": 2}, cohort="phantom")
    run = start("06_site_classification", "smoke", 0, root)
    figure = matplotlib.figure.Figure(figsize=(12, 3))
    figure.subplots().plot([0, 1])
    run.save_figure(figure, "pairs", "Accuracy.")
    view_connectome(np.ones((3, 3)), np.eye(3)).save_as_html(str(run.folder / "connectome.html"))
    run.record({"accuracy_before": 61.25, "accuracy_before_adni_gmc": 70.0}, cohort="phantom")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PROGRESS)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, root / "source.ipynb")
    run_notebook(root / "source.ipynb", run.folder / f"{run.notebook}.ipynb")
    page = root / "smoke" / "report" / run.notebook / f"{run.notebook}.html"
    page.parent.mkdir(parents=True)
    page.write_text(notebook_html(run.folder / f"{run.notebook}.ipynb"), encoding="utf-8")
    return root / "smoke"


@pytest.fixture(scope="module")
def page(root):
    return build_report(STORY, root)


@pytest.fixture(params=[(WIDE, False), (WIDE, True), (PHONE, False), (PHONE, True)], ids=str)
def opened(request, browser, page):
    width, dark = request.param
    browser.look(width, dark=dark)
    browser.open(page.as_uri())
    return browser


def asked(browser):
    browser.evaluate("0")  # events come with answers
    return browser.requests


def outside(browser):
    return [place for place in asked(browser) if not place.startswith(("file:", "data:", "blob:", "about:"))]


def test_it_opens_without_complaint_and_asks_nothing_of_the_network(opened):
    assert (opened.problems, outside(opened)) == ([], [])
    assert len(opened.requests) <= 3, "the page stands alone"


def test_every_picture_is_shown_in_its_shape(opened):
    sizes = opened.evaluate(
        "[...document.images].map(i => "
        "[i.complete, i.naturalWidth, i.clientWidth / i.clientHeight - i.naturalWidth / i.naturalHeight])"
    )
    assert sizes
    assert all(complete and width > 0 and abs(skew) < 0.05 for complete, width, skew in sizes)


def test_nothing_sticks_out_sideways(opened):
    assert opened.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert opened.evaluate("[...document.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth)")


def test_text_stands_out_from_what_is_behind_it(opened):
    assert opened.evaluate(CONTRAST) >= 4.5, "WCAG AA"


def test_dark_is_dark_and_light_is_light(browser, page):
    for dark in (False, True):
        browser.look(WIDE, dark=dark)
        browser.open(page.as_uri())
        behind = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, behind[4:-1].split(","))) < 300) == dark


def test_every_link_leads_to_something_that_opens(browser, page):
    browser.open(page.as_uri())
    places = browser.evaluate(LINKS)
    assert {"06_site_classification/06_site_classification.html", "06_site_classification/connectome.html"} <= set(
        places
    )
    for place in sorted({place for place in places if not place.startswith("#")}):
        assert (page.parent / place).is_file()
    for place in (place for place in places if place.startswith("#")):
        assert browser.evaluate(f"document.getElementById({place[1:]!r}) !== null"), place


def test_the_executed_notebook_opens_offline_and_without_its_progress_bars(browser, page):
    browser.open((page.parent / "06_site_classification" / "06_site_classification.html").as_uri())
    browser.wait("document.body.innerText.includes('after the bar')")
    assert (browser.problems, outside(browser)) == ([], [])
    assert "HBox" not in browser.evaluate("document.body.innerText")


def test_a_viewer_comes_to_life_when_it_is_opened(browser, page):
    browser.open(page.as_uri())
    frame = "document.querySelector('iframe')"
    assert not browser.evaluate(f"{frame}.checkVisibility()")
    browser.evaluate("document.querySelector('iframe').closest('details').open = true")
    browser.evaluate(f"{frame}.scrollIntoView()")
    browser.wait(f"{frame}.clientHeight > 200")
    wait_for(lambda: any("connectome" in place for place in asked(browser)), 30, "the viewer is not fetched")
    browser.open((page.parent / "06_site_classification" / "connectome.html").as_uri())
    browser.wait("document.querySelector('iframe').contentDocument.querySelector('.js-plotly-plot')", 120)
    assert browser.evaluate("[document.title, document.querySelector('iframe').title]") == ["Connectome"] * 2
    assert (browser.problems, outside(browser)) == ([], [])


def test_the_keyboard_reaches_the_exhibits_in_two_steps_and_every_stop_can_be_seen(browser, page):
    browser.look(WIDE)
    browser.open(page.as_uri())
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.innerText") == "Skip to the exhibits"
    browser.press("Enter")
    browser.wait("location.hash === '#exhibits' && document.activeElement.id === 'exhibits'")
    seen = []
    for _ in range(6):
        browser.press("Tab")
        seen.append(browser.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
        assert browser.evaluate("document.querySelector('main').contains(document.activeElement)")
    assert set(seen) == {"solid"}


def test_a_screen_reader_hears_landmarks_names_and_pictures(browser, page):
    browser.open(page.as_uri())
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    roles = [role for role, _ in told]
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert roles.count(landmark) == 1
    nameless = [role for role, name in told if role in ("link", "image", "region", "heading", "Iframe") and not name]
    assert nameless == []


def test_the_paper_s_numbers_stand_beside_ours_each_under_its_name(browser, page):
    browser.open(page.as_uri())
    text = browser.evaluate(
        "[...document.querySelectorAll('section section')]"
        ".find(s => s.querySelector('h3')?.innerText === 'Protocol classification').querySelector('table').innerText"
    )
    lines = [line.split("\t") for line in text.splitlines() if line.strip()]
    assert [name.strip() for name in lines[0] if name.strip()] == ["the paper", "phantom"]
    assert next(line for line in lines if line[0] == "Mean") == ["Mean", "90.3213", "62.5544", "61.25", "", ""]
