"""Tables and metrics of the prompting study."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cinp_lib.baselines.oracle import told_by_traits
from cinp_lib.prompt_answers import Answers
from cinp_lib.prompt_study import Material, PromptPlan, PromptStudy, fixed_answers, headline
from study_lib.phantom.truth import Truth

Studies = Mapping[str, PromptStudy]
HEADLINE, ORACLE, OF_TRAITS = "prompt", "oracle", "prompt_of_traits"


def with_oracle(study: PromptStudy, truth: Truth) -> PromptStudy:
    """The study with one more method: who knows the phantom's true anatomical traits, and nothing else."""
    told = fixed_answers(study.task, study.folds, told_by_traits(study.task, truth))
    return replace(study, answers=study.answers | {ORACLE: told})


def with_true_traits(study: PromptStudy, truth: Truth, plan: PromptPlan, seed: int = 0) -> PromptStudy:
    """The study with one more method: prompting with the phantom's true traits, so all that so few networks can say."""
    people = study.task.table["subject"]
    sides = (truth.table(name).loc[people].to_numpy() for name in ("anatomy_traits", "network_traits"))
    told = headline(Material(study.task, *sides), plan, seed)
    return replace(study, answers=study.answers | {OF_TRAITS: told})


def method_table(studies: Studies) -> pd.DataFrame:
    """Every method on test people; intervals over subjects, the spread over draws beside them."""
    rows = []
    for task, study in studies.items():
        for method, answers in study.answers.items():
            interval, (low, high) = answers.interval(), answers.draw_limits()
            row = {"task": task, "method": method, "balanced_accuracy": interval.value}
            row |= {"low": interval.low, "high": interval.high, "draws": len(answers.scores)}
            row |= {"draws_low": low, "draws_high": high, "auroc": answers.auroc(), **_recalls(answers)}
            majority = float(np.bincount(answers.labels).max() / len(answers.labels))
            rows.append(row | {"majority_rate": majority, "subjects": answers.subjects})
    return pd.DataFrame(rows)


def difference_table(studies: Studies, others: Sequence[str], of: str = HEADLINE) -> pd.DataFrame:
    """How much better one method is than others on the same people; intervals of the difference over subjects."""
    rows = []
    for task, study in studies.items():
        for method in (name for name in others if name in study.answers):
            found = study.answers[of].minus(study.answers[method])
            row = {"task": task, "method": of, "minus": method, "difference": found.value}
            rows.append(row | {"low": found.low, "high": found.high, "subjects": found.n})
    return pd.DataFrame(rows)


def few_beat_all(study: PromptStudy, few: str = HEADLINE, everything: str = "prompt_100") -> float:
    """The share of draws in which few networks do better than all of them do on average, in the same fold."""
    return float((study.answers[few].over_draws() > study.answers[everything].over_draws().mean(axis=0)).mean())


def left_of_oracle(study: PromptStudy, method: str = HEADLINE) -> float:
    """How much of what the oracle has over chance a method has; NaN where these few people give it nothing."""
    chance = 1 / len(study.task.classes)
    own, most = (study.answers[name].value() - chance for name in (method, ORACLE))
    return own / most if most > 0 else float("nan")


def prompt_metrics(table: pd.DataFrame, studies: Studies, uncoupled: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Numbers of all tasks and methods; `uncoupled` has one value for each cohort of the control."""
    metrics = {}
    for row in table.itertuples():
        metrics[f"{row.task}_{row.method}_balanced_accuracy"] = row.balanced_accuracy
        metrics |= {f"{row.task}_{row.method}_low": row.low, f"{row.task}_{row.method}_high": row.high}
    for task, study in studies.items():
        metrics[f"{task}_chance"] = 1 / len(study.task.classes)
        metrics[f"{task}_few_beat_all"] = few_beat_all(study)
        if ORACLE in study.answers and np.isfinite(left_of_oracle(study)):
            metrics[f"{task}_prompt_share_of_oracle"] = left_of_oracle(study)
        if task in uncoupled:
            metrics[f"{task}_prompt_uncoupled_balanced_accuracy"] = float(np.mean(uncoupled[task]))
    for row in difference_table(studies, ("centroid", "probe")).itertuples():
        metrics |= {f"{row.task}_prompt_minus_{row.minus}_low": row.low}
        metrics |= {f"{row.task}_prompt_minus_{row.minus}_high": row.high}
    return metrics


def _recalls(answers: Answers) -> dict[str, float]:
    """Of two classes they are specificity and sensitivity; of more, that of patients is the mean of the disorders'."""
    found = list(answers.recalls().values())
    return {"recall_of_controls": found[0], "recall_of_patients": float(np.mean(found[1:]))}
