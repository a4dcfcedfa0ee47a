"""Series to networks: Pearson against loops, partial and tangent against nilearn, missing regions by the rule."""

import warnings

import numpy as np
import pytest
from nilearn.connectome import ConnectivityMeasure
from sklearn.base import clone
from sklearn.covariance import EmpiricalCovariance
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from cinp_lib.connectivity import (
    FunctionalConnectivity,
    edge_motion_correlation,
    edge_recovery,
    edges,
    identification_rate,
    without_missing,
)


def correlated(n_volumes: int, n_regions: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_volumes, 4)) @ rng.normal(size=(4, n_regions)) + rng.normal(size=(n_volumes, n_regions))


@pytest.fixture(scope="module")
def subjects() -> list[np.ndarray]:
    """Different lengths, as sites have them."""
    return [correlated(n, 13, seed) for seed, n in enumerate((41, 57, 64, 38, 90))]


def loop_pearson(series: np.ndarray) -> np.ndarray:
    n = series.shape[1]
    network = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            a, b = series[:, i] - series[:, i].mean(), series[:, j] - series[:, j].mean()
            network[i, j] = sum(a * b) / (sum(a * a) * sum(b * b)) ** 0.5
    return network


def test_correlation_is_plain_pearson_as_loops_compute_it(subjects: list[np.ndarray]) -> None:
    networks = FunctionalConnectivity().fit_transform(subjects)
    assert networks.shape == (5, 13, 13) and networks.dtype == np.float64
    for network, series in zip(networks, subjects, strict=True):
        np.testing.assert_allclose(network, loop_pearson(series), atol=1e-10, rtol=0)
        assert (np.diag(network) == 1).all() and (network == network.T).all()


def test_correlation_does_not_depend_on_units_or_on_other_subjects(subjects: list[np.ndarray]) -> None:
    together = FunctionalConnectivity().fit_transform(subjects)
    alone = FunctionalConnectivity().fit_transform([1e4 + 37 * subjects[2]])
    np.testing.assert_allclose(alone[0], together[2], atol=1e-9)


def test_correlation_equals_nilearn_with_the_empirical_covariance_and_not_its_default(subjects) -> None:
    ours = FunctionalConnectivity().fit_transform(subjects)
    plain = ConnectivityMeasure(cov_estimator=EmpiricalCovariance(), kind="correlation").fit_transform(subjects)
    shrunk = ConnectivityMeasure(kind="correlation").fit_transform(subjects)
    np.testing.assert_allclose(ours, plain, atol=1e-10)
    assert np.abs(ours - shrunk).max() > 0.01


@pytest.mark.parametrize(("shrinkage", "estimator"), [("ledoit_wolf", None), ("none", EmpiricalCovariance())])
def test_partial_and_tangent_agree_with_nilearn(subjects, shrinkage, estimator) -> None:
    for ours, theirs in (("partial", "partial correlation"), ("tangent", "tangent")):
        expected = ConnectivityMeasure(cov_estimator=estimator, kind=theirs).fit_transform(subjects)
        networks = FunctionalConnectivity(ours, shrinkage=shrinkage).fit_transform(subjects)
        np.testing.assert_allclose(networks, expected, atol=1e-8)


def test_tangent_learns_from_training_subjects_alone_and_transforms_a_single_one(subjects) -> None:
    estimator = FunctionalConnectivity("tangent").fit(subjects[:3])
    reference = estimator.reference_.copy()
    alone, together = estimator.transform([subjects[4]]), estimator.transform(subjects[3:])
    np.testing.assert_array_equal(alone[0], together[1])
    np.testing.assert_array_equal(estimator.reference_, reference)
    theirs = ConnectivityMeasure(kind="tangent").fit(subjects[:3]).transform(subjects[3:])
    np.testing.assert_allclose(together, theirs, atol=1e-8)


@pytest.mark.parametrize("kind", ["correlation", "partial", "tangent"])
@pytest.mark.parametrize("fault", [0.0, 712.25, np.nan, np.inf])
def test_missing_regions_keep_their_place_as_rows_and_columns_of_zeros(subjects, kind, fault) -> None:
    broken = subjects[1].copy()
    broken[:, [2, 7]] = fault
    estimator = FunctionalConnectivity(kind).fit(subjects)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        networks = estimator.transform([subjects[0], broken])
    assert np.flatnonzero(estimator.missing_[1]).tolist() == [2, 7] and not estimator.missing_[0].any()
    assert (networks[1][[2, 7]] == 0).all() and (networks[1][:, [2, 7]] == 0).all()
    assert np.isfinite(networks).all()
    present = np.setdiff1d(np.arange(13), [2, 7])
    if kind != "tangent":
        reduced = FunctionalConnectivity(kind).fit_transform([subjects[1][:, present]])
        np.testing.assert_allclose(networks[1][np.ix_(present, present)], reduced[0], atol=1e-12)


def test_a_single_nan_makes_a_region_missing(subjects) -> None:
    broken = subjects[0].copy()
    broken[5, 3] = np.nan
    estimator = FunctionalConnectivity()
    estimator.fit_transform([broken])
    assert np.flatnonzero(estimator.missing_[0]).tolist() == [3]


def test_tangent_of_a_missing_region_stays_near_that_of_the_whole_brain(subjects) -> None:
    estimator = FunctionalConnectivity("tangent").fit(subjects)
    broken = subjects[1].copy()
    broken[:, 4] = 0
    whole, less = estimator.transform([subjects[1], broken])
    present = np.setdiff1d(np.arange(13), [4])
    r = np.corrcoef(edges(whole[np.ix_(present, present)]), edges(less[np.ix_(present, present)]))[0, 1]
    assert r > 0.95


def test_tangent_leaves_incomplete_training_subjects_out_of_the_reference(subjects) -> None:
    broken = subjects[0].copy()
    broken[:, 1] = 0
    with_broken = FunctionalConnectivity("tangent").fit([broken, *subjects[1:]])
    without = FunctionalConnectivity("tangent").fit(subjects[1:])
    np.testing.assert_array_equal(with_broken.reference_, without.reference_)
    with pytest.raises(ValueError, match=r"training subject without missing regions.*columns \[1\]"):
        FunctionalConnectivity("tangent").fit([broken, broken])


def test_fisher_z_is_arctanh_off_the_diagonal_finite_for_twins_of_regions(subjects) -> None:
    series = subjects[0].copy()
    series[:, 1] = series[:, 0]
    plain = FunctionalConnectivity().fit_transform([series])[0]
    z = FunctionalConnectivity(fisher_z=True).fit_transform([series])[0]
    assert np.isfinite(z).all() and z[0, 1] > 8 and (np.diag(z) == 1).all()
    np.testing.assert_allclose(z[2, 5], np.arctanh(plain[2, 5]))
    series[:, 6] = 0
    assert (FunctionalConnectivity(fisher_z=True).fit_transform([series])[0][6] == 0).all()


def test_it_is_a_scikit_learn_transformer(subjects) -> None:
    estimator = FunctionalConnectivity("partial", fisher_z=True)
    assert clone(estimator).get_params() == {"kind": "partial", "fisher_z": True, "shrinkage": "ledoit_wolf"}
    vectors = make_pipeline(FunctionalConnectivity(), FunctionTransformer(edges)).fit_transform(subjects)
    assert vectors.shape == (5, 78)


@pytest.mark.parametrize(
    ("settings", "series", "message"),
    [
        ({"kind": "pearson"}, [correlated(20, 5, 0)], "expected one of correlation, partial, tangent, got 'pearson'"),
        ({"kind": "tangent", "fisher_z": True}, [correlated(20, 5, 0)], "tangent, whose values are not bounded"),
        ({"shrinkage": "oas"}, [correlated(20, 5, 0)], "expected ledoit_wolf or none"),
        ({}, correlated(20, 5, 0), "put it in a list"),
        ({}, [], "at least one subject"),
        ({}, [correlated(20, 5, 0), correlated(20, 6, 0)], "subject 1: .* of 5 regions .* got shape"),
        ({}, [correlated(2, 5, 0)], "subject 0: .* at least 3 volumes"),
        ({}, [np.ones((20, 5))], "subject 0: expected at least two regions that vary, got 0 of 5"),
        ({"kind": "partial", "shrinkage": "none"}, [correlated(8, 13, 0)], "has no inverse.*ledoit_wolf"),
    ],
)
def test_unusable_settings_and_series_are_refused_with_what_to_do(settings, series, message) -> None:
    with pytest.raises(ValueError, match=message):
        FunctionalConnectivity(**settings).fit_transform(series)


def test_edge_recovery_and_identification_ignore_what_all_subjects_share() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(20, 20))
    own = rng.normal(size=(6, 20, 20))
    true = shared + own
    np.testing.assert_allclose(edge_recovery(5 + 2 * true, true), 1)
    assert identification_rate(true + 0.3 * rng.normal(size=own.shape), true) == 1
    unrelated = 10 * shared + rng.normal(size=own.shape)
    assert np.abs(edge_recovery(unrelated, true)).max() < 0.4  # though the raw edges correlate at nearly 1
    with pytest.raises(ValueError, match="as many estimated as true"):
        edge_recovery(true[:3], true)


def test_regions_that_somebody_lacks_are_nan_and_not_edges_of_zero() -> None:
    networks = np.array([[[1.0, 0.5, 0.2], [0.5, 1, 0.1], [0.2, 0.1, 1]], [[1, 0, 0.3], [0, 0, 0], [0.3, 0, 1]]])
    seen = without_missing(networks)
    assert np.array_equal(seen[0], networks[0])
    assert np.isnan(seen[1, 1]).all()
    assert np.isnan(seen[1, :, 1]).all()
    assert seen[1, 0, 2] == 0.3


def test_edges_against_motion_are_correlations_over_subjects_and_0_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    networks = np.array([np.corrcoef(rng.normal(size=(4, 30))) for _ in range(9)])
    networks[:, 0, 1] = networks[:, 1, 0] = 0.5
    networks[3, 3] = networks[3, :, 3] = 0
    motion = rng.random(9)
    found = edge_motion_correlation(networks, motion)
    assert found[0] == 0  # of one value in everybody
    assert not found[[2, 4, 5]].any()  # with the region that subject 3 lacks
    for edge, (i, j) in {1: (0, 2), 3: (1, 2)}.items():
        assert found[edge] == pytest.approx(np.corrcoef(networks[:, i, j], motion)[0, 1])


def test_edges_are_every_pair_of_regions_once():
    networks = np.random.default_rng(0).normal(size=(4, 5, 5))
    expected = [[network[i, j] for i in range(5) for j in range(i + 1, 5)] for network in networks]
    assert edges(networks) == pytest.approx(np.array(expected))
    with pytest.raises(ValueError, match=r"networks of \(subject, region, region\), got \(4, 5\)"):
        edges(networks[:, 0])
