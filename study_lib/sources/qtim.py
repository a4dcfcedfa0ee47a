"""QTIM, the Queensland Twin IMaging study (OpenNeuro ds004169): twins and siblings, some scanned twice."""

import pandas as pd

from study_lib.sources.curation import Curation, Policy, Request, curate
from study_lib.sources.people import Layout
from study_lib.sources.problems import Problems
from study_lib.sources.source import Source, Status, participants, scans_of
from study_lib.sources.tree import index_tree

FIRST, SECOND = "01", "02"
# The age at the second session has a column of its own, n/a for those who came once.
SECOND_LAYOUT = Layout(age=("age_ses02",))


def build(request: Request) -> Curation:
    """One row per subject and session, with the age at that session; a family shares its id."""
    problems = Problems(request.root)
    scans = scans_of(index_tree(request.root), request, problems)
    first = participants(request, Layout(), problems).assign(session=FIRST)
    second = participants(request, SECOND_LAYOUT, problems).assign(session=SECOND)
    people = pd.concat([first, second[second["age_years"].notna()]], ignore_index=True)
    # One 4 T scanner; the institution is typed into a few sidecars only.
    policy = Policy("qtim", site_from=(), site="QTIM", role="pre-training")
    return curate(people.sort_values("line", kind="stable", ignore_index=True), scans, policy, problems)


SOURCE = Source(
    name="qtim",
    title="QTIM: Queensland Twin IMaging (ds004169)",
    status=Status.VERIFIED,
    evidence="participants.tsv of ds004169 (1,202 people, 682 families) and the tree of sub-0001 to sub-0599",
    build=build,
)
