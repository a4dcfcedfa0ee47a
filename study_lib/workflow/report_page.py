"""The report as HTML: no scripts, no requests, readable on a phone, aloud, in the dark, and on paper."""

import re
from collections.abc import Callable
from html import escape
from itertools import groupby
from typing import Any

from study_lib.workflow.report_exhibits import data_uri, png_size
from study_lib.workflow.report_style import STYLE

NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"
SHOWN_ROWS = 30  # longer tables are cut here; the CSV beside them has every row


def page(
    summary: dict[str, str], warnings: list[str], studies: list[dict[str, Any]], sections: list[dict[str, Any]]
) -> str:
    """The whole page: what ran, the two studies in the papers' order, then every notebook."""
    title = f"Brain MRI studies: report of the {summary['Profile']} run"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#exhibits">Skip to the exhibits</a>
<header>
<h1>{escape(title)}</h1>
{_pairs(summary)}
{_warnings(warnings)}</header>
<div class="columns">
<nav aria-label="Contents">
{"".join(_study_entries(study) for study in studies)}<h2>Notebooks</h2>
<ol>
{"".join(_notebook_entry(section) for section in sections)}</ol>
</nav>
<main id="exhibits" tabindex="-1">
{"".join(_study(study) for study in studies)}{"".join(_section(section) for section in sections)}</main>
</div>
<footer>
<p>Numbers marked with a cohort were computed in the notebooks of this run; those of a paper are printed by it.
Nothing here is a medical device.</p>
</footer>
</body>
</html>
"""


def _pairs(pairs: dict[str, str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in pairs.items())
    return f"<dl>\n{rows}</dl>"


def _warnings(warnings: list[str]) -> str:
    if not warnings:
        return ""
    lines = "".join(f"<li>{escape(warning)}</li>\n" for warning in warnings)
    return (
        '<section class="warnings" aria-labelledby="warnings-title">\n'
        f'<h2 id="warnings-title">Before you read</h2>\n<ul>\n{lines}</ul>\n</section>\n'
    )


def _study_entries(study: dict[str, Any]) -> str:
    lines = "".join(f"<li>{_anchor(entry['id'], entry['heading'])}</li>\n" for entry in study["exhibits"])
    return f"<h2>{_anchor(study['id'], study['title'])}</h2>\n<ol>\n{lines}</ol>\n"


def _notebook_entry(section: dict[str, Any]) -> str:
    return f"<li>{_anchor(section['name'], section['heading'])} {_state(section['state'])}</li>\n"


def _anchor(place: str, text: str) -> str:
    return f'<a href="#{escape(place)}">{escape(text)}</a>'


def _state(state: str) -> str:
    return f'<span class="{state.replace(" ", "-")}">({state})</span>'


def _study(study: dict[str, Any]) -> str:
    name = escape(study["id"])
    parts = [
        f'<section id="{name}" aria-labelledby="{name}-title">',
        f'<h2 id="{name}-title">{escape(study["title"])}</h2>',
        f'<p class="source">{escape(study["source"])}</p>',
        *(_paper_exhibit(entry) for entry in study["exhibits"]),
        "</section>",
    ]
    return "\n".join(parts) + "\n"


def _paper_exhibit(entry: dict[str, Any]) -> str:
    """What the paper printed, as far as it is known, then ours."""
    name = escape(entry["id"])
    parts = [
        f'<section id="{name}" aria-labelledby="{name}-title">',
        f'<h3 id="{name}-title">{escape(entry["heading"])}</h3>',
        f'<p class="note">{escape(entry["note"])}</p>' if entry["note"] else "",
        _beside(entry["printed"], "In the paper", PAPER_TAG) if entry["printed"] else "",
        _beside(entry["comparison"], "The paper and ours", f"{PAPER_TAG} {_tag(entry)}") if entry["comparison"] else "",
        *(f"<p>{_anchor(notebook, notebook)} {_state(state)}</p>" for notebook, state in entry["open"]),
        *(_exhibit(exhibit, "h4") for exhibit in entry["ours"]),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


PAPER_TAG = '<span class="cohort paper">source: the paper</span>'


def _beside(rows: list[list[str]], title: str, tags: str) -> str:
    """The paper's numbers with every digit that it prints; column names before a colon become a line of their own."""
    numeric = _numeric(rows)
    groups = [name.rpartition(": ")[0] for name in rows[0]]
    above = "".join(
        f'<th scope="colgroup" colspan="{len(list(same))}">{escape(group)}</th>'
        if group
        else "<td></td>" * len(list(same))
        for group, same in groupby(groups)
    )
    names = _row([name.rpartition(": ")[2] for name in rows[0]], numeric, '<th scope="col"{}>{}</th>', escape)
    lines = "".join(_row(row, numeric, "<td{}>{}</td>", escape) for row in rows[1:])
    table = _scrolling((f"<tr>{above}</tr>\n" if any(groups) else "") + names, lines, title)
    return f"<figure>\n<h4>{title}</h4>\n{table}\n<figcaption>{tags}</figcaption>\n</figure>"


def _section(section: dict[str, Any]) -> str:
    name = escape(section["name"])
    parts = [
        f'<section id="{name}" aria-labelledby="{name}-title">',
        f'<h2 id="{name}-title">{escape(section["heading"])}</h2>',
        f'<p class="question">{escape(section["question"])}</p>',
        _status(section),
        _above(section["above"]),
        *(_exhibit(exhibit, "h3") for exhibit in section["exhibits"]),
        *(_viewer(title, place) for title, place in section["viewers"].items()),
        _metrics(section["metrics"], section["heading"]),
        "</section>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _status(section: dict[str, Any]) -> str:
    facts = "; ".join(f"{name} {value}" for name, value in section["facts"].items())
    links = _links(section["links"], section["heading"])
    lines = [f'<p class="facts">{"; ".join(part for part in (escape(facts), links) if part)}</p>']
    if section["state"] == "failed":
        lines += ['<p class="failed">This notebook failed.</p>', f"<pre>{escape(section['error'])}</pre>"]
    elif section["state"] == "running":
        lines.append(f'<p class="running">Running since {escape(section["begun"])}. Load this page again later.</p>')
    elif section["state"] == "not run":
        lines.append("<p>Not run yet.</p>")
    return "\n".join(lines)


def _above(exhibits: list[dict[str, Any]]) -> str:
    links = ", ".join(_anchor(exhibit["id"], exhibit["title"]) for exhibit in exhibits)
    return f"<p>Shown with the studies: {links}.</p>" if links else ""


def _links(links: dict[str, str], of: str) -> str:
    return ", ".join(
        f'<a href="{escape(place)}" aria-label="{escape(text)} of {escape(of)}">{escape(text)}</a>'
        for text, place in links.items()
    )


def _exhibit(exhibit: dict[str, Any], heading: str) -> str:
    """A figure or a table with its title, its cohort, its caption and its files."""
    if exhibit["picture"]:
        body = _picture(exhibit)
    elif exhibit["rows"]:
        body = _table(exhibit["rows"], exhibit["title"])
    else:
        body = '<p class="failed">The file of this exhibit is missing; run the notebook again.</p>'
    caption = f"{escape(exhibit['caption'])} {_tag(exhibit)} {_links(exhibit['links'], exhibit['title'])}"
    title = f"<{heading}>{escape(exhibit['title'])}</{heading}>"
    return f'<figure id="{escape(exhibit["id"])}">\n{title}\n{body}\n<figcaption>{caption}</figcaption>\n</figure>'


def _tag(exhibit: dict[str, Any]) -> str:
    """Whose numbers these are."""
    if exhibit.get("source"):
        return f'<span class="cohort paper">source: {escape(exhibit["source"])}</span>'
    return f'<span class="cohort">cohort: {escape(exhibit["cohort"])}</span>'


def _picture(exhibit: dict[str, Any]) -> str:
    """The picture, which leads to its file: there a phone can zoom."""
    said = ". ".join(text.rstrip(".") for text in (exhibit["title"], exhibit["caption"]) if text) + "."
    width, height = png_size(exhibit["picture"])
    size = f' width="{width}" height="{height}"' if width else ""
    image = f'<img src="{data_uri(exhibit["picture"])}" alt="{escape(said)}"{size} decoding="async">'
    return f'<a class="picture" href="{escape(exhibit["links"]["PNG"])}">{image}</a>'


def _viewer(title: str, place: str) -> str:
    """An interactive page from the report's own folder, not fetched before somebody comes near it."""
    return (
        f"<details>\n<summary>Interactive: {escape(title)}</summary>\n"
        f'<p><a href="{escape(place)}">{escape(title)} on a page of its own</a></p>\n'
        f'<iframe src="{escape(place)}" title="{escape(title)}, interactive" loading="lazy"></iframe>\n</details>'
    )


def _table(rows: list[list[str]], title: str, most: int = SHOWN_ROWS) -> str:
    """A table that scrolls by itself; columns that hold numbers only are set flush right."""
    head, body = rows[0], rows[1 : most + 1]
    if not body:
        return "<p>No rows.</p>"
    numeric = _numeric(rows)
    titles = _row([name.replace("_", " ") for name in head], numeric, '<th scope="col"{}>{}</th>', escape)
    lines = "".join(_row(row, numeric, "<td{}>{}</td>", _shown) for row in body)
    rest = len(rows) - 1 - most
    more = f"<p>{rest} more rows are in the CSV.</p>" if rest > 0 else ""
    return _scrolling(titles, lines, title) + more


def _scrolling(head: str, lines: str, title: str) -> str:
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<table><thead>{head}</thead>\n<tbody>{lines}</tbody></table></div>"
    )


def _numeric(rows: list[list[str]]) -> list[bool]:
    return [all(_is_number(row[place]) for row in rows[1:]) for place in range(len(rows[0]))]


def _row(row: list[str], numeric: list[bool], cell: str, shown: Callable[[str], str]) -> str:
    flush = [' class="number"' if number else "" for number in numeric]
    return f"<tr>{''.join(cell.format(place, shown(text)) for place, text in zip(flush, row, strict=True))}</tr>\n"


def _is_number(text: str) -> bool:
    return not text or re.fullmatch(NUMBER, text, flags=re.IGNORECASE) is not None


def _shown(text: str) -> str:
    """Whole numbers as they are, others with four digits, text as text."""
    if not text or not _is_number(text) or re.fullmatch(r"[+-]?\d+", text):
        return escape(text)
    return f"{float(text):.4g}"


def _metrics(metrics: dict[str, float], heading: str) -> str:
    if not metrics:
        return ""
    rows = [["metric", "value"], *([name, repr(value)] for name, value in metrics.items())]
    body = _table(rows, f"Metrics of {heading}", most=len(metrics))
    return f"<details>\n<summary>All metrics ({len(metrics)})</summary>\n{body}\n</details>"
