"""Intensity baselines of harmonisation: a scan taken to a target site without any learning of images.

All end on one scale, so that errors against a real scan of the target can be compared: the deck's normalised units
(`StudyNormaliser`), in which that real scan is given. These units are made of every scan's own mean, deviation and
maximum. To run them over a baseline's output would therefore undo each baseline that is a line per scan (z-score,
min-max, WhiteStripe) and leave nothing but `nothing`. So a baseline is told instead how its own units and the deck's
go together at the target:

- `nothing` is the scan in the deck's units, with its own numbers: what harmonisation starts from.
- `z_score`, `min_max` and `white_stripe` have units of their own; one line per target, by least squares over the brains
  of its training scans, takes them to the deck's.
- `histogram_matching` and `nyul` match a template that is made of the target's training scans in the deck's units.

Beyond the deck's [0, 1] a result is clipped, and the background is 0. Only training scans of the target are looked at;
the source site need not be known. Travelling subjects are test subjects: leave them out of `fit`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Float

from study_lib.files import atomic_write_json
from study_lib.intensity import IntensityError, MinMaxNormaliser, StudyNormaliser, ZScoreNormaliser, white_matter_mode
from study_lib.shapes import Mask, Volume

Values = Float[np.ndarray, "voxel"]
Evidence = Float[np.ndarray, "number"]


@dataclass(frozen=True)
class TargetFit:
    """What was learned of a target site: the mean over its training scans of each scan's evidence."""

    target: str
    subjects: tuple[str, ...]
    evidence: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Baseline(ABC):
    """One method: `fit`, `transform`, `save`, `load`. Subclasses say what a scan tells and how a scan is changed."""

    learned: TargetFit | None = None

    @abstractmethod
    def evidence(self, values: Values, studied: Values) -> Evidence:
        """What is kept of one training scan of the target: its brain as scanned, and in the deck's units."""

    @abstractmethod
    def harmonised(self, values: Values, studied: Values, evidence: Evidence) -> Values:
        """The brain of any scan on the target's scale."""

    def fit(
        self,
        volumes: Iterable[Volume],
        masks: Iterable[Mask],
        subjects: Iterable[str],
        sites: Iterable[str],
        target: str,
    ) -> Self:
        """A copy that knows the target's training scans; those of other sites are passed over, one by one."""
        rows, names, others = [], set(), set()
        for volume, mask, subject, site in zip(volumes, masks, subjects, sites, strict=True):
            if site != target:
                others.add(str(site))
                continue
            names.add(str(subject))
            rows.append(_of_subject(subject, self.evidence, *_brain(volume, mask, str(subject))))
        if not rows:
            raise IntensityError(
                f"{type(self).__name__}: no training scan of the target {target!r}; the scans given are of "
                f"{', '.join(sorted(others)) or 'no site'}; name one of these, or pass the target's training scans"
            )
        mean = np.mean(np.asarray(rows, dtype=np.float64), axis=0)
        return replace(self, learned=TargetFit(str(target), tuple(sorted(names)), tuple(mean.tolist())))

    def transform(self, volume: Volume, mask: Mask, subject: str = "") -> Volume:
        """The scan at the target in the deck's units: [0, 1] in the mask and 0 outside, float32."""
        if self.learned is None:
            raise IntensityError(
                f"{type(self).__name__}: not fitted; use the copy that fit(volumes, masks, subjects, sites, target) "
                "returns, or load a saved one"
            )
        values, studied = _brain(volume, mask, subject)
        mapped = _of_subject(subject, self.harmonised, values, studied, np.array(self.learned.evidence))
        harmonised = np.zeros(volume.shape, dtype=np.float32)
        harmonised[np.asarray(mask, dtype=bool)] = np.clip(mapped, 0, 1)
        return harmonised

    def save(self, path: str | Path) -> None:
        """Write settings, learned numbers and training subjects as JSON."""
        settings = asdict(self)
        learned = settings.pop("learned")
        atomic_write_json(path, {"baseline": baseline_name(self), "settings": settings, "learned": learned})

    @staticmethod
    def load(path: str | Path) -> "Baseline":
        """Read what `save` wrote, as the class that wrote it."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if (name := content.get("baseline")) not in BASELINES:
            raise IntensityError(f"{path}: expected a baseline of {', '.join(BASELINES)}, got {name!r}; save it again")
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in content["settings"].items()}
        if learned := content["learned"]:
            learned = TargetFit(learned["target"], tuple(learned["subjects"]), tuple(learned["evidence"]))
        return BASELINES[name](**settings, learned=learned)


class Nothing(Baseline):
    """The scan in the deck's units, whatever the target."""

    def evidence(self, values: Values, studied: Values) -> Evidence:
        return np.empty(0)

    def harmonised(self, values: Values, studied: Values, evidence: Evidence) -> Values:
        return studied


class LinearBaseline(Baseline):
    """Units of the scan's own, taken to the deck's by the target's line; every training scan counts the same."""

    @abstractmethod
    def units(self, values: Values) -> Values:
        """The brain in the units of its own scan."""

    def evidence(self, values: Values, studied: Values) -> Evidence:
        units = self.units(values)
        return np.array([units.mean(), studied.mean(), (units**2).mean(), (units * studied).mean()])

    def harmonised(self, values: Values, studied: Values, evidence: Evidence) -> Values:
        units_mean, studied_mean, square, product = evidence
        slope = (product - units_mean * studied_mean) / (square - units_mean**2)
        return studied_mean + slope * (self.units(values) - units_mean)


class ZScore(LinearBaseline):
    """Mean 0 and standard deviation 1 in the brain."""

    def units(self, values: Values) -> Values:
        normaliser = ZScoreNormaliser()
        return normaliser.units(values, normaliser.statistics(values))


class MinMax(LinearBaseline):
    """The darkest and the brightest brain voxel at 0 and 1."""

    def units(self, values: Values) -> Values:
        normaliser = MinMaxNormaliser()
        return normaliser.units(values, normaliser.statistics(values))


@dataclass(frozen=True, kw_only=True)
class WhiteStripe(LinearBaseline):
    """Mean 0 and standard deviation 1 in normal-appearing white matter (Shinohara et al. 2014, NeuroImage: Clinical).

    The stripe: voxels whose rank in the brain is within `width` of that of the white matter's mode.
    """

    width: float = 0.05

    def units(self, values: Values) -> Values:
        rank = (values <= white_matter_mode(values)).mean()
        low, high = np.quantile(values, np.clip([rank - self.width, rank + self.width], 0, 1))
        stripe = values[(values >= low) & (values <= high)]
        if stripe.std() == 0:
            raise IntensityError(f"the white stripe has one value, {stripe[0]:g}; check the scan, or widen it")
        return (values - stripe.mean()) / stripe.std()


@dataclass(frozen=True, kw_only=True)
class HistogramMatching(Baseline):
    """Every brain voxel gets the value of its rank in the target's template, the mean of its scans' quantiles."""

    quantiles: int = 1000

    def evidence(self, values: Values, studied: Values) -> Evidence:
        return np.quantile(studied, (np.arange(self.quantiles) + 0.5) / self.quantiles)

    def harmonised(self, values: Values, studied: Values, evidence: Evidence) -> Values:
        from skimage.exposure import match_histograms

        return match_histograms(values, evidence)


@dataclass(frozen=True, kw_only=True)
class Nyul(Baseline):
    """Percentiles go to the target's mean percentiles, straight lines between (Nyul et al. 2000, IEEE TMI 19:143)."""

    percentiles: tuple[float, ...] = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)

    def evidence(self, values: Values, studied: Values) -> Evidence:
        return np.percentile(studied, self.percentiles)

    def harmonised(self, values: Values, studied: Values, evidence: Evidence) -> Values:
        landmarks = np.percentile(values, self.percentiles)
        if (np.diff(landmarks) <= 0).any():
            raise IntensityError(f"percentiles {self.percentiles} fall together at {landmarks}; use fewer of them")
        # The first and the last line go on to the ends of the scan.
        ends = np.array([values.min(), values.max()])
        slopes = (np.diff(evidence) / np.diff(landmarks))[[0, -1]]
        beyond = evidence[[0, -1]] + slopes * (ends - landmarks[[0, -1]])
        return np.interp(values, np.r_[ends[0], landmarks, ends[1]], np.r_[beyond[0], evidence, beyond[1]])


BASELINES: dict[str, type[Baseline]] = {
    "nothing": Nothing,
    "z_score": ZScore,
    "min_max": MinMax,
    "histogram_matching": HistogramMatching,
    "nyul": Nyul,
    "white_stripe": WhiteStripe,
}


def baseline_name(baseline: Baseline) -> str:
    """The name in `BASELINES`, as the tables have it."""
    return next(name for name, kind in BASELINES.items() if kind is type(baseline))


def _brain(volume: Volume, mask: Mask, subject: str) -> tuple[Values, Values]:
    """The brain voxels as scanned and in the deck's units; a scan that has none is refused by name."""
    studied = StudyNormaliser().transform(volume, mask, subject)
    inside = np.asarray(mask, dtype=bool)
    return volume[inside].astype(np.float64), studied[inside].astype(np.float64)


def _of_subject(subject: str, function: Callable[..., np.ndarray], *arguments: np.ndarray) -> np.ndarray:
    try:
        return function(*arguments)
    except IntensityError as error:
        raise IntensityError(f"subject {subject or 'unnamed'}: {error}") from error
