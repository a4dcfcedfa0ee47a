"""All baselines fitted for every target site on its training scans, and kept as files: by name, then by target."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from joblib import Parallel, delayed

from gan_lib.baselines import BASELINES, Baseline
from study_lib.preparation import PreparedScan

Fits = dict[str, dict[str, Baseline]]
# `nothing` learns nothing: it is the scan as it is, which every table has anyway.
LEARNING = tuple(name for name in BASELINES if name != "nothing")


def fit_baselines(scans: Sequence[PreparedScan], names: Iterable[str] = LEARNING, n_jobs: int = 1) -> Fits:
    """Every baseline for every site that has scans among these; give training scans only."""
    sites = sorted({scan.site for scan in scans})
    own = {site: [scan for scan in scans if scan.site == site] for site in sites}
    jobs = {(name, site): delayed(_fit)(name, own[site], site) for name in names for site in sites}
    fitted = dict(zip(jobs, Parallel(n_jobs, prefer="threads")(jobs.values()), strict=True))
    return {name: {site: fitted[name, site] for site in sites} for name in names}


def save_fits(fits: Fits, folder: str | Path) -> None:
    """One JSON per baseline and target."""
    for name, targets in fits.items():
        for site, baseline in targets.items():
            baseline.save(_path(folder, name, site))


def load_fits(folder: str | Path, sites: Iterable[str], names: Iterable[str] = LEARNING) -> Fits:
    """What `save_fits` wrote."""
    return {name: {site: Baseline.load(_path(folder, name, site)) for site in sites} for name in names}


def _fit(name: str, scans: Sequence[PreparedScan], site: str) -> Baseline:
    heads, masks = [scan.head for scan in scans], [scan.mask for scan in scans]
    return BASELINES[name]().fit(heads, masks, [scan.subject for scan in scans], [site] * len(scans), site)


def _path(folder: str | Path, name: str, site: str) -> Path:
    return Path(folder) / name / f"{site}.json"
