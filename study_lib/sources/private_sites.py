"""SMC, GSEV and GMC: hospitals whose data are not public; each is read as a BIDS data set of one's own."""

from functools import partial

from study_lib.sources.curation import Curation, Policy, Request, curate
from study_lib.sources.people import Layout
from study_lib.sources.problems import Problems
from study_lib.sources.protocols import PROTOCOLS, warn_of_deviations
from study_lib.sources.sessions import at_each_session
from study_lib.sources.source import Source, Status, participants, scans_of
from study_lib.sources.tree import index_tree

TITLES = {
    "smc": "SMC: Samsung Medical Center",
    "gsev": "GSEV: Gangnam Severance Hospital",
    "gmc": "GMC: Gachon University Gil Medical Center",
}


def build(name: str, request: Request) -> Curation:
    """A BIDS tree in which the site's protocol stands in where the sidecars are silent."""
    problems = Problems(request.root)
    files = index_tree(request.root)
    scans = scans_of(files, request, problems)
    warn_of_deviations(scans, PROTOCOLS[name], problems)
    people = at_each_session(participants(request, Layout(), problems), scans, files, problems)
    policy = Policy(name, site_from=(), site=name.upper(), facts=PROTOCOLS[name].facts())
    return curate(people, scans, policy, problems)


SOURCES = tuple(
    Source(
        name=name,
        title=title,
        status=Status.DOCUMENTATION,
        evidence="the study's table of sites; read by the BIDS adapter, which is verified on other trees",
        build=partial(build, name),
    )
    for name, title in TITLES.items()
)
