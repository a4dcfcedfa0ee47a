"""ON-Harmony (OpenNeuro ds004712): travelling heads, each scanned on six 3 T scanners of three vendors."""

from study_lib.sources.curation import Curation, Policy, Request, curate
from study_lib.sources.people import Layout
from study_lib.sources.problems import Problems
from study_lib.sources.source import Source, Status, participants, scans_of
from study_lib.sources.tree import index_tree

# NOT1ACH001: Nottingham, scanner 1, Achieva, first visit (the data set's README).
SCANNER = r"^([A-Z]{3}\d[A-Z]{3})\d+$"


def build(request: Request) -> Curation:
    """The scanner is read from the session's label; subjects of two scanners or more get the role travelling.

    InstitutionName is no guide here: the sidecars of one scanner spell it in up to three ways, and one name
    stands for a hospital, not for a scanner.
    """
    problems = Problems(request.root)
    scans = scans_of(index_tree(request.root), request, problems)
    scanner = scans["session"].str.extract(SCANNER)[0].fillna(scans["session"])
    people = participants(request, Layout(), problems)
    policy = Policy("on-harmony", site_from=("institution",), role="unassigned")
    return curate(people, scans.assign(institution=scanner), policy, problems)


SOURCE = Source(
    name="on-harmony",
    title="ON-Harmony: travelling subjects on six scanners (ds004712)",
    status=Status.VERIFIED,
    evidence="participants.tsv of ds004712 and the tree of its phase A: 10 subjects, 80 sessions, 6 scanners",
    build=build,
)
