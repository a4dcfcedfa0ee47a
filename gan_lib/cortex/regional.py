"""Radius region by region, as a table that ComBat and the biology measures read: subjects down, regions across."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from gan_lib.biology import painted_disease
from gan_lib.cortex.atlas import Regions
from gan_lib.cortex.radius import regional_radius
from gan_lib.tissue import label_image
from study_lib.shapes import Affine, Mask, Volume
from study_lib.statistics import BootstrapSettings

Scan = tuple[str, Volume, Mask]


def regional_radii(scans: Iterable[Scan], regions: Regions, affine: Affine, n_jobs: int = 1) -> pd.DataFrame:
    """From subject, image and brain mask of every scan; NaN where a region has no cortex."""
    scans = list(scans)
    rows = Parallel(n_jobs, prefer="threads")(delayed(_measured)(*scan, regions, affine) for scan in scans)
    index = pd.Index([subject for subject, _, _ in scans], name="subject")
    return regions.named(pd.DataFrame([row.to_numpy() for row in rows], index, rows[0].index))


def measured_everywhere(tables: Mapping[str, pd.DataFrame], among: Sequence[str] | None = None) -> list[str]:
    """The regions (of `among`) that have a radius in every subject of every table, in the order of the first."""
    whole = pd.concat(tables.values()).notna().all()
    names = [name for name in whole.index[whole] if among is None or name in set(among)]
    if not names:
        raise ValueError(f"no region of {len(whole)} has cortex in every subject; use a coarser atlas")
    return names


def site_spread(features: pd.DataFrame, sites: Sequence[str]) -> float:
    """Standard deviation of the means of sites over that of subjects, mean over regions."""
    means = features.groupby(np.asarray(sites)).mean()
    return float((means.std() / features.std()).mean())


def disease_pattern(features: pd.DataFrame, patients: np.ndarray, sites: Sequence[str]) -> pd.Series:
    """Mean difference of patients and controls in every region, each subject against the mean of its site."""
    centred = features - features.groupby(np.asarray(sites)).transform("mean")
    return centred[patients].mean() - centred[~patients].mean()


def painted_table(
    moved: Mapping[str, pd.DataFrame],
    real: pd.DataFrame,
    disease: pd.Series,
    settings: BootstrapSettings | None = None,
) -> pd.DataFrame:
    """`biology.painted_disease` of every method, over the regions of `disease`: controls against their real scans."""
    rows = []
    for method, own in moved.items():
        tables = (table.loc[real.index, disease.index].to_numpy() for table in (own, real))
        share = painted_disease(*tables, disease.to_numpy(), settings)
        rows.append({"method": method, "value": share.value, "low": share.low, "high": share.high})
    return pd.DataFrame(rows)


def _measured(subject: str, volume: Volume, mask: Mask, regions: Regions, affine: Affine) -> pd.Series:
    try:
        return regional_radius(label_image(volume, mask, affine), regions.image)
    except ValueError as error:
        raise ValueError(f"subject {subject}: {error}") from error
