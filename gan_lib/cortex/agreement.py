"""Do travelling subjects keep their cortical radius? Every method measured alike, beside the truth where it is known.

Labels come from each image by its own contrast (`gan_lib.tissue`), with one set of settings for real and translated
images. `before` is the source scan as it is, `target` the real scan at the target site.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from nibabel.nifti1 import Nifti1Image

from gan_lib.cortex.radius import HEMISPHERES, hemisphere_radius
from gan_lib.tissue import label_image
from gan_lib.travelling import BEFORE, Translate, Travellers, Visit
from gan_lib.travelling_scores import PAIR, score
from study_lib.scores import correlation, intraclass_correlation
from study_lib.shapes import Affine, Mask, Volume
from study_lib.statistics import BootstrapSettings, bootstrap

TARGET = "target"
_KINDS = ("source", "target", "transferred", "truth")
KEYS = ["subject", *PAIR, "hemisphere"]
# The deck's two transfers, by the sites that stand for the scanners.
STUDY_PAIRS = {"Siemens to GE": ("GMC", "ADNI"), "GE to Philips": ("ADNI", "SMC")}


def travelling_radii(
    travellers: Travellers, methods: Mapping[str, Translate], affine: Affine, n_jobs: int = 1
) -> pd.DataFrame:
    """One row per method, subject, source, target and hemisphere: `radius_mm`."""
    if reserved := {BEFORE, TARGET} & set(methods):
        raise ValueError(f"methods: {', '.join(reserved)} is added by itself; give the method another name")
    with Parallel(n_jobs, prefer="threads") as parallel:
        visits = list(travellers.visits.items())
        found = parallel(delayed(_measured)("scan", v, v.volume, v.mask, affine) for _, v in visits)
        own = {key: radii for (key, _), radii in zip(visits, found, strict=True)}
        jobs = [(name, *pair) for name in methods for pair in travellers.pairs()]
        radii = parallel(delayed(_translated)(methods[name], name, a, b, affine) for name, a, b in jobs)
    rows = [row for (name, a, b), found in zip(jobs, radii, strict=True) for row in _rows(name, a, b, found)]
    for a, b in travellers.pairs():
        rows += _rows(BEFORE, a, b, own[a.subject, a.site]) + _rows(TARGET, a, b, own[b.subject, b.site])
    return pd.DataFrame(rows)


def with_truth(radii: pd.DataFrame, labels: Mapping[str, Nifti1Image]) -> pd.DataFrame:
    """The rows with `truth_mm`, the same measure on each subject's true labels, and `error_percent`."""
    if missing := sorted(set(radii["subject"]) - set(labels)):
        raise KeyError(f"no true labels of {', '.join(missing)}; give them, or leave these subjects out by name")
    truth = {subject: hemisphere_radius(image) for subject, image in labels.items()}
    pairs = zip(radii["subject"], radii["hemisphere"], strict=True)
    known = np.array([truth[subject][hemisphere] for subject, hemisphere in pairs])
    error = 100 * (radii["radius_mm"] - known).abs() / known
    return radii.assign(truth_mm=known, error_percent=error, signed_percent=100 * (radii["radius_mm"] / known - 1))


def error_table(radii: pd.DataFrame, settings: BootstrapSettings | None = None) -> pd.DataFrame:
    """Mean absolute error in percent of the truth per method, over pairs of sites; interval over subjects."""
    rows = []
    for name, own in radii.groupby("method", sort=False):
        interval = score(own, "error_percent", settings)
        bias = score(own, "signed_percent", settings).value
        numbers = {"error_percent": interval.value, "low": interval.low, "high": interval.high, "bias_percent": bias}
        rows.append({"method": name, **numbers, "subjects": interval.n})
    return pd.DataFrame(rows).sort_values("error_percent", ignore_index=True)


def readings(table: pd.DataFrame) -> pd.DataFrame:
    """Source, target and transferred radius read both ways: as kept, and as harmonised.

    `change_percent`: what the source lost, best 0 for anatomy that is kept. `gap_closed_percent`: the share of the way
    from source to target, best 100 for a radius that follows the scanner. The two ask for opposite things.
    """
    source, target, after = (table[f"{name}_mm"] for name in ("source", "target", "transferred"))
    gap = (target - source).where(lambda difference: difference != 0)
    return table.assign(change_percent=100 * (after - source) / source, gap_closed_percent=100 * (after - source) / gap)


def study_table(radii: pd.DataFrame, main: str) -> pd.DataFrame:
    """Table 2 of the study on this cohort: means over subjects for its two transfers; without sites it lacks."""
    columns = {"source_mm": (BEFORE, "radius_mm"), "target_mm": (TARGET, "radius_mm")}
    columns |= {"transferred_mm": (main, "radius_mm")}
    if "truth_mm" in radii:
        columns["truth_mm"] = (main, "truth_mm")
    rows = []
    for pair, (source, target) in STUDY_PAIRS.items():
        own = radii[(radii["source"] == source) & (radii["target"] == target)]
        for side in HEMISPHERES if len(own) else ():
            here = own[own["hemisphere"] == side]
            means = {name: here.loc[here["method"] == m, column].mean() for name, (m, column) in columns.items()}
            rows.append({"pair": pair, "sites": f"{source.lower()}_to_{target.lower()}", "hemisphere": side, **means})
    return readings(pd.DataFrame(rows)) if rows else pd.DataFrame(rows)


def radius_metrics(radii: pd.DataFrame, main: str, settings: BootstrapSettings | None = None) -> dict[str, float]:
    """Flat names: `radius_<pair>_<hemisphere>_source`, …, `radius_error_percent_<method>`, correlations, ICC."""
    result = {}
    for row in study_table(radii, main).to_dict("records"):
        stem = f"radius_{row['sites']}_{row['hemisphere']}"
        result |= {f"{stem}_{n}": row[f"{n}_mm"] for n in _KINDS if f"{n}_mm" in row}
    own = paired(radii, main)
    agreements = {"radius_correlation": correlation(own["source_mm"], own["transferred_mm"])}
    if "truth_mm" in radii:
        both = own[["transferred_mm", "truth_mm"]].to_numpy()
        agreements |= {"radius_correlation_truth": correlation(*both.T), "radius_icc": intraclass_correlation(both)}
    for name, statistic in agreements.items():
        interval = bootstrap(statistic, own["subject"], settings=settings)
        result |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    if "truth_mm" not in radii:
        return result
    for row in error_table(radii, settings).itertuples():
        name = f"radius_error_percent_{'after' if row.method == main else row.method}"
        result |= {name: row.error_percent, f"{name}_bias": row.bias_percent}
        result |= {f"{name}_{end}": getattr(row, end) for end in ("low", "high") if np.isfinite(getattr(row, end))}
    return result


def paired(radii: pd.DataFrame, method: str) -> pd.DataFrame:
    """One row per subject, pair and hemisphere: `source_mm`, `target_mm`, `transferred_mm`, and `truth_mm` if known."""
    names = {BEFORE: "source_mm", TARGET: "target_mm", method: "transferred_mm"}
    chosen = radii[radii["method"].isin(names)]
    wide = chosen.pivot_table(index=KEYS, columns="method", values="radius_mm").rename(columns=names)
    if "truth_mm" in radii:
        wide["truth_mm"] = chosen.groupby(KEYS)["truth_mm"].first()
    if missing := set(names.values()) - set(wide):
        raise KeyError(f"no radii of {', '.join(sorted(missing))}: there are {', '.join(radii['method'].unique())}")
    return wide.reset_index()


def _measured(what: str, visit: Visit, volume: Volume, mask: Mask, affine: Affine) -> dict[str, float]:
    try:
        return hemisphere_radius(label_image(volume, mask, affine))
    except ValueError as error:
        raise ValueError(f"{what}, subject {visit.subject} at {visit.site}: {error}") from error


def _translated(translate: Translate, name: str, a: Visit, b: Visit, affine: Affine) -> dict[str, float]:
    return _measured(f"{name} to {b.site}", a, translate(a, b.site), a.mask, affine)


def _rows(method: str, a: Visit, b: Visit, radii: Mapping[str, float]) -> list[dict]:
    keys = {"method": method, "subject": a.subject, "source": a.site, "target": b.site}
    return [keys | {"hemisphere": side, "radius_mm": radius} for side, radius in radii.items()]
