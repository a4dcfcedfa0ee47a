"""Slices of two or three sites that differ in brightness or grain, for tests of site classifiers."""

import numpy as np

from gan_lib.site_classifier.examples import SiteSlices

SIZE = (33, 35)  # odd, and just large enough for a crop of 32
ROLES = ("train", "train", "validation", "test", "test")


def brains(number: int, rng: np.random.Generator) -> np.ndarray:
    """Discs of values around 0.5 on a background of 0."""
    rows, columns = np.indices(SIZE) - np.reshape(SIZE, (2, 1, 1)) / 2
    disc = np.hypot(rows, columns) < 14
    return np.where(disc, 0.5 + 0.05 * rng.standard_normal((number, *SIZE)), 0)


def site_slices(names=("Alpha", "Beta", "Gamma"), step=0.15, per_subject=3, seed=0, roles=ROLES) -> SiteSlices:
    """Five subjects a site; every site is brighter than the one before by `step`."""
    rng, images, columns = np.random.default_rng(seed), [], []
    for label, name in enumerate(names):
        for k, role in enumerate(roles):
            stack = brains(per_subject, rng)
            images.append(np.where(stack > 0, np.clip(stack + step * (label - 1), 0.01, 1), 0))
            columns += [(label, f"{name.lower()}{k}", role)] * per_subject
    labels, subjects, roles = (np.array(column) for column in zip(*columns, strict=True))
    return SiteSlices(np.concatenate(images).astype(np.float16), labels, subjects, roles, tuple(names))
