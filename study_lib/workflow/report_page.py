"""The report as HTML: no scripts, no requests, readable on a phone, aloud, in the dark, and on paper."""

import re
from html import escape
from typing import Any

NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"
SHOWN_ROWS = 30  # longer tables are cut here; the CSV beside them has every row

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #57606a; --line: #d0d7de;
  --tint: #f3f5f7; --link: #0b57d0; --bad: #b42318; --good: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --paper: #14171a; --soft: #a3adb8;
  --line: #3a424a; --tint: #1d2227; --link: #8ab4f8; --bad: #ff8a80; --good: #7ee2a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; }
h2 { font-size: 1.35rem; } h3 { font-size: 1.1rem; margin: 0 0 .5rem; }
a { color: var(--link); } a:focus-visible, summary:focus-visible, .scroll:focus-visible
  { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; }
nav ol { list-style: none; padding: 0; } nav li { margin: .2rem 0; }
section { border-top: 1px solid var(--line); margin-top: 2rem; }
.question { font-style: italic; } .facts, figcaption { color: var(--soft); font-size: .95rem; }
.done { color: var(--good); } .failed { color: var(--bad); font-weight: 600; }
figure { margin: 1.5rem 0; } figcaption { margin-top: .4rem; }
figure img { max-width: 100%; height: auto; background: #ffffff; border-radius: 4px; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; max-width: 28rem; }
thead th { border-bottom: 2px solid var(--line); white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
pre { overflow-x: auto; background: var(--tint); padding: .8rem; font-size: .85rem; }
.cohort { background: var(--tint); border: 1px solid var(--line); border-radius: 4px; padding: 0 .35rem;
  white-space: nowrap; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { nav, .skip { display: none; } figure { break-inside: avoid; } }
"""


def page(summary: dict[str, str], sections: list[dict[str, Any]]) -> str:
    """The whole page."""
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
</header>
<nav aria-label="Notebooks">
<h2>Notebooks</h2>
<ol>
{"".join(_entry(section) for section in sections)}</ol>
</nav>
<main id="exhibits">
{"".join(_section(section) for section in sections)}</main>
</body>
</html>
"""


def _pairs(pairs: dict[str, str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in pairs.items())
    return f"<dl>\n{rows}</dl>"


def _entry(section: dict[str, Any]) -> str:
    state = section["state"]
    link = f'<a href="#{escape(section["name"])}">{escape(section["heading"])}</a>'
    return f'<li>{link} <span class="{state.replace(" ", "-")}">({state})</span></li>\n'


def _section(section: dict[str, Any]) -> str:
    name = escape(section["name"])
    parts = [
        f'<section id="{name}" aria-labelledby="{name}-title">',
        f'<h2 id="{name}-title">{escape(section["heading"])}</h2>',
        f'<p class="question">{escape(section["question"])}</p>',
        _status(section),
        *(_exhibit(exhibit) for exhibit in section["exhibits"]),
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
    elif section["state"] == "not run":
        lines.append("<p>Not run yet.</p>")
    return "\n".join(lines)


def _links(links: dict[str, str], of: str) -> str:
    return ", ".join(
        f'<a href="{escape(place)}" aria-label="{escape(text)} of {escape(of)}">{escape(text)}</a>'
        for text, place in links.items()
    )


def _exhibit(exhibit: dict[str, Any]) -> str:
    """A figure or a table with its title, its cohort, its caption and its files."""
    if exhibit["picture"]:
        said = ". ".join(text for text in (exhibit["title"], exhibit["caption"]) if text)
        body = f'<img src="{exhibit["picture"]}" alt="{escape(said)}">'
    elif exhibit["rows"]:
        body = _table(exhibit["rows"], exhibit["title"])
    else:
        body = '<p class="failed">The file of this exhibit is missing; run the notebook again.</p>'
    whose = f"source: {exhibit['source']}" if exhibit.get("source") else f"cohort: {exhibit['cohort']}"
    cohort = f'<span class="cohort">{escape(whose)}</span>'
    caption = f"{escape(exhibit['caption'])} {cohort} {_links(exhibit['links'], exhibit['title'])}"
    title = f"<h3>{escape(exhibit['title'])}</h3>"
    return f"<figure>\n{title}\n{body}\n<figcaption>{caption}</figcaption>\n</figure>"


def _table(rows: list[list[str]], title: str) -> str:
    """A table that scrolls by itself; columns that hold numbers only are set flush right."""
    head, body = rows[0], rows[1 : SHOWN_ROWS + 1]
    if not body:
        return "<p>No rows.</p>"
    numeric = [all(_is_number(row[place]) for row in body) for place in range(len(head))]
    titles = _row(head, numeric, '<th scope="col"{}>{}</th>')
    lines = "".join(_row(row, numeric, "<td{}>{}</td>") for row in body)
    rest = len(rows) - 1 - SHOWN_ROWS
    more = f"<p>{rest} more rows are in the CSV.</p>" if rest > 0 else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<table><thead>{titles}</thead>\n<tbody>{lines}</tbody></table></div>{more}"
    )


def _row(row: list[str], numeric: list[bool], cell: str) -> str:
    flush = [' class="number"' if number else "" for number in numeric]
    return f"<tr>{''.join(cell.format(place, _shown(text)) for place, text in zip(flush, row, strict=True))}</tr>\n"


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
    body = _table(rows, f"Metrics of {heading}")
    return f"<details>\n<summary>All metrics ({len(metrics)})</summary>\n{body}\n</details>"
