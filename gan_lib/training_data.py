"""From a manifest to the slices that a model is trained on, and those it is validated on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gan_lib.presets import Preset
from gan_lib.slices import SliceStore, StoreConfig
from study_lib.grid import Grid
from study_lib.manifest import Manifest

# Of the families that come without a role, one in so many is kept for validation, site by site.
ONE_IN = 10


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Stores of one box and one order of sites; no validation where the manifest has too few subjects for it."""

    training: SliceStore
    validation: SliceStore | None
    rows: pd.DataFrame  # of the manifest, with the roles that were used


def training_data(
    cohort: Manifest, rows: pd.DataFrame, folder: str | Path, preset: Preset, n_jobs: int = -1, seed: int = 0
) -> TrainingData:
    """Prepare the rows of roles train and validation under `folder`, or open what is there.

    Rows without a role are given one first. Travelling and test subjects are never read.
    """
    rows = with_roles(rows[rows["t1w"] != ""], seed)
    config = StoreConfig(grid=Grid.isotropic(preset.spacing_mm))
    training = SliceStore.build(rows, cohort, Path(folder) / "training", config, n_jobs)
    validation = None
    if _can_validate(rows, training):
        companion = training.companion("validation")
        own = rows[rows["site"].isin(training.sites)]
        validation = SliceStore.build(own, cohort, Path(folder) / "validation", companion, n_jobs)
    stores = (_sized(store, preset) for store in (training, validation))
    return TrainingData(*stores, rows)


def with_roles(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The rows; where nobody is to be trained on, those without a role train, and a tenth of each site validates.

    Families stay whole. A site of fewer than ten families validates nobody, so that none is left without training.
    """
    free = rows["role"] == "unassigned"
    if (rows["role"] == "train").any() or not free.any():
        return rows
    families = rows[free].groupby("family")["site"].min().reset_index()
    families["order"] = [hashlib.sha256(f"{seed} {name}".encode()).hexdigest() for name in families["family"]]
    families = families.sort_values("order", ignore_index=True)
    place, size = families.groupby("site").cumcount(), families.groupby("site")["family"].transform("size")
    validating = set(families["family"][place < size // ONE_IN])
    roles = rows["family"].map(lambda family: "validation" if family in validating else "train")
    return rows.assign(role=rows["role"].where(~free, roles))


def _can_validate(rows: pd.DataFrame, training: SliceStore) -> bool:
    """Distances between sites need validation subjects of at least two."""
    chosen = rows[(rows["role"] == "validation") & rows["site"].isin(training.sites)]
    return chosen["site"].nunique() >= 2


def _sized(store: SliceStore | None, preset: Preset) -> SliceStore | None:
    """Padded to the preset's size, where it has one; a smaller brain box is needed where that is too small."""
    return store if store is None or preset.size is None else store.in_plane(store.plane, size=preset.size)
