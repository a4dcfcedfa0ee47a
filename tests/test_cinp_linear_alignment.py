"""The linear reference finds what is linear, among people it has not seen."""

import numpy as np
import pytest
from small_pairs import halves, people, write_store

from cinp_lib.linear_alignment import Components, LinearAlignment
from cinp_lib.retrieval import retrieval


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return halves(write_store(tmp_path_factory.mktemp("linear"), people(48)))


def test_people_are_found_by_a_linear_trait_and_not_once_pairs_are_exchanged(parts):
    training, validation = parts
    found = retrieval(*LinearAlignment.chosen(training, validation).embed(validation))
    exchanged = retrieval(*LinearAlignment.chosen(training.shuffled(1), validation).embed(validation))
    assert found.r1 > 0.8 > 0.5 > exchanged.r1


def test_embeddings_are_the_singular_vectors_of_the_covariance_of_components(parts):
    training, validation = parts
    components = Components.fit(training)
    images, networks = components.of(training)
    number, shared = components.most, 2
    made = LinearAlignment._fit(components, (images, networks), number, shared).embed(validation)
    u, strengths, v = np.linalg.svd(images.T @ networks / len(images))
    others = components.of(validation)
    wanted = (others[0] @ u[:, :shared] * strengths[:shared], others[1] @ v[:shared].T * strengths[:shared])
    for mine, theirs in zip(made, wanted, strict=True):
        theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
        assert np.abs(mine @ mine.T - theirs @ theirs.T).max() < 1e-3
    assert np.abs(made[0] @ made[1].T - wanted[0] @ wanted[1].T / np.outer(*_lengths(wanted))).max() < 1e-3


def _lengths(sides):
    return (np.linalg.norm(side, axis=1) for side in sides)


def test_components_come_from_training_people_alone(parts):
    training, validation = parts
    alone = LinearAlignment.chosen(training, validation).embed(validation)
    few = validation.select(np.arange(len(validation)) < 3)
    assert np.allclose(LinearAlignment.chosen(training, validation).embed(few)[0], alone[0][:3], atol=1e-5)
    assert Components.fit(training).of(training)[0].mean(0) == pytest.approx(0, abs=1e-4)
