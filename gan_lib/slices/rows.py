"""Which rows of a manifest may become slices of a role, and what is said of those that do not."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from study_lib.manifest import Manifest
from study_lib.splits import forbid_leak

EXCLUDED_COLUMNS = ("subject", "session", "site", "file", "reason", "fix")
# Roles that nothing is trained on, and those that must not share a person with them.
EVALUATION = frozenset({"test", "travelling"})
FITTING = frozenset({"train", "validation"})


def rows_of_role(
    rows: pd.DataFrame, cohort: Manifest, role: str, sites: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """The rows of a role, and exclusions of those without a T1w or of another site than `sites`.

    Raises LeakError where one of these people, of their families or of their scans has another role as well.
    """
    chosen = rows[rows["role"] == role]
    if chosen.empty:
        found = ", ".join(f"{name} {n}" for name, n in sorted(Counter(rows["role"]).items())) or "no rows"
        raise ValueError(
            f"slices: expected rows with role {role!r}, got {found}; "
            "give subjects their roles with study_lib.splits.split_subjects"
        )
    forbid_leak(chosen, _other_side(rows, cohort, role))
    refused = []
    for _, row in chosen.iterrows():
        if not row["t1w"]:
            refused.append(exclusion(row, "the row names no T1w", "give the path of the T1w, or remove the row"))
        elif sites and row["site"] not in sites:
            reason = f"site {row['site']!r} is none of {', '.join(sites)}"
            refused.append(exclusion(row, reason, "train with this site as well, or remove the row"))
    usable = (chosen["t1w"] != "") & (chosen["site"].isin(sites) if sites else True)
    check_sites(chosen.loc[usable, "site"], sites or sorted(set(chosen["site"])), refused, role)
    return chosen[usable], refused


def exclusion(row: Mapping | pd.Series, reason: str, fix: str) -> dict[str, str]:
    """One row of the table of what was left out."""
    values = (row["subject"], row["session"], row["site"], row["t1w"], reason, fix)
    return dict(zip(EXCLUDED_COLUMNS, map(str, values), strict=True))


def check_sites(found: Iterable[str], sites: Sequence[str], refused: Sequence[Mapping[str, str]], role: str) -> None:
    """Raise where nothing is left; for training also where a site is lost, or is the only one."""
    found = set(found)
    lost = [site for site in sites if site not in found]
    if not found or (lost and role == "train"):
        reasons = [f"{r['subject']} ({r['site']}): {r['reason']}" for r in refused if r["site"] in lost][:3]
        raise ValueError(
            f"slices: expected usable volumes of role {role!r} at every site, got none at {', '.join(lost)}; "
            f"mend these volumes, or remove the site from the manifest. First reasons: {'; '.join(reasons) or 'none'}"
        )
    if role == "train" and len(found) < 2:
        raise ValueError(
            f"slices: expected volumes of at least two sites, got only {found.pop()!r}; "
            "a model translates between sites: add the rows of another site with role 'train'"
        )


def _other_side(rows: pd.DataFrame, cohort: Manifest, role: str) -> pd.DataFrame:
    """All rows, of the whole cohort too, whose people must not be among those of `role`."""
    others = (EVALUATION | FITTING) - ({role} if role in FITTING else EVALUATION)
    everyone = pd.concat([rows, cohort.table], ignore_index=True)
    return everyone[everyone["role"].isin(others)]
