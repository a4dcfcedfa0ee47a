"""ComBat on regional features: site effects of mean and spread removed, effects of age, sex and diagnosis kept.

Johnson et al. 2007 (Biostatistics 8:118) as Fortin et al. 2018 (NeuroImage 167:104) use it for cortical thickness:
y = alpha + X beta + gamma_site + delta_site * error per feature, with gamma and delta of a site shrunk towards what
they are over all features. Learned from training subjects only; others of the same sites are then adjusted with the
same numbers. neuroHarmonize, the kept library for this, needs numpy below 2 and pandas below 3.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float

from gan_lib.covariates import CovariateCode
from study_lib.files import atomic_write_json

Features = Float[np.ndarray, "subject feature"]
TOLERANCE, MOST_STEPS = 1e-8, 1000  # of the shrinkage, on data of unit variance


@dataclass(frozen=True, eq=False)
class ComBatFit:
    """What was learned, and from whom; arrays are (feature,), (covariate, feature) or (site, feature)."""

    subjects: tuple[str, ...]
    sites: tuple[str, ...]
    covariates: CovariateCode
    mean: np.ndarray  # alpha
    effects: np.ndarray  # beta
    scale: np.ndarray  # standard deviation that sites and covariates leave
    shift: np.ndarray  # gamma, in units of `scale`
    spread: np.ndarray  # delta squared


@dataclass(frozen=True, kw_only=True)
class ComBat:
    """`fit` on training subjects returns a fitted copy; `transform` adjusts any subjects of the same sites.

    `reference`: a site whose features stay as they are and whose scale the others take; else that of all sites.
    `empirical_bayes=False` takes every feature's own mean and spread, without shrinkage.
    `transform` needs the covariates of the subjects it adjusts: where diagnosis is to be predicted, leave it out.
    """

    reference: str | None = None
    empirical_bayes: bool = True
    learned: ComBatFit | None = None

    def fit(
        self,
        features: Features,
        sites: Sequence[str],
        subjects: Sequence[str],
        covariates: pd.DataFrame | None = None,
    ) -> Self:
        """A copy that knows the site effects of these subjects, with those of the covariates held apart."""
        features, sites = _checked(features, sites, subjects=subjects)
        names = tuple(sorted(set(sites.tolist())))
        code = CovariateCode.of(covariates)
        self._check(features, sites, names)
        belongs = (sites[:, None] == np.array(names)).astype(float)
        design = np.hstack([belongs, code.encode(covariates, len(features))])
        _check_rank(design)
        coefficients = np.linalg.lstsq(design, features, rcond=None)[0]
        ours = sites == self.reference if self.reference else np.ones(len(sites), dtype=bool)
        mean = belongs[ours].mean(axis=0) @ coefficients[: len(names)]
        scale = np.sqrt(((features - design @ coefficients)[ours] ** 2).mean(axis=0))
        _check_spread(scale, features)
        effects = coefficients[len(names) :]
        standard = (features - mean - design[:, len(names) :] @ effects) / scale
        shift, spread = self._site_effects([standard[sites == name] for name in names], names)
        people = tuple(sorted(set(map(str, subjects))))
        return replace(self, learned=ComBatFit(people, names, code, mean, effects, scale, shift, spread))

    def transform(self, features: Features, sites: Sequence[str], covariates: pd.DataFrame | None = None) -> Features:
        """The features without the effect of their site; a site that `fit` has not seen is refused."""
        if (fit := self.learned) is None:
            raise ValueError("ComBat: not fitted; use the copy that fit(features, sites, subjects) returns")
        features, sites = _checked(features, sites, n_features=len(fit.mean))
        unseen = sorted(set(sites.tolist()) - set(fit.sites))
        if unseen:
            raise ValueError(
                f"ComBat: no training subject of site {', '.join(unseen)}, fitted were {', '.join(fit.sites)}; "
                "its effect is not known: fit with training subjects of it, or leave its subjects out"
            )
        expected = fit.mean + fit.covariates.encode(covariates, len(features)) @ fit.effects
        own = np.array([fit.sites.index(site) for site in sites])
        standard = (features - expected) / fit.scale
        return expected + fit.scale * (standard - fit.shift[own]) / np.sqrt(fit.spread[own])

    def save(self, path: str | Path) -> None:
        """Write settings, learned numbers and training subjects as JSON."""
        content = {"reference": self.reference, "empirical_bayes": self.empirical_bayes, "learned": None}
        if self.learned:
            numbers = asdict(self.learned).items()
            content["learned"] = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in numbers}
        atomic_write_json(path, {"combat": content})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8")).get("combat")
        if content is None:
            raise ValueError(f"{path}: expected a saved ComBat, got another file; give the one that save wrote")
        if fit := content.pop("learned"):
            arrays = {name: np.array(fit[name]) for name in ("mean", "scale", "shift", "spread")}
            arrays["effects"] = np.array(fit["effects"]).reshape(-1, len(fit["mean"]))
            levels = tuple((name, tuple(values)) for name, values in fit["covariates"]["levels"])
            fit = ComBatFit(tuple(fit["subjects"]), tuple(fit["sites"]), CovariateCode(levels), **arrays)
        return cls(**content, learned=fit)

    def _site_effects(self, by_site: list[Features], names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        shifts, spreads = [], []
        for name, standard in zip(names, by_site, strict=True):
            shift, spread = standard.mean(axis=0), standard.var(axis=0, ddof=1)
            if name == self.reference:
                shift, spread = np.zeros_like(shift), np.ones_like(spread)
            elif self.empirical_bayes:
                shift, spread = shrunk(standard, shift, spread)
            if (flat := np.flatnonzero(spread <= 1e-12)).size:
                raise ValueError(f"ComBat: features {flat[:10].tolist()} do not vary at site {name}; check its table")
            shifts.append(shift)
            spreads.append(spread)
        return np.array(shifts), np.array(spreads)

    def _check(self, features: Features, sites: np.ndarray, names: tuple[str, ...]) -> None:
        small = [name for name in names if (sites == name).sum() < 2]
        if len(names) < 2 or small:
            raise ValueError(
                f"ComBat: expected two sites or more with two training subjects each, got sites {', '.join(names)}"
                + (f", of which {', '.join(small)} with one subject" if small else "")
            )
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"ComBat: reference site {self.reference!r} is not among the sites {', '.join(names)}")
        if self.empirical_bayes and features.shape[1] < 2:
            raise ValueError(
                "ComBat: shrinkage needs two features or more, got 1; use empirical_bayes=False, or more regions"
            )


def shrunk(standard: Features, shift: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A site's shift and spread per feature, drawn towards their distribution over features.

    Priors: normal for the shift, inverse gamma for the spread, both by moments. The two posterior means depend on each
    other and are found by turns.
    """
    n = len(standard)
    centre, width = shift.mean(), shift.var(ddof=1)
    mean, variance = spread.mean(), spread.var(ddof=1)
    if variance == 0:  # an inverse gamma of no width: every feature has the common spread
        return (n * width * shift + mean * centre) / (n * width + mean), np.full_like(spread, mean)
    shape, rate = mean**2 / variance + 2, mean * (mean**2 / variance + 1)
    square, own = ((standard - shift) ** 2).sum(axis=0), spread
    for _ in range(MOST_STEPS):
        moved = (n * width * shift + own * centre) / (n * width + own)
        # the squares around the moved shift are those around the mean plus n times how far it moved
        again = (rate + (square + n * (moved - shift) ** 2) / 2) / (n / 2 + shape - 1)
        done = np.abs(again - own).max() < TOLERANCE
        own = again
        if done:
            break
    return (n * width * shift + own * centre) / (n * width + own), own


def _checked(
    features: Features, sites: Sequence[str], n_features: int | None = None, subjects: Sequence[str] | None = None
) -> tuple[Features, np.ndarray]:
    features = np.asarray(features, dtype=float)
    sites = np.asarray([str(site) for site in sites])
    wanted = n_features if n_features is not None else features.shape[-1]
    if features.ndim != 2 or features.shape != (len(sites), wanted) or len(sites) == 0:
        raise ValueError(f"ComBat: expected features of {len(sites)} subjects, {wanted} each, got {features.shape}")
    if subjects is not None and len(subjects) != len(sites):
        raise ValueError(f"ComBat: expected a subject for each of {len(sites)} rows, got {len(subjects)}")
    bad = np.argwhere(~np.isfinite(features))
    if len(bad):
        row, feature = bad[0]
        raise ValueError(
            f"ComBat: {len(bad)} values are not finite, the first in row {row}, feature {feature}; "
            "leave out the subject or the region, by name"
        )
    return features, sites


def _check_rank(design: np.ndarray) -> None:
    # columns of one length: ages in years and 0/1 count alike
    if np.linalg.matrix_rank(design / np.maximum(np.linalg.norm(design, axis=0), 1e-300)) < design.shape[1]:
        raise ValueError(
            "ComBat: sites and covariates cannot be told apart (a diagnosis at one site only, a constant covariate, or "
            "fewer subjects than effects); leave the covariate out, or use sites that overlap in it"
        )


def _check_spread(scale: np.ndarray, features: Features) -> None:
    flat = np.flatnonzero(scale <= 1e-9 * np.abs(features).max(axis=0))
    if len(flat):
        raise ValueError(f"ComBat: features {flat[:10].tolist()} do not vary between subjects; leave them out")
