"""From BOLD to network, beside merely reading the file and beside nilearn's straight path, with equal numbers.

The run is of fMRIPrep's usual size, 91 x 109 x 91 voxels and 200 volumes, made here. Every measurement is a process of
its own, so that peak memory is its own; imports are left out of the seconds, and counted in the memory.

Where nilearn's time goes (7.0 s under the profiler on the machine of the first measurement, which reads the file in
1.6 s): 4.1 s to decompress the image into one array through Python's gzip in blocks of 8 KB; 1.1 s to decompress half
of it once more, for the one volume that the masker's report would show; 1.3 s because `scipy.ndimage.mean` goes over
all voxels of each volume for 116 labels; 0.3 s to look for values that are not finite. Cleaning and correlation take
0.05 s and stay nilearn's. Here the file is decompressed once, volume by volume, in large blocks, and only labelled
voxels, sorted by region beforehand, are summed.
"""

import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from study_lib.grid import Grid
from study_lib.memory import PeakMemory

VOLUMES, REPEATS, STRATEGY = 200, 3, "24p_acompcor_scrub"
SUBJECTS, SHORT_VOLUMES = 8, 60
STEM = "sub-bench_task-rest"
SPACE = "space-MNI152NLin2009cAsym_"


def measure() -> dict[str, float]:
    """Seconds and peak MiB of each way, largest difference of any edge, gain of a second worker."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_run(folder, VOLUMES)
        numbers: dict[str, float] = {"bold_int16_mib": round(91 * 109 * 91 * VOLUMES * 2 / 2**20, 1)}
        for way in WAYS:
            repeats = 1 if way == "nilearn" else REPEATS
            found = [_in_own_process(way, folder) for _ in range(repeats)]
            numbers[f"{way}_seconds"] = round(statistics.median(f["seconds"] for f in found), 2)
            numbers[f"{way}_peak_mib"] = round(max(f["peak_mib"] for f in found), 1)
        ours, theirs = (np.load(folder / f"{way}.npy") for way in ("ours", "nilearn"))
        numbers["largest_edge_difference"] = float(np.abs(ours - theirs).max())
        numbers["ours_times_reading"] = round(numbers["ours_seconds"] / numbers["read_seconds"], 2)
        numbers["ours_peak_times_bold_int16"] = round(numbers["ours_peak_mib"] / numbers["bold_int16_mib"], 2)
        numbers["nilearn_times_ours"] = round(numbers["nilearn_seconds"] / numbers["ours_seconds"], 1)
    return numbers | _scaling()


def write_run(folder: Path, n_volumes: int, subject: str = "bench") -> Path:
    """A run with mask, confounds and atlas as fMRIPrep lays them out; noise that compresses about as BOLD does."""
    import nibabel as nib

    stem = STEM.replace("bench", subject)
    rng, grid = np.random.default_rng(0), Grid.isotropic(2.0)
    brain, labels = _brain(grid)
    for name, data in ((f"{stem}_{SPACE}desc-brain_mask", brain), ("atlas-bench_dseg", labels)):
        nib.save(nib.Nifti1Image(data.astype(np.uint8), grid.affine), folder / f"{name}.nii.gz")
    header = nib.Nifti1Image(np.zeros((*grid.shape, 1), np.int16), grid.affine).header
    header.set_data_shape((*grid.shape, n_volumes))
    header.set_zooms((2, 2, 2, 2.0))
    header.set_xyzt_units("mm", "sec")
    header.set_data_offset(352)  # the header and the four bytes that say there are no extensions
    waves = 100 * rng.normal(size=(n_volumes, 117))
    path = folder / f"{stem}_{SPACE}desc-preproc_bold.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + b"\0" * 4)
        for wave in waves:
            volume = np.where(brain, 10_000 + wave[labels], 200) + rng.normal(0, 60, grid.shape)
            file.write(volume.astype(np.int16).tobytes(order="F"))
    _write_confounds(folder, stem, n_volumes, rng)
    return path


def _brain(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid of a brain's size, and 116 regions in most of it."""
    from scipy.spatial import cKDTree

    points = np.argwhere(np.ones(grid.shape, bool)) * 2.0 + grid.affine[:3, 3]
    radius = np.sqrt((((points - (0, -18, 9)) / (70, 88, 66)) ** 2).sum(1))
    rng = np.random.default_rng(1)
    inside = points[(radius > 0.5) & (radius < 0.95)]
    region = 1 + cKDTree(inside[rng.choice(len(inside), 116, replace=False)]).query(points)[1]
    labels = np.where((radius > 0.5) & (radius < 0.95), region, 0)
    return (radius < 1).reshape(grid.shape), labels.reshape(grid.shape)


def _write_confounds(folder: Path, stem: str, n_volumes: int, rng: np.random.Generator) -> None:
    axes = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    expanded = [a + e for a in axes for e in ("", "_derivative1", "_power2", "_derivative1_power2")]
    compcor = [f"a_comp_cor_{k:02d}" for k in range(10)]
    columns = {name: rng.normal(size=n_volumes) for name in (*expanded, *compcor, "cosine00", "cosine01")}
    columns |= {"framewise_displacement": np.abs(rng.normal(0.15, 0.1, n_volumes)), "std_dvars": np.ones(n_volumes)}
    table = pd.DataFrame(columns)
    table.loc[20:22, "framewise_displacement"] = 1.0
    table.loc[0, [name for name in table if "derivative" in name or name.startswith("framewise")]] = np.nan
    table.to_csv(folder / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", index=False, na_rep="n/a")
    masks = {name: {"Method": "aCompCor", "Mask": "WM" if k < 5 else "CSF"} for k, name in enumerate(compcor)}
    (folder / f"{stem}_desc-confounds_timeseries.json").write_text(json.dumps(masks))


def read(folder: Path) -> None:
    """Nothing but the bytes, decompressed: zlib in large blocks, the fastest without another library."""
    inflater = zlib.decompressobj(31)
    with open(_bold(folder), "rb") as file:
        while block := file.read(1 << 20):
            inflater.decompress(block)


def read_nibabel(folder: Path) -> None:
    """The image as an array, as most programs read it."""
    import nibabel as nib

    np.asanyarray(nib.load(_bold(folder)).dataobj)


def ours(folder: Path) -> np.ndarray:
    """`bold_series` and `FunctionalConnectivity`, the atlas resampled as for the first subject of a batch."""
    from cinp_lib.connectivity import FunctionalConnectivity, SeriesSettings, bold_series, load_atlas

    atlas = load_atlas(folder / "atlas-bench_dseg.nii.gz", check_place=False)
    series = bold_series(_bold(folder), atlas, SeriesSettings.of(STRATEGY))
    return FunctionalConnectivity().fit_transform([series.time_series])[0]


def nilearn(folder: Path) -> np.ndarray:
    """NiftiLabelsMasker, load_confounds and ConnectivityMeasure, with the same choices."""
    from nilearn.connectome import ConnectivityMeasure
    from nilearn.interfaces.fmriprep import load_confounds
    from nilearn.maskers import NiftiLabelsMasker
    from sklearn.covariance import EmpiricalCovariance

    from cinp_lib.connectivity import strategy_of
    from cinp_lib.connectivity.confounds import nilearn_arguments

    bold = _bold(folder)
    confounds, kept = load_confounds(str(bold), **nilearn_arguments(strategy_of(STRATEGY)))
    mask = bold.with_name(bold.name.replace("preproc_bold", "brain_mask"))
    masker = NiftiLabelsMasker(
        folder / "atlas-bench_dseg.nii.gz", mask_img=mask, standardize="zscore_sample", detrend=True
    )
    series = masker.fit_transform(bold, confounds=confounds, sample_mask=kept)
    return ConnectivityMeasure(cov_estimator=EmpiricalCovariance(), kind="correlation").fit_transform([series])[0]


WAYS: dict[str, Callable[[Path], np.ndarray | None]] = {
    "read": read,
    "read_nibabel": read_nibabel,
    "ours": ours,
    "nilearn": nilearn,
}


def _bold(folder: Path) -> Path:
    return folder / f"{STEM}_{SPACE}desc-preproc_bold.nii.gz"


def _in_own_process(way: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.connectivity", way, str(folder)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return json.loads(done.stdout.splitlines()[-1])


def _timed(way: str, folder: Path) -> dict[str, float]:
    if way in ("ours", "nilearn"):  # imports are no part of a subject's time
        import nilearn.connectome
        import nilearn.interfaces.fmriprep
        import nilearn.maskers  # noqa: F401

        import cinp_lib.connectivity  # noqa: F401
    begin = time.perf_counter()
    network = WAYS[way](folder)
    seconds = time.perf_counter() - begin
    if network is not None:
        np.save(folder / f"{way}.npy", network)
    return {"seconds": seconds, "peak_mib": PeakMemory().mib()}


def _scaling() -> dict[str, float]:
    """One and two workers over a cohort of short runs, after a first batch that starts the workers."""
    from cinp_lib.connectivity import NetworkSettings, SeriesSettings, load_atlas, make_networks
    from study_lib.manifest import load_manifest

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subjects = _write_cohort(folder)
        atlas = load_atlas(folder / "atlas-bench_dseg.nii.gz", check_place=False)
        settings = NetworkSettings(SeriesSettings.of("24p_acompcor", min_volumes=20))
        seconds = {}
        for key, n_jobs, n_subjects in (
            ("start", 2, 2),
            ("two", 2, SUBJECTS),
            ("one", 1, SUBJECTS),
            ("half", 1, SUBJECTS // 2),
        ):
            csv = folder / f"{key}.csv"
            subjects.head(n_subjects).to_csv(csv, index=False)
            begin = time.perf_counter()
            result = make_networks(load_manifest(csv, check_files=False), folder / key, settings, atlas, n_jobs, False)
            seconds[key] = time.perf_counter() - begin
            if len(result.made) != n_subjects:
                raise RuntimeError(f"benchmark: expected {n_subjects} networks, got\n{result.failures}")
    return {
        "two_workers_times_one": round(seconds["one"] / seconds["two"], 2),
        "twice_the_subjects_times_seconds": round(seconds["one"] / seconds["half"], 2),
        "batch_seconds_per_short_subject": round(seconds["one"] / SUBJECTS, 2),
    }


def _write_cohort(folder: Path) -> pd.DataFrame:
    from study_lib.manifest import COLUMNS

    first = write_run(folder, SHORT_VOLUMES)
    rows = []
    for number in range(SUBJECTS):
        subject = f"s{number}"
        for path in list(folder.glob("sub-bench_*")):
            shutil.copy(path, path.with_name(path.name.replace("bench", subject)))
        about = {"subject": subject, "family": subject, "cohort": "bench", "site": "x", "diagnosis": "control"}
        rows.append(about | {"role": "unassigned", "bold": first.name.replace("bench", subject)})
        rows[-1]["confounds"] = f"sub-{subject}_task-rest_desc-confounds_timeseries.tsv"
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


if __name__ == "__main__":
    print(json.dumps(_timed(sys.argv[1], Path(sys.argv[2]))))
