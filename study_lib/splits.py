"""Splits of subjects into train, validation and test that no family, session or site label can leak through.

Order comes from SHA-256 of seed and family, and the arithmetic is plain Python: the same table (in any row
order) and seed give the same split on every machine and with every version of numpy.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from study_lib.allocation import allocate
from study_lib.files import atomic_write_text

PARTS = ("train", "validation", "test")
# Byte-identical scans under two names are one person, whatever the ids say.
SCAN_HASHES = ("t1w_sha256", "bold_sha256", "time_series_sha256")


class SplitError(ValueError):
    """A table that cannot be split, or a saved split that is not what it was."""


class LeakError(SplitError):
    """The same person, family or scan on both sides of a wall."""


@dataclass(frozen=True)
class Split:
    """Subject ids per part. `set_aside`: relatives of test subjects that may stand in no part."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    name: str = ""
    set_aside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        groups = (*PARTS, "set_aside")
        for group in groups:
            object.__setattr__(self, group, tuple(sorted(map(str, getattr(self, group)))))
        seen = Counter(subject for group in groups for subject in getattr(self, group))
        twice = [subject for subject, count in seen.items() if count > 1]
        if twice:
            raise LeakError(f"split {self.name!r}: subjects in two parts: {_some(twice)}; each belongs in one")


def split_subjects(
    table: pd.DataFrame,
    ratios: tuple[int, int, int] = (7, 2, 1),
    seed: int = 0,
    stratify: Sequence[str] = ("diagnosis", "site"),
    repeats: int = 1,
) -> list[Split]:
    """Repeated train, validation and test parts of a manifest's subjects; families stay whole.

    Strata are the combinations of the `stratify` columns. One with fewer subjects than `sum(ratios)` cannot
    show the ratio, so it is merged with the other small strata of its class (the first column); a site as small
    is not balanced by itself. Every class has at least one subject in every part.
    `imbalance` reports how far families and small strata pushed the parts from the ratio.
    """
    if len(ratios) != 3 or min(ratios) <= 0:
        raise SplitError(f"ratios: expected three positive numbers for {', '.join(PARTS)}, got {ratios}")
    people = _people(_without_travellers(table), stratify)
    splits = []
    for repeat in range(repeats):
        parts = _allocated(people, ratios, f"{seed}/{repeat}", stratify)
        splits.append(Split(*parts, name=f"seed {seed}, repeat {repeat}"))
    return splits


def leave_one_site_out(
    table: pd.DataFrame,
    ratios: tuple[int, int] = (7, 2),
    seed: int = 0,
    stratify: Sequence[str] = ("diagnosis", "site"),
) -> list[Split]:
    """One split per site: whoever was ever scanned there is the test part, the others train and validate.

    Relatives of test subjects who were scanned elsewhere are set aside, by name.
    """
    people = _people(_without_travellers(table), stratify)
    sites = sorted(table["site"].astype(str).unique())
    if len(sites) < 2:
        raise SplitError(f"leave_one_site_out: expected at least two sites, got {sites}")
    splits = []
    for site in sites:
        there = set(table.loc[table["site"].astype(str) == site, "subject"].astype(str))
        related = people["family"].isin(people.loc[people.index.isin(there), "family"])
        train, validation = _allocated(people[~related], ratios, f"{seed}/without {site}", stratify)
        aside = set(people.index[related]) - there
        splits.append(Split(train, validation, tuple(there), name=f"without {site}", set_aside=tuple(aside)))
    return splits


def forbid_leak(pretraining: pd.DataFrame | Iterable[str], evaluation: pd.DataFrame | Iterable[str]) -> None:
    """Raise LeakError if a subject, family or scan of one side is on the other; ids alone work too."""
    leaks = []
    for column in ("subject", "family", *SCAN_HASHES):
        shared = _values(pretraining, column) & _values(evaluation, column)
        if shared:
            leaks.append(f"{len(shared)} shared {column} values: {_some(shared)}")
    if leaks:
        raise LeakError(
            "pre-training (or training) and evaluation meet: " + "; ".join(leaks) + "; leave these out of one side"
        )


def check_split(split: Split, table: pd.DataFrame) -> None:
    """Raise if a split names unknown subjects, forgets some, or separates a family of this table."""
    people = _people(table, ())
    named = {subject: part for part in (*PARTS, "set_aside") for subject in getattr(split, part)}
    unknown, forgotten = set(named) - set(people.index), set(people.index) - set(named)
    if unknown or forgotten:
        raise SplitError(
            f"split {split.name!r} is of another table: {len(unknown)} unknown subjects ({_some(unknown)}), "
            f"{len(forgotten)} without a part ({_some(forgotten)}); split this table anew"
        )
    parts = pd.Series(named).replace("set_aside", None).dropna()
    spread = parts.groupby(people["family"].reindex(parts.index)).nunique()
    if (spread > 1).any():
        raise LeakError(f"split {split.name!r} separates families: {_some(spread.index[spread > 1])}")


def imbalance(split: Split, table: pd.DataFrame, by: Sequence[str] = ("diagnosis", "site")) -> pd.DataFrame:
    """Subjects per stratum and part; `deviation`: how far the worst part is from its share, in subjects."""
    people = _people(table, by)
    part = pd.Series({subject: name for name in PARTS for subject in getattr(split, name)}, name="part")
    placed = people.join(part, how="inner")
    counts = pd.crosstab([placed[column] for column in by], placed["part"])
    counts = counts.reindex(columns=list(PARTS), fill_value=0)
    total = counts.sum(axis=1)
    share = counts.sum() / counts.to_numpy().sum()
    fair = pd.DataFrame({name: total * share[name] for name in PARTS})
    return counts.assign(subjects=total, deviation=(counts - fair).abs().max(axis=1)).rename_axis(columns=None)


def save_splits(splits: Sequence[Split], path: str | Path, manifest_checksum: str = "") -> str:
    """Write the splits as JSON with a SHA-256 over their content, and return it."""
    content = {"manifest_checksum": manifest_checksum, "splits": [asdict(split) for split in splits]}
    digest = _digest(content)
    atomic_write_text(path, json.dumps({**content, "sha256": digest}, indent=1) + "\n")
    return digest


def load_splits(path: str | Path, manifest_checksum: str | None = None) -> list[Split]:
    """Read splits; refuse a file that was edited, or (where given) one made for another manifest."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    digest = content.pop("sha256", "")
    if _digest(content) != digest:
        raise SplitError(f"{path}: the content does not fit its hash {digest!r}; it was edited: make it anew")
    if manifest_checksum is not None and content["manifest_checksum"] != manifest_checksum:
        raise SplitError(
            f"{path}: made for the manifest with checksum {content['manifest_checksum']!r}, "
            f"this one has {manifest_checksum!r}; split it anew"
        )
    return [Split(**split) for split in content["splits"]]


def _without_travellers(table: pd.DataFrame) -> pd.DataFrame:
    if "role" in table.columns and (table["role"] == "travelling").any():
        raise SplitError(
            "travelling subjects are the truth to test against and are never split; "
            "leave out the rows with role 'travelling' first"
        )
    return table


def _people(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """One row per subject, sorted by id: family and strata; several sites of one subject make one label."""
    missing = [name for name in ("subject", "family", *columns) if name not in table.columns]
    if missing:
        raise SplitError(f"the table lacks {', '.join(missing)}; expected a manifest (study_lib.manifest)")
    rows = table[["subject", "family", *columns]].astype(str).drop_duplicates()
    for column in ("family", *columns[:1]):
        several = rows.groupby("subject")[column].nunique()
        if (several > 1).any():
            raise SplitError(f"subjects with more than one {column}: {_some(several.index[several > 1])}; give one")
    return rows.groupby("subject", sort=True).agg(lambda values: "+".join(sorted(set(values))))


def _allocated(people: pd.DataFrame, ratios: Sequence[int], key: str, stratify: Sequence[str]) -> list[tuple[str, ...]]:
    strata = [tuple(map(str, row)) for row in people[list(stratify)].to_numpy()]
    try:
        part = allocate(people["family"].tolist(), strata, ratios, key)
    except ValueError as error:
        raise SplitError(f"split {key}: {error}") from error
    return [tuple(people.index[[p == k for p in part]]) for k in range(len(ratios))]


def _values(side: pd.DataFrame | Iterable[str], column: str) -> set[str]:
    if not isinstance(side, pd.DataFrame):
        return set(map(str, side)) if column == "subject" else set()
    values = side[column].dropna().astype(str) if column in side.columns else pd.Series(dtype=str)
    return set(values) - {""}


def _digest(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


def _some(names: Iterable[str], limit: int = 10) -> str:
    names = sorted(map(str, names))
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
