"""A second attacker that needs no training of images: logistic regression on a slice's intensities and texture."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from gan_lib.site_classifier.examples import SiteSlices

Features = Float[np.ndarray, "slice feature"]

INTENSITY_BINS, GRADIENT_BINS, BANDS = 20, 10, 10
STEEPEST = 0.25  # gradients from here on share a bin; per voxel, in the study's units
# Grey levels of the co-occurrence matrix (Haralick 1973), and the neighbours that are compared.
LEVELS, DISTANCES, ANGLES = 16, (1, 2), (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
PROPERTIES = ("contrast", "homogeneity", "energy", "correlation")
# Strengths of regularisation that validation subjects choose between.
STRENGTHS = (0.003, 0.03, 0.3, 3.0)


def slice_features(image: Float[np.ndarray, "height width"]) -> Float[np.ndarray, " feature"]:
    """Histograms of the brain and its gradient, patterns and co-occurrence of neighbours, energy per frequency band."""
    image = image.astype(np.float32)
    brain = image != 0
    if not brain.any():
        raise ValueError("slice_features: the slice is empty; choose slices that hold brain")
    inner = ndimage.binary_erosion(brain, iterations=2)
    inner = inner if inner.any() else brain
    steep = np.hypot(*(ndimage.sobel(image, axis) / 8 for axis in (0, 1)))
    fine = ndimage.laplace(image)[inner]
    parts = [
        _shares(image[brain], INTENSITY_BINS, 1.0),
        _shares(steep[inner], GRADIENT_BINS, STEEPEST),
        _patterns(image, inner),
        np.log([1e-4 + fine.std(), 1e-4 + np.abs(fine).mean(), 1e-4 + np.median(np.abs(fine))]),
        _co_occurrence(image, brain),
        _band_energies(image, brain),
    ]
    return np.concatenate(parts)


def features(slices: SiteSlices) -> Features:
    """The features of all slices."""
    return np.stack([slice_features(image) for image in slices.images])


def linear_classifier(values: Features, slices: SiteSlices) -> Pipeline:
    """Fitted and standardised on role train; role validation chooses the strength of regularisation."""
    slices.check()
    fitting, choosing = slices.roles == "train", slices.roles == "validation"
    best, kept = -1.0, None
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000, class_weight="balanced"))
        model.fit(values[fitting], slices.labels[fitting])
        accuracy = balanced_accuracy_score(slices.labels[choosing], model.predict(values[choosing]))
        if accuracy > best:
            best, kept = accuracy, model
    return kept


def feature_names() -> list[str]:
    """In the order of `slice_features`."""
    pairs = product(PROPERTIES, DISTANCES)
    counted = {"intensity": INTENSITY_BINS, "gradient": GRADIENT_BINS, "pattern": 10}
    names = [f"{kind} {k}" for kind, count in counted.items() for k in range(count)]
    names += ["laplacian sd", "laplacian mean", "laplacian median"]
    names += [f"{name} at {distance}" for name, distance in pairs]
    return names + [f"band {k}" for k in range(BANDS)]


def _shares(values: np.ndarray, bins: int, top: float) -> np.ndarray:
    counts, _ = np.histogram(np.clip(values, 0, top), bins=bins, range=(0, top))
    return np.sqrt(counts / counts.sum())  # roots spread as evenly in empty bins as in full ones


def _patterns(image: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Uniform local binary patterns (Ojala 2002): which neighbours are brighter."""
    from skimage.feature import local_binary_pattern

    codes = local_binary_pattern(_bytes(image), P=8, R=1, method="uniform")[inner]
    return np.sqrt(np.bincount(codes.astype(int), minlength=10) / codes.size)


def _co_occurrence(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    from skimage.feature import graycomatrix, graycoprops

    # level 0 is the background, whose pairs are dropped
    levels = np.where(brain, 1 + np.clip(image * LEVELS, 0, LEVELS - 1).astype(np.uint8), 0).astype(np.uint8)
    counts = graycomatrix(levels, DISTANCES, ANGLES, levels=LEVELS + 1, symmetric=True)[1:, 1:].astype(np.float64)
    counts = counts.sum(axis=3, keepdims=True)
    shares = counts / np.maximum(counts.sum(axis=(0, 1), keepdims=True), 1)
    return np.concatenate([graycoprops(shares, name).ravel() for name in PROPERTIES])


def _band_energies(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Logarithm of the power in rings of spatial frequency, up to half a cycle per voxel."""
    centred = np.where(brain, image - image[brain].mean(), 0)
    power = np.abs(np.fft.fft2(centred)) ** 2 / brain.sum()
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in image.shape), indexing="ij"))
    ring = np.minimum((frequency * 2 * BANDS).astype(int), BANDS)
    power, rings = power[ring < BANDS], ring[ring < BANDS]
    return np.log(1e-6 + np.bincount(rings, power, BANDS) / np.bincount(rings, minlength=BANDS))


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(np.round(image * 255), 0, 255).astype(np.uint8)


def pairs_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs of classes, in the order of the names."""
    return [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
