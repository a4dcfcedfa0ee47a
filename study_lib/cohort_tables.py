"""Who and what is in a manifest, as tables that a paper prints."""

import nibabel as nib
import numpy as np
import pandas as pd

from study_lib.manifest import Manifest


def people_of(scans: pd.DataFrame) -> pd.DataFrame:
    """One row per subject: the first of its scans."""
    return scans.drop_duplicates("subject").reset_index(drop=True)


def table_one(scans: pd.DataFrame) -> pd.DataFrame:
    """Subjects, scans, age, sex, diagnosis and function of every cohort at every site."""
    groups = scans.groupby(["cohort", "site"], sort=True)
    rows = [{"cohort": cohort, "site": site, **_summary(own)} for (cohort, site), own in groups]
    return pd.DataFrame(rows)


def scanners(cohort: Manifest) -> pd.DataFrame:
    """How each site acquired its T1w and how its files store them, as the first scan of each kind has it."""
    with_t1w = cohort.table[cohort.table["t1w"] != ""]
    facts = ["vendor", "field_strength_t", "sequence", "echo_time_ms", "repetition_time_ms", "repetition_time_kind"]
    rows = []
    for (site, *_), own in with_t1w.groupby(["site", *facts], dropna=False, sort=True):
        geometries = own.groupby("cohort").head(1).apply(lambda row: _geometry(cohort, row), axis=1)
        for geometry in sorted(set(geometries)):
            rows.append({"site": site, **own.iloc[0][facts], **dict(zip(_GEOMETRY, geometry, strict=True))})
    return pd.DataFrame(rows)


_GEOMETRY = ("orientation", "voxel_mm", "stored_as")


def _geometry(cohort: Manifest, row: pd.Series) -> tuple[str, str, str]:
    header = nib.load(cohort.path(row, "t1w")).header
    zooms = " x ".join(f"{zoom:.2g}" for zoom in header.get_zooms()[:3])
    return "".join(nib.aff2axcodes(header.get_best_affine())), zooms, str(header.get_data_dtype())


def _summary(own: pd.DataFrame) -> dict[str, object]:
    people = people_of(own)
    age = people["age_years"].astype(float)
    return {
        "subjects": len(people),
        "scans": len(own),
        "age_years": f"{age.mean():.1f} ({age.std():.1f})" if np.isfinite(age).sum() > 1 else "",
        "female_percent": _percent_female(people["sex"]),
        "diagnoses": ", ".join(f"{name} {n}" for name, n in people["diagnosis"].value_counts().sort_index().items()),
        "bold": int((own["bold"] != "").sum()),
        "series": int((own["time_series"] != "").sum()),
    }


def _percent_female(sex: pd.Series) -> str:
    known = sex[sex != ""]
    return f"{100 * (known == 'F').mean():.0f}" if len(known) else ""
