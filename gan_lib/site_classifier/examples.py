"""Slices of prepared scans with the site they come from: what a site classifier is trained and tested on.

Whose slices are trained on, chosen by and tested on is the manifest's roles, so no subject is on two sides.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float16, Int, Shaped

from gan_lib.slices import SliceBox
from gan_lib.travelling import Visit
from study_lib.files import atomic_path
from study_lib.grid import Grid
from study_lib.intensity import Normaliser
from study_lib.manifest import Manifest
from study_lib.preparation import prepare_scans
from study_lib.shapes import Mask, Volume
from study_lib.splits import LeakError

ROLES = ("train", "validation", "test")
# A site that lacks one of these cannot be learned, or an interval over its subjects cannot be given.
FEWEST_SUBJECTS = {"train": 2, "validation": 1, "test": 1}
# Scans in memory at once, as read; of all others only slices are kept.
SCANS_AT_ONCE = 64
# A scan in, its volume as a method leaves it out: the study's units, 0 outside the scan's mask.
Method = Callable[[Visit], Volume]


@dataclass(frozen=True)
class SliceChoice:
    """Every `step`-th axial slice whose brain is at least `least_share` of that of the volume's fullest slice."""

    step: int = 3
    least_share: float = 0.35

    def __post_init__(self) -> None:
        if self.step < 1 or not 0 < self.least_share <= 1:
            raise ValueError(f"SliceChoice: expected step >= 1 and 0 < least_share <= 1, got {self}")

    def of(self, mask: Mask) -> Int[np.ndarray, " slice"]:
        """Numbers of the chosen slices along the last axis of a mask."""
        areas = mask.sum(axis=(0, 1))
        if not areas.any():
            raise ValueError("SliceChoice: the mask is empty; give the scan's brain mask")
        return np.flatnonzero(areas >= self.least_share * areas.max())[:: self.step]


@dataclass(frozen=True, eq=False)
class SiteSlices:
    """One row per slice; `labels` number the classes in `names`, which are sites unless something else is said."""

    images: Float16[np.ndarray, "slice height width"]
    labels: Int[np.ndarray, " slice"]
    subjects: Shaped[np.ndarray, " slice"]
    roles: Shaped[np.ndarray, " slice"]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.images, self.labels, self.subjects, self.roles)}
        if len(lengths) != 1 or self.images.ndim != 3:
            raise ValueError(f"SiteSlices: expected (slice, height, width) and columns as long, got lengths {lengths}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.names):
            raise ValueError(f"SiteSlices: expected labels from 0 to {len(self.names) - 1}, got {set(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: Shaped[np.ndarray, " slice"]) -> Self:
        """The slices of a selection."""
        columns = ("images", "labels", "subjects", "roles")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})

    def of_role(self, role: str) -> Self:
        """The slices of one role."""
        return self.where(self.roles == role)

    def of_sites(self, names: Sequence[str]) -> Self:
        """The slices of some sites, labelled in the order given."""
        number = {self._number(name): new for new, name in enumerate(names)}
        kept = self.where(np.isin(self.labels, list(number)))
        return replace(kept, labels=np.array([number[k] for k in kept.labels], dtype=np.int64), names=tuple(names))

    def with_site_of(self, other: "SiteSlices", name: str) -> Self:
        """These slices, but those of one site taken from `other`: the same scans as another method leaves them."""
        if not np.array_equal(self.labels, other.labels) or not np.array_equal(self.subjects, other.subjects):
            raise ValueError("with_site_of: expected slices of the same scans in the same order; gather both at once")
        own = (self.labels == self._number(name))[:, None, None]
        return replace(self, images=np.where(own, other.images, self.images))

    def check(self) -> Self:
        """Raise where training or testing on these slices would be wrong or impossible."""
        people = pd.DataFrame({"subject": self.subjects, "role": self.roles, "label": self.labels}).drop_duplicates()
        roles = people.groupby("subject")["role"].nunique()
        if (roles > 1).any():
            raise LeakError(f"subjects with several roles: {', '.join(roles.index[roles > 1][:10])}; give each one")
        if len(self.names) < 2:
            raise ValueError(f"a classifier needs two sites or more, got only {', '.join(self.names) or 'none'}")
        counts = pd.crosstab(people["label"], people["role"]).reindex(range(len(self.names)), fill_value=0)
        for role, fewest in FEWEST_SUBJECTS.items():
            for number, name in enumerate(self.names):
                got = int(counts.loc[number, role]) if role in counts else 0
                if got < fewest:
                    raise ValueError(
                        f"{name}: expected at least {fewest} subjects with role {role!r}, got {got}; give more of its "
                        "subjects that role (study_lib.splits.split_subjects), or leave the site out"
                    )
        return self

    def save(self, path: str | Path) -> None:
        """Write all as one .npz."""
        columns = {name: getattr(self, name) for name in ("images", "labels", "subjects", "roles", "names")}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **columns)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as saved:
            columns = {name: saved[name] for name in ("images", "labels", "subjects", "roles")}
            return cls(**columns, names=tuple(saved["names"].tolist()))

    def _number(self, name: str) -> int:
        if name not in self.names:
            raise KeyError(f"site: expected one of {', '.join(self.names)}, got {name!r}")
        return self.names.index(name)


def split_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a manifest with a T1w and one of the three roles; travelling subjects are left to notebook 04."""
    rows = table[(table["t1w"] != "") & table["role"].isin(ROLES)]
    if rows.empty:
        raise ValueError(
            f"the manifest has no T1w with a role of {', '.join(ROLES)}; "
            "give subjects their roles with study_lib.splits.split_subjects"
        )
    return rows


def visits_of(
    cohort: Manifest, rows: pd.DataFrame, grid: Grid, normaliser: Normaliser, n_jobs: int = 1
) -> Iterator[tuple[Visit, str]]:
    """Every scan in the study's units with its role, some at a time."""
    for start in range(0, len(rows), SCANS_AT_ONCE):
        some = rows.iloc[start : start + SCANS_AT_ONCE]
        for scan, role in zip(prepare_scans(cohort, some, grid, n_jobs), some["role"], strict=True):
            yield Visit(scan, scan.normalised(normaliser)), role


def gather(
    visits: Iterator[tuple[Visit, str]],
    methods: Mapping[str, Method],
    box: SliceBox,
    choice: SliceChoice,
    names: Sequence[str] = (),
) -> dict[str, SiteSlices]:
    """Slices of all scans for each method, in one pass: the same slices of the same scans for all of them.

    `names` orders the sites; without them they are sorted.
    """
    images, people = {name: [] for name in methods}, []
    for visit, role in visits:
        placed = box.around(visit.mask)
        chosen = choice.of(visit.mask) - placed.low[0]
        for name, method in methods.items():
            images[name].append(placed.crop(_checked(method(visit), visit, name))[chosen].astype(np.float16))
        people += [(visit.site, visit.subject, role)] * len(chosen)
    sites, subjects, roles = (np.array(column) for column in zip(*people, strict=True))
    names = tuple(names) or tuple(sorted(set(sites.tolist())))
    if unknown := sorted(set(sites.tolist()) - set(names)):
        raise ValueError(f"sites {', '.join(unknown)} are none of {', '.join(names)}; leave their rows out")
    labels = np.array([names.index(site) for site in sites], dtype=np.int64)
    return {name: SiteSlices(np.concatenate(own), labels, subjects, roles, names) for name, own in images.items()}


def _checked(volume: Volume, visit: Visit, name: str) -> Volume:
    where = f"{name}, subject {visit.subject} of {visit.site}"
    if volume.shape != visit.mask.shape:
        raise ValueError(f"{where}: the image has shape {volume.shape}, the scan {visit.mask.shape}; keep its grid")
    if not np.isfinite(volume).all():
        raise ValueError(f"{where}: NaN or infinite voxels; look at this image before it is classified")
    return np.where(visit.mask, volume, 0)
