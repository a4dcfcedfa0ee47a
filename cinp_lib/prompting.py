"""Network prompting: a class is described by networks of people who have it, and an image goes where it fits best."""

import warnings
from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from study_lib.shapes import Embeddings

Orders = Int[np.ndarray, "draw network"]
Prompts = Float[np.ndarray, "draw feature"]
Scores = Float[np.ndarray, "draw subject class"]
ClassScores = Float[np.ndarray, "subject class"]


class NetworkPromptClassifier(ClassifierMixin, BaseEstimator):
    """Fitted on embeddings of networks, asked about embeddings of images: both of one model and of length 1.

    The networks of class l are shuffled and split into r disjoint subsets of equal size, whose means are the
    references w_i^l. An image v has the score s^l = mean over i of v^T w_i^l; the largest wins.

    As the subsets are equally large, s^l is v^T times the mean of all networks in use: r decides only how many are left
    over, unless the references are given length 1 (`unit_references`), which the study does not do.

    Parameters
    ----------
    n_subsets : r.
    fraction : share of the networks of every class that is used, rounded up; the study's is 0.1. What is left over
        when these are shared out to r equal subsets is left out.
    n_draws : how many times the networks are shuffled; scores are means over the draws.
    random_state : of the shuffling.
    tau : temperature of `predict_proba`; that of the model, `model.tau`, for probabilities as in training.
    unit_references : scale references to length 1, so that a class whose networks differ more has no smaller scores.

    Attributes
    ----------
    classes_ : labels in sorted order.
    prompts_ : (draw, class, feature), the mean of each class's references: the classifier is linear in the image.
    used_ : for every class, how many of its networks each draw uses.
    """

    def __init__(
        self,
        n_subsets: int = 5,
        fraction: float = 1.0,
        n_draws: int = 1,
        random_state: int | np.random.RandomState | None = None,
        tau: float = 0.07,
        unit_references: bool = False,
    ) -> None:
        self.n_subsets = n_subsets
        self.fraction = fraction
        self.n_draws = n_draws
        self.random_state = random_state
        self.tau = tau
        self.unit_references = unit_references

    def fit(self, network_embeddings: Embeddings, y: Sequence, groups: Sequence | None = None) -> Self:
        """Draw the references.

        `groups`: an id for each network that its owner shares with relatives and other sessions, such as the manifest's
        `family`; for an image of the same group these networks are not used, as if they had not been there.
        """
        self._check_settings()
        networks, y = validate_data(self, network_embeddings, y, ensure_all_finite=False, dtype=np.float64)
        _refuse_not_finite(networks, "network_embeddings")
        check_classification_targets(y)
        self.classes_, owner = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y: expected networks of two classes or more, got one class, {self.classes_[0]}")
        self._networks, self._groups = networks, _ids(groups, len(networks), "networks")
        rng = check_random_state(self.random_state)
        keys = rng.random_sample((self.n_draws, len(networks)))
        places = [np.flatnonzero(owner == own) for own in range(len(self.classes_))]
        # For each draw the networks of a class in random order: a part of them in the same order is a fair draw too.
        self._orders = [own[np.argsort(keys[:, own], axis=1)] for own in places]
        self.used_ = np.array([self._used(number, order) for number, order in enumerate(self._orders)])
        self.prompts_ = np.stack([self._prompt(k, order) for k, order in enumerate(self._orders)], axis=1)
        return self

    def draw_scores(self, image_embeddings: Embeddings, groups: Sequence | None = None) -> Scores:
        """s^l of every draw, for the spread over draws; says by a warning for whom networks were left out."""
        check_is_fitted(self)
        images = self._checked_images(image_embeddings)
        scores = np.einsum("sf,dcf->dsc", images, self.prompts_, optimize=True)
        groups = _ids(groups, len(images), "images")
        self._warn(groups)
        for group in set() if groups is None or self._groups is None else set(groups) & set(self._groups):
            own = np.flatnonzero(groups == group)
            for number, order in enumerate(self._orders):
                mine = self._groups[order] == group
                if mine.any():  # as often in each draw, so the rest is a rectangle again
                    others = order[~mine].reshape(len(order), -1)
                    scores[:, own, number] = self._prompt(number, others, group) @ images[own].T
        return scores

    def class_scores(self, image_embeddings: Embeddings, groups: Sequence | None = None) -> ClassScores:
        """Mean of s^l over the draws."""
        return self.draw_scores(image_embeddings, groups).mean(axis=0)

    def decision_function(self, image_embeddings: Embeddings, groups: Sequence | None = None) -> np.ndarray:
        """The scores of all classes; of two, that of the second minus that of the first."""
        scores = self.class_scores(image_embeddings, groups)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, image_embeddings: Embeddings, groups: Sequence | None = None) -> np.ndarray:
        """The class with the largest score."""
        largest = self.class_scores(image_embeddings, groups).argmax(axis=1)
        return self.classes_[largest]

    def predict_proba(self, image_embeddings: Embeddings, groups: Sequence | None = None) -> np.ndarray:
        """softmax over classes of s / tau."""
        return softmax(self.class_scores(image_embeddings, groups) / self.tau, axis=1)

    def score(
        self,
        image_embeddings: Embeddings,
        y: Sequence,
        sample_weight: Sequence | None = None,
        groups: Sequence | None = None,
    ) -> float:
        """Accuracy, as in scikit-learn; labels that no network had are refused."""
        from sklearn.metrics import accuracy_score

        check_is_fitted(self)
        unseen = sorted(set(np.asarray(y).ravel().tolist()) - set(self.classes_.tolist()))
        if unseen:
            known = ", ".join(map(str, self.classes_))
            raise ValueError(f"y: expected classes that networks were given for ({known}), got {unseen} as well")
        return float(accuracy_score(y, self.predict(image_embeddings, groups), sample_weight=sample_weight))

    def drawn(self, draw: int) -> Int[np.ndarray, " network"]:
        """Places of the networks that one draw uses, among those given to `fit`."""
        check_is_fitted(self)
        return np.concatenate([order[draw, :used] for order, used in zip(self._orders, self.used_, strict=True)])

    def own_references(self, groups: Sequence) -> Int[np.ndarray, " subject"]:
        """For each image, how many networks of its own group there are: those that are left out for it."""
        check_is_fitted(self)
        if self._groups is None:
            raise ValueError("groups: expected ids of the networks too; give them to fit(..., groups=...)")
        return np.array([(self._groups == group).sum() for group in np.asarray(groups)], dtype=int)

    def _prompt(self, number: int, order: Orders, without: object = None) -> Prompts:
        """Mean of a class's references in each draw, by one product of shares and networks."""
        used, draws = self._used(number, order, without), len(order)
        subsets = self.n_subsets if self.unit_references else 1  # the mean of equal subsets' means is that of all
        shares = np.zeros((draws, subsets, len(self._networks)))
        shares[np.arange(draws)[:, None], np.repeat(np.arange(subsets), used // subsets), order[:, :used]] = (
            subsets / used
        )
        references = shares @ self._networks
        if self.unit_references:
            references /= np.maximum(np.linalg.norm(references, axis=-1, keepdims=True), np.finfo(float).tiny)
        return references.mean(axis=1)

    def _used(self, number: int, order: Orders, without: object = None) -> int:
        """How many networks of a class are used: a multiple of r."""
        there = order.shape[1]
        chosen = int(np.ceil(self.fraction * there - 1e-9))  # 0.1 * 30 is more than 3
        if chosen < self.n_subsets:
            aside = "" if without is None else f" without group {without}"
            raise ValueError(
                f"class {self.classes_[number]}: expected at least n_subsets = {self.n_subsets} networks, got "
                f"{chosen} (fraction {self.fraction} of {there}{aside}); "
                "give more networks, a larger fraction, or fewer subsets"
            )
        return chosen - chosen % self.n_subsets

    def _checked_images(self, image_embeddings: Embeddings) -> Embeddings:
        try:
            images = validate_data(self, image_embeddings, reset=False, ensure_all_finite=False, dtype=np.float64)
        except ValueError as error:
            if "features as input" in str(error):
                raise ValueError(f"{error} images and networks are to be embedded by one model") from error
            raise
        _refuse_not_finite(images, "image_embeddings")
        return images

    def _warn(self, groups: np.ndarray | None) -> None:
        if groups is None:
            if self._groups is not None:
                warnings.warn(
                    "groups: networks have ids, images have none, so nobody's own network is left out", stacklevel=3
                )
            return
        known = self.own_references(groups)
        if known.any():
            warnings.warn(
                f"{np.count_nonzero(known)} of {len(groups)} images have networks of their own group among the "
                "references; these were left out for them",
                stacklevel=3,
            )

    def _check_settings(self) -> None:
        for name in ("n_subsets", "n_draws"):
            value = getattr(self, name)
            if value != int(value) or value < 1:
                raise ValueError(f"{name}: expected a whole number from 1 on, got {value!r}")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction: expected a share above 0, at most 1, got {self.fraction!r}")
        if not self.tau > 0:
            raise ValueError(f"tau: expected a temperature above 0, got {self.tau!r}")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = False
        return tags


def _ids(groups: Sequence | None, number: int, of: str) -> np.ndarray | None:
    if groups is None:
        return None
    ids = np.asarray(groups)
    if ids.shape != (number,):
        raise ValueError(f"groups: expected an id for each of {number} {of}, got shape {ids.shape}")
    blank = np.flatnonzero(pd.isna(ids) | (ids.astype(str) == ""))
    if len(blank):
        raise ValueError(
            f"groups: expected an id for each of the {of}, got none in rows {blank[:10].tolist()}; where no relatives "
            "are known, a subject's own id is one"
        )
    return ids


def _refuse_not_finite(embeddings: Embeddings, name: str) -> None:
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(broken):
        some = ", ".join(map(str, broken[:10])) + (" and more" if len(broken) > 10 else "")
        raise ValueError(
            f"{name}: expected finite numbers, got NaN or inf in {len(broken)} of {len(embeddings)} rows ({some}); a "
            "person without a network has NaN there: leave such rows out by name"
        )
