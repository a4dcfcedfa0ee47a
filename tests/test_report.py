"""The report: everything that was made, readable by anybody, with nothing fetched from anywhere."""

import ast
import json
import re
from fnmatch import fnmatch
from html.parser import HTMLParser
from itertools import pairwise

import matplotlib.figure
import pandas as pd
import pytest
from tiny_notebooks import write_notebook

from study_lib import papers
from study_lib.run import start
from study_lib.workflow import comparisons
from study_lib.workflow.digest import cell_source, code_cells
from study_lib.workflow.notebook import notebook_html
from study_lib.workflow.paper_exhibits import STUDIES
from study_lib.workflow.report import RUNNING, build_report
from study_lib.workflow.report_page import SHOWN_ROWS
from study_lib.workflow.story import STORY, Notebook, Story

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
    assert all(cell["scope"] in ("col", "colgroup") for cell in page.all("th"))
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


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Our own story: one notebook done, one at work, of more than one commit and with scans left out."""
    root = tmp_path_factory.mktemp("studies")
    run = start("01_data_curation", "smoke", 0, root)
    run.save_table(pd.DataFrame({"site": ["ADNI"]}), "table_one", "Ours.")
    run.save_table(pd.DataFrame({"site": ["printed"]}), "paper_sites", source="the paper")
    run.save_table(pd.DataFrame({"reason": ["damaged"]}), "excluded")
    run.record({"subjects": 30, "excluded": 2, "warnings": 0}, cohort="phantom")
    run = start("05_cortical_radius", "smoke", 0, root)
    run.record({"radius_gmc_to_adni_left_source": 3.25}, cohort="my study")
    at_work = root / "smoke" / "03_gan_harmonization"
    at_work.mkdir()
    (at_work / RUNNING).write_text('{"begun": "2026-01-02 03:04 UTC"}', encoding="utf-8")
    return Page(build_report(STORY, root / "smoke"))


def test_both_studies_come_in_the_order_of_the_papers_before_the_notebooks(studies):
    body = studies.text.split("Before you read")[1].split("Notebooks")[1]
    first = [
        STUDIES[0].title,
        "Table 1: the data sets",
        STUDIES[1].title,
        "Protocol classification",
        "01 Data curation",
    ]
    tail = body[body.index("Study 1") :]
    places = [tail.index(text) for text in first]
    assert places == sorted(places)


def test_an_exhibit_stands_with_its_study_once_and_the_notebook_leads_to_it(studies):
    ids = [attributes["id"] for tag, attributes in studies.elements if tag == "figure" and "id" in attributes]
    assert ids.count("01_data_curation-tables-table_one") == 1
    assert "#01_data_curation-tables-table_one" in [link["href"] for link in studies.all("a")]
    assert ids.index("01_data_curation-tables-table_one") < ids.index("01_data_curation-tables-excluded")


def test_the_paper_s_tables_are_there_whatever_was_run(studies):
    for text in ("4619 T1-FCN pairs", "Samsung Medical Center (SMC)", "96.5299", "245.2"):
        assert text in studies.text


def test_the_reader_is_warned_of_what_weakens_the_numbers(studies):
    warnings = studies.text.split("Before you read")[1].split("Study 1")[0]
    for text in ("simulated", "smoke is a first look", "more than one cohort", "01_data_curation: 2 scans left out"):
        assert text in warnings
    assert "01_data_curation: 0" not in warnings


def test_a_notebook_at_work_says_since_when(studies):
    assert "2 of" in studies.text
    assert "1 running" in studies.text
    assert "Running since 2026-01-02 03:04 UTC" in studies.text


def saved_names(path):
    """What a notebook saves, as patterns: the parts in braces of an f-string may be anything."""
    code = "\n".join(cell_source(cell) for cell in code_cells(path))
    for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
        kind = {"save_figure": "figures", "save_table": "tables"}.get(getattr(call.func, "attr", ""))
        if kind and isinstance(call.args[1], ast.Constant):
            yield f"{path.stem}/{kind}/{call.args[1].value}"
        elif kind:
            parts = [part.value if isinstance(part, ast.Constant) else "*" for part in call.args[1].values]  # noqa: PD011
            yield f"{path.stem}/{kind}/{''.join(parts)}"


def test_every_exhibit_that_is_promised_beside_the_papers_is_saved_by_its_notebook():
    exhibits = [exhibit for study in STUDIES for exhibit in study.exhibits]
    for notebook in STORY.notebooks:
        saved = list(saved_names(STORY.path(notebook)))
        promised = [name for exhibit in exhibits for name in exhibit.ours if fnmatch(notebook.name, name.split("/")[0])]
        for name in promised:
            assert any(fnmatch(name, pattern) or fnmatch(pattern, name) for pattern in saved), name


def test_every_notebook_that_answers_the_papers_is_named_as_the_story_names_it():
    answered = {name[:2]: name for study in STUDIES for exhibit in study.exhibits for name in exhibit.notebooks}
    for notebook in STORY.notebooks:
        assert answered.get(notebook.number, notebook.name) == notebook.name


def test_our_numbers_beside_the_paper_s_are_the_metrics_and_nothing_else():
    pairs = ["adni_gmc", "adni_smc", "adni_gsev", "gsev_gmc", "smc_gsev", "smc_gmc"]
    metrics = {f"accuracy_after_fresh_{pair}": 50.0 + place for place, pair in enumerate(pairs)}
    table = comparisons.protocol_classification(metrics | {"accuracy_after_fresh": 52.5}, "phantom")
    assert list(table["phantom: after, fresh"]) == [50.0, 51.0, 52.0, 53.0, 54.0, 55.0, 52.5]
    assert table["phantom: before"].isna().all()
    printed = papers.protocol_classification()
    assert list(table["the paper: before"]) == list(printed["before_percent"])


def test_both_readings_of_a_radius_are_printed_for_the_paper_and_for_us():
    names = ("source", "target", "transferred")
    metrics = {f"radius_adni_to_smc_right_{name}": value for name, value in zip(names, (2.0, 3.0, 2.5), strict=True)}
    table = comparisons.cortical_radius(metrics, "phantom").set_index(["pair", "hemisphere"])
    row = table.loc[("GE to Philips", "right")]
    assert (row["phantom: change (%)"], row["phantom: gap closed (%)"]) == (25.0, 50.0)
    left = table.loc[("Siemens to GE", "left")]
    assert (left["the paper: change (%)"], left["the paper: gap closed (%)"]) == (-6.7, 80.5)
    assert pd.isna(left["phantom: change (%)"])


def test_the_gain_is_over_the_best_model_that_sees_the_image_alone():
    metrics = {
        "abide_cinp_balanced_accuracy": 0.7,
        "abide_smri_linear_balanced_accuracy": 0.6,
        "abide_cnn_balanced_accuracy": 0.65,
        "abide_bnt_balanced_accuracy": 0.9,
        "srpbs_cinp_balanced_accuracy": 0.5,
    }
    table = comparisons.cinp_gains(metrics, "phantom").set_index("data_set")
    ours = table["phantom: points of balanced accuracy"]
    assert ours["ABIDE"] == 5.0
    assert ours[["ADHD-200", "SRPBS"]].isna().all()
