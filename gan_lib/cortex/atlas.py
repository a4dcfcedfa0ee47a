"""The regions that a cortex is averaged over: a label image, and their names where a table beside it tells them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import nibabel
import pandas as pd
from nibabel.nifti1 import Nifti1Image

DERIVATIVE = "derivatives/atlas"


@dataclass(frozen=True, eq=False)
class Regions:
    """`image` in the space of the scans, on any grid; `names` by label, as text the label itself where unnamed."""

    image: Nifti1Image
    names: dict[int, str]

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """A label image; the table of its names has the columns `index` and `name`, as BIDS has it."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such atlas; give a label image in the space of the scans")
        table = Path(str(path).removesuffix(".gz").removesuffix(".nii") + ".tsv")
        names = {}
        if table.is_file():
            rows = pd.read_csv(table, sep="\t")
            if missing := {"index", "name"} - set(rows):
                raise ValueError(f"{table}: expected the columns index and name, got no {', '.join(sorted(missing))}")
            names = {int(index): str(name) for index, name in zip(rows["index"], rows["name"], strict=True)}
        return cls(nibabel.load(path), names)

    @classmethod
    def of_cohort(cls, root: str | Path) -> Self:
        """The atlas that a data set brings along, as the phantom does."""
        images = sorted((Path(root) / DERIVATIVE).glob("*_dseg.nii.gz"))
        if not images:
            raise FileNotFoundError(f"{Path(root) / DERIVATIVE}: no *_dseg.nii.gz; name one with atlas_file")
        return cls.read(images[0])

    def named(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of one column per label with names for columns."""
        return table.rename(columns=lambda label: self.names.get(int(label), str(label)))
