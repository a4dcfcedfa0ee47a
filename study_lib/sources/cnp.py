"""CNP, the UCLA Consortium for Neuropsychiatric Phenomics (OpenNeuro ds000030)."""

from pathlib import Path

import pandas as pd

from study_lib.sources.curation import Curation, Policy, Request, curate
from study_lib.sources.people import Layout, cells_of
from study_lib.sources.problems import Problems
from study_lib.sources.source import Source, Status, participants, scans_of
from study_lib.sources.tree import index_tree
from study_lib.sources.values import is_missing

LAYOUT = Layout(
    # Two scanners of one model took turns; their serial number is the site, since the sidecars name no
    # institution.
    site=("ScannerSerialNumber",),
    diagnoses={"CONTROL": "control", "SCHZ": "schizophrenia", "BIPOLAR": "bipolar", "ADHD": "adhd"},
)


def build(request: Request) -> Curation:
    """participants.tsv itself says who has no T1w; scans with the headset's ghost get a warning."""
    problems = Problems(request.root)
    scans = scans_of(index_tree(request.root), request, problems)
    people = participants(request, LAYOUT, problems)
    serial = people["site"].str.removesuffix(".0")
    people["site"] = ("UCLA-" + serial).where(serial != "", "")
    people = _with_inventory(people)
    _warn_of_ghosts(people[people["subject"].isin(scans["subject"])], problems)
    return curate(people, scans, Policy("cnp", site_from=("site",), site="UCLA", role="pre-training"), problems)


def _with_inventory(people: pd.DataFrame) -> pd.DataFrame:
    inventory = cells_of(people, ["T1w"])
    lacking = is_missing(inventory) & (inventory != "")
    reason = "participants.tsv has n/a in the column T1w: none was taken"
    absence, name = people["absence"].mask(lacking, reason), people["absence_column"].mask(lacking, "T1w")
    return people.assign(absence=absence, absence_column=name)


def _warn_of_ghosts(people: pd.DataFrame, problems: Problems) -> None:
    for person in people[cells_of(people, ["ghost_NoGhost"]) == "ghost"].itertuples():
        place = {"line": person.line, "column": "t1w", "file": Path(person.file)}
        reason = "ghost_NoGhost is 'ghost': the headset's aliasing may overlap the temporal lobes"
        problems.warn(person.subject, reason, "look at the volume before using it", **place)


SOURCE = Source(
    name="cnp",
    title="CNP: UCLA Consortium for Neuropsychiatric Phenomics (ds000030)",
    status=Status.VERIFIED,
    evidence="participants.tsv and the T1w and rest tree of ds000030: 272 participants, 265 T1w",
    build=build,
)
