"""fMRIPrep's confounds table to regressors and kept volumes, by nilearn's `load_confounds`."""

import gzip
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from nilearn.interfaces.fmriprep import load_confounds

from cinp_lib.connectivity.problems import SubjectError
from cinp_lib.connectivity.strategies import ConfoundStrategy, strategy_of

NEWER_PREP = "run fMRIPrep 20.2 or later on this subject, or choose a strategy that needs less (--strategy)"
# load_confounds finds the table by the image's name, which need not be that of the manifest's table.
_STEM, _IMAGE = "sub-x_task-rest", "sub-x_task-rest_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"


@dataclass(frozen=True)
class Confounds:
    """Regressors of all volumes (None: nothing is removed), the indices of kept volumes, and the motion."""

    strategy: ConfoundStrategy
    n_volumes: int
    kept: np.ndarray
    regressors: pd.DataFrame | None
    mean_fd_mm: float  # over all volumes but the first, NaN where the table has no displacement
    mean_fd_kept_mm: float


def without_confounds(n_volumes: int) -> Confounds:
    """For series without a table: every volume is kept."""
    return Confounds(strategy_of("none"), n_volumes, np.arange(n_volumes), None, np.nan, np.nan)


def read_confounds(path: str | Path, strategy: str | ConfoundStrategy, n_volumes: int | None = None) -> Confounds:
    """Read one run's table, of any fMRIPrep since 1.2; `n_volumes` is what the BOLD has."""
    path, strategy = Path(path), strategy_of(strategy)
    table = _read_table(path)
    if n_volumes is not None and len(table) != n_volumes:
        reason = f"expected one row for each of the {n_volumes} volumes of the BOLD, got {len(table)}"
        raise SubjectError(path, reason, "pair the BOLD with the confounds of the same run")
    _refuse_missing_columns(path, table, strategy)
    regressors, kept = _by_nilearn(path, strategy)
    unsteady = [name for name in table if "non_steady_state" in name]
    if kept is None:
        kept = np.flatnonzero(table[unsteady].sum(axis=1) == 0) if unsteady else np.arange(len(table))
    if len(kept):  # without any, nilearn's centring has nothing to go by; the caller refuses the run
        _refuse_gaps(path, regressors)
    displacement = table.get("framewise_displacement", pd.Series(np.nan, index=table.index)).to_numpy(float)
    if strategy.scrub and not np.isfinite(displacement[1:]).all():
        reason = f"framewise_displacement is missing in {int(np.isnan(displacement[1:]).sum())} volumes after the first"
        raise SubjectError(
            path, reason, f"mend the table, or choose a strategy without scrubbing ({strategy.name!r} has)"
        )
    means = (float(np.nanmean(d)) if np.isfinite(d).any() else np.nan for d in (displacement, displacement[kept]))
    return Confounds(strategy, len(table), np.asarray(kept), regressors, *means)


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise SubjectError(path, "no confounds table", "keep desc-confounds_timeseries.tsv beside the BOLD")
    table = pd.read_csv(path, sep="\t", na_values=["n/a"])
    if any(name[:1].isupper() for name in table.columns) or "stdDVARS" in table.columns:
        reason = f"columns as of fMRIPrep 1.0 or 1.1 ({', '.join(table.columns[:3])} ...)"
        raise SubjectError(path, reason, NEWER_PREP)
    if len(table.columns) < 2 or all(_is_number(name) for name in table.columns):
        raise SubjectError(path, "expected a header of column names separated by tabs, got none", NEWER_PREP)
    return table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refuse_missing_columns(path: Path, table: pd.DataFrame, strategy: ConfoundStrategy) -> None:
    wanted: list[str] = []
    axes = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    tissues = ["csf", "white_matter"]
    for names, model in (
        (axes, strategy.motion),
        (tissues, strategy.wm_csf),
        (["global_signal"], strategy.global_signal),
    ):
        suffixes = {None: (), "basic": ("",), "derivatives": ("", "_derivative1"), "power2": ("", "_power2")}
        every = ("", "_derivative1", "_power2", "_derivative1_power2")
        wanted += [name + suffix for name in names for suffix in suffixes.get(model, every)]
    wanted += ["framewise_displacement", "std_dvars"] if strategy.scrub else []
    missing = [name for name in wanted if name not in table.columns]
    if strategy.high_pass and not any(name.startswith("cosine") for name in table.columns):
        missing.append("cosine00")
    if strategy.n_compcor and not any("_comp_cor_" in name for name in table.columns):
        missing.append("a_comp_cor_00")
    if missing:
        shown = ", ".join(missing[:6]) + (" ..." if len(missing) > 6 else "")
        reason = f"strategy {strategy.name!r} needs {len(missing)} columns that are not there: {shown}"
        raise SubjectError(path, reason, NEWER_PREP)


def _by_nilearn(path: Path, strategy: ConfoundStrategy) -> tuple[pd.DataFrame | None, np.ndarray | None]:
    if not strategy.components:
        return None, None
    with tempfile.TemporaryDirectory() as folder:
        _copy(path, Path(folder, f"{_STEM}_desc-confounds_timeseries.tsv"))
        sidecar = _sidecar_of(path)
        if sidecar is not None:
            _copy(sidecar, Path(folder, f"{_STEM}_desc-confounds_timeseries.json"))
        elif strategy.n_compcor:
            reason = "no JSON beside the table, which tells the CompCor components of white matter and CSF apart"
            raise SubjectError(path, reason, "copy fMRIPrep's desc-confounds_timeseries.json beside the table")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # all volumes dropped: the caller says so, with names
                warnings.filterwarnings("ignore", "Numerical issues", UserWarning)  # means of 1e8 left after centring
                regressors, kept = load_confounds(str(Path(folder, _IMAGE)), **nilearn_arguments(strategy))
        except (ValueError, KeyError) as error:
            raise SubjectError(path, f"nilearn cannot load the confounds ({error})", NEWER_PREP) from error
    return regressors, kept


def nilearn_arguments(strategy: ConfoundStrategy) -> dict:
    """The strategy in the words of `load_confounds`."""
    return {
        "strategy": strategy.components,
        "motion": strategy.motion or "basic",
        "wm_csf": strategy.wm_csf or "basic",
        "global_signal": strategy.global_signal or "basic",
        "compcor": "anat_separated",
        "n_compcor": strategy.n_compcor or "all",
        "scrub": strategy.shortest_segment,
        "fd_threshold": strategy.fd_threshold_mm,
        "std_dvars_threshold": strategy.std_dvars_threshold,
        "demean": True,
    }


def _copy(source: Path, target: Path) -> None:
    if source.suffix != ".gz":
        shutil.copyfile(source, target)
        return
    with gzip.open(source) as packed, open(target, "wb") as plain:
        shutil.copyfileobj(packed, plain)


def _sidecar_of(path: Path) -> Path | None:
    stem = path.name.removesuffix(".gz").removesuffix(".tsv")
    return next((p for p in (path.with_name(f"{stem}.json{gz}") for gz in ("", ".gz")) if p.is_file()), None)


def _refuse_gaps(path: Path, regressors: pd.DataFrame | None) -> None:
    if regressors is None:
        return
    gaps = regressors.columns[regressors.isna().any()].tolist()
    if gaps:
        # The first row of derivatives has no value and is filled by nilearn with the second; others are faults.
        reason = f"values missing beyond the first row in {len(gaps)} columns ({', '.join(gaps[:4])})"
        raise SubjectError(path, reason, "take the table from fMRIPrep's output again")
