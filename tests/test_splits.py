"""Splits: whole families, fair strata, no leak, the same everywhere."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from study_lib.splits import (
    PARTS,
    LeakError,
    Split,
    SplitError,
    check_split,
    forbid_leak,
    imbalance,
    leave_one_site_out,
    load_splits,
    save_splits,
    split_subjects,
)


def cohort(n=200, seed=0, family_sizes=(1, 1, 1, 2, 3), sites="ABCD") -> pd.DataFrame:
    """A manifest with families across classes and sites, and a second session for some subjects."""
    rng = np.random.default_rng(seed)
    families = np.repeat(np.arange(n), rng.choice(family_sizes, n))[:n]
    table = pd.DataFrame(
        {
            "subject": [f"s{i:03d}" for i in range(n)],
            "family": [f"f{i}" for i in families],
            "diagnosis": rng.choice(["control", "autism", "adhd"], n, p=[0.5, 0.4, 0.1]),
            "site": rng.choice(list(sites), n, p=np.arange(len(sites), 0, -1) / sum(range(len(sites) + 1))),
            "role": "unassigned",
        }
    )
    return pd.concat([table, table.sample(n // 3, random_state=seed)], ignore_index=True)


def part_of(split: Split) -> dict[str, str]:
    return {subject: part for part in PARTS for subject in getattr(split, part)}


@pytest.mark.parametrize("seed", range(8))
def test_every_subject_has_one_part_and_families_stay_whole(seed):
    table = cohort(seed=seed)
    for split in split_subjects(table, seed=seed, repeats=3):
        part = part_of(split)
        assert sorted(part) == sorted(table["subject"].unique())
        parts_of_family = table.assign(part=table["subject"].map(part)).groupby("family")["part"]
        assert all(len(set(parts)) == 1 for _, parts in parts_of_family)
        check_split(split, table)


@pytest.mark.parametrize("seed", range(8))
def test_every_class_is_in_every_part_and_the_ratio_holds(seed):
    table = cohort(seed=seed)
    for split in split_subjects(table, seed=seed, repeats=3):
        by_class = imbalance(split, table, by=["diagnosis"])
        assert (by_class[list(PARTS)] >= 1).all(axis=None)
        assert by_class["deviation"].max() <= 3  # the size of the largest family
        assert np.abs(by_class[list(PARTS)].sum() - np.array([140, 40, 20])).max() <= 3


def test_without_families_every_stratum_is_within_two_subjects_of_its_share():
    table = cohort(400, family_sizes=(1,))
    for split in split_subjects(table, repeats=5):
        assert imbalance(split, table)["deviation"].max() < 2
        assert imbalance(split, table, by=["diagnosis"])["deviation"].max() < 2
        assert imbalance(split, table, by=["site"])["deviation"].max() < 2


def test_small_strata_are_merged_so_that_rare_sites_reach_validation_and_test_together():
    rows = [(f"s{k}-{i}", f"site{k}", c) for k in range(20) for i, c in enumerate(["a", "a", "b", "b"])]
    table = pd.DataFrame(rows, columns=["subject", "site", "diagnosis"]).assign(family=lambda t: t["subject"])
    for split in split_subjects(table, repeats=5):
        counts = imbalance(split, table, by=["diagnosis"])
        # two per stratum: rounding each alone would leave test and validation empty
        assert (counts[list(PARTS)].to_numpy() == [28, 8, 4]).all()


def test_over_repeats_everyone_is_tested_about_as_often():
    table = cohort(150, seed=3, family_sizes=(1, 1, 1, 1, 2))
    splits = split_subjects(table, repeats=200)
    tested = Counter(subject for split in splits for subject in split.test)
    times = np.array([tested[subject] for subject in table["subject"].unique()])
    assert times.mean() == pytest.approx(20, abs=1)
    assert times.min() >= 5 and times.max() <= 45


def test_the_split_depends_on_seed_and_repeat_but_not_on_row_order():
    table = cohort()
    elsewhere = table.iloc[:40].assign(site=table["site"].iloc[:40].map({"A": "B", "B": "C", "C": "D", "D": "A"}))
    table = pd.concat([table, elsewhere], ignore_index=True)  # some were scanned at two sites
    first, second = split_subjects(table, seed=1, repeats=2)
    assert first.test != second.test
    assert split_subjects(table, seed=2)[0].test != first.test
    shuffled = table.sample(frac=1, random_state=5)
    assert split_subjects(shuffled, seed=1, repeats=2) == [first, second]
    assert split_subjects(table, seed=1, repeats=5)[:2] == [first, second]


def test_the_split_of_a_known_table_is_the_one_drawn_when_this_was_written():
    # a change here breaks every saved comparison: platform, numpy and Python must not matter
    table = pd.DataFrame({"subject": [f"s{i:02d}" for i in range(30)]})
    table = table.assign(
        family=[f"f{i // 2}" for i in range(30)], diagnosis=["a", "b", "a"] * 10, site=["X"] * 12 + ["Y"] * 18
    )
    split = split_subjects(table, seed=11)[0]
    assert split.validation == ("s08", "s09", "s18", "s19", "s28", "s29")
    assert split.test == ("s02", "s03", "s12", "s13", "s20", "s21")


def test_leave_one_site_out_tests_the_whole_site_and_sets_relatives_aside_by_name():
    table = cohort(seed=4)
    splits = leave_one_site_out(table, seed=4)
    assert [split.name for split in splits] == [f"without {site}" for site in "ABCD"]
    for split, site in zip(splits, "ABCD", strict=True):
        there = set(table.loc[table["site"] == site, "subject"])
        assert set(split.test) == there
        families = set(table.loc[table["subject"].isin(there), "family"])
        relatives = set(table.loc[table["family"].isin(families), "subject"]) - there
        assert set(split.set_aside) == relatives and relatives
        assert not relatives & {*split.train, *split.validation}
        assert len(split.train) / len(split.validation) == pytest.approx(3.5, rel=0.15)
        check_split(split, table)


def test_a_subject_scanned_at_two_sites_is_tested_with_both():
    table = cohort(60, family_sizes=(1,))
    wanderer = table[table["site"] == "A"].iloc[:1].assign(site="B")
    splits = leave_one_site_out(pd.concat([table, wanderer]))
    assert [wanderer["subject"].iloc[0] in split.test for split in splits] == [True, True, False, False]


def test_imbalance_equals_counting_by_hand():
    table = cohort(80)
    split = split_subjects(table)[0]
    part = part_of(split)
    people = table.drop_duplicates("subject")
    report = imbalance(split, table)
    for (diagnosis, site), row in report.iterrows():
        mine = [part[s.subject] for s in people.itertuples() if (s.diagnosis, s.site) == (diagnosis, site)]
        assert [row[p] for p in PARTS] == [mine.count(p) for p in PARTS]
        fair = [len(mine) * len(getattr(split, p)) / 80 for p in PARTS]
        assert row["deviation"] == pytest.approx(max(abs(mine.count(p) - f) for p, f in zip(PARTS, fair, strict=True)))


def test_a_subject_in_two_parts_is_a_leak():
    with pytest.raises(LeakError, match="subjects in two parts: s2; each belongs in one"):
        Split(("s1", "s2"), ("s3",), ("s2",))
    with pytest.raises(LeakError, match="s1"):
        Split(("s1", "s1"), ("s3",), ("s2",))


def test_a_split_that_separates_a_family_is_a_leak():
    table = pd.DataFrame({"subject": list("abc"), "family": ["f1", "f1", "f2"]})
    check_split(Split(("a", "b"), ("c",), ()), table)
    with pytest.raises(LeakError, match="separates families: f1"):
        check_split(Split(("a",), ("c",), ("b",)), table)


def test_a_split_of_another_table_is_refused():
    table = pd.DataFrame({"subject": list("abc"), "family": list("abc")})
    with pytest.raises(SplitError, match=r"1 unknown subjects \(x\), 1 without a part \(c\)"):
        check_split(Split(("a",), ("b",), ("x",)), table)


@pytest.mark.parametrize("column", ["subject", "family", "t1w_sha256", "bold_sha256"])
def test_pretraining_that_meets_evaluation_is_named(column):
    columns = ["subject", "family", "t1w_sha256", "bold_sha256"]
    pretraining = pd.DataFrame([[f"p{c}{i}" for c in columns] for i in range(5)], columns=columns)
    evaluation = pd.DataFrame([[f"e{c}{i}" for c in columns] for i in range(5)], columns=columns)
    for table in (pretraining, evaluation):
        table.loc[4, ["t1w_sha256", "bold_sha256"]] = ""  # unknown on both sides is no shared scan
    forbid_leak(pretraining, evaluation)
    evaluation.loc[2, column] = pretraining.loc[3, column]
    with pytest.raises(LeakError, match=f"1 shared {column} values: p{column}3; leave these out"):
        forbid_leak(pretraining, evaluation)


def test_plain_ids_can_be_checked_too():
    forbid_leak(["a", "b"], ["c"])
    with pytest.raises(LeakError, match="2 shared subject values: a, b"):
        forbid_leak(["a", "b"], pd.DataFrame({"subject": ["b", "a"], "family": ["f", "g"]}))


def test_saved_splits_come_back_and_tampering_is_noticed(tmp_path):
    splits = [*split_subjects(cohort(), repeats=2), *leave_one_site_out(cohort())]
    path = tmp_path / "splits.json"
    digest = save_splits(splits, path, manifest_checksum="abc")
    assert load_splits(path, manifest_checksum="abc") == splits
    assert save_splits(splits, tmp_path / "again.json", "abc") == digest
    with pytest.raises(SplitError, match="made for the manifest with checksum 'abc', this one has 'xyz'"):
        load_splits(path, manifest_checksum="xyz")
    content = json.loads(path.read_text())
    content["splits"][0]["train"].append(content["splits"][0]["test"].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(SplitError, match=r"splits.json: the content does not fit its hash"):
        load_splits(path)


def small(diagnoses, families=None, **more) -> pd.DataFrame:
    subjects = [f"s{i}" for i in range(len(diagnoses))]
    return pd.DataFrame(
        {"subject": subjects, "family": families or subjects, "diagnosis": diagnoses, "site": "X", **more}
    )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (small(["a"] * 9 + ["ocd"] * 2), "at least 3 families of every class.*'ocd' has 2"),
        (small(["a"] * 4, families=["f", "f", "f", "g"]), "'a' has 2"),
        (small([]), "the table is empty"),
        (small(["a"] * 9).drop(columns="family"), "lacks family; expected a manifest"),
        (small(["a"] * 9).drop(columns="site"), "lacks site"),
        (small(["a"] * 9, role=["train"] * 8 + ["travelling"]), "travelling subjects are the truth"),
        (pd.concat([small(["a"] * 9), small(["b"])]), "subjects with more than one diagnosis: s0"),
        (pd.concat([small(["a"] * 9), small(["a"], ["f9"])]), "subjects with more than one family: s0"),
    ],
)
def test_a_table_that_cannot_be_split_is_refused_with_class_and_count(table, words):
    with pytest.raises(SplitError, match=words):
        split_subjects(table)


def test_ratios_and_sites_that_make_no_split_are_refused():
    with pytest.raises(SplitError, match=r"three positive numbers.*got \(7, 3, 0\)"):
        split_subjects(small(["a"] * 9), ratios=(7, 3, 0))
    with pytest.raises(SplitError, match=r"at least two sites, got \['X'\]"):
        leave_one_site_out(small(["a"] * 9))


def test_three_families_of_a_class_are_enough_and_reach_all_parts():
    for seed in range(20):
        split = split_subjects(small(["a"] * 40 + ["ocd"] * 3), seed=seed)[0]
        part = part_of(split)
        assert {part[f"s{i}"] for i in (40, 41, 42)} == set(PARTS)


def test_the_real_abide_table_splits_evenly_over_20_sites(shared_data):
    file = shared_data / "abide" / "phenotypic" / "Phenotypic_V1_0b_preprocessed1.csv"
    rows = pd.read_csv(file, dtype={"SUB_ID": str})
    table = pd.DataFrame({"subject": rows["SUB_ID"], "family": rows["SUB_ID"], "site": rows["SITE_ID"]})
    table["diagnosis"] = rows["DX_GROUP"].map({1: "autism", 2: "control"})
    split = split_subjects(table)[0]
    report = imbalance(split, table)
    assert len(report) == 40 and report["subjects"].sum() == 1112
    assert report["deviation"].max() < 2
    assert imbalance(split, table, by=["diagnosis"])["deviation"].max() < 2
