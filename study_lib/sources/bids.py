"""Any BIDS data set, raw or with fMRIPrep's derivatives: a user's own data, and the project's phantom."""

import re

from study_lib.sources.curation import Curation, Policy, Request, curate
from study_lib.sources.people import Layout
from study_lib.sources.problems import Problems
from study_lib.sources.sessions import at_each_session
from study_lib.sources.source import Source, Status, participants, scans_of
from study_lib.sources.tree import index_tree


def build(request: Request) -> Curation:
    """Columns family_id, cohort, site, diagnosis and role of participants.tsv are taken as they stand.

    A scan's site is InstitutionName of its T1w's sidecar, else the column site, else the site's folder.
    """
    problems = Problems(request.root)
    files = index_tree(request.root)
    scans = scans_of(files, request, problems)
    people = at_each_session(participants(request, Layout(), problems), scans, files, problems)
    return curate(people, scans, Policy(cohort=request.cohort or cohort_name(request)), problems)


def cohort_name(request: Request) -> str:
    """The data folder's name as a cohort's name, where the user gives none."""
    return re.sub(r"[^a-z0-9]+", "-", request.root.resolve().name.lower()).strip("-") or "bids"


SOURCE = Source(
    name="bids",
    title="any BIDS data set, raw or with fMRIPrep derivatives",
    status=Status.VERIFIED,
    evidence="the trees of ds000030, ds004169, ds004712, bids-examples, one fMRIPrep 25.2 subject of ABIDE",
    build=build,
)
