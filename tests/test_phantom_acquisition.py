"""Four scanners: physics of acquisition, strong enough to be told apart, weak enough to leave the head itself."""

import nibabel as nib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from study_lib import papers
from study_lib.grid import Grid
from study_lib.intensity import StudyNormaliser
from study_lib.manifest import load_manifest
from study_lib.phantom.acquisition import PROTON_DENSITY, SCANNERS, T1_MS, acquire, grid, receive_field, tissue_signals
from study_lib.phantom.anatomy import draw_anatomy, tissue_shares
from study_lib.phantom.template import HIGHEST_CORNER_MM, LOWEST_CORNER_MM
from study_lib.phantom.traits import N_TRAITS
from study_lib.preparation import mean_absolute_differences, prepare_scans


def test_the_scanners_have_what_the_study_states_of_them():
    stated = papers.harmonisation_sites()
    for scanner, row in zip(SCANNERS.values(), stated.to_dict("records"), strict=True):
        assert scanner.name in row["database"]
        assert (scanner.vendor, scanner.field_strength_t) == (row["scanner"], row["field_strength_t"])
        assert scanner.sequence == row["technique"]
        for value, text in (
            (scanner.echo_time_ms, row["echo_time_ms"]),
            (scanner.repetition_time_ms, row["repetition_time_ms"]),
        ):
            low, *high = (float(part) for part in text.split("-"))
            assert low <= value <= (high or [low])[0]


def test_signals_follow_the_equations_written_out_for_two_sites():
    gmc, smc = SCANNERS["GMC"], SCANNERS["SMC"]
    t1 = T1_MS[3.0]
    inverted = {
        k: PROTON_DENSITY[k] * (1 - 2 * np.exp(-900 / t1[k]) / (1 + np.exp(-1900 / t1[k]))) for k in ("grey", "white")
    }
    assert tissue_signals(gmc)["grey"] == pytest.approx(inverted["grey"] / inverted["white"])
    e1 = {k: np.exp(-9.9 / t1[k]) for k in t1}
    ernst = {k: PROTON_DENSITY[k] * (1 - e1[k]) / (1 - e1[k] * np.cos(np.deg2rad(20))) for k in t1}
    assert tissue_signals(smc)["fluid"] == pytest.approx(ernst["fluid"] / ernst["white"])


@pytest.mark.parametrize("site", SCANNERS)
def test_every_scan_is_t1_weighted(site):
    signals = tissue_signals(SCANNERS[site])
    assert signals["fluid"] < signals["grey"] < signals["deep"] < signals["white"] == 1


def test_sites_that_share_a_protocol_on_paper_differ_least():
    signals = {name: np.array(list(tissue_signals(s).values())) for name, s in SCANNERS.items()}
    pairs = {(a, b): np.abs(signals[a] - signals[b]).max() for a in signals for b in signals if a < b}
    assert min(pairs, key=pairs.get) == ("ADNI", "GSEV")


def test_noise_is_rician():
    """In air the magnitude of two noisy channels has the mean of a Rayleigh distribution."""
    scanner = SCANNERS["SMC"]
    empty = {tissue: np.zeros((40, 40, 40), np.float32) for tissue in tissue_signals(scanner)}
    image = acquire(empty, scanner, np.diag([2.0, 2, 2, 1]), 1.0, np.random.default_rng(0))
    assert image.std() / image.mean() == pytest.approx(np.sqrt(4 / np.pi - 1), rel=0.02)


def test_the_receive_field_is_the_exponential_of_a_polynomial():
    affine = np.diag([10.0, 20.0, 30.0, 1.0])
    affine[:3, 3] = (-20, -40, -30)
    coefficients = np.array([0.1, -0.2, 0.3, 0.04, -0.05, 0.06])
    field = receive_field(coefficients, affine, (5, 4, 3))
    i, j, k = 3, 1, 2
    x, y, z = (affine @ (i, j, k, 1))[:3] - (0, -17, 14)
    u = np.array([x, y, z]) / 80
    assert field[i, j, k] == pytest.approx(np.exp(coefficients[:3] @ u + coefficients[3:] @ u**2), rel=1e-5)


def test_a_coarser_grid_covers_the_same_box():
    low, high = np.array([-88.0, -124, -72]), np.array([88.0, 90, 100])
    for scanner in SCANNERS.values():
        affine, shape = grid(scanner, 1.5, low, high)
        far_corner = affine[:3, :3] @ (np.array(shape) - 1) + affine[:3, 3]
        assert (far_corner <= high).all()
        assert (far_corner > high - np.diag(affine)[:3]).all()


@pytest.fixture(scope="module")
def harmonisation_scans(phantom):
    cohort = load_manifest(phantom, check_files=False)
    rows = cohort.table[cohort.table["role"].isin(["train", "validation", "test", "travelling"])]
    return prepare_scans(cohort, rows, Grid.isotropic(4.0), n_jobs=1)


def test_a_head_is_more_like_itself_at_another_site_than_like_another_head_at_its_own(harmonisation_scans):
    travelling = [scan for scan in harmonisation_scans if scan.session]
    distances = mean_absolute_differences(travelling, StudyNormaliser())
    subject, site = np.array([(scan.subject, scan.site) for scan in travelling]).T
    same_subject, same_site = subject[:, None] == subject, site[:, None] == site
    assert distances[same_subject & ~same_site].mean() < 0.8 * distances[~same_subject & same_site].mean()
    nearest = (distances + 9.0 * same_site).argmin(1)  # of the scans at other sites
    assert (subject[nearest] == subject).all()
    rescans = same_subject & same_site & ~np.eye(len(site), dtype=bool)
    assert distances[rescans].mean() < distances[same_subject & ~same_site].mean()


def test_a_plain_classifier_tells_the_sites_of_unseen_subjects_apart_slice_by_slice():
    """A stand-in for the study's ResNet-50: the intensity histogram and a very coarse picture of single slices."""
    features, sites, subjects = [], [], []
    for subject, scanner in [(subject, scanner) for subject in range(18) for scanner in SCANNERS.values()]:
        volume, mask = _scan(subject, scanner)
        for z in range(12, volume.shape[2] - 12, 3):
            features.append(_slice_features(volume[:, :, z], mask[:, :, z]))
            sites.append(scanner.name)
            subjects.append(subject)
    features, sites, unseen = np.array(features), np.array(sites), np.array(subjects) >= 13
    accuracies = {}
    for a, b in [(a, b) for a in SCANNERS for b in SCANNERS if a < b]:
        pair = np.isin(sites, [a, b])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        model.fit(features[pair & ~unseen], sites[pair & ~unseen])
        accuracies[a, b] = model.score(features[pair & unseen], sites[pair & unseen])
    assert np.mean(list(accuracies.values())) >= 0.90, accuracies


def _scan(seed, scanner):
    """One head of its own, at 1.5 times the scanner's voxel width to keep the test short, in the study's units."""
    rng = np.random.default_rng([seed, list(SCANNERS).index(scanner.name)])
    head = draw_anatomy(rng.normal(size=N_TRAITS), 70.0, "F", rng)
    affine, shape = grid(scanner, 1.5, np.array(LOWEST_CORNER_MM), np.array(HIGHEST_CORNER_MM))
    shares = tissue_shares(head, affine, shape)
    mask = shares["brain"] > 0.5
    return StudyNormaliser().transform(acquire(shares, scanner, affine, 1.5, rng), mask), mask


def _slice_features(image, mask):
    histogram, _ = np.histogram(image[mask], bins=20, range=(0, 1), density=True)
    blocks = [b.mean() for rows in np.array_split(image, 5) for b in np.array_split(rows, 5, axis=1)]
    return np.concatenate([histogram, blocks])


def test_files_hold_what_was_scanned_in_the_axes_of_the_scanner(phantom):
    cohort = load_manifest(phantom, check_files=False)
    for site, rows in cohort.table.groupby("site"):
        image = nib.load(cohort.path(rows.iloc[0], "t1w"))
        assert "".join(nib.aff2axcodes(image.affine)) == SCANNERS[site].orientation
        assert image.get_data_dtype() == np.int16
        assert np.array_equal(image.get_sform(), image.get_qform()) or np.allclose(
            image.get_sform(), image.get_qform(), atol=1e-4
        )
        scaled = image.dataobj.slope != 1
        assert scaled == (SCANNERS[site].vendor == "Philips")
