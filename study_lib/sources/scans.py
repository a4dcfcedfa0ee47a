"""From files to scans: which T1w, mask, BOLD run, confounds and regional series make one row.

A row is a subject's session. Of several files that could fill a cell the first by the rules below is taken,
and a warning names the others:

- T1w: fMRIPrep's `desc-preproc_T1w` on its native grid with the brain mask on that grid, else the raw T1w (or
  the raw one first, if asked for). Contrast-enhanced volumes, single echoes, phases and inversions are no T1w
  here. Then the one without `acq`, with the lowest `run`.
- BOLD: `desc-preproc_bold` of the task in an MNI space (2009cAsym, then 6Asym, then others) at 2 mm or the
  run's own resolution; single echoes are left to fMRIPrep, which combines them. Raw BOLD is not on the
  atlas's grid and so is never taken. Then the one without `acq`, with the lowest `run`.
- Confounds: `desc-confounds_timeseries.tsv` of that run, or `desc-confounds_regressors.tsv` of older
  fMRIPreps.
- Regional series: a `timeseries.tsv` with an `atlas` or `seg`, AAL before others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from study_lib.sources.problems import Problems

KEY = ["group", "sub", "ses"]
RUN = ["task", "acq", "ce", "rec", "dir", "run"]
NIFTI = (".nii.gz", ".nii")
SPACES = ("MNI152NLin2009cAsym", "MNI152NLin6Asym")
RESOLUTIONS = ("2", "02", "")
NOT_A_T1W = ("ce", "part", "echo", "inv", "mod", "space", "label", "hemi")
SCAN_FILES = ("t1w", "t1w_mask", "bold", "confounds", "time_series")


@dataclass(frozen=True)
class ScanChoice:
    """What to prefer where a session offers several files."""

    t1w: str = "preprocessed"
    task: str = "rest"


def find_scans(files: pd.DataFrame, choice: ScanChoice, problems: Problems) -> pd.DataFrame:
    """One row per session with SCAN_FILES, and with `source`, the T1w whose sidecar tells of the scanner."""
    anatomy = _anatomy(files, choice, problems)
    bold = _bold(files, choice, problems)
    series = _time_series(files, choice, problems)
    table = anatomy.merge(bold, on=KEY, how="outer").merge(series, on=KEY, how="outer").fillna("")
    table = table[(table[["t1w", "bold", "time_series"]] != "").any(axis=1)]
    _warn_of_raw_bold(files, choice, table, problems)
    table = table.rename(columns={"sub": "subject", "ses": "session"})
    return table[["group", "subject", "session", *SCAN_FILES, "source"]].reset_index(drop=True)


def first_of_each(candidates: pd.DataFrame, order: Sequence[str], column: str, problems: Problems) -> pd.DataFrame:
    """The first candidate of each session by `order`; a warning per session names the others."""
    ranked = _in_order(candidates, order)
    chosen = ranked.drop_duplicates(KEY)
    others = ranked.drop(index=chosen.index)
    kept = chosen.set_index(KEY)["path"]
    for (group, sub, ses), paths in others.groupby(KEY)["path"]:
        problems.warn(
            sub,
            f"{len(paths) + 1} files could be the {column}; not used: {', '.join(paths)}",
            "move the file that was taken out of the tree if another one is better",
            session=ses,
            column=column,
            file=kept[(group, sub, ses)],
        )
    return chosen


def _in_order(files: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Sorted by labels: absent ones first, run 2 before run 10, ties in the order of the index of files."""
    return files.sort_values(list(order), key=lambda c: c.str.zfill(8) if c.name == "run" else c, kind="stable")


def _anatomy(files: pd.DataFrame, choice: ScanChoice, problems: Problems) -> pd.DataFrame:
    plain = (files[list(NOT_A_T1W)] == "").all(axis=1) & files["ext"].isin(NIFTI)
    t1w = files[plain & (files["suffix"] == "T1w")]
    raw = first_of_each(t1w[(t1w["desc"] == "") & ~t1w["derived"]], ["acq", "rec", "run"], "t1w", problems)
    processed = first_of_each(t1w[t1w["desc"] == "preproc"], ["acq", "rec", "run"], "t1w", problems)
    mask = files[plain & (files["suffix"] == "mask") & (files["desc"] == "brain") & (files["datatype"] == "anat")]
    mask = _in_order(mask, ["acq", "run"]).drop_duplicates(KEY)
    derived = _paths(processed, "processed").merge(_paths(mask, "mask"), on=KEY, how="outer").fillna("")
    derived = _placed(derived, files, raw, problems)
    table = _paths(raw, "raw").merge(derived, on=KEY, how="outer").fillna("")
    use_raw = (table["raw"] != "") & ((table["processed"] == "") | (choice.t1w == "raw"))
    table["t1w"] = table["raw"].where(use_raw, table["processed"])
    # fMRIPrep's mask lies on the grid of its own T1w, which need not be that of the raw one.
    other_grid = use_raw & (table["processed"] != "")
    table["t1w_mask"] = table["mask"].mask(other_grid | (table["t1w"] == ""), "")
    table["source"] = table["raw"].where(table["raw"] != "", table["t1w"])
    return table[[*KEY, "t1w", "t1w_mask", "source"]]


def _placed(derived: pd.DataFrame, files: pd.DataFrame, raw: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Give fMRIPrep's session-less anatomy to the session it belongs to.

    fMRIPrep pools all T1w of a subject into one. With a single session that session has it. With several it
    is an average over scanners or years: then sessions keep their raw T1w, and where there is none, the first
    session alone gets the average, since one file must not stand for several scans.
    """
    person = ["group", "sub"]
    sessions = files[files["ses"] != ""].groupby(person)["ses"].agg(number="nunique", first="min").reset_index()
    table = derived.merge(sessions, on=person, how="left")
    table = table.merge(raw[person].drop_duplicates().assign(has_raw=True), on=person, how="left")
    has_raw = table["has_raw"].notna()
    pooled = (table["ses"] == "") & table["number"].notna()
    average = pooled & (table["number"] > 1)
    for row, kept in zip(table[average].itertuples(), has_raw[average], strict=True):
        what = "each session keeps its raw T1w" if kept else f"session {row.first} gets it"
        problems.warn(
            row.sub,
            f"fMRIPrep pooled the T1w of {int(row.number)} sessions into one: {what}",
            "run fMRIPrep on one session at a time to have a T1w for each",
            column="t1w",
            file=row.processed or row.mask,
        )
    placed = table.assign(ses=table["ses"].mask(pooled, table["first"]))[~(average & has_raw)]
    return placed.drop_duplicates(KEY)[[*KEY, "processed", "mask"]]


def _bold(files: pd.DataFrame, choice: ScanChoice, problems: Problems) -> pd.DataFrame:
    runs = files[
        (files["suffix"] == "bold")
        & files["ext"].isin(NIFTI)
        & (files["desc"] == "preproc")
        & (files["task"] == choice.task)
        & files["space"].str.startswith("MNI")
        & (files[["echo", "part", "hemi"]] == "").all(axis=1)
    ]
    runs = runs.assign(near=_rank(runs["space"], SPACES), fine=_rank(runs["res"], RESOLUTIONS))
    # Other spaces and resolutions of one run are the same data, and need no warning.
    runs = runs.sort_values(["near", "fine"], kind="stable").drop_duplicates([*KEY, *RUN])
    chosen = first_of_each(runs, ["acq", "rec", "dir", "run"], "bold", problems)
    chosen = chosen.merge(_confounds(files), on=[*KEY, *RUN], how="left").fillna({"confounds": ""})
    for row in chosen[chosen["confounds"] == ""].itertuples():
        fix = "keep desc-confounds_timeseries.tsv beside the run, or its networks cannot be cleaned of motion"
        where = {"session": row.ses, "column": "confounds", "file": row.path}
        problems.warn(row.sub, "no confounds file of this run", fix, **where)
    return chosen.rename(columns={"path": "bold"})[[*KEY, "bold", "confounds"]]


def _confounds(files: pd.DataFrame) -> pd.DataFrame:
    tables = files[(files["desc"] == "confounds") & files["suffix"].isin(["timeseries", "regressors"])]
    newest = tables.sort_values("suffix", ascending=False, kind="stable").drop_duplicates([*KEY, *RUN])
    return newest.rename(columns={"path": "confounds"})[[*KEY, *RUN, "confounds"]]


def _time_series(files: pd.DataFrame, choice: ScanChoice, problems: Problems) -> pd.DataFrame:
    parcels = files["atlas"] + files["seg"]
    series = files[(files["suffix"] == "timeseries") & (parcels != "") & files["task"].isin([choice.task, ""])]
    not_aal = ~parcels[series.index].str.upper().str.startswith("AAL")
    series = series.assign(not_aal=not_aal.map({False: "0", True: "1"}))
    chosen = first_of_each(series, ["not_aal", "acq", "run", "space"], "time_series", problems)
    return _paths(chosen, "time_series")


def _paths(files: pd.DataFrame, name: str) -> pd.DataFrame:
    return files[[*KEY, "path"]].rename(columns={"path": name})


def _rank(cells: pd.Series, preferred: Sequence[str]) -> pd.Series:
    ranks = {label: number for number, label in enumerate(preferred)}
    return cells.map(ranks).fillna(len(preferred)).astype(int)


def _warn_of_raw_bold(files: pd.DataFrame, choice: ScanChoice, table: pd.DataFrame, problems: Problems) -> None:
    """Name the sessions whose functional data cannot be used yet, or the data set if that is all of them."""
    bold = files[(files["suffix"] == "bold") & files["ext"].isin(NIFTI)]
    raw = bold[(bold["task"] == choice.task) & (bold["desc"] == "") & ~bold["derived"]].drop_duplicates(KEY)
    usable = table.loc[(table[["bold", "time_series"]] != "").any(axis=1), KEY]
    fix = "run fMRIPrep with --output-spaces MNI152NLin2009cAsym:res-2"
    if len(raw) and usable.empty:
        reason = f"{len(raw)} sessions have raw BOLD only, none is preprocessed in MNI space: bold stays empty"
        problems.warn("", reason, fix, column="bold")
    elif len(raw):
        waiting = raw.merge(usable, on=KEY, how="left", indicator=True).query("_merge == 'left_only'")
        for row in waiting.itertuples():
            reason = "raw BOLD, but no preprocessed one in MNI space"
            problems.warn(row.sub, reason, fix, session=row.ses, column="bold", file=row.path)
    tasks = sorted(set(bold["task"]) - {"", choice.task})
    if tasks and not (bold["task"] == choice.task).any():
        reason = f"no BOLD of task {choice.task!r}; there are {', '.join(tasks)}"
        problems.warn("", reason, f"give --task {tasks[0]} if that is the state to study", column="bold")
