"""Travelling subjects: one head at every site, so that a translated scan meets the real one at its target.

Every ordered pair of sites is judged alike for any number of methods: `before` (the source scan as it is), each
method, and `rescan` (the same head again at the same site). Both images carry noise of their own, so the rescan is
what a perfect imitation of the target reaches; a translation with less noise than a scan may come closer.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from gan_lib.similarity import METRICS, Metric
from study_lib.grid import Grid
from study_lib.intensity import Normaliser
from study_lib.manifest import Manifest
from study_lib.preparation import PreparedScan, prepare_scans
from study_lib.shapes import Mask, Volume

if TYPE_CHECKING:
    from gan_lib.baselines import Baseline
    from gan_lib.harmonize import Harmonizer

BEFORE, RESCAN = "before", "rescan"
# A scan and the site whose style it shall have in; its volume in the study's units out, 0 outside the scan's mask.
Translate = Callable[["Visit", str], Volume]
Key = tuple[str, str, str]  # subject, source site, target site


@dataclass(frozen=True, eq=False)
class Visit:
    """One scan of a travelling subject, and the same in the study's units."""

    scan: PreparedScan
    volume: Volume

    @property
    def subject(self) -> str:
        return self.scan.subject

    @property
    def site(self) -> str:
        return self.scan.site

    @property
    def mask(self) -> Mask:
        return self.scan.mask


@dataclass(frozen=True, eq=False)
class Travellers:
    """First visits by subject and site; further visits of a site are rescans. `left_out`: who is not used, and why."""

    visits: dict[tuple[str, str], Visit]
    rescans: tuple[Visit, ...]
    left_out: pd.DataFrame

    @property
    def subjects(self) -> list[str]:
        return sorted({subject for subject, _ in self.visits})

    @property
    def sites(self) -> list[str]:
        return sorted({site for _, site in self.visits})

    def pairs(self) -> Iterator[tuple[Visit, Visit]]:
        """Source and target visit of every subject and every ordered pair of sites it was scanned at."""
        for subject in self.subjects:
            own = [self.visits[subject, site] for site in self.sites if (subject, site) in self.visits]
            yield from ((source, target) for source in own for target in own if source is not target)

    def repeats(self) -> Iterator[tuple[Visit, Visit]]:
        """Every rescan with the first visit at its site."""
        yield from ((rescan, self.visits[rescan.subject, rescan.site]) for rescan in self.rescans)


def read_travellers(cohort: Manifest, grid: Grid, normaliser: Normaliser, n_jobs: int = 1) -> Travellers:
    """All rows with the role `travelling` and a T1w, read, resampled and normalised."""
    rows = cohort.table[(cohort.table["role"] == "travelling") & (cohort.table["t1w"] != "")]
    if rows.empty:
        raise ValueError(
            "the manifest has no T1w of a travelling subject: give those who were scanned at several sites the role "
            "'travelling'; without them there is no truth to compare with"
        )
    scans = prepare_scans(cohort, rows, grid, n_jobs)
    return travellers_of(Visit(scan, scan.normalised(normaliser)) for scan in scans)


def travellers_of(visits: Iterable[Visit]) -> Travellers:
    """Sort visits out: the first at a site, in the order of session labels, is the scan, the others are rescans."""
    first, again, left_out = {}, [], []
    for visit in sorted(visits, key=lambda visit: (visit.subject, visit.site, visit.scan.session)):
        key = visit.subject, visit.site
        if key in first:
            again.append(visit)
        else:
            first[key] = visit
    number = pd.Series([subject for subject, _ in first]).value_counts()
    for subject in sorted(number.index[number < 2]):
        left_out.append({"subject": subject, "reason": "scanned at one site: there is no pair of sites to compare"})
    if (number < 2).all():
        raise ValueError("no travelling subject was scanned at two sites or more; check the column `site`")
    table = pd.DataFrame(left_out, columns=["subject", "reason"])
    kept = {key: visit for key, visit in first.items() if number[key[0]] >= 2}
    return Travellers(kept, tuple(visit for visit in again if number[visit.subject] >= 2), table)


def translate_all(travellers: Travellers, translate: Translate) -> dict[Key, Volume]:
    """The translation of every subject for every ordered pair of sites."""
    return {(a.subject, a.site, b.site): translate(a, b.site) for a, b in travellers.pairs()}


def stored(volumes: Mapping[Key, Volume]) -> Translate:
    """Translations that were made before, as a method."""
    return lambda visit, target: volumes[visit.subject, visit.site, target]


def by_target(fitted: Mapping[str, "Baseline"]) -> Translate:
    """Baselines that were fitted one per target site, as a method."""
    return lambda visit, target: fitted[target].transform(visit.scan.head, visit.mask, visit.subject)


def harmonised_by(harmonizer: "Harmonizer", grid: Grid) -> Translate:
    """A harmoniser as a method: through the interface that everybody uses, NIfTI in and out on the study's grid."""

    def translate(visit: Visit, target: str) -> Volume:
        image = nibabel.Nifti1Image(visit.scan.head, grid.affine)
        mask = nibabel.Nifti1Image(visit.mask.astype(np.uint8), grid.affine)
        return np.asarray(harmonizer.harmonize(image, target=target, mask=mask).dataobj, dtype=np.float32)

    return translate


def evaluate(
    travellers: Travellers,
    methods: Mapping[str, Translate],
    metrics: Mapping[str, Metric] = METRICS,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """One row per method, subject, source and target, one column per metric, inside the mask that both scans share.

    Translations are made one by one and dropped once they are scored; `n_jobs` threads score them.
    """
    if reserved := {BEFORE, RESCAN} & set(methods):
        raise ValueError(f"methods: {', '.join(reserved)} is added by itself; give the method another name")
    pairs = list(travellers.pairs())
    rows = []
    with Parallel(n_jobs, prefer="threads") as parallel:
        for source, target in tqdm(pairs, desc="travelling pairs", unit="pair", disable=len(pairs) < 5):
            images = {BEFORE: source.volume}
            images |= {name: translate(source, target.site) for name, translate in methods.items()}
            jobs = (delayed(_scores)(name, image, source, target, metrics) for name, image in images.items())
            rows += parallel(jobs)
        rows += parallel(delayed(_scores)(RESCAN, a.volume, a, b, metrics) for a, b in travellers.repeats())
    return pd.DataFrame(rows)


def _scores(
    method: str, image: Volume, source: Visit, target: Visit, metrics: Mapping[str, Metric]
) -> dict[str, str | float]:
    names = {"method": method, "subject": source.subject, "source": source.site, "target": target.site}
    try:
        mask = source.mask & target.mask
        return names | {name: metric.function(image, target.volume, mask) for name, metric in metrics.items()}
    except ValueError as error:
        raise ValueError(f"{method}, subject {source.subject}, {source.site} to {target.site}: {error}") from error
