"""Radii of travelling subjects: pairs and methods as asked for, errors against the truth, both readings."""

import numpy as np
import pandas as pd
import pytest
from nibabel.nifti1 import Nifti1Image

from gan_lib import cortex_figures
from gan_lib.cortex.agreement import (
    STUDY_PAIRS,
    error_table,
    paired,
    radius_metrics,
    readings,
    study_table,
    travelling_radii,
    with_truth,
)
from gan_lib.cortex.atlas import Regions
from gan_lib.cortex.regional import (
    disease_pattern,
    measured_everywhere,
    painted_table,
    regional_radii,
    site_spread,
)
from gan_lib.cortex_figures import agreement, cortex_in_3d, effects_before_after, painted, radius_errors, radius_slices
from gan_lib.travelling import Visit, travellers_of
from study_lib.papers import cortical_radius as deck_radius
from study_lib.preparation import PreparedScan
from study_lib.statistics import BootstrapSettings

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = -30
SHAPE = (31, 31, 31)
GAINS = {"GMC": 1.0, "ADNI": 0.8, "SMC": 0.9}
FEW = BootstrapSettings(draws=100)
THICK = {"s1": 4.0, "s2": 5.0, "s3": 5.5}


def distance():
    axes = [AFFINE[k, 3] + 2.0 * np.arange(n) for k, n in enumerate(SHAPE)]
    return np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij"))) - 17


def truth(subject) -> Nifti1Image:
    labels = np.where(distance() < 0, 2, np.where(distance() < THICK[subject], 1, 0))
    return Nifti1Image(labels.astype(np.uint8), AFFINE)


def visit(subject, site) -> Visit:
    labels, mask = np.asarray(truth(subject).dataobj), distance() < 9
    rng = np.random.default_rng([ord(c) for c in subject + site])
    volume = np.choose(labels, [0.2, 0.5, 0.9]) + 0.01 * rng.normal(size=SHAPE)
    volume = np.where(mask, GAINS[site] * volume, 0).astype(np.float32)
    return Visit(PreparedScan(subject, site.lower(), site, volume, mask), volume)


def same(scan, target):
    return scan.volume


def eroded(scan, target):
    """Cortex's outer voxels are turned into fluid."""
    labels = np.asarray(truth(scan.subject).dataobj)
    outer = (labels == 1) & (distance() > THICK[scan.subject] - 2)
    return np.where(outer, 0.2 * GAINS[scan.site], scan.volume).astype(np.float32)


@pytest.fixture(scope="module")
def travellers():
    return travellers_of([visit(subject, site) for subject in THICK for site in GAINS])


@pytest.fixture(scope="module")
def radii(travellers):
    found = travelling_radii(travellers, {"gan": same, "histogram_matching": eroded}, AFFINE)
    return with_truth(found, {subject: truth(subject) for subject in THICK})


def test_every_method_subject_pair_and_hemisphere_is_there_once(radii):
    keys = ["method", "subject", "source", "target", "hemisphere"]
    assert not radii.duplicated(keys).any() and len(radii) == 4 * 3 * 6 * 2
    assert set(radii["method"]) == {"gan", "histogram_matching", "before", "target"}


def test_before_is_the_source_scan_and_target_the_real_scan_there(radii):
    wide = radii.set_index(["method", "subject", "source", "target", "hemisphere"])["radius_mm"]
    assert wide["before", "s2", "GMC", "ADNI", "left"] == wide["target", "s2", "SMC", "GMC", "left"]
    assert wide["gan", "s1", "ADNI", "SMC", "right"] == wide["before", "s1", "ADNI", "SMC", "right"]


def test_a_thinned_cortex_is_an_error_and_a_kept_one_is_none(radii):
    table = error_table(radii, FEW).set_index("method")
    assert table.loc["gan", "error_percent"] < 6
    assert table.loc["histogram_matching", "error_percent"] > 15
    assert table.loc["histogram_matching", "bias_percent"] == pytest.approx(
        -table.loc["histogram_matching", "error_percent"]
    )
    assert table.loc["gan", "low"] <= table.loc["gan", "error_percent"] <= table.loc["gan", "high"]


def test_errors_are_percent_of_each_subjects_own_truth(radii):
    row = radii.iloc[7]
    assert row["error_percent"] == pytest.approx(100 * abs(row["radius_mm"] - row["truth_mm"]) / row["truth_mm"])
    assert radii.groupby("subject")["truth_mm"].mean().is_monotonic_increasing


def test_metrics_have_the_names_of_the_contract(radii):
    metrics = radius_metrics(radii, "gan", FEW)
    for pair in ("gmc_to_adni", "adni_to_smc"):
        for side in ("left", "right"):
            for kind in ("source", "target", "transferred", "truth"):
                assert metrics[f"radius_{pair}_{side}_{kind}"] > 1
    for name in ("before", "after", "histogram_matching"):
        assert metrics[f"radius_error_percent_{name}"] >= 0
    assert metrics["radius_correlation"] > 0.99 and metrics["radius_icc"] > 0.8
    own = radii.query("method == 'gan' and source == 'GMC' and target == 'ADNI' and hemisphere == 'left'")
    assert metrics["radius_gmc_to_adni_left_transferred"] == pytest.approx(own["radius_mm"].mean())


def test_without_truth_the_radii_and_their_correlation_remain(radii):
    plain = radii.drop(columns=["truth_mm", "error_percent", "signed_percent"])
    metrics = radius_metrics(plain, "gan", FEW)
    assert "radius_gmc_to_adni_left_source" in metrics and "radius_correlation" in metrics
    assert not any("truth" in name or "error" in name or "icc" in name for name in metrics)
    assert "truth_mm" not in study_table(plain, "gan") and len(study_table(plain, "gan")) == 4


def test_both_readings_of_the_decks_numbers_are_those_worked_out_by_hand():
    table = readings(deck_radius()).set_index(["pair", "hemisphere"])
    row = table.loc[("Siemens to GE", "left")]
    assert row["change_percent"] == pytest.approx(-6.73, abs=0.01)
    assert row["gap_closed_percent"] == pytest.approx(80.5, abs=0.1)
    assert set(deck_radius()["pair"]) == set(STUDY_PAIRS)


def test_no_gap_has_no_share_that_is_closed():
    table = pd.DataFrame({"source_mm": [2.0], "target_mm": [2.0], "transferred_mm": [2.1]})
    assert np.isnan(readings(table)["gap_closed_percent"]).all()


def test_sites_that_a_cohort_lacks_leave_an_empty_study_table(radii):
    assert study_table(radii.replace({"GMC": "X", "ADNI": "Y"}), "gan").empty


def test_regions_are_columns_and_subjects_rows(travellers):
    scans = [travellers.visits[subject, "GMC"] for subject in THICK]
    atlas = np.where(np.arange(31)[:, None, None] < 15, 3, 8) * np.ones(SHAPE)
    images = [(v.subject, v.volume, v.mask) for v in scans]
    regions = Regions(Nifti1Image(atlas.astype(np.int16), AFFINE), {3: "left part"})
    table = regional_radii(images, regions, AFFINE)
    assert table.index.tolist() == list(THICK) and table.columns.tolist() == ["left part", "8"]
    assert (np.diff(table.to_numpy(), axis=0) > 0).all(), "thicker subjects are thicker in every region"


def test_a_bad_scan_and_a_missing_truth_are_named(travellers, radii):
    def black(scan, target):
        return np.zeros(SHAPE, np.float32)

    with pytest.raises(ValueError, match=r"dark to GMC, subject s1 at ADNI"):
        pairs = travellers_of([visit("s1", "GMC"), visit("s1", "ADNI")])
        travelling_radii(pairs, {"dark": black}, AFFINE)
    with pytest.raises(ValueError, match="added by itself"):
        travelling_radii(travellers, {"before": same}, AFFINE)
    with pytest.raises(KeyError, match="no true labels of s3"):
        with_truth(radii, {"s1": truth("s1"), "s2": truth("s2")})
    with pytest.raises(KeyError, match="no radii of"):
        paired(radii[radii["method"] != "target"], "gan")


def test_figures_show_every_method_scan_and_region(radii):
    table = error_table(radii, FEW)
    assert [t.get_text() for t in radius_errors(table, "gan").axes[0].get_yticklabels()][-1] in set(
        table["method"].str.replace("_", " ")
    ) | {"real scan at the target"}
    lines = agreement(radii, "gan").axes[0].lines
    assert sum(len(line.get_xdata()) for line in lines[:-1]) == 36
    thickness = np.where(np.asarray(truth("s1").dataobj) == 1, 4.0, 0).astype(np.float32)
    scan = visit("s1", "GMC").volume
    assert len(radius_slices({"a": (scan, thickness), "b": (scan, thickness)}).axes) == 8 + 1
    assert len(cortex_in_3d({"a": (np.asarray(truth("s1").dataobj), thickness)}).axes) == 2 + 1
    effects = pd.DataFrame({"before": [-0.8, 0.1], "after": [-0.7, 0.2]})
    panel = effects_before_after({"gan": effects, "combat": effects}, [True, False]).axes
    assert len(panel) == 2 and panel[0].lines[0].get_xdata().tolist() == [-0.8]
    shares = pd.DataFrame({"method": ["a", "b"], "value": [0.1, 0.5], "low": [0.0, 0.4], "high": [0.2, 0.6]})
    assert len(painted(shares).axes[0].get_yticklabels()) == 2


def test_regions_that_somebody_lacks_are_left_out():
    tables = {
        "a": pd.DataFrame([[1.0, 2.0, 3.0]], columns=list("xyz")),
        "b": pd.DataFrame([[1.0, np.nan, 3.0]], columns=list("xyz")),
    }
    assert measured_everywhere(tables) == ["x", "z"]
    assert measured_everywhere(tables, ["z", "y"]) == ["z"]
    with pytest.raises(ValueError, match="coarser atlas"):
        measured_everywhere(tables, ["y"])


def test_the_pattern_of_disease_is_free_of_sites_and_what_is_painted_of_it_is_found():
    rng = np.random.default_rng(3)
    sites, patients = np.repeat(["A", "B"], 40), np.tile([True, False], 40)
    thinned = np.array([-0.3, 0.0, -0.2])
    site = np.where(sites == "A", 1.0, 0.0)[:, None]
    table = pd.DataFrame(
        2.5 + 0.02 * rng.normal(size=(80, 3)) + patients[:, None] * thinned + site, columns=list("xyz")
    )
    pattern = disease_pattern(table, patients, sites)
    assert pattern.to_numpy() == pytest.approx(thinned, abs=0.02)
    assert site_spread(table, sites) > 1 > site_spread(table - site, sites)
    real = pd.DataFrame(2.5 + 0.05 * rng.normal(size=(6, 3)), columns=list("xyz"))
    shares = painted_table({"none": real, "half": real + thinned / 2}, real, pattern, FEW).set_index("method")["value"]
    assert shares["none"] == 0 and shares["half"] == pytest.approx(0.5, abs=0.05)


def test_the_surface_shows_its_outside_and_only_what_faces_who_looks_at_it():
    places = np.indices((24, 24, 24)) - 11.5
    ball = (np.linalg.norm(places, axis=0) < 8).astype(np.uint8)
    vertices, faces, normals, _ = cortex_figures._outer_surface(ball, ball.astype(np.float32))
    centres = vertices[faces].mean(axis=1) - 11.5
    assert ((normals * centres).sum(axis=1) > 0).all()
    for ax, (elevation, azimuth) in zip(
        cortex_in_3d({"ball": (ball, ball)}).axes, cortex_figures.VIEWS.values(), strict=False
    ):
        shown = ax.collections[0]._faces.reshape(-1, 3) / 2.0 - 11.5
        towards = cortex_figures._direction(elevation, azimuth)
        assert len(shown) and (shown @ towards > -1.5).all() and (shown @ towards).max() > 7
