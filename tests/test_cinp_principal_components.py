"""Principal components: of equal variance, the same every time, and nothing where there is nothing."""

import numpy as np
import pytest
import torch

from cinp_lib.principal_components import PrincipalComponents


def rows(number=30, features=50, rank=4, seed=0):
    """Rows that differ in few directions, of very different strength."""
    rng = np.random.default_rng(seed)
    return 3 + (rng.normal(size=(number, rank)) * [100, 10, 1, 0.1][:rank]) @ rng.normal(size=(rank, features))


def test_components_of_training_rows_have_mean_0_variance_1_and_are_uncorrelated():
    own = rows()
    made = PrincipalComponents(50, 4).double().fit(own)(torch.from_numpy(own)).numpy()
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-8)
    np.testing.assert_allclose(np.cov(made.T), np.eye(4), atol=1e-6)


def test_they_are_the_singular_vectors_and_the_same_every_time():
    own = rows(600, 700, 4)  # large enough for a solver that draws at random
    made = PrincipalComponents(700, 3).fit(own)
    centred = own - own.mean(0)
    u = np.linalg.svd(centred, full_matrices=False)[0][:, :3] * np.sqrt(len(own) - 1)
    found = made(torch.from_numpy(own)).numpy()
    assert np.abs(np.abs(np.sum(u * found, axis=0)) / (len(own) - 1) - 1).max() < 1e-3
    again = PrincipalComponents(700, 3).fit(own)
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), again.state_dict().values(), strict=True))


def test_components_that_rows_do_not_have_stay_0():
    made = PrincipalComponents(50, 9).fit(rows())
    assert made.found == 4
    assert (made(torch.from_numpy(rows(seed=1)))[:, 4:] == 0).all()
    assert PrincipalComponents(50, 9).fit(rows(3)).found == 2


def test_where_nothing_is_known_the_mean_stands():
    own, rng = rows(), np.random.default_rng(0)
    gaps = rng.random(own.shape) < 0.1
    with_gaps = np.where(gaps, np.nan, own)
    made = PrincipalComponents(50, 2).double().fit(with_gaps)
    mean = np.nanmean(np.where(gaps, np.nan, own), axis=0)
    np.testing.assert_allclose(made.mean.numpy(), mean, rtol=1e-5)
    filled = np.where(gaps, made.mean.numpy(), own)
    expected = (filled - made.mean.numpy()) @ made.directions.numpy()
    np.testing.assert_allclose(made(torch.from_numpy(with_gaps)).numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(made(torch.full((1, 50), torch.nan, dtype=torch.float64)).numpy(), 0)


def test_without_rows_or_with_broken_ones_there_are_none():
    with pytest.raises(ValueError, match="expected those of training rows, got none;"):
        PrincipalComponents(50, 2)(torch.zeros(1, 50))
    with pytest.raises(ValueError, match="at least two rows, and nothing infinite, got 1"):
        PrincipalComponents(50, 2).fit(rows(1))
    with pytest.raises(ValueError, match="expected rows that differ, got 5 that are alike"):
        PrincipalComponents(50, 2).fit(np.ones((5, 50)))
    broken = rows()
    broken[3, 4] = np.inf
    with pytest.raises(ValueError, match="nothing infinite, got 30"):
        PrincipalComponents(50, 2).fit(broken)
