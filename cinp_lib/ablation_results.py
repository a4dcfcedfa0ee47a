"""Table 4 from the outcomes of its variants: prompting with intervals over subjects, retrieval, and differences."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from cinp_lib.ablation_outcomes import Outcome
from cinp_lib.ablations import VARIANTS, WHOLE, variant
from study_lib import scores
from study_lib.statistics import BootstrapSettings, Interval, Statistic, bootstrap, paired_difference

CHANCE = 0.5  # of two classes
KEY = ["task", "fold", "subject", "label"]
Group = Sequence[Outcome]  # one variant's, of all seeds


def by_variant(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """In the order of Table 4; seeds in theirs."""
    found: dict[str, list[Outcome]] = {name: [] for name in VARIANTS}
    for outcome in sorted(outcomes, key=lambda one: one.seed):
        found[outcome.variant].append(outcome)
    return {name: own for name, own in found.items() if own}


def prompting(group: Group, settings: BootstrapSettings | None = None) -> Interval:
    """Balanced accuracy, mean over draws, seeds and the two-class tasks, and its interval over subjects."""
    rows = _rows(group)
    return bootstrap(_statistic(rows), rows["subject"], rows["cell"], settings)


def minus(first: Group, second: Group, settings: BootstrapSettings | None = None) -> Interval:
    """How much better the first is: paired where both were asked about the same people, else of two samples."""
    rows, others = _rows(first), _rows(second)
    if rows[KEY].equals(others[KEY]):
        return paired_difference(_statistic(rows), _statistic(others), rows["subject"], rows["cell"], settings)
    both = pd.concat([rows.assign(of="first"), others.assign(of="second")], ignore_index=True)
    own = (both["of"] == "first").to_numpy()
    one, two = _statistic(rows), _statistic(others)
    names = [both["of"] + " " + both[column] for column in ("subject", "cell")]
    return bootstrap(lambda weights: one(weights[:, own]) - two(weights[:, ~own]), *names, settings)


def by_task(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """Balanced accuracy of every variant in every task, with its interval, and chance."""
    found = []
    for name, group in by_variant(outcomes).items():
        for task, rows in _every_row(group).groupby("task", sort=False):
            own = bootstrap(_statistic(rows), rows["subject"], rows["cell"])
            about = {"variant": name, "task": task, "subjects": own.n, "chance": 1 / rows["label"].nunique()}
            found.append(about | {"balanced_accuracy": own.value, "low": own.low, "high": own.high})
    return pd.DataFrame(found)


def loss_table(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """Table 4: which losses count, prompting and retrieval; one row for each variant."""
    rows = []
    for name, group in by_variant(outcomes).items():
        own, weights = prompting(group), variant(name).weights
        losses = {"INC": weights.contrastive, "MIM": weights.reconstruction, "INM": weights.matching}
        row = {"variant": name, "pairs": variant(name).pairs, **{k: "x" if v else "" for k, v in losses.items()}}
        row |= {"prompting": own.value, "low": own.low, "high": own.high, "subjects": own.n, "seeds": len(group)}
        row |= {"lowest_seed": min(of_seeds := [prompting_value(one) for one in group]), "highest_seed": max(of_seeds)}
        for column in ("retrieval_r1", "retrieval_r1_within_site", "retrieval_r1_chance"):
            row[column] = float(np.mean([one.alignment.get(column, np.nan) for one in group]))
        rows.append(row | {"iterations": group[0].iterations, "kept": float(np.mean([one.kept for one in group]))})
    return pd.DataFrame(rows)


def prompting_value(outcome: Outcome) -> float:
    """Of one seed, without an interval."""
    rows = _rows([outcome])
    return scores.value_of(_statistic(rows), len(rows))


def differences(outcomes: Iterable[Outcome], of: str = WHOLE) -> pd.DataFrame:
    """How much better one variant is than each of the others."""
    groups = by_variant(outcomes)
    if of not in groups:
        raise ValueError(f"differences: expected an outcome of {of}, got those of {', '.join(groups) or 'nobody'}")
    found = {name: minus(groups[of], group) for name, group in groups.items() if name != of}
    return pd.DataFrame(
        [{"variant": name, "difference": own.value, "low": own.low, "high": own.high} for name, own in found.items()]
    )


def ablation_metrics(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Named numbers of the metrics contract, and more."""
    metrics: dict[str, float] = {}
    for row in loss_table(outcomes).to_dict("records"):
        name = row["variant"]
        metrics |= {name: row["prompting"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
        metrics |= {f"{name}_retrieval_r1": row["retrieval_r1"]}
    for row in differences(outcomes).to_dict("records"):
        stem = f"{WHOLE}_minus_{row['variant']}"
        metrics |= {stem: row["difference"], f"{stem}_low": row["low"], f"{stem}_high": row["high"]}
    for row in by_task(outcomes).to_dict("records"):
        metrics[f"{row['task']}_{row['variant']}_balanced_accuracy"] = row["balanced_accuracy"]
    return metrics


def same_people(groups: Mapping[str, Group]) -> bool:
    """Whether all variants on the cohort's own people were asked about the same rows."""
    own = [_rows(group)[KEY] for name, group in groups.items() if variant(name).pairs != "uncoupled"]
    return all(rows.equals(own[0]) for rows in own)


def _rows(group: Group) -> pd.DataFrame:
    """Rows of the two-class tasks: hits are means over seeds where these were asked about the same people."""
    return _merged(group, [outcome.two_class for outcome in group])


def _every_row(group: Group) -> pd.DataFrame:
    return _merged(group, [outcome.answers for outcome in group])


def _merged(group: Group, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    if variant(group[0].variant).pairs == "uncoupled":  # every seed has people of its own
        pairs = zip(group, tables, strict=True)
        tables = [table.assign(subject=f"seed {one.seed} " + table["subject"]) for one, table in pairs]
        rows = pd.concat(tables, ignore_index=True)
    else:
        if any(not table[KEY].equals(tables[0][KEY]) for table in tables):
            raise ValueError(f"{group[0].variant}: expected the same people and folds for all seeds; run them again")
        rows = tables[0].assign(hits=np.mean([table["hits"] for table in tables], axis=0))
    subject = rows["task"] + " " + rows["subject"]
    return rows.assign(cell=rows["task"] + " " + rows["label"].astype(str), subject=subject)


def _statistic(rows: pd.DataFrame) -> Statistic:
    """The mean over classes and tasks of the share that was found: tasks of two classes count alike."""
    return scores.mean_recall(rows["cell"].to_numpy(str), rows["hits"].to_numpy())
