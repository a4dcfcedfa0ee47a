"""SRPBS, the multi-disorder MRI data set of Japan's Strategic Research Program for Brain Sciences."""

import pandas as pd

from study_lib.sources.curation import Curation, Policy, Request, curate, without_acquisition
from study_lib.sources.people import Layout
from study_lib.sources.problems import Problems
from study_lib.sources.source import Source, Status, participants, scans_of
from study_lib.sources.tree import index_tree
from study_lib.sources.values import SEX_WORDS

DIAGNOSES = {
    **{"0": "control", "1": "autism", "2": "depression", "3": "ocd", "4": "schizophrenia"},
    **{"5": "pain", "6": "stroke", "7": "bipolar", "8": "dysthymia", "99": "other"},
}
LAYOUT = Layout(
    diagnosis=("diag", "diagnosis"),
    diagnoses=DIAGNOSES,
    sexes={**SEX_WORDS, "1": "M", "2": "F"},
    site=("site", "protocol"),
)
RAW_T1W = ("data/sub-*/t1/defaced_mprage.nii*", "sub-*/t1/defaced_mprage.nii*")


def build(request: Request) -> Curation:
    """A BIDS tree with fMRIPrep's outputs, or the T1w of the folders as they are downloaded."""
    problems = Problems(request.root)
    scans = scans_of(index_tree(request.root), request, problems)
    if scans.empty:
        scans = downloaded_t1w(request)
        reason = "functional volumes of the download are one file each, without an extension: bold stays empty"
        problems.warn("", reason, "convert the data to BIDS and run fMRIPrep", column="bold")
    people = participants(request, LAYOUT, problems)
    policy = Policy("srpbs", site_from=("site",), needs_diagnosis=True)
    return curate(people, scans, policy, problems)


def downloaded_t1w(request: Request) -> pd.DataFrame:
    """The T1w in SRPBS_OPEN's own layout: data/sub-0001/t1/defaced_mprage.nii."""
    paths = sorted({path for pattern in RAW_T1W for path in request.root.glob(pattern)})
    records = [
        {
            "subject": path.parent.parent.name.removeprefix("sub-"),
            "t1w": path.relative_to(request.root).as_posix(),
        }
        for path in paths
    ]
    return without_acquisition(pd.DataFrame(records, columns=["subject", "t1w"], dtype=str))


SOURCE = Source(
    name="srpbs",
    title="SRPBS: multi-disorder MRI data set",
    status=Status.DOCUMENTATION,
    evidence="Tanaka et al. 2021 (10.1038/s41597-021-01004-8) and public scripts that read participants.tsv",
    build=build,
)
