"""A positive control: a faint mark planted on the slices of half of the subjects, which a good attacker must find."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Shaped

from gan_lib.site_classifier.examples import SiteSlices
from study_lib.training import stream

PLAIN, MARKED = "plain", "marked"


@dataclass(frozen=True)
class Mark:
    """Stripes, as an interference would leave them: a cosine along the rows, in the study's units."""

    amplitude: float = 0.02
    period: float = 5.0  # pixels

    def __post_init__(self) -> None:
        if self.amplitude <= 0 or self.period <= 1:
            raise ValueError(f"Mark: expected a positive amplitude and a period of more than 1 pixel, got {self}")

    def on(self, images: Float[np.ndarray, "slice height width"]) -> Float[np.ndarray, "slice height width"]:
        """The images with the mark in their brains."""
        stripes = self.amplitude * np.cos(2 * np.pi * np.arange(images.shape[1]) / self.period)
        marked = np.clip(images.astype(np.float32) + stripes[:, None], 0, 1)
        return np.where(images != 0, marked, 0).astype(images.dtype)


def planted(slices: SiteSlices, mark: Mark, seed: int) -> SiteSlices:
    """The same slices with two classes: half of the subjects of every role and site, drawn by lot, carry the mark."""
    marked = np.isin(slices.subjects, list(_drawn(slices, seed)))
    images = np.where(marked[:, None, None], mark.on(slices.images), slices.images)
    return replace(slices, images=images, labels=marked.astype(np.int64), names=(PLAIN, MARKED))


def _drawn(slices: SiteSlices, seed: int) -> set[str]:
    """Every second subject of each role, in an order that is by site and random within it."""
    rng, chosen = stream(seed, "planted mark", 0), set()
    for role in sorted(set(slices.roles.tolist())):
        order = [name for label in range(len(slices.names)) for name in _shuffled(slices, role, label, rng)]
        chosen |= set(order[int(rng.integers(2)) :: 2])
    return chosen


def _shuffled(slices: SiteSlices, role: str, label: int, rng: np.random.Generator) -> Shaped[np.ndarray, " subject"]:
    own: Bool[np.ndarray, " slice"] = (slices.roles == role) & (slices.labels == label)
    return rng.permutation(np.unique(slices.subjects[own])).tolist()
