"""Embeddings of scans and networks: made with a trained model, kept as a pair of files, read back."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cinp_lib.model import Cinp
from cinp_lib.pair_store import PairStore, places_in_batches
from study_lib.files import atomic_write_bytes, atomic_write_text
from study_lib.shapes import Embeddings
from study_lib.shapes import Networks as NetworkArray

TEXT = ("subject", "family", "session", "cohort", "site", "sex", "diagnosis", "role")


@dataclass(frozen=True, eq=False)
class PairEmbeddings:
    """Row k of all three is one scan; a scan without a network has NaN for its network's embedding."""

    images: Embeddings
    networks: Embeddings
    table: pd.DataFrame

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.networks) == len(self.table):
            lengths = len(self.images), len(self.networks), len(self.table)
            raise ValueError(f"PairEmbeddings: expected as many images as networks and rows, got {lengths}")

    def __len__(self) -> int:
        return len(self.table)

    def save(self, stem: str | Path) -> tuple[Path, Path]:
        """Write `<stem>.npz` with the numbers and `<stem>.csv` with the people, in one order."""
        stem, buffer = Path(stem), io.BytesIO()
        np.savez(buffer, image=self.images, network=self.networks, subject=self.table["subject"].to_numpy(str))
        paths = stem.with_name(f"{stem.name}.npz"), stem.with_name(f"{stem.name}.csv")
        atomic_write_bytes(paths[0], buffer.getvalue())
        atomic_write_text(paths[1], self.table.to_csv(index=False, lineterminator="\n"))
        return paths

    @classmethod
    def load(cls, stem: str | Path) -> "PairEmbeddings":
        """What `save` wrote; files that do not belong together are refused."""
        stem = Path(stem)
        arrays, people = stem.with_name(f"{stem.name}.npz"), stem.with_name(f"{stem.name}.csv")
        table = pd.read_csv(
            people, dtype={name: str for name in TEXT}, keep_default_na=False, na_values={"age_years": [""]}
        )
        with np.load(arrays) as content:
            if content["subject"].tolist() != table["subject"].tolist():
                raise ValueError(f"{arrays} and {people} hold other people, or another order; export them again")
            return cls(content["image"], content["network"], table)


def embed_pairs(model: Cinp, store: PairStore, batch: int = 32) -> PairEmbeddings:
    """Image and network embeddings of all pairs of a store, in its order."""
    images = _in_batches(model, len(store), batch, lambda places: _images(model, store, places))
    networks, there = np.full_like(images, np.nan), np.flatnonzero(store.table["has_network"])
    if len(there):
        networks[there] = embed_networks(model, store.networks(there), batch)
    return PairEmbeddings(images, networks, store.table)


def embed_networks(model: Cinp, networks: NetworkArray, batch: int = 256) -> Embeddings:
    """Embeddings of networks alone, such as references for prompting."""
    return _in_batches(model, len(networks), batch, lambda places: _networks(model, networks[places]))


def _in_batches(model: Cinp, number: int, batch: int, embed: Callable[[np.ndarray], torch.Tensor]) -> Embeddings:
    """In eval mode and float32; the model is left in the mode it was in."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            done = [embed(places).float().cpu().numpy() for places in places_in_batches(number, batch)]
    finally:
        model.train(training)
    return np.concatenate(done)


def _images(model: Cinp, store: PairStore, places: np.ndarray) -> torch.Tensor:
    return model.embed_images(torch.from_numpy(store.volumes(places))[:, None].to(model.log_tau.device))


def _networks(model: Cinp, networks: np.ndarray) -> torch.Tensor:
    return model.embed_networks(torch.from_numpy(np.asarray(networks, np.float32)).to(model.log_tau.device))
