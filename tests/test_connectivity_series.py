"""BOLD to region series: against nilearn's own path, and every way in which a run can be unusable."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds
from nilearn.maskers import NiftiLabelsMasker
from small_runs import AXES, GRID, N_VOLUMES, SPACE, brain_and_labels, write_atlas, write_run

from cinp_lib.connectivity import (
    Atlas,
    Confounds,
    FunctionalConnectivity,
    SeriesSettings,
    SubjectError,
    bold_series,
    cleaned,
    region_means,
    run_series,
    runs_of,
    strategy_of,
)
from cinp_lib.connectivity.confounds import nilearn_arguments
from study_lib.files import sha256_of
from study_lib.phantom.truth import Truth

SETTINGS = SeriesSettings.of("24p_acompcor_scrub")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def atlas(folder: Path) -> Atlas:
    return write_atlas(folder)


@pytest.fixture(scope="module")
def bold(folder: Path) -> Path:
    return write_run(folder)


def by_nilearn(bold: Path, atlas: Atlas, strategy: str) -> np.ndarray:
    """The straight path: every step nilearn's."""
    settings = strategy_of(strategy)
    confounds, kept = load_confounds(str(bold), **nilearn_arguments(settings))
    masker = NiftiLabelsMasker(
        nib.Nifti1Image(atlas.labels.astype(np.int16), atlas.affine),
        mask_img=str(bold).replace("preproc_bold", "brain_mask"),
        standardize="zscore_sample",
        detrend=True,
        low_pass=settings.low_pass_hz,
        t_r=2.0,
    )
    return masker.fit_transform(bold, confounds=confounds, sample_mask=kept)


@pytest.mark.parametrize("strategy", ["minimal", "24p_acompcor_scrub", "36p_scrub", "36p_scrub_strict"])
def test_series_and_edges_equal_nilearns_own_path(bold: Path, atlas: Atlas, strategy: str) -> None:
    # the run is short on purpose: with a low-pass too little is left of it for a network that one would use
    ours = bold_series(bold, atlas, SeriesSettings.of(strategy, min_degrees_of_freedom=-50))
    theirs = by_nilearn(bold, atlas, strategy)
    np.testing.assert_allclose(ours.time_series, theirs, atol=1e-6)
    networks = FunctionalConnectivity().fit_transform([ours.time_series, theirs])
    assert np.abs(networks[0] - networks[1]).max() < 1e-8


@pytest.mark.parametrize(
    ("dtype", "slope", "suffix"), [(np.int16, 0.37, ".nii.gz"), (">f4", 1, ".nii"), (np.uint8, 2, ".nii")]
)
def test_means_are_those_of_a_loop_over_regions_in_any_storage(
    tmp_path: Path, atlas: Atlas, dtype, slope, suffix
) -> None:
    rng = np.random.default_rng(3)
    brain, labels = brain_and_labels()
    stored = rng.integers(0, 200, (*GRID.shape, 5)).astype(dtype)
    image = nib.Nifti1Image(stored, GRID.affine)
    image.header.set_slope_inter(slope, 11 if slope != 1 else 0)
    bold, mask = tmp_path / f"bold{suffix}", tmp_path / "mask.nii"
    raw = image.header.copy()
    raw.set_data_offset(352)
    content = raw.binaryblock + b"\0" * 4 + stored.tobytes(order="F")
    bold.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]) if suffix == ".nii.gz" else content)
    nib.save(nib.Nifti1Image(brain.astype(np.uint8), GRID.affine), mask)
    values = np.asarray(nib.load(bold).dataobj, dtype=float)
    means = region_means(runs_of(bold, mask=mask)[0], atlas)
    for region in range(116):
        inside = brain & (labels == region + 1)
        np.testing.assert_allclose(means.time_series[:, region], values[inside].mean(0), rtol=1e-12)
    assert means.sha256 == sha256_of(bold)


def test_the_atlas_is_resampled_once_for_all_runs_on_a_grid(bold: Path, atlas: Atlas, monkeypatch) -> None:
    from cinp_lib.connectivity import atlas as module

    module._labels_on.cache_clear()
    for _ in range(3):
        run_series(runs_of(bold)[0], atlas, SETTINGS)
    assert module._labels_on.cache_info().misses == 1


def test_scrubbed_volumes_are_those_that_nilearn_drops_and_motion_is_reported(bold: Path, atlas: Atlas) -> None:
    series = bold_series(bold, atlas, SETTINGS)
    _, kept = load_confounds(str(bold), **nilearn_arguments(SETTINGS.strategy))
    assert series.kept == (tuple(kept.tolist()),)
    assert series.kept_volumes == len(kept) == N_VOLUMES - 2 and 40 not in kept
    displacement = np.full(N_VOLUMES - 1, 0.1)
    displacement[39:41] = 0.9
    assert series.mean_fd_mm == pytest.approx(displacement.mean()) and series.mean_fd_kept_mm == pytest.approx(0.1)


def test_non_steady_volumes_are_dropped_by_every_strategy(tmp_path: Path, atlas: Atlas) -> None:
    def unsteady(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(
            non_steady_state_outlier00=np.eye(len(table))[0], non_steady_state_outlier01=np.eye(len(table))[1]
        )

    bold = write_run(tmp_path, table=unsteady)
    for strategy in ("none", "minimal"):
        series = bold_series(bold, atlas, SeriesSettings.of(strategy))
        assert series.kept[0][0] == 2 and series.kept_volumes == N_VOLUMES - 2


def test_without_confound_removal_series_are_the_standardised_means(bold: Path, atlas: Atlas) -> None:
    series = bold_series(bold, atlas, SeriesSettings.of("none"))
    means = region_means(runs_of(bold)[0], atlas).time_series
    np.testing.assert_allclose(series.time_series, (means - means.mean(0)) / means.std(0, ddof=1), atol=1e-8)


def test_two_runs_are_cleaned_apart_and_put_end_to_end(tmp_path: Path, atlas: Atlas) -> None:
    first = write_run(tmp_path, run="1", seed=1)
    second = write_run(tmp_path, run="2", seed=2)
    both = bold_series(first, atlas, SETTINGS)
    alone = [run_series(runs_of(path)[n], atlas, SETTINGS) for n, path in enumerate((first, second))]
    np.testing.assert_array_equal(both.time_series, np.concatenate([s.time_series for s in alone]))
    assert len(both.kept) == 2 and both.n_volumes == 2 * N_VOLUMES and len(both.inputs) == 6
    np.testing.assert_array_equal(both.time_series, bold_series(second, atlas, SETTINGS).time_series)


def test_an_unusable_second_run_is_left_out_and_named(tmp_path: Path, atlas: Atlas) -> None:
    first = write_run(tmp_path, run="1")
    write_run(tmp_path, run="2", volumes=30)
    series = bold_series(first, atlas, SETTINGS)
    assert len(series.kept) == 1 and "run-2" in series.notes[0] and "too few volumes" in series.notes[0]


def test_a_region_outside_the_field_of_view_keeps_its_column(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path)
    mask_path = Path(str(bold).replace("preproc_bold", "brain_mask"))
    brain, labels = brain_and_labels()
    region = 115
    nib.save(nib.Nifti1Image((brain & (labels != region + 1)).astype(np.uint8), GRID.affine), mask_path)
    series = bold_series(bold, atlas, SETTINGS)
    assert series.time_series.shape[1] == 116 and series.missing_names == [atlas.names[region]]
    assert series.coverage[region] == 0 and (series.time_series[:, region] == 0).all()
    estimator = FunctionalConnectivity()
    network = estimator.fit_transform([series.time_series])[0]
    assert np.flatnonzero(estimator.missing_[0]).tolist() == [region] and (network[region] == 0).all()


def test_a_region_of_no_variance_is_missing_not_nan(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path)
    image = nib.load(bold)
    data = np.asarray(image.dataobj).copy()
    data[brain_and_labels()[1] == 8] = 500
    nib.save(nib.Nifti1Image(data, image.affine, image.header), bold)
    series = bold_series(bold, atlas, SETTINGS)
    assert series.missing_names == [atlas.names[7]] and np.isfinite(series.time_series).all()


def test_nan_voxels_are_left_out_of_means_and_counted(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path, dtype=np.float32)
    image = nib.load(bold)
    data = image.get_fdata(dtype=np.float32)
    at = tuple(np.argwhere(brain_and_labels()[1] == 8)[0])
    data[at] = np.nan
    nib.save(nib.Nifti1Image(data, image.affine, image.header), bold)
    series = bold_series(bold, atlas, SETTINGS)
    assert not series.missing.any() and np.isfinite(series.time_series).all()
    assert series.notes == (f"{N_VOLUMES} volumes with NaN voxels, left out of means",)


def refused(bold: Path, atlas: Atlas, settings: SeriesSettings = SETTINGS, **files) -> str:
    with pytest.raises(SubjectError) as error:
        bold_series(bold, atlas, settings, **files)
    assert error.value.fix and Path(error.value.file).name in str(error.value)
    return str(error.value.of("a7"))


def test_too_few_volumes_after_scrubbing_are_refused_with_their_number(tmp_path: Path, atlas: Atlas) -> None:
    def restless(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[10:100, "framewise_displacement"] = 2.0
        return table

    message = refused(write_run(tmp_path, table=restless), atlas)
    assert "subject a7" in message and "too few volumes left: 29 of 120" in message and "without scrubbing" in message


def test_no_volume_left_is_refused_like_too_few(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path, table=lambda table: table.assign(framewise_displacement=3.0))
    assert "too few volumes left: 0 of 120" in refused(bold, atlas)


def test_more_regressors_than_volumes_can_carry_are_refused(tmp_path: Path, atlas: Atlas) -> None:
    message = refused(write_run(tmp_path, volumes=54), atlas, SeriesSettings.of("36p"))
    assert "at least 20 more volumes than the 38 regressors" in message


@pytest.mark.parametrize(
    ("strategy", "gone"), [("24p_acompcor", "rot_x_power2"), ("36p", "csf"), ("minimal", "cosine00")]
)
def test_missing_confound_columns_are_named(tmp_path: Path, atlas: Atlas, strategy: str, gone: str) -> None:
    names = ["cosine00", "cosine01"] if gone == "cosine00" else [gone]
    bold = write_run(tmp_path, table=lambda table: table.drop(columns=names))
    message = refused(bold, atlas, SeriesSettings.of(strategy))
    assert gone in message and "needs 1 columns that are not there" in message and "fMRIPrep" in message


def test_scrubbing_without_displacement_is_refused(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path, table=lambda table: table.drop(columns="framewise_displacement"))
    assert "framewise_displacement" in refused(bold, atlas)
    assert np.isnan(bold_series(bold, atlas, SeriesSettings.of("minimal")).mean_fd_mm)


def test_confounds_of_fmriprep_1_0_are_refused_by_name(tmp_path: Path, atlas: Atlas) -> None:
    old = {"trans_x": "X", "rot_x": "RotX", "framewise_displacement": "FramewiseDisplacement"}
    bold = write_run(tmp_path, table=lambda table: table.rename(columns=old))
    assert "fMRIPrep 1.0 or 1.1" in refused(bold, atlas)


def test_nan_in_the_first_row_is_filled_and_in_another_refused(tmp_path: Path, bold: Path, atlas: Atlas) -> None:
    assert bold_series(bold, atlas, SETTINGS).kept_volumes  # its derivatives start with NaN

    def gap(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[30, "trans_x"] = np.nan
        return table

    assert "values missing beyond the first row in 1 columns (trans_x)" in refused(
        write_run(tmp_path, table=gap), atlas
    )


def test_compcor_without_its_json_is_refused(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path)
    next(tmp_path.glob("*confounds*.json")).unlink()
    assert "no JSON beside the table" in refused(bold, atlas)


def test_confounds_of_another_run_are_refused(tmp_path: Path, bold: Path, atlas: Atlas) -> None:
    write_run(tmp_path, volumes=90)
    other = next(tmp_path.glob("*confounds_timeseries.tsv"))
    assert "one row for each of the 120 volumes of the BOLD, got 90" in refused(bold, atlas, confounds=other)


def test_a_run_without_confounds_is_refused_unless_nothing_is_removed(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path)
    next(tmp_path.glob("*confounds_timeseries.tsv")).unlink()
    assert "no confounds table for strategy '24p_acompcor_scrub'" in refused(bold, atlas)
    assert bold_series(bold, atlas, SeriesSettings.of("none")).kept_volumes == N_VOLUMES


@pytest.mark.parametrize(("space", "shown"), [("space-T1w", "T1w"), ("space-fsnative", "fsnative")])
def test_bold_of_another_space_than_the_atlas_is_refused(tmp_path: Path, atlas: Atlas, space: str, shown: str) -> None:
    message = refused(write_run(tmp_path, space=space), atlas)
    assert f"BOLD in space {shown}, atlas small in space MNI152" in message and "--output-spaces" in message


def test_bold_that_claims_mni_but_lies_elsewhere_is_refused_by_overlap(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path)
    moved = GRID.affine.copy()
    moved[:3, 3] += 60
    for path in (bold, Path(str(bold).replace("preproc_bold", "brain_mask"))):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved, image.header), path)
    message = refused(bold, atlas)
    assert "lies in the brain mask" in message and "different spaces" in message


def test_a_mask_that_is_absent_or_on_another_grid_is_refused(tmp_path: Path, atlas: Atlas) -> None:
    assert "no brain mask beside the run" in refused(write_run(tmp_path, mask=False), atlas)
    bold = write_run(tmp_path, "b")
    mask = Path(str(bold).replace("preproc_bold", "brain_mask"))
    nib.save(nib.Nifti1Image(np.ones((10, 10, 10), np.uint8), np.diag([16, 16, 16, 1])), mask)
    assert "of shape (10, 10, 10)" in refused(bold, atlas)


def test_a_missing_repetition_time_is_refused_and_can_be_given(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path, repetition_time=0)
    message = refused(bold, atlas)
    assert "expected a repetition time" in message and '"RepetitionTime"' in message
    given = SeriesSettings.of("24p_acompcor", repetition_time_s=2.2)
    assert bold_series(bold, atlas, given).repetition_time_s == 2.2


def test_the_sidecar_wins_over_the_header_and_milliseconds_are_refused(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path)
    sidecar = Path(str(bold).replace(".nii.gz", ".json"))
    sidecar.write_text(json.dumps({"RepetitionTime": 2.5}))
    assert bold_series(bold, atlas, SETTINGS).repetition_time_s == 2.5
    sidecar.write_text(json.dumps({"RepetitionTime": 2000}))
    assert "got 2000 s" in refused(bold, atlas)


def test_broken_files_are_refused_by_name(tmp_path: Path, bold: Path, atlas: Atlas) -> None:
    whole = bold.read_bytes()
    mask, confounds = (next(bold.parent.glob(f"sub-a_*{kind}")) for kind in ("brain_mask.nii.gz", "timeseries.tsv"))
    faults = {
        "cut": (whole[: len(whole) // 2], "truncated"),
        "flipped": (whole[:-6] + bytes([whole[-6] ^ 255]) + whole[-5:], "corrupt gzip"),
        "text": (b"this is no image, but long enough to hold a header" * 20, "does not start with a NIfTI header"),
        "annex": (b"/annex/objects/MD5E-s1--abc.nii.gz\n", "datalad get"),
        "empty": (b"", "zero bytes"),
    }
    for name, (content, message) in faults.items():
        path = tmp_path / f"sub-{name}_task-rest_{SPACE}_desc-preproc_bold.nii.gz"
        path.write_bytes(content)
        assert message in refused(path, atlas, mask=mask, confounds=confounds), name
    assert "no file" in refused(tmp_path / "absent.nii.gz", atlas)
    flat = tmp_path / "flat.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(GRID.shape, np.int16), GRID.affine), flat)
    assert "expected 4 dimensions" in refused(flat, atlas)


def test_a_run_that_is_constant_everywhere_is_refused(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path)
    image = nib.load(bold)
    nib.save(nib.Nifti1Image(np.full(image.shape, 7, np.int16), image.affine, image.header), bold)
    assert "116 of 116 regions are missing or constant" in refused(bold, atlas)


def test_every_strategy_names_its_paper_and_an_unknown_one_is_refused() -> None:
    from cinp_lib.connectivity import STRATEGIES

    assert all(s.paper and s.name == name for name, s in STRATEGIES.items()) and "none" in STRATEGIES
    with pytest.raises(KeyError, match="expected one of none, minimal"):
        strategy_of("best")


def test_removing_confounds_brings_the_phantoms_networks_nearer_to_the_truth(phantom: Path) -> None:
    from cinp_lib.connectivity import cohort_atlas, edge_recovery, identification_rate

    atlas = cohort_atlas(phantom.parent)
    bolds = sorted(phantom.parent.glob("derivatives/fmriprep/sub-*/func/*_bold.nii.gz"))
    subjects, networks = Truth.beside(phantom).networks()
    true = networks[[subjects.index(path.parents[1].name.removeprefix("sub-")) for path in bolds]]
    recovery = {}
    for strategy in ("none", "24p_acompcor"):
        series = [bold_series(path, atlas, SeriesSettings.of(strategy)) for path in bolds]
        assert not any(s.missing.any() for s in series)
        estimated = FunctionalConnectivity().fit_transform([s.time_series for s in series])
        recovery[strategy] = edge_recovery(estimated, true).mean()
    assert recovery["24p_acompcor"] > 0.65 and recovery["24p_acompcor"] > recovery["none"] + 0.1
    assert identification_rate(estimated, true) == 1


def test_motion_parameters_that_explain_a_region_are_gone_from_it(tmp_path: Path, atlas: Atlas) -> None:
    bold = write_run(tmp_path)
    table = pd.read_csv(next(tmp_path.glob("*timeseries.tsv")), sep="\t", na_values="n/a")
    series = bold_series(bold, atlas, SeriesSettings.of("24p_acompcor"))
    for axis in AXES:
        centred = table[axis] - table[axis].mean()
        assert np.abs(series.time_series.T @ centred.to_numpy()).max() < 1e-6 * len(table)


def test_a_low_pass_costs_degrees_of_freedom(bold: Path, atlas: Atlas) -> None:
    with pytest.raises(SubjectError, match="too few volumes left: 118 of 120"):
        bold_series(bold, atlas, SeriesSettings.of("36p_scrub_strict"))
    assert bold_series(bold, atlas, SeriesSettings.of("36p_scrub")).kept_volumes > 100


def test_a_region_that_the_regressors_explain_to_the_last_digit_is_missing_and_no_amplified_noise() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(90, 4))
    means[:, 2] = 5 + 0.3 * np.arange(90)  # the detrending takes all of it
    regressors = pd.DataFrame({"x": rng.normal(size=90)})
    confounds = Confounds(strategy_of("minimal"), 90, np.arange(90), regressors, 0.1, 0.1)
    values, missing = cleaned(means, confounds, 2.0)
    assert missing.tolist() == [False, False, True, False]
    assert np.array_equal(values[:, 2], np.zeros(90))
    assert values[:, 0].std(ddof=1) == pytest.approx(1)


def test_values_that_are_not_finite_count_only_in_volumes_that_are_kept() -> None:
    means = np.random.default_rng(1).normal(size=(60, 3))
    means[4, 1] = np.nan
    kept = np.setdiff1d(np.arange(60), [4])
    dropped = cleaned(means, Confounds(strategy_of("none"), 60, kept, None, 0.1, 0.1))
    assert not dropped[1].any()
    assert np.isfinite(dropped[0]).all()
    everything = cleaned(means, Confounds(strategy_of("none"), 60, np.arange(60), None, 0.1, 0.1))
    assert everything[1].tolist() == [False, True, False]


def test_a_region_without_a_finite_voxel_in_a_volume_is_nan_there_and_not_0(tmp_path: Path, atlas: Atlas) -> None:
    brain, labels = brain_and_labels()
    stored = np.random.default_rng(0).normal(100, 1, (*GRID.shape, 3)).astype(np.float32)
    stored[labels == 5, 1] = np.nan
    bold, mask = tmp_path / "bold.nii", tmp_path / "mask.nii"
    nib.save(nib.Nifti1Image(stored, GRID.affine), bold)
    nib.save(nib.Nifti1Image(brain.astype(np.uint8), GRID.affine), mask)
    means = region_means(runs_of(bold, mask=mask)[0], atlas).time_series
    assert np.argwhere(np.isnan(means)).tolist() == [[1, 4]]
