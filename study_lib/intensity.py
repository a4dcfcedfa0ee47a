"""Intensity normalisers: every one maps the brain to [0, 1] and leaves the background at exactly 0.

`fit` returns a fitted copy and looks at training subjects only; their ids are kept and saved, so that a later
split can be checked against them. `transform` changes one volume and learns nothing from it for others.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from study_lib.files import atomic_write_json
from study_lib.shapes import Mask, Volume

# Where a learned window begins and ends: beyond these percentiles lie vessels, fat and ringing.
WINDOW_PERCENTILES = (0.1, 99.9)


class IntensityError(ValueError):
    """A volume that cannot be normalised, or a normaliser not yet fitted; the message says the fix."""


@dataclass(frozen=True)
class Fit:
    """What was learned, and from whom: `window` goes to 0 and 1, `typical` holds medians over the scans."""

    subjects: tuple[str, ...]
    window: tuple[float, float]
    typical: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Normaliser(ABC):
    """One protocol: `fit`, `transform`, `save`, `load`. Subclasses say how one volume gets its own units."""

    learned: Fit | None = None
    needs_fit = False  # whether the window between volumes is learned

    @abstractmethod
    def statistics(self, values: np.ndarray) -> dict[str, float]:
        """What is estimated from the brain voxels of one volume."""

    @abstractmethod
    def units(self, values: np.ndarray, statistics: dict[str, float]) -> np.ndarray:
        """The brain voxels in the units of their own volume."""

    def window(self, units: np.ndarray) -> tuple[float, float]:
        """The units of one training volume that would map to 0 and 1."""
        return 0.0, 1.0

    def fit(self, volumes: Iterable[Volume], masks: Iterable[Mask], subjects: Iterable[str]) -> Self:
        """A copy that knows the training scans; the volumes are read one by one."""
        rows, windows, names = [], [], []
        for volume, mask, subject in zip(volumes, masks, subjects, strict=True):
            values = _brain_values(volume, mask, subject)
            rows.append(self._statistics(values, subject))
            windows.append(self.window(self.units(values, rows[-1])))
            names.append(str(subject))
        if not rows:
            raise IntensityError("fit: no training volumes given; pass the volumes of the training split")
        typical = {key: float(np.median([row[key] for row in rows])) for key in rows[0]}
        low, high = np.median(windows, axis=0)
        return replace(self, learned=Fit(tuple(sorted(set(names))), (float(low), float(high)), typical))

    def transform(self, volume: Volume, mask: Mask, subject: str = "") -> Volume:
        """The volume in [0, 1] in the mask and 0 outside, float32; `subject` only names it in messages."""
        if self.needs_fit and self.learned is None:
            raise IntensityError(
                f"{type(self).__name__}: its window is learned from training subjects; "
                "use the copy that fit(volumes, masks, subjects) returns, or load a saved one"
            )
        values = _brain_values(volume, mask, subject)
        units = self.units(values, self._statistics(values, subject))
        low, high = self.learned.window if self.needs_fit else (0.0, 1.0)
        normalised = np.zeros(volume.shape, dtype=np.float32)
        normalised[np.asarray(mask, dtype=bool)] = np.clip((units - low) / (high - low), 0, 1)
        return normalised

    def save(self, path: str | Path) -> None:
        """Write settings, learned numbers and training subjects as JSON."""
        settings = asdict(self)
        learned = settings.pop("learned")
        atomic_write_json(path, {"normaliser": type(self).__name__, "settings": settings, "learned": learned})

    @staticmethod
    def load(path: str | Path) -> "Normaliser":
        """Read what `save` wrote, as the class that wrote it."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        known = {kind.__name__: kind for kind in NORMALISERS.values()}
        kind = content.get("normaliser")
        if kind not in known:
            raise IntensityError(f"{path}: expected one of {', '.join(known)}, got {kind!r}; save it again")
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in content["settings"].items()}
        if learned := content["learned"]:
            learned = Fit(tuple(learned["subjects"]), tuple(learned["window"]), learned["typical"])
        return known[kind](**settings, learned=learned)

    def _statistics(self, values: np.ndarray, subject: str) -> dict[str, float]:
        try:
            return self.statistics(values)
        except IntensityError as error:
            raise IntensityError(f"subject {subject or 'unnamed'}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class StudyNormaliser(Normaliser):
    """The harmonisation study's: z-score in the mask, clip, division by the volume's own maximum.

    Exactly: z = (x - mean) / sd; c = clip(z, low, high) - low; result = c / max(c).
    The limits are our choice, the study's are not known. So is the shift by the lower limit: without it the
    background 0 would be as bright as the mean of the brain, and the mean brain intensity would be 0.
    """

    limits: tuple[float, float] = (-3.0, 3.0)

    def __post_init__(self) -> None:
        _check_order("limits", self.limits)

    def statistics(self, values: np.ndarray) -> dict[str, float]:
        mean, sd = _mean_and_sd(values)
        low, high = self.limits
        maximum = float(np.clip((values.max() - mean) / sd, low, high)) - low
        if maximum <= 0:
            raise IntensityError(f"every voxel lies under the lower limit {low}; widen limits={self.limits}")
        return {"mean": mean, "sd": sd, "maximum": maximum}

    def units(self, values: np.ndarray, statistics: dict[str, float]) -> np.ndarray:
        low, high = self.limits
        z = (values - statistics["mean"]) / statistics["sd"]
        return (np.clip(z, low, high) - low) / statistics["maximum"]


@dataclass(frozen=True, kw_only=True)
class ZScoreNormaliser(Normaliser):
    """z-score in the mask; the window [0, 1] is one for all volumes, learned from the training subjects."""

    needs_fit = True

    def statistics(self, values: np.ndarray) -> dict[str, float]:
        mean, sd = _mean_and_sd(values)
        return {"mean": mean, "sd": sd}

    def units(self, values: np.ndarray, statistics: dict[str, float]) -> np.ndarray:
        return (values - statistics["mean"]) / statistics["sd"]

    def window(self, units: np.ndarray) -> tuple[float, float]:
        low, high = np.percentile(units, WINDOW_PERCENTILES)
        return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class PercentileNormaliser(Normaliser):
    """Two percentiles of each volume's brain go to 0 and 1; beyond, it is clipped. Nothing is learned."""

    percentiles: tuple[float, float] = (0.5, 99.5)

    def __post_init__(self) -> None:
        _check_order("percentiles", self.percentiles)

    def statistics(self, values: np.ndarray) -> dict[str, float]:
        low, high = (float(value) for value in np.percentile(values, self.percentiles))
        if high <= low:
            raise IntensityError(f"percentiles {self.percentiles} are both {low:g}; widen them, or check the mask")
        return {"low": low, "high": high}

    def units(self, values: np.ndarray, statistics: dict[str, float]) -> np.ndarray:
        return (values - statistics["low"]) / (statistics["high"] - statistics["low"])


@dataclass(frozen=True, kw_only=True)
class MinMaxNormaliser(PercentileNormaliser):
    """The darkest and the brightest brain voxel go to 0 and 1: a baseline, at the mercy of single voxels."""

    percentiles: tuple[float, float] = (0.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class WhiteMatterNormaliser(Normaliser):
    """Division by the white matter's mode (T1: the brightest peak, as WhiteStripe finds it); 0 stays 0.

    The window's upper end is learned from the training subjects, one for all volumes.
    """

    needs_fit = True

    def statistics(self, values: np.ndarray) -> dict[str, float]:
        return {"mode": white_matter_mode(values)}

    def units(self, values: np.ndarray, statistics: dict[str, float]) -> np.ndarray:
        return values / statistics["mode"]

    def window(self, units: np.ndarray) -> tuple[float, float]:
        return 0.0, float(np.percentile(units, WINDOW_PERCENTILES[1]))


NORMALISERS = {
    "study": StudyNormaliser,
    "z-score": ZScoreNormaliser,
    "percentile": PercentileNormaliser,
    "min-max": MinMaxNormaliser,
    "white matter": WhiteMatterNormaliser,
}


def white_matter_mode(values: np.ndarray, n_bins: int = 500, smoothing: float = 0.02) -> float:
    """The brightest peak of the brain's histogram (T1). `smoothing`: sd of the blur, a share of the range.

    A peak counts if it is a fifth as high as the highest (WhiteStripe's rule for the tail) and stands out by
    a twentieth, so that noise and vessels are no peaks.
    """
    low, high = np.percentile(values, WINDOW_PERCENTILES)
    if high <= low:
        raise IntensityError(f"the brain has one value, {low:g}; check the mask and the volume")
    counts, edges = np.histogram(values, bins=n_bins, range=(low, high))
    smooth = gaussian_filter1d(counts.astype(float), smoothing * n_bins, mode="nearest")
    peaks, _ = find_peaks(smooth, height=smooth.max() / 5, prominence=smooth.max() / 20)
    peak = peaks[-1] if len(peaks) else smooth.argmax()
    mode = float((edges[peak] + edges[peak + 1]) / 2)
    if mode <= 0:
        raise IntensityError(f"the brightest peak lies at {mode:g}; expected a T1 with positive white matter")
    return mode


def _mean_and_sd(values: np.ndarray) -> tuple[float, float]:
    mean, sd = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if sd <= 1e-6 * abs(mean):  # float32 noise of a constant
        raise IntensityError(f"the brain is constant ({mean:g}); check the mask and the volume")
    return mean, sd


def _brain_values(volume: Volume, mask: Mask, subject: str) -> np.ndarray:
    where = f"subject {subject or 'unnamed'}"
    if volume.shape != mask.shape:
        raise IntensityError(f"{where}: the volume has shape {volume.shape}, its mask {mask.shape}; resample both")
    values = volume[np.asarray(mask, dtype=bool)]
    if values.size == 0:
        raise IntensityError(f"{where}: the mask is empty; give the subject's brain mask")
    if not np.isfinite(values.sum(dtype=np.float64)):
        raise IntensityError(f"{where}: NaN or infinite voxels in the brain; load it with study_lib.volume")
    return values


def _check_order(name: str, pair: tuple[float, float]) -> None:
    if len(pair) != 2 or not pair[0] < pair[1]:
        raise IntensityError(f"{name}: expected (low, high) with low < high, got {pair}")
