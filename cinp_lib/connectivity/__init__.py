"""Functional networks: fMRIPrep's BOLD or region series in, 116 x 116 networks out.

`bold_series` or `file_series` give clean series of a subject, `FunctionalConnectivity` turns series into networks,
`make_networks` does a whole manifest, and `load_networks` reads the result.
"""

from cinp_lib.connectivity.aal import AAL_NAMES, AAL_REGIONS, N_REGIONS
from cinp_lib.connectivity.atlas import AAL, Atlas, cohort_atlas, fetch_aal, load_atlas
from cinp_lib.connectivity.batch import BatchResult, make_networks
from cinp_lib.connectivity.confounds import Confounds, read_confounds
from cinp_lib.connectivity.networks import FunctionalConnectivity
from cinp_lib.connectivity.problems import SubjectError
from cinp_lib.connectivity.recovery import (
    edge_motion_correlation,
    edge_recovery,
    edges,
    identification_rate,
    without_missing,
)
from cinp_lib.connectivity.region_means import RegionMeans, region_means
from cinp_lib.connectivity.results import NetworkSettings, load_networks, load_series, region_names
from cinp_lib.connectivity.runs import Run, runs_of
from cinp_lib.connectivity.series import RegionSeries, SeriesSettings, bold_series, cleaned, file_series, run_series
from cinp_lib.connectivity.series_files import read_series
from cinp_lib.connectivity.strategies import DEFAULT_STRATEGY, STRATEGIES, ConfoundStrategy, strategy_of

__all__ = [
    "AAL",
    "AAL_NAMES",
    "AAL_REGIONS",
    "DEFAULT_STRATEGY",
    "N_REGIONS",
    "STRATEGIES",
    "Atlas",
    "BatchResult",
    "ConfoundStrategy",
    "Confounds",
    "FunctionalConnectivity",
    "NetworkSettings",
    "RegionMeans",
    "RegionSeries",
    "Run",
    "SeriesSettings",
    "SubjectError",
    "bold_series",
    "cleaned",
    "cohort_atlas",
    "edge_motion_correlation",
    "edge_recovery",
    "edges",
    "fetch_aal",
    "file_series",
    "identification_rate",
    "load_atlas",
    "load_networks",
    "load_series",
    "make_networks",
    "read_confounds",
    "read_series",
    "region_means",
    "region_names",
    "run_series",
    "runs_of",
    "strategy_of",
    "without_missing",
]
