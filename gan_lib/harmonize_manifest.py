"""A manifest's scans harmonised, and a manifest of the results: how harmonised images reach whoever reads manifests."""

import shutil
from pathlib import Path

import pandas as pd

from gan_lib.harmonize import Harmonizer
from gan_lib.harmonize_batch import BatchConfig, harmonize_found
from gan_lib.scan_finder import FoundScan, FoundScans, stem
from study_lib.files import atomic_path, sha256_of
from study_lib.manifest import Manifest, write_manifest

NOT_CARRIED = ("bold", "confounds", "time_series", "bold_sha256", "time_series_sha256")


def harmonize_manifest(
    harmonizer: Harmonizer, target: str, cohort: Manifest, rows: pd.DataFrame, out: str | Path, progress: bool = True
) -> tuple[Path, pd.DataFrame]:
    """Bring the T1w of these rows to a training site; gives the new manifest and a table of what failed.

    `out` gets images and masks in folders as the cohort's own, and `manifest.csv` with the rows that succeeded: the
    same people and cells, but for files of function, which are not copied. Called again it makes only what is missing.
    """
    out, rows = Path(out), rows[rows["t1w"] != ""].reset_index(drop=True)
    scans = [_scan(cohort, row) for _, row in rows.iterrows()]
    config = BatchConfig({"Site": target}, progress=progress)
    style = harmonizer.style(target)
    found = FoundScans(tuple(scans), is_bids=False)
    result = harmonize_found(harmonizer, style, found, (cohort.root, out), config)
    done = set(result.made) | set(result.skipped)
    places = [k for k, scan in enumerate(scans) if scan.out.as_posix() in done]
    if not places:
        reasons = "; ".join(result.failures["reason"].head(3))
        raise ValueError(
            f"harmonize_manifest: none of {len(scans)} scans could be harmonised. First reasons: {reasons}"
        )
    table = rows.iloc[places].assign(**dict.fromkeys(NOT_CARRIED, ""))
    table["t1w"] = [scans[k].out.as_posix() for k in places]
    table["t1w_sha256"] = [sha256_of(out / name) for name in table["t1w"]]
    for scan, name in zip((scans[k] for k in places), table["t1w_mask"], strict=True):
        _copy_mask(scan, out, name)
    write_manifest(table, out / "manifest.csv", root=out)
    return out / "manifest.csv", result.failures


def _scan(cohort: Manifest, row: pd.Series) -> FoundScan:
    name = Path(row["t1w"])
    mask = cohort.path(row, "t1w_mask") if row["t1w_mask"] else None
    return FoundScan(cohort.path(row, "t1w"), mask, name.with_name(stem(name) + ".nii.gz"))


def _copy_mask(scan: FoundScan, out: Path, name: str) -> None:
    if scan.mask is not None and not (out / name).is_file():
        with atomic_path(out / name) as temporary:
            shutil.copyfile(scan.mask, temporary)
