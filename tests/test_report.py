"""The report: everything that was made, readable by anybody, with nothing fetched from anywhere."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import matplotlib.figure
import pandas as pd
import pytest
from tiny_notebooks import write_notebook

from study_lib.run import start
from study_lib.workflow.notebook import notebook_html
from study_lib.workflow.report import build_report
from study_lib.workflow.report_page import SHOWN_ROWS
from study_lib.workflow.story import Notebook, Story

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements of a page, its text, and whether every element that opens also closes."""

    def __init__(self, path):
        super().__init__()
        self.path, self.elements, self.open, self.text = path, [], [], ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open[-1:] != ["style"] else ""

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One notebook that ended well with hostile names, one that failed, one that did not run."""
    root = tmp_path_factory.mktemp("outputs")
    run = start("01_x", "smoke", 3, root)
    figure = matplotlib.figure.Figure(figsize=(2, 1))
    figure.subplots().set_title("Ages <b>&</b> sites")
    run.save_figure(figure, "ages", 'Boxes: "quartiles".')
    rows = SHOWN_ROWS + 7
    table = pd.DataFrame({"site": ["<script>alert(1)</script>"] * rows, "age": [1 / 3] * rows, "n": range(rows)})
    run.save_table(table, "sites", "Every <site>.")
    run.save_table(pd.DataFrame({"site": ["ADNI"]}), "printed", source="the paper")
    run.record({"subjects": 32, "rate": 1 / 3}, cohort="phantom")
    executed = write_notebook(root / "01_x.ipynb", "print(1)")
    place = root / "smoke" / "report" / "01_x" / "01_x.html"
    place.parent.mkdir(parents=True)
    place.write_text(notebook_html(executed), encoding="utf-8")
    failed = root / "smoke" / "02_y"
    failed.mkdir()
    failure = {"error": "cell In [4] raised ValueError: <no> brain", "exit_code": 1}
    (failed / "failure.json").write_text(json.dumps(failure), encoding="utf-8")
    (failed / "02_y.log").write_text("it went wrong", encoding="utf-8")
    return root / "smoke"


@pytest.fixture(scope="module")
def page(root):
    notebooks = [Notebook(name, f"Title {name}", f"Why {name}, if x < y?") for name in ("01_x", "02_y", "03_z")]
    return Page(build_report(Story(root, tuple(notebooks)), root))


def test_the_page_lies_where_it_is_promised_and_says_what_ran(root, page):
    assert page.path == root / "report" / "index.html"
    for text in ("report of the smoke run", "1 of 3 done, 1 failed", "phantom", "Title 01_x", "Why 01_x, if x < y?"):
        assert text in page.text
    for state in ("(done)", "(failed)", "(not run)"):
        assert state in page.text


def test_every_exhibit_has_its_title_caption_and_cohort(page):
    figures = page.text.split("Why 01_x")[1]
    for text in ("Ages <b>&</b> sites", 'Boxes: "quartiles".', "Sites", "Every <site>.", "0.3333"):
        assert text in figures
    assert figures.count("cohort: phantom") == 2


def test_the_paper_s_numbers_are_never_shown_as_the_cohort_s(page):
    assert page.text.count("source: the paper") == 1
    assert "source: the paper" in page.text.split("Printed")[1].split("All metrics")[0]


def test_text_of_others_is_never_markup(page):
    assert page.all("script") == []
    assert page.all("b") == []
    assert "<script>alert(1)</script>" in page.text


def test_a_long_table_says_how_many_rows_the_file_has_beyond_those_shown(page):
    assert "7 more rows are in the CSV." in page.text
    assert page.text.count("<script>") == SHOWN_ROWS


def test_a_failure_is_shown_with_its_error_and_its_log(page):
    assert "cell In [4] raised ValueError: <no> brain" in page.text
    assert "02_y/02_y.log" in [link["href"] for link in page.all("a")]


def test_metrics_are_shown_with_every_digit_that_a_reader_needs(page):
    assert "All metrics (2)" in page.text
    assert re.search(r"subjects\s*32", page.text)


def test_nothing_is_fetched_and_every_link_leads_somewhere_inside_the_report(root, page):
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for link in page.all("a"):
        place = link["href"]
        assert place[1:] in ids if place.startswith("#") else (root / "report" / place).is_file()
    assert {link["href"] for link in page.all("a")} >= {
        "01_x/01_x.html", "01_x/ages.pdf", "01_x/ages.png", "01_x/sites.csv", "01_x/sites.tex",
    }  # fmt: skip
    sources = [attributes.get("src", "data:") for _, attributes in page.elements]
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in page.path.read_text(encoding="utf-8")


def test_it_can_be_heard_and_walked_by_keyboard(page):
    (picture,) = page.all("img")
    assert picture["alt"] == 'Ages <b>&</b> sites. Boxes: "quartiles".'
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert page.all("html") == [{"lang": "en"}]
    assert all(cell["scope"] == "col" for cell in page.all("th"))
    scrolling = [box for box in page.all("div") if box.get("class") == "scroll"]
    assert scrolling
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in scrolling)


def test_it_follows_the_reader_s_screen_and_light(page):
    text = page.path.read_text(encoding="utf-8")
    assert 'name="viewport" content="width=device-width' in text
    assert "prefers-color-scheme: dark" in text


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path):
    index = build_report(Story(tmp_path, (Notebook("01_x", "Title", "Why?"),)), tmp_path / "demo")
    assert "0 of 1 done" in Page(index).text


def test_a_half_replaced_record_does_not_count_as_done(tmp_path):
    run = start("01_x", "smoke", 0, tmp_path)
    run.record({"subjects": 1}, cohort="phantom")
    (run.folder / "metrics.json").unlink()
    story = Story(tmp_path, (Notebook("01_x", "Title", "Why?"),))
    assert "0 of 1 done" in Page(build_report(story, tmp_path / "smoke")).text
