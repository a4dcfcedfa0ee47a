"""Clean region series of one subject, from BOLD or from a file, with what was kept and what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nilearn.signal import clean

from cinp_lib.connectivity.aal import N_REGIONS
from cinp_lib.connectivity.atlas import Atlas
from cinp_lib.connectivity.confounds import Confounds, read_confounds, without_confounds
from cinp_lib.connectivity.problems import SubjectError
from cinp_lib.connectivity.region_means import region_means
from cinp_lib.connectivity.runs import Run, repetition_time_of, runs_of
from cinp_lib.connectivity.series_files import read_series
from cinp_lib.connectivity.strategies import DEFAULT_STRATEGY, ConfoundStrategy, strategy_of
from cinp_lib.connectivity.volumes import read_header
from study_lib.files import sha256_of


@dataclass(frozen=True)
class SeriesSettings:
    """How series are made; every number of it is saved with each network."""

    strategy: ConfoundStrategy = field(default_factory=lambda: strategy_of(DEFAULT_STRATEGY))
    min_volumes: int = 50  # kept ones: ABIDE's shortest runs have 76, a network of fewer than 50 is mostly noise
    min_degrees_of_freedom: int = 20  # kept volumes less regressors
    min_coverage: float = 0.5  # of a region's volume, as XCP-D (Mehta et al. 2024); below, it counts as missing
    repetition_time_s: float | None = None  # None: from the files

    @classmethod
    def of(cls, strategy: str | ConfoundStrategy = DEFAULT_STRATEGY, **changes) -> "SeriesSettings":
        """Settings by the name of the strategy."""
        return cls(strategy=strategy_of(strategy), **changes)


@dataclass(frozen=True)
class RegionSeries:
    """(kept volume, 116) series in atlas order, each of mean 0 and standard deviation 1; missing regions are 0."""

    time_series: np.ndarray
    missing: np.ndarray  # (116,) no voxels, too few of them, no variance, or not in the file
    names: tuple[str, ...]
    n_volumes: int
    kept: tuple[tuple[int, ...], ...]  # per run, the indices of kept volumes
    mean_fd_mm: float
    mean_fd_kept_mm: float
    repetition_time_s: float
    coverage: np.ndarray
    inputs: tuple[dict, ...]  # file, sha256
    notes: tuple[str, ...] = ()

    @property
    def kept_volumes(self) -> int:
        """Over all runs."""
        return len(self.time_series)

    @property
    def missing_names(self) -> list[str]:
        """The missing regions by name."""
        return [name for name, gone in zip(self.names, self.missing, strict=True) if gone]


def bold_series(
    bold: str | Path,
    atlas: Atlas,
    settings: SeriesSettings | None = None,
    confounds: str | Path | None = None,
    mask: str | Path | None = None,
) -> RegionSeries:
    """Series of a run and its siblings `run-*`: each run cleaned and standardised alone, then put end to end."""
    return series_of_runs(runs_of(bold, confounds, mask), atlas, settings)


def series_of_runs(runs: Sequence[Run], atlas: Atlas, settings: SeriesSettings | None = None) -> RegionSeries:
    """Series of several runs end to end; a run that cannot be used is left out and named, unless none is left."""
    series, notes, last = [], [], None
    for run in runs:
        try:
            series.append(run_series(run, atlas, settings))
        except SubjectError as error:
            notes.append(f"run left out: {error}")
            last = error
    if not series:
        raise last
    return joined(series, tuple(notes))


def run_series(run: Run, atlas: Atlas, settings: SeriesSettings | None = None) -> RegionSeries:
    """Series of one run."""
    settings = settings or SeriesSettings()
    header = read_header(run.bold)
    repetition_time_s = repetition_time_of(header, settings.repetition_time_s)
    confounds = _confounds_of(run, settings.strategy, header.n_volumes)
    _refuse_short(run, confounds, settings, repetition_time_s)  # before the seconds that reading takes
    means = region_means(run, atlas)
    values, missing = cleaned(means.time_series, confounds, repetition_time_s, means.coverage < settings.min_coverage)
    if missing.sum() > N_REGIONS - 2:
        reason = f"{missing.sum()} of {N_REGIONS} regions are missing or constant"
        raise SubjectError(run.bold, reason, "look at the images; the field of view or the mask is wrong")
    inputs = [{"file": str(run.bold), "sha256": means.sha256}]
    inputs += [{"file": str(p), "sha256": sha256_of(p)} for p in (run.mask, run.confounds) if p]
    notes = (f"{means.n_not_finite} volumes with NaN voxels, left out of means",) if means.n_not_finite else ()
    return RegionSeries(
        values,
        missing,
        atlas.names,
        header.n_volumes,
        (tuple(confounds.kept.tolist()),),
        confounds.mean_fd_mm,
        confounds.mean_fd_kept_mm,
        repetition_time_s,
        means.coverage,
        tuple(inputs),
        notes,
    )


def cleaned(
    means: np.ndarray, confounds: Confounds, repetition_time_s: float = 1.0, absent: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Detrended, confounds removed, kept volumes only, standardised (nilearn's `clean`); and the missing regions.

    The strategy `none` neither detrends nor removes anything.
    """
    kept = means[confounds.kept]
    missing = constant(kept) if absent is None else constant(kept) | absent
    values = np.zeros(kept.shape)
    if missing.all():
        return values, missing
    strategy = confounds.strategy
    values[:, ~missing] = clean(
        np.nan_to_num(means[:, ~missing]),  # not finite in dropped volumes only
        detrend=not strategy.removes_nothing,
        standardize=None,
        sample_mask=confounds.kept,
        confounds=None if confounds.regressors is None else confounds.regressors.to_numpy(float),
        filter="butterworth" if strategy.low_pass_hz else False,
        low_pass=strategy.low_pass_hz,
        t_r=repetition_time_s,
    )
    # What the regressors explain to the last digit is rounding noise now, not a signal of unit variance.
    spread = values.std(axis=0, ddof=1)
    missing = missing | (spread <= 1e-8 * np.nan_to_num(kept).std(axis=0, ddof=1))
    values = (values - values.mean(axis=0)) / np.where(missing, 1, spread)
    values[:, missing] = 0
    return values, missing


def constant(series: np.ndarray) -> np.ndarray:
    """(region,) no variance beyond rounding, or values that are not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        spread, size = np.ptp(series, axis=0), np.abs(series).max(axis=0)
        return ~(np.isfinite(series).all(axis=0) & (spread > 1e-10 * size))


def file_series(path: str | Path, atlas: Atlas, settings: SeriesSettings | None = None) -> RegionSeries:
    """Series that somebody else extracted and cleaned: standardised, and otherwise taken as they are."""
    settings = settings or SeriesSettings()
    raw, notes = read_series(path, atlas)
    if len(raw) < settings.min_volumes:
        reason = f"expected at least {settings.min_volumes} volumes, got {len(raw)}"
        raise SubjectError(path, reason, "leave the subject out, or lower --min-volumes")
    values, missing = cleaned(raw, without_confounds(len(raw)))
    if missing.sum() > N_REGIONS - 2:
        raise SubjectError(path, f"{missing.sum()} of {N_REGIONS} regions are constant or NaN", "check the extraction")
    inputs = ({"file": str(path), "sha256": sha256_of(path)},)
    kept = (tuple(range(len(raw))),)
    nan = float("nan")
    coverage = np.where(missing, 0.0, 1.0)
    return RegionSeries(values, missing, atlas.names, len(raw), kept, nan, nan, nan, coverage, inputs, notes)


def joined(series: list[RegionSeries], notes: tuple[str, ...] = ()) -> RegionSeries:
    """Runs put end to end; a region that is missing in one run is missing."""
    if len(series) == 1 and not notes:
        return series[0]
    missing = np.any([s.missing for s in series], axis=0)
    values = np.concatenate([s.time_series for s in series])
    values[:, missing] = 0
    weights = np.array([s.n_volumes for s in series])
    kept_weights = np.array([s.kept_volumes for s in series])
    return RegionSeries(
        values,
        missing,
        series[0].names,
        int(weights.sum()),
        tuple(kept for s in series for kept in s.kept),
        float(np.average([s.mean_fd_mm for s in series], weights=weights)),
        float(np.average([s.mean_fd_kept_mm for s in series], weights=kept_weights)),
        series[0].repetition_time_s,
        np.min([s.coverage for s in series], axis=0),
        tuple(entry for s in series for entry in s.inputs),
        tuple(note for s in series for note in s.notes) + notes,
    )


def _confounds_of(run: Run, strategy: ConfoundStrategy, n_volumes: int) -> Confounds:
    if run.confounds is not None:
        return read_confounds(run.confounds, strategy, n_volumes)
    if strategy.removes_nothing:
        return without_confounds(n_volumes)
    fix = "keep fMRIPrep's desc-confounds_timeseries.tsv beside the BOLD, or choose the strategy 'none'"
    raise SubjectError(run.bold, f"no confounds table for strategy {strategy.name!r}", fix)


def _refuse_short(run: Run, confounds: Confounds, settings: SeriesSettings, repetition_time_s: float) -> None:
    kept, n_regressors = len(confounds.kept), 0 if confounds.regressors is None else confounds.regressors.shape[1]
    low_pass = settings.strategy.low_pass_hz
    band = min(1.0, 2 * repetition_time_s * low_pass) if low_pass else 1.0  # the share of frequencies that is left
    free = band * kept - n_regressors
    short = kept < settings.min_volumes
    if short or free < settings.min_degrees_of_freedom:
        least = f"at least {settings.min_volumes} volumes"
        if not short:
            least = f"at least {settings.min_degrees_of_freedom} more volumes than the {n_regressors} regressors"
        reason = f"too few volumes left: {kept} of {confounds.n_volumes} ({settings.strategy.name}), expected {least}"
        fix = "leave the subject out, choose a strategy without scrubbing or with fewer regressors, or lower the limit"
        raise SubjectError(run.bold, reason, fix)
