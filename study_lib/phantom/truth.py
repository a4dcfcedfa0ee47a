"""What is true of the phantom, read back from its truth folder: for judging results, never for making them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

TABLES = ("thickness_mm", "hemisphere_thickness_mm", "log_volume", "anatomy_traits", "network_traits")


@dataclass(frozen=True)
class Truth:
    """The truth folder of one cohort."""

    folder: Path

    @classmethod
    def beside(cls, manifest: str | Path) -> "Truth":
        """The truth of the phantom whose manifest this is."""
        folder = Path(manifest).parent / "truth"
        if not folder.is_dir():
            raise FileNotFoundError(f"expected {folder}: only the phantom has a truth folder, real data has none")
        return cls(folder)

    def table(self, name: str) -> pd.DataFrame:
        """One of `TABLES`, with one row per subject."""
        if name not in TABLES:
            raise KeyError(f"truth has no table {name!r}: expected one of {', '.join(TABLES)}")
        return pd.read_csv(self.folder / f"{name}.tsv", sep="\t", index_col="subject")

    def networks(self) -> tuple[list[str], np.ndarray]:
        """Subjects with function, and their (subject, 116, 116) true networks, read only as far as they are used."""
        subjects = pd.read_csv(self.folder / "networks.tsv", sep="\t")["subject"].tolist()
        return subjects, np.load(self.folder / "networks.npy", mmap_mode="r")

    def effects(self) -> dict:
        """Which regions and edges carry the effect of diagnosis, and how far each diagnosis moves each trait."""
        return json.loads((self.folder / "effects.json").read_text())

    def sites(self) -> dict:
        """What each scanner does to an image."""
        return json.loads((self.folder / "sites.json").read_text())

    def labels(self, subject: str) -> Path:
        """True tissue labels (0 background and fluid, 1 grey, 2 white) of a harmonisation subject, on the 2 mm grid."""
        found = list(self.folder.glob(f"sub-{subject}/*_res-02_dseg.nii.gz"))
        if not found:
            raise KeyError(f"no true labels of subject {subject!r}: only harmonisation subjects have them")
        return found[0]


def has_truth(manifest: str | Path) -> bool:
    """Whether this is the manifest of a phantom."""
    return (Path(manifest).parent / "truth").is_dir()


def oracle_predictions(traits: pd.DataFrame, shifts: dict[str, list[float]]) -> np.ndarray:
    """The diagnosis that true traits make most likely, where nothing else is known of a person.

    `shifts` holds, for every class, how far it moves the first traits (`effects()["anatomy_shift"]` for traits of the
    anatomy). Classes count as equally frequent, as balanced accuracy counts them.
    """
    centres = np.array(list(shifts.values()))
    own = traits.to_numpy()[:, None, : centres.shape[1]]
    return np.array(list(shifts))[((own - centres) ** 2).sum(2).argmin(1)]
