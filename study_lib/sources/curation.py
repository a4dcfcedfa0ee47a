"""From people and scans to a manifest's rows, with everyone accounted for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from study_lib.manifest import COLUMNS
from study_lib.sources.people import exclude_person
from study_lib.sources.problems import Problems
from study_lib.sources.scans import SCAN_FILES, ScanChoice

SITE_FACTS = (
    *("vendor", "field_strength_t", "sequence", "echo_time_ms"),
    *("repetition_time_ms", "repetition_time_kind"),
)


@dataclass(frozen=True)
class Request:
    """What the user asks for: where the data lie, which tables tell of the people, and what to prefer."""

    root: Path
    phenotypic: tuple[Path, ...] = ()
    cohort: str = ""
    t1w: Literal["preprocessed", "raw"] = "preprocessed"
    task: str = "rest"

    @property
    def choice(self) -> ScanChoice:
        """Which of several files to prefer."""
        return ScanChoice(self.t1w, self.task)


@dataclass(frozen=True)
class Curation:
    """What came of reading a source.

    `read`: one row per person (and session) of the phenotypic tables. `table`: the manifest's rows.
    `excluded`: who of them is not in it, with reason and fix. `warnings`: what is odd about those who are.
    """

    read: pd.DataFrame
    table: pd.DataFrame
    excluded: pd.DataFrame
    warnings: pd.DataFrame


@dataclass(frozen=True)
class Policy:
    """How a source fills the columns that its tables and sidecars do not."""

    cohort: str
    # Where a scan's site is read, the first that says something: the T1w's sidecar, the people's table, the
    # folder; else the cohort's own name in capitals.
    site_from: tuple[Literal["institution", "site", "group"], ...] = ("institution", "site", "group")
    site: str = ""
    role: str = "unassigned"
    # A cohort for evaluation has no use for people whose diagnosis is not known; pre-training has.
    needs_diagnosis: bool = False
    facts: dict[str, object] = field(default_factory=dict)


def curate(people: pd.DataFrame, scans: pd.DataFrame, policy: Policy, problems: Problems) -> Curation:
    """Join people with their scans; whoever lacks one or the other is excluded or named in a warning.

    `people` is what `read_people` gives, `scans` what `scans_of` gives.
    """
    keys = ["subject", *(name for name in ("group", "session") if (people[name] != "").any())]
    usable = _with_diagnosis(people, policy, problems)
    _exclude_scanless(usable, scans, keys, problems)
    beside = usable.drop(columns=[name for name in ("group", "session") if name not in keys])
    joined = scans.merge(beside, on=keys, how="left", indicator=True)
    table = _filled(_without_strangers(joined, people, policy, problems), policy)
    excluded, warnings = problems.tables()
    return Curation(people, table.reindex(columns=list(COLUMNS), fill_value=""), excluded, warnings)


def _with_diagnosis(people: pd.DataFrame, policy: Policy, problems: Problems) -> pd.DataFrame:
    """People whose diagnosis is known, where the cohort is for evaluation; everyone where it is not."""
    if not policy.needs_diagnosis:
        return people
    unknown = people["diagnosis"] == "unknown"
    for person in people[unknown].itertuples():
        reason = f"diagnosis is {person.diagnosis_text!r}: not known, so the scan cannot serve evaluation"
        fix = "give a newer table with the diagnosis to --phenotypic, if there is one"
        exclude_person(person, problems, "diagnosis", reason, fix)
    return people[~unknown]


def _exclude_scanless(people: pd.DataFrame, scans: pd.DataFrame, keys: list[str], problems: Problems) -> None:
    marked = people.merge(scans[keys].drop_duplicates(), on=keys, how="left", indicator=True)
    nothing = f"listed, but no T1w, preprocessed BOLD or regional series under {problems.root}"
    fix = "download the subject's files, or leave it: the others are not affected"
    for person in marked[marked["_merge"] == "left_only"].itertuples():
        exclude_person(person, problems, person.absence_column, person.absence or nothing, fix)


def _without_strangers(joined: pd.DataFrame, people: pd.DataFrame, policy: Policy, problems: Problems) -> pd.DataFrame:
    """Scans of people whom no table lists are kept with a warning, where the diagnosis does not matter.

    Scans of people who are excluded for what a table says of them go with them.
    """
    named = {(row["subject"], row["session"]) for row in problems.excluded}
    whose = zip(joined["subject"], joined["session"], strict=True)
    is_named = pd.Series([bool({(who, when), (who, "")} & named) for who, when in whose], joined.index, dtype=bool)
    unlisted = joined["_merge"] == "left_only"
    joined, unlisted = joined[~(unlisted & is_named)], unlisted[~(unlisted & is_named)]
    if people.empty and not named and len(joined):
        reason = "no phenotypic table: age, sex and diagnosis are not known"
        problems.warn("", reason, "give one with --phenotypic, or put participants.tsv into the data set")
    for scan in joined[unlisted].itertuples() if len(people) else ():
        tell = problems.exclude if policy.needs_diagnosis else problems.warn
        place = {"session": scan.session, "column": "diagnosis", "file": scan.source}
        tell(scan.subject, "has scans, but is in no phenotypic table", "add a row for it", **place)
    kept = joined[~unlisted] if policy.needs_diagnosis else joined
    text = dict.fromkeys(("family", "cohort", "site", "sex", "role"), "")
    return kept.drop(columns="_merge").astype(dict.fromkeys(text, object)).fillna(text | {"diagnosis": "unknown"})


def _filled(joined: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    table = joined.copy()
    table["session"] = _session(table)
    table["family"] = table["family"].where(table["family"] != "", table["subject"])
    table["site"] = _site(table, policy)
    table["cohort"] = table["cohort"].where(table["cohort"] != "", policy.cohort)
    table = _with_facts(table, policy.facts)
    table["role"] = table["role"].where(table["role"] != "", _roles(table, policy.role))
    return table.sort_values(["cohort", "subject", "session"], ignore_index=True)


def _with_facts(table: pd.DataFrame, facts: dict[str, object]) -> pd.DataFrame:
    """The protocol's facts in cells that sidecars leave empty, but not in scans of another vendor."""
    own = table["vendor"].isin(["", facts.get("vendor", "")])
    without_time = table["repetition_time_ms"].isna()
    for name, value in facts.items():
        # The kind belongs to its time: it is written with it or not at all.
        empty = without_time if name == "repetition_time_kind" else table[name].isna() | (table[name] == "")
        table[name] = table[name].mask(empty & own, value)
    return table


def _session(table: pd.DataFrame) -> pd.Series:
    """The session; after the site's folder where one subject has the same session at several sites."""
    several = table.duplicated(["subject", "session"], keep=False) & (table["group"] != "")
    folder = table["group"].str.replace(r"[^A-Za-z0-9]", "", regex=True)
    return table["session"].mask(several, folder + table["session"])


def _site(table: pd.DataFrame, policy: Policy) -> pd.Series:
    site = pd.Series("", index=table.index, dtype=str)
    for name in policy.site_from:
        site = site.where(site != "", table[name])
    site = site.where(site != "", policy.site or policy.cohort.upper())
    # One hospital types its name in several ways ("OCMR", "ocmr"): the most frequent spelling stands for all.
    spelling = site.groupby(site.str.casefold()).agg(lambda names: names.mode().iloc[0])
    return site.str.casefold().map(spelling)


def _roles(table: pd.DataFrame, role: str) -> pd.Series:
    """Who was scanned at two sites or more travels, which keeps it from training; others as the cohort."""
    travels = table.groupby("subject")["site"].transform("nunique") > 1
    return pd.Series(role, index=table.index, dtype=str).mask(travels, "travelling")


def without_acquisition(scans: pd.DataFrame) -> pd.DataFrame:
    """Scans with the columns of the acquisition, empty, for sources that have no sidecars."""
    numbers = ("field_strength_t", "echo_time_ms", "repetition_time_ms")
    empty = {name: (float("nan") if name in numbers else "") for name in (*SITE_FACTS, "institution")}
    files = {name: "" for name in (*SCAN_FILES, "group", "session", "source") if name not in scans}
    return scans.assign(**files, **empty)
