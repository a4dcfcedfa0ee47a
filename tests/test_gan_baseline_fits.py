"""All baselines at once are each baseline alone, and survive their files."""

import numpy as np
import pytest

from gan_lib.baseline_fits import LEARNING, fit_baselines, load_fits, save_fits
from gan_lib.baselines import BASELINES
from study_lib.intensity import IntensityError
from study_lib.preparation import PreparedScan

SHAPE = (9, 10, 7)


def scan(subject: str, site: str, seed: int) -> PreparedScan:
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) < 0.7
    head = (100 + 40 * seed + (10 + seed) * rng.gamma(4, size=SHAPE)).astype(np.float32)
    return PreparedScan(subject, "", site, head, mask)


SCANS = [scan("a1", "A", 1), scan("b1", "B", 2), scan("a2", "A", 3), scan("b2", "B", 5)]


@pytest.mark.parametrize("name", LEARNING)
def test_every_fit_is_that_of_the_baseline_alone_on_the_scans_of_its_site(name):
    fits = fit_baselines(SCANS, [name], n_jobs=2)
    arrays = ([s.head for s in SCANS], [s.mask for s in SCANS], [s.subject for s in SCANS], [s.site for s in SCANS])
    for site in ("A", "B"):
        assert fits[name][site] == BASELINES[name]().fit(*arrays, site)
        assert fits[name][site].learned.subjects == (f"{site.lower()}1", f"{site.lower()}2")


def test_saved_and_loaded_fits_transform_alike(tmp_path):
    fits = fit_baselines(SCANS)
    save_fits(fits, tmp_path)
    again = load_fits(tmp_path, ["A", "B"])
    assert again == fits and tuple(again) == LEARNING
    new = scan("c", "C", 8)
    for name in LEARNING:
        results = [f[name]["B"].transform(new.head, new.mask) for f in (fits, again)]
        assert np.array_equal(*results) and results[0].any()


def test_a_scan_without_a_brain_is_named():
    empty = PreparedScan("nobody", "", "A", np.ones(SHAPE, np.float32), np.zeros(SHAPE, bool))
    with pytest.raises(IntensityError, match="nobody"):
        fit_baselines([*SCANS, empty])
