"""HCP, the Human Connectome Project's young adults (S1200): one site, families of twins and siblings."""

import os
import re
from pathlib import Path

import pandas as pd

from study_lib.sources.curation import Curation, Policy, Request, curate, without_acquisition
from study_lib.sources.families import families
from study_lib.sources.people import Layout, no_people, once_each, people_of
from study_lib.sources.problems import Problems
from study_lib.sources.source import Source, Status, scans_of
from study_lib.sources.tables import column, find_column, find_tables, read_table
from study_lib.sources.tree import index_tree

LAYOUT = Layout(subject=("Subject",), age=("Age_in_Yrs", "Age"), sex=("Gender",), family=(), diagnosis=(), site=())
TABLES = ("*estricted*.csv", "RESTRICTED*.csv", "*behavioral*.csv")
FAMILY_COLUMNS = ("Family_ID", "Mother_ID", "Father_ID")
SUBJECT_FOLDER = re.compile(r"\d{6}")
# Of each, the first that is there. The structural pipeline's volume and its mask share a grid.
PROCESSED_T1W = ("T1w/T1w_acpc_dc_restore.nii.gz",)
RAW_T1W = ("unprocessed/3T/T1w_MPR1/{subject}_3T_T1w_MPR1.nii.gz",)
MASK = ("T1w/brainmask_fs.nii.gz",)
# Cleaned by ICA-FIX: it needs no confounds file. Runs that are not cleaned are not taken.
BOLD = tuple(
    f"MNINonLinear/Results/rfMRI_{run}/rfMRI_{run}_hp2000_clean.nii.gz"
    for run in ("REST1_LR", "REST1_RL", "REST2_LR", "REST2_RL")
)


def build(request: Request) -> Curation:
    """HCP's own folders (one per six-digit subject) or a BIDS tree made from them."""
    problems = Problems(request.root)
    scans = scans_of(index_tree(request.root), request, problems)
    if scans.empty:
        scans = own_layout(request)
    people = _people(request, problems)
    return curate(people, scans, Policy("hcp", site_from=(), site="HCP", role="pre-training"), problems)


def own_layout(request: Request) -> pd.DataFrame:
    """The scans of HCP's release folders."""
    names = sorted(name for name in os.listdir(request.root) if SUBJECT_FOLDER.fullmatch(name))
    records = [_record(request, name) for name in names]
    columns = ["subject", "t1w", "t1w_mask", "bold", "confounds", "time_series"]
    scans = pd.DataFrame(records, columns=columns, dtype=str)
    return without_acquisition(scans[(scans[["t1w", "bold"]] != "").any(axis=1)].reset_index(drop=True))


def _record(request: Request, subject: str) -> dict[str, str]:
    order = RAW_T1W + PROCESSED_T1W if request.t1w == "raw" else PROCESSED_T1W + RAW_T1W
    t1w = _first(request.root, subject, order)
    mask = _first(request.root, subject, MASK) if t1w.endswith(PROCESSED_T1W[0]) else ""
    bold = _first(request.root, subject, BOLD)
    return {
        "subject": subject,
        "t1w": t1w,
        "t1w_mask": mask,
        "bold": bold,
        "confounds": "",
        "time_series": "",
    }


def _first(root: Path, subject: str, templates: tuple[str, ...]) -> str:
    paths = (f"{subject}/{template.format(subject=subject)}" for template in templates)
    return next((path for path in paths if os.path.lexists(root / path)), "")


def _people(request: Request, problems: Problems) -> pd.DataFrame:
    """The unrestricted table joined with the restricted one, which alone has exact ages and families."""
    paths = list(request.phenotypic) or find_tables(request.root, TABLES, depth=1)
    if not paths:
        return no_people()
    table = _joined([read_table(path) for path in paths], paths)
    people = once_each(people_of(table, paths[0], LAYOUT, problems), problems)
    if find_column(table, FAMILY_COLUMNS[:1]) is None:
        reason = "families are not known: twins and siblings may come apart in a split"
        fix = "apply for HCP's restricted data and give RESTRICTED_*.csv to --phenotypic as well"
        problems.warn("", reason, fix, column="family", file=paths[0])
        return people
    told = table.drop_duplicates("subject").set_index("subject").reindex(people["subject"])
    links = [column(told, [name]).set_axis(people.index) for name in FAMILY_COLUMNS]
    return people.assign(family=families(people["subject"], links))


def _joined(tables: list[pd.DataFrame], paths: list[Path]) -> pd.DataFrame:
    """One row per subject with the columns of all tables; the index is the line in the first of them."""
    keyed = []
    for table, path in zip(tables, paths, strict=True):
        name = find_column(table, LAYOUT.subject)
        if name is None:
            raise ValueError(f"{path}: expected a column Subject, got {', '.join(table.columns[:8])}, …")
        keyed.append(table.rename(columns={name: "subject"}))
    joined = keyed[0].rename_axis("line").reset_index()
    for other in keyed[1:]:
        new = ["subject", *(name for name in other.columns if name not in joined.columns)]
        joined = joined.merge(other.drop_duplicates("subject")[new], on="subject", how="outer")
    return joined.fillna({"line": 0}).fillna("").astype({"line": int}).set_index("line").sort_index()


SOURCE = Source(
    name="hcp",
    title="HCP: Human Connectome Project, young adults",
    status=Status.DOCUMENTATION,
    evidence="HCP's release folders and behavioural tables as documented at humanconnectome.org",
    build=build,
)
