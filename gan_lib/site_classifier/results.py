"""What attacks found, as balanced accuracy in percent of held-out slices, with intervals by bootstrap over subjects.

A mean over pairs of sites and over seeds is the mean of their balanced accuracies, and a subject is drawn with all of
its slices, pairs and seeds.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gan_lib.site_classifier.attacks import ALL, plain_name, question
from gan_lib.site_classifier.texture import pairs_of
from study_lib.papers import protocol_classification
from study_lib.shapes import Weights
from study_lib.statistics import BootstrapSettings, Interval, Statistic, bootstrap

GROUP = ["question", "seed", "site"]
# Attacks whose pairs the study's table has, and how the metrics call them.
BEFORE, FROZEN, FRESH = "before", "after_frozen", "after_fresh"
PAIRED = (BEFORE, FROZEN, FRESH)


def deck_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of sites in the order of the study's table; any other pairs follow."""
    known = [tuple(pair.split(", ")) for pair in protocol_classification()["pair"] if ", " in pair]
    pairs = {frozenset(pair): pair for pair in pairs_of(names)}
    first = [pair for pair in known if frozenset(pair) in pairs]
    return first + [pair for key, pair in pairs.items() if key not in set(map(frozenset, first))]


def of_attack(answers: pd.DataFrame, attack: str, asked: str | Sequence[str] | None = None) -> pd.DataFrame:
    """The answers of one attack: to `all`, to one pair whichever way round, or (None) to all pairs."""
    rows = answers[answers["attack"] == attack]
    if asked is None:
        rows = rows[rows["question"] != ALL]
    elif asked == ALL:
        rows = rows[rows["question"] == ALL]
    else:
        rows = rows[rows["question"].isin([question(asked), question(tuple(reversed(asked)))])]
    if rows.empty:
        there = ", ".join(map(str, answers["attack"].unique())) or "none"
        raise KeyError(f"no answers of {attack!r} to {asked or 'pairs'}: there are attacks {there}")
    return rows


def mean_balanced_accuracy(answers: pd.DataFrame) -> tuple[Statistic, pd.DataFrame]:
    """The statistic, and the table whose rows it weighs: right answers of each subject, question and seed."""
    right = answers.assign(right=answers["said"] == answers["site"])
    counts = right.groupby([*GROUP, "subject"], sort=True)["right"].agg(["sum", "size"]).reset_index()
    groups, of_row = np.unique(counts[GROUP].astype(str).agg("\t".join, axis=1), return_inverse=True)
    member = np.eye(len(groups))[of_row]
    found, total = member * counts["sum"].to_numpy()[:, None], member * counts["size"].to_numpy()[:, None]
    questions = np.unique([name.rsplit("\t", 1)[0] for name in groups], return_inverse=True)[1]
    share = np.eye(questions.max() + 1)[questions]
    weight = (share / share.sum(axis=0)).mean(axis=1)  # of each recall: equal within a question, questions equal

    def of(weights: Weights) -> np.ndarray:
        all_slices = weights @ total
        recalls = np.divide(weights @ found, all_slices, out=np.full_like(all_slices, np.nan), where=all_slices > 0)
        return 100 * recalls @ weight

    return of, counts


def accuracy(answers: pd.DataFrame, settings: BootstrapSettings | None = None) -> Interval:
    """Balanced accuracy in percent, subjects drawn within sites; of one test subject per site no interval (NaN)."""
    statistic, rows = mean_balanced_accuracy(answers)
    n = rows["subject"].nunique()
    if rows.groupby("site")["subject"].nunique().max() < 2:
        value = float(statistic(np.ones((1, len(rows))))[0])
        return Interval(value, np.nan, np.nan, n=n, method="one subject per site")
    return bootstrap(statistic, rows["subject"], rows["site"], settings)


def pair_accuracies(
    answers: pd.DataFrame, pairs: Sequence[tuple[str, str]], settings: BootstrapSettings | None = None
) -> pd.DataFrame:
    """One row per attack that has pairs, and pair, and one `Mean` per attack."""
    rows = []
    for attack in [name for name in PAIRED if name in set(answers["attack"])]:
        for pair in [*pairs, None]:
            got = accuracy(of_attack(answers, attack, pair), settings)
            rows.append({"attack": attack, "pair": question(pair) if pair else "Mean"} | _numbers(got))
    return pd.DataFrame(rows)


def attack_accuracies(
    answers: pd.DataFrame, asked: str | None = None, settings: BootstrapSettings | None = None
) -> pd.DataFrame:
    """One row per attack: the mean over its pairs (None), or the question `all`."""
    rows = []
    for attack in answers["attack"].unique():
        own = answers[answers["attack"] == attack]
        own = own[(own["question"] == ALL) == (asked == ALL)]
        if len(own):
            rows.append({"attack": attack} | _numbers(accuracy(own, settings)))
    return pd.DataFrame(rows)


def fourway_accuracies(
    answers: pd.DataFrame, baselines: Sequence[str], settings: BootstrapSettings | None = None
) -> pd.DataFrame:
    """One row per state of the scans, all sites at once; `nothing` is the study's units alone, which is `before`."""
    states = {BEFORE: "before", FRESH: "after", FROZEN: "after_frozen"} | {name: name for name in baselines}
    own = answers[(answers["question"] == ALL) & answers["attack"].isin(list(states))]
    table = attack_accuracies(own.assign(attack=own["attack"].map(states)), ALL, settings)
    return pd.concat([table, table[table["attack"] == "before"].assign(attack="nothing")], ignore_index=True)


def pair_metrics(table: pd.DataFrame) -> dict[str, float]:
    """`accuracy_before_adni_gmc`, …, `accuracy_before`: names and numbers of `pair_accuracies`."""
    metrics = {}
    for row in table.itertuples():
        ending = "" if row.pair == "Mean" else f"_{plain_name(row.pair)}"
        metrics |= _named(f"accuracy_{row.attack}{ending}", row)
    return metrics


def attack_metrics(table: pd.DataFrame, prefix: str = "accuracy") -> dict[str, float]:
    """`accuracy_<attack>` for every row of `attack_accuracies`."""
    return {name: value for row in table.itertuples() for name, value in _named(f"{prefix}_{row.attack}", row).items()}


def confusion(answers: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Percent of each site's slices (down) that were said to be of each site (across)."""
    shares = pd.crosstab(answers["site"], answers["said"], normalize="index")
    return 100 * shares.reindex(index=list(names), columns=list(names), fill_value=0.0)


def _named(name: str, row: tuple) -> dict[str, float]:
    ends = {"": row.accuracy, "_low": row.low, "_high": row.high}
    return {f"{name}{end}": float(value) for end, value in ends.items() if np.isfinite(value)}


def _numbers(got: Interval) -> dict[str, float]:
    return {"accuracy": got.value, "low": got.low, "high": got.high, "subjects": got.n}
