"""Writing what came of reading a source."""

from pathlib import Path

import pandas as pd

from study_lib.files import atomic_write_text
from study_lib.manifest import write_manifest
from study_lib.sources.curation import Curation


def write_curation(curation: Curation, out: str | Path, root: str | Path) -> list[Path]:
    """Write the manifest to `out`, and beside it who was excluded and what is odd; the paths, manifest first.

    Both lists are written even when they are empty, and when no scan is left, which is an error.
    """
    out = Path(out)
    lists = {"excluded": curation.excluded, "warnings": curation.warnings}
    paths = [out.with_name(f"{out.stem}_{name}.csv") for name in lists]
    for path, table in zip(paths, lists.values(), strict=True):
        atomic_write_text(path, table.to_csv(index=False, lineterminator="\n"))
    if curation.table.empty:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in top_reasons(curation.excluded).items())
        nobody = "no T1w, preprocessed BOLD or regional series was found"
        raise ValueError(f"no scan left under {root}: {reasons or nobody}. See {paths[0]}")
    write_manifest(curation.table, out, root)
    return [out, *paths]


def top_reasons(excluded: pd.DataFrame, count: int = 5) -> dict[str, int]:
    """The commonest reasons and how often each occurs; another quoted value or file makes no new reason."""
    kinds = excluded["reason"].str.replace(r"'[^']*'", "'…'", regex=True)
    kinds = kinds.str.replace(r"\S+\.(?:1D|mat|nii(?:\.gz)?)\b", "…", regex=True)
    return kinds.value_counts().head(count).to_dict()
