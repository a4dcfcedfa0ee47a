"""HBN, the Child Mind Institute's Healthy Brain Network: one BIDS data set per imaging site."""

from study_lib.sources.curation import Curation, Policy, Request, curate
from study_lib.sources.people import Layout
from study_lib.sources.problems import Problems
from study_lib.sources.source import Source, Status, participants, scans_of
from study_lib.sources.tree import index_tree
from study_lib.sources.values import SEX_WORDS

LAYOUT = Layout(
    subject=("participant_id", "EID"),
    sexes={**SEX_WORDS, "0": "M", "1": "F"},  # the codes of HBN_R*_Pheno.csv
    diagnosis=(),  # diagnoses need a data use agreement, and pre-training does without
)


def build(request: Request) -> Curation:
    """People from participants.tsv (of the whole, or one per site) or from HBN_R*_Pheno.csv given by hand."""
    problems = Problems(request.root)
    scans = scans_of(index_tree(request.root), request, problems)
    scans["group"] = scans["group"].str.replace(r"^(?i:site)[-_]", "", regex=True)
    people = participants(request, LAYOUT, problems)
    people["group"] = people["group"].str.replace(r"^(?i:site)[-_]", "", regex=True)
    policy = Policy("hbn", site_from=("group", "site", "institution"), role="pre-training")
    return curate(people, scans, policy, problems)


SOURCE = Source(
    name="hbn",
    title="HBN: Healthy Brain Network",
    status=Status.VERIFIED,
    evidence="participants.tsv of the EEG release 1 (ds005505), 136 people; imaging tree from documentation",
    build=build,
)
