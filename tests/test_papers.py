"""The papers' tables, checked by what can be computed from them."""

import pytest

from study_lib import papers


def test_the_means_of_the_classification_table_are_those_of_its_rows():
    table = papers.protocol_classification().set_index("pair")
    for column in ("before_percent", "after_percent"):
        assert table[column].drop("Mean").mean() == pytest.approx(table.loc["Mean", column], abs=5e-4)


def test_siemens_to_ge_closes_80_5_percent_of_the_gap_on_the_left():
    row = papers.cortical_radius().iloc[0]
    closed = (row["source_mm"] - row["transferred_mm"]) / (row["source_mm"] - row["target_mm"])
    assert closed == pytest.approx(0.805, abs=0.001)


def test_the_harmonisation_study_has_8133_subjects_of_four_databases():
    assert papers.harmonisation_sites()["subjects"].tolist() == [2804, 4977, 256, 96]


def test_the_three_gains_of_cinp_are_those_of_its_abstract():
    assert papers.cinp_gains()["points"].tolist() == [1.46, 1.26, 1.21]
    assert set(papers.cinp_data_sets()["use"]) == {"pre-training", "evaluation"}


def test_what_the_paper_does_not_tell_of_prompting_is_not_given_a_number():
    table = papers.cinp_prompting().set_index("setting")["value"]
    assert table["reference networks used in the evaluation"] == "10 % of each class"
    assert (table.drop("reference networks used in the evaluation") == "not known").all()


def test_what_the_paper_does_not_tell_of_the_loss_ablation_is_not_given_a_number():
    table = papers.cinp_loss_ablation().set_index("setting")["value"]
    assert table["which combinations, and their accuracies"] == "not known"
    assert table["weights of MIM and INM"] == "alpha = beta = 1"
