"""Network prompting beside loops over draws, subsets and people; scikit-learn's own checks; whom it leaves out."""

import math
import time
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from cinp_lib.prompting import NetworkPromptClassifier


def embeddings(number=23, feature=5, classes=3, seed=0):
    """Unit-length embeddings of networks and images that share a class mean, and labels of unequal frequency."""
    rng = np.random.default_rng(seed)
    y = np.sort(np.r_[np.arange(classes), rng.integers(0, classes, number - classes)])
    means = rng.normal(size=(classes, feature))
    networks, images = (means[y] + 0.8 * rng.normal(size=(number, feature)) for _ in range(2))
    return (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (networks, images)), np.array(list("cab"))[y]


def naive_scores(settings, networks, y, images, own=None, theirs=None):
    """The definition, word by word: for each draw and image, split the networks that it may see, average, compare."""
    keys = np.random.RandomState(settings.random_state).random_sample((settings.n_draws, len(networks)))
    scores = np.zeros((settings.n_draws, len(images), len(set(y))))
    for draw in range(settings.n_draws):
        for query in range(len(images)):
            for number, label in enumerate(sorted(set(y))):
                pool = [k for k in range(len(y)) if y[k] == label and (own is None or own[k] != theirs[query])]
                pool = sorted(pool, key=lambda k, draw=draw: keys[draw, k])
                chosen = pool[: math.ceil(round(settings.fraction * len(pool), 6))]
                size = len(chosen) // settings.n_subsets
                similarities = []
                for subset in range(settings.n_subsets):
                    reference = np.mean([networks[k] for k in chosen[subset * size : (subset + 1) * size]], axis=0)
                    if settings.unit_references:
                        reference = reference / np.sqrt(sum(value**2 for value in reference))
                    similarities.append(sum(a * b for a, b in zip(images[query], reference, strict=True)))
                scores[draw, query, number] = np.mean(similarities)
    return scores


@pytest.mark.parametrize("r, fraction, unit", [(1, 1.0, False), (2, 0.7, False), (2, 0.55, True), (3, 1.0, True)])
def test_scores_are_those_of_a_loop_over_draws_subsets_and_people(r, fraction, unit):
    (networks, images), y = embeddings()
    classifier = NetworkPromptClassifier(r, fraction, n_draws=4, random_state=7, unit_references=unit)
    found = classifier.fit(networks, y).draw_scores(images)
    assert found == pytest.approx(naive_scores(classifier, networks, y, images))
    expected = found.mean(0)
    assert classifier.predict(images).tolist() == [sorted(set(y))[k] for k in expected.argmax(1)]
    exponents = np.exp(expected / 0.07)
    assert classifier.predict_proba(images) == pytest.approx(exponents / exponents.sum(1, keepdims=True))


@pytest.mark.parametrize("unit", [False, True])
def test_networks_of_the_querys_own_group_are_as_if_they_had_not_been_there(unit):
    (networks, images), y = embeddings()
    families = np.array([f"f{k // 2}" for k in range(len(y))])
    theirs = np.r_[families[5:], ["stranger"] * 5]
    classifier = NetworkPromptClassifier(2, 0.8, n_draws=3, random_state=1, unit_references=unit)
    classifier.fit(networks, y, groups=families)
    with pytest.warns(UserWarning, match="18 of 23 images have networks of their own group"):
        found = classifier.draw_scores(images, groups=theirs)
    assert found == pytest.approx(naive_scores(classifier, networks, y, images, families, theirs))
    assert classifier.own_references(theirs).tolist() == [sum(f == g for f in families) for g in theirs]


def test_a_subject_is_not_told_by_its_own_network():
    """Image and network of a person are the same vector and labels are chance: only a leak can tell the class."""
    rng = np.random.default_rng(0)
    vectors, y = rng.normal(size=(60, 200)), np.arange(60) % 2
    classifier = NetworkPromptClassifier(1, n_draws=1, random_state=0).fit(vectors, y, groups=np.arange(60))
    with pytest.warns(UserWarning, match="nobody's own network is left out"):
        leaky = (classifier.predict(vectors) == y).mean()
    with pytest.warns(UserWarning, match="60 of 60"):
        honest = (classifier.predict(vectors, groups=np.arange(60)) == y).mean()
    assert leaky > 0.8 and honest < 0.65


def test_strangers_cause_no_warning():
    (networks, images), y = embeddings()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier = NetworkPromptClassifier(2, random_state=0).fit(networks, y, groups=range(23))
        assert np.array_equal(
            classifier.predict(images, groups=range(23, 46)), clone(classifier).fit(networks, y).predict(images)
        )


def test_subsets_only_decide_who_is_left_over_unless_references_have_length_1():
    """With equal subsets the mean of their means is the mean of all in use: r has no say of its own."""
    rng = np.random.default_rng(3)
    networks, y, images = rng.normal(size=(24, 4)), np.repeat([0, 1], 12), rng.normal(size=(9, 4))
    plain = [NetworkPromptClassifier(r, n_draws=2, random_state=0).fit(networks, y) for r in (1, 2, 3, 4, 6, 12)]
    for classifier in plain:
        assert classifier.draw_scores(images) == pytest.approx(plain[0].draw_scores(images))
    unit = [NetworkPromptClassifier(r, random_state=0, unit_references=True).fit(networks, y) for r in (1, 4)]
    assert np.abs(unit[0].draw_scores(images) - unit[1].draw_scores(images)).max() > 0.1


def test_of_what_is_drawn_equal_subsets_are_used_and_the_rest_is_left_out():
    (networks, _), _ = embeddings()
    y = np.repeat(["a", "b"], [16, 7])
    assert NetworkPromptClassifier(3).fit(networks, y).used_.tolist() == [15, 6]
    classifier = NetworkPromptClassifier(2, 0.5, n_draws=2, random_state=0).fit(networks, y)
    assert classifier.used_.tolist() == [8, 4]
    for draw in range(2):
        places = classifier.drawn(draw)
        assert len(set(places)) == 12 and (y[places] == "a").sum() == 8
        means = [networks[places[y[places] == label]].mean(0) for label in "ab"]
        assert classifier.prompts_[draw] == pytest.approx(np.array(means))
    assert NetworkPromptClassifier(1, 0.1).fit(np.ones((60, 2)), np.arange(60) % 2).used_.tolist() == [3, 3]


def test_the_margin_of_two_classes_is_the_difference_of_their_scores():
    (networks, images), y = embeddings(classes=2)
    classifier = NetworkPromptClassifier(2, n_draws=5, random_state=0).fit(networks, y)
    scores = classifier.class_scores(images)
    assert classifier.decision_function(images) == pytest.approx(scores[:, 1] - scores[:, 0])
    assert classifier.decision_function(images).shape == (23,)


def test_a_hundred_draws_for_hundreds_of_images_take_seconds():
    rng = np.random.default_rng(0)
    networks, images, y = rng.normal(size=(300, 128)), rng.normal(size=(400, 128)), np.arange(300) % 2
    begin = time.process_time()
    NetworkPromptClassifier(5, 0.1, n_draws=200, random_state=0).fit(networks, y).draw_scores(images)
    assert time.process_time() - begin < 5


# A class of three cannot be split into five subsets, which the message says: the check wants the number of features.
TOO_FEW = {"check_fit2d_1feature": "its data has a class of 3, fewer than the 5 subsets of the default"}


@parametrize_with_checks(
    [NetworkPromptClassifier(), NetworkPromptClassifier(2, 0.9, 3), NetworkPromptClassifier(1, unit_references=True)],
    expected_failed_checks=lambda classifier: TOO_FEW if classifier.n_subsets == 5 else {},
)
def test_it_is_a_scikit_learn_classifier(estimator, check):
    check(estimator)


def test_bad_input_is_refused_with_what_to_do():
    (networks, images), y = embeddings()
    classifier = NetworkPromptClassifier(2, random_state=0).fit(networks, y)
    few = r"class a: expected at least n_subsets = 5 networks, got 1 \(fraction 0.1 of 9\).*fewer subsets"
    with pytest.raises(ValueError, match=few):
        NetworkPromptClassifier(fraction=0.1).fit(networks, y)
    with pytest.raises(ValueError, match="two classes or more, got one class, c"):
        NetworkPromptClassifier().fit(networks, ["c"] * 23)
    with pytest.raises(ValueError, match=r"X has 4 features.*embedded by one model"):
        classifier.predict(images[:, :4])
    with pytest.raises(ValueError, match=r"expected classes that networks were given for \(a, b, c\), got \['d'\]"):
        classifier.score(images, ["d", *y[1:]])
    images[[2, 4]] = np.nan
    with pytest.raises(ValueError, match=r"NaN or inf in 2 of 23 rows \(2, 4\).*leave such rows out"):
        classifier.predict(images)
    with pytest.raises(ValueError, match="network_embeddings: expected finite"):
        NetworkPromptClassifier().fit(images, y)


def test_bad_groups_and_settings_are_refused():
    (networks, images), y = embeddings()
    with pytest.raises(ValueError, match=r"an id for each of 23 networks, got shape \(2,\)"):
        NetworkPromptClassifier(1).fit(networks, y, groups=["a", "b"])
    with pytest.raises(ValueError, match=r"got none in rows \[1\].*a subject's own id"):
        NetworkPromptClassifier(1).fit(networks, y, groups=["a", ""] + ["b"] * 21)
    with pytest.raises(ValueError, match="ids of the networks too"):
        NetworkPromptClassifier(1).fit(networks, y).predict(images, groups=range(23))
    only = r"class a: expected at least n_subsets = 1 networks, got 0 .*without group x"
    with pytest.raises(ValueError, match=only), pytest.warns(UserWarning, match="23 of 23"):
        classifier = NetworkPromptClassifier(1).fit(networks, y, groups=np.where(y == "a", "x", "other"))
        classifier.draw_scores(images, groups=["x"] * 23)
    for settings in ({"n_subsets": 0}, {"n_draws": 1.5}, {"fraction": 0}, {"fraction": 1.1}, {"tau": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))}: expected"):
            NetworkPromptClassifier(**settings).fit(networks, y)
