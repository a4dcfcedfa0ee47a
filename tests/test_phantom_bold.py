"""BOLD of the phantom: what is put in, what spoils it, and confounds that nilearn reads as fMRIPrep's."""

import numpy as np
import pytest
from nilearn.interfaces.fmriprep import load_confounds

from study_lib.manifest import load_manifest
from study_lib.phantom import bold
from study_lib.phantom.connectome import draw_connectome, draw_series
from study_lib.phantom.traits import draw_traits
from study_lib.phantom.truth import Truth


@pytest.fixture(scope="module")
def simulated():
    rng = np.random.default_rng(0)
    traits = draw_traits("control", 1.0, rng)
    connectome = draw_connectome(traits.network, "control", rng)
    return connectome, *bold.simulate(draw_series(connectome, 200, rng), rng)


def test_framewise_displacement_is_the_sum_of_absolute_changes_with_rotations_on_a_sphere():
    motion = np.random.default_rng(1).normal(size=(9, 6))
    displacement = bold.framewise_displacement(motion)
    assert displacement[0] == 0
    for t in range(1, 9):
        change = [abs(motion[t, k] - motion[t - 1, k]) * (1 if k < 3 else 50) for k in range(6)]
        assert displacement[t] == pytest.approx(sum(change))


def test_every_region_has_voxels_on_the_bold_grid():
    assert np.bincount(bold.load_grid().labels, minlength=117)[1:].min() >= 10


def test_removing_confounds_brings_the_network_back(simulated):
    connectome, volume, table, _ = simulated
    grid = bold.load_grid()
    voxels = volume[grid.brain]
    series = np.stack([voxels[grid.labels == k].mean(0) for k in range(1, 117)], axis=1)
    names = [c for c in table if c.startswith(("trans", "rot", "csf", "white_matter", "cosine")) and "power2" not in c]
    regressors = np.column_stack([np.ones(len(table)), table[names].fillna(0)])
    cleaned = series - regressors @ np.linalg.lstsq(regressors, series, rcond=None)[0]
    upper = np.triu_indices(116, 1)
    raw, clean = (
        np.corrcoef(np.corrcoef(s.T)[upper], connectome.network[upper])[0, 1] for s in (series[1:], cleaned[1:])
    )
    assert clean > 0.88
    assert raw < clean - 0.05


def test_confounds_have_fmriprep_s_columns_and_a_missing_first_row_in_derivatives(simulated):
    *_, table, description = simulated
    assert {"framewise_displacement", "std_dvars", "csf", "white_matter", "global_signal", "cosine00"} <= set(table)
    assert table["trans_x_derivative1"].isna().tolist() == [True] + [False] * 199
    assert np.allclose(table["rot_z_derivative1"][1:], np.diff(table["rot_z"]))
    masks = [description[name]["Mask"] for name in table if name.startswith("a_comp_cor")]
    assert masks == ["CSF"] * 5 + ["WM"] * 5 + ["combined"] * 5


def test_components_are_orthonormal_and_in_order(simulated):
    *_, table, description = simulated
    names = [name for name, facts in description.items() if facts["Mask"] == "WM"]
    components = table[names].to_numpy()
    assert components.T @ components == pytest.approx(np.eye(5), abs=1e-8)
    explained = [description[name]["VarianceExplained"] for name in names]
    assert explained == sorted(explained, reverse=True)


def test_spiky_volumes_are_marked_one_by_one(simulated):
    *_, table, _ = simulated
    outliers = table[[c for c in table if c.startswith("motion_outlier")]].to_numpy()
    expected = (table["framewise_displacement"].fillna(0) > 0.5) | (table["std_dvars"].fillna(0) > 1.5)
    assert outliers.shape[1] == expected.sum() > 0
    assert (outliers.sum(0) == 1).all()
    assert (outliers.sum(1) == expected).all()


def test_nilearn_loads_the_files_as_fmriprep_s(phantom):
    cohort = load_manifest(phantom, check_files=False)
    row = cohort.table[cohort.table["bold"] != ""].iloc[0]
    table, kept = load_confounds(
        str(cohort.path(row, "bold")),
        strategy=("motion", "high_pass", "wm_csf", "compcor", "scrub"),
        motion="derivatives",
        wm_csf="basic",
        compcor="anat_separated",
        n_compcor=3,
        scrub=0,
        fd_threshold=0.5,
        std_dvars_threshold=1.5,
    )
    assert {"trans_x_derivative1", "csf", "white_matter", "cosine00"} <= set(table)
    assert sum(name.startswith("a_comp_cor") for name in table) == 6
    assert len(table) == 100
    assert kept is not None
    assert 60 < len(kept) < 100


def test_series_files_have_a_named_column_per_region_and_the_network_of_their_subject(phantom):
    cohort, truth = load_manifest(phantom, check_files=False), Truth.beside(phantom)
    row = cohort.table[cohort.table["time_series"] != ""].iloc[0]
    lines = cohort.path(row, "time_series").read_text().splitlines()
    series = np.array([line.split("\t") for line in lines[1:]], float)
    assert len(lines[0].split("\t")) == 116
    subjects, networks = truth.networks()
    own = networks[subjects.index(row["subject"])]
    others = [networks[k] for k in range(len(subjects)) if subjects[k] != row["subject"]]
    upper = np.triu_indices(116, 1)
    likeness = [np.corrcoef(np.corrcoef(series.T)[upper], n[upper])[0, 1] for n in (own, *others)]
    assert np.argmax(likeness) == 0
