"""Accuracies of site attacks: balanced, in percent, over subjects, under the names of the contract."""

import numpy as np
import pandas as pd
import pytest

from gan_lib.site_classifier.attacks import ALL
from gan_lib.site_classifier.results import (
    accuracy,
    attack_accuracies,
    attack_metrics,
    confusion,
    deck_pairs,
    fourway_accuracies,
    mean_balanced_accuracy,
    of_attack,
    pair_accuracies,
    pair_metrics,
)
from study_lib.papers import protocol_classification
from study_lib.scores import balanced_accuracy, value_of
from study_lib.statistics import BootstrapSettings

SITES = ("ADNI", "GMC", "GSEV", "SMC")
FEW = BootstrapSettings(draws=200)


def answers(right=0.7, attack="before", seeds=(0, 1), subjects=3, seed=0) -> pd.DataFrame:
    """Unequal numbers of slices per subject; the right site with a probability, else another of the question."""
    rng, rows = np.random.default_rng(seed), []
    pairs = deck_pairs(SITES)
    for asked, sites in [(ALL, SITES), *((", ".join(pair), pair) for pair in pairs)]:
        for number in seeds:
            for site in sites:
                for k in range(subjects):
                    for _ in range(2 + 3 * k):
                        others = [name for name in sites if name != site]
                        say = site if rng.random() < right else str(rng.choice(others))
                        rows.append((attack, asked, number, f"{site}{k}", site, say))
    return pd.DataFrame(rows, columns=["attack", "question", "seed", "subject", "site", "said"])


def test_the_pairs_are_the_decks_in_its_order():
    deck = protocol_classification()["pair"].tolist()[:-1]
    assert [", ".join(pair) for pair in deck_pairs(("GMC", "ADNI", "SMC", "GSEV"))] == deck
    assert deck_pairs(("ADNI", "NYU", "SMC")) == [("ADNI", "SMC"), ("ADNI", "NYU"), ("NYU", "SMC")]


def test_the_mean_over_pairs_and_seeds_is_that_of_balanced_accuracies():
    own = of_attack(answers(), "before")
    statistic, rows = mean_balanced_accuracy(own)
    by_hand = []
    for _, group in own.groupby(["question", "seed"]):
        by_hand.append(value_of(balanced_accuracy(group["site"], group["said"]), len(group)))
    assert float(statistic(np.ones((1, len(rows))))[0]) == pytest.approx(100 * np.mean(by_hand))
    doubled = np.where(rows["subject"] == "GMC1", 2.0, 1.0)[None]
    again = pd.concat([own, own[own["subject"] == "GMC1"]])
    by_hand = [
        value_of(balanced_accuracy(g["site"], g["said"]), len(g)) for _, g in again.groupby(["question", "seed"])
    ]
    assert float(statistic(doubled)[0]) == pytest.approx(100 * np.mean(by_hand))


def test_the_interval_is_over_subjects_drawn_within_sites():
    own = of_attack(answers(), "before", ("ADNI", "GMC"))
    got = accuracy(own, FEW)
    assert got.n == 6 and got.low < got.value < got.high and got.unit == "subjects"
    thrice = pd.concat([own] * 3)  # more slices of the same people make no narrower interval
    assert (accuracy(thrice, FEW).low, accuracy(thrice, FEW).high) == (got.low, got.high)
    alone = accuracy(of_attack(answers(subjects=1), "before", ALL))
    assert np.isnan(alone.low) and np.isfinite(alone.value)


def test_guessing_is_half_and_knowing_is_all():
    assert accuracy(of_attack(answers(right=1.0), "before"), FEW).low == pytest.approx(100)
    guess = accuracy(of_attack(answers(right=0.5, subjects=12), "before"), FEW)
    assert abs(guess.value - 50) < 5
    assert abs(accuracy(of_attack(answers(right=0.25, subjects=12), "before", ALL), FEW).value - 25) < 5


def test_a_pair_is_found_whichever_way_round():
    table = answers()
    assert len(of_attack(table, "before", ("GMC", "ADNI"))) == len(of_attack(table, "before", ("ADNI", "GMC")))
    with pytest.raises(KeyError, match="no answers of 'after_fresh' to pairs: there are attacks before"):
        of_attack(table, "after_fresh")


def test_the_metrics_have_the_names_of_the_contract():
    parts = [answers(attack=name) for name in ("before", "after_frozen", "after_fresh", "after_linear")]
    table = pd.concat(parts, ignore_index=True)
    metrics = pair_metrics(pair_accuracies(table, deck_pairs(SITES), FEW))
    pairs = ("adni_gmc", "adni_smc", "adni_gsev", "gsev_gmc", "smc_gsev", "smc_gmc")
    for state in ("before", "after_frozen", "after_fresh"):
        values = [metrics[f"accuracy_{state}_{pair}"] for pair in pairs]
        assert metrics[f"accuracy_{state}"] == pytest.approx(np.mean(values))
        assert metrics[f"accuracy_{state}_low"] <= metrics[f"accuracy_{state}"] <= metrics[f"accuracy_{state}_high"]
    others = attack_metrics(attack_accuracies(table, settings=FEW))
    assert others["accuracy_after_linear"] == pytest.approx(others["accuracy_before"])
    four = attack_metrics(attack_accuracies(table[table["attack"] == "before"], ALL, FEW), "accuracy_fourway")
    assert set(four) == {"accuracy_fourway_before", "accuracy_fourway_before_low", "accuracy_fourway_before_high"}


def test_the_four_way_table_names_states_and_nothing_is_before():
    parts = [answers(attack=name, seed=k) for k, name in enumerate(("before", "after_fresh", "nyul", "planted"))]
    table = fourway_accuracies(pd.concat(parts), ("nyul",), FEW).set_index("attack")["accuracy"]
    assert set(table.index) == {"before", "after", "nyul", "nothing"} and table["nothing"] == table["before"]
    expected = accuracy(of_attack(parts[1], "after_fresh", ALL), FEW).value
    assert table["after"] == pytest.approx(expected)


def test_confusion_is_in_percent_of_the_true_site():
    own = of_attack(answers(), "before", ALL)
    matrix = confusion(own, SITES)
    assert matrix.sum(axis=1).to_numpy() == pytest.approx(100)
    rows = own[own["site"] == "GMC"]
    assert matrix.loc["GMC", "SMC"] == pytest.approx(100 * (rows["said"] == "SMC").mean())
