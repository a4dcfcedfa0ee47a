"""What a variant is worth: what it told every person, and how well its images and networks find each other."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import pandas as pd

from cinp_lib.ablations import WHOLE
from cinp_lib.embeddings import PairEmbeddings
from cinp_lib.prompt_study import Material, PromptPlan, headline
from cinp_lib.tasks import tasks_of
from study_lib.files import atomic_write_json

COLUMNS = ("task", "fold", "subject", "label", "hits")
DIGITS = 6


@dataclass(frozen=True, eq=False)
class Outcome:
    """`answers` has a row for each task, fold and test person: the class, and the share of draws that found it.

    `alignment` is that of pre-training people whom neither training nor the choice of its state has seen.
    """

    key: str  # names all that the outcome depends on
    variant: str
    seed: int
    iterations: int
    kept: int  # the iteration whose state was best on validation people
    answers: pd.DataFrame
    alignment: Mapping[str, float]

    @property
    def two_class(self) -> pd.DataFrame:
        """The answers in tasks of two classes: what Table 4 is about."""
        counts = self.answers.groupby("task")["label"].transform("nunique")
        if not (counts == 2).any():
            raise ValueError(f"outcome of {self.variant}: expected a task of two classes, got none")
        return self.answers[counts == 2].reset_index(drop=True)

    def save(self, path: str | Path) -> None:
        """One small file, whole or not at all."""
        columns = {name: self.answers[name].tolist() for name in COLUMNS}
        atomic_write_json(path, asdict(replace(self, answers=None)) | {"answers": columns})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What `save` wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(**content | {"answers": pd.DataFrame(content["answers"], columns=list(COLUMNS))})


def of_pretraining(folder: str | Path, plan: PromptPlan, tasks: str = "tasks") -> Outcome:
    """The same judgement of the model of notebook 07, which had all of the iterations, from what it left.

    `tasks`: the embeddings that are judged; "tasks_at_the_start" are those before the first iteration.
    """
    folder = Path(folder)
    record, content = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("run.json", "metrics.json"))
    iterations, kept = record["config"]["training"]["iterations"], int(content["metrics"]["iteration_kept"])
    answers = told(PairEmbeddings.load(folder / tasks), plan)
    return Outcome("", WHOLE, content["seed"], iterations, kept, answers, content["metrics"])


def told(embeddings: PairEmbeddings, plan: PromptPlan, seed: int = 0) -> pd.DataFrame:
    """What prompting tells the test people of every task among these embeddings; folds and draws are those of the seed.

    These are the answers of notebook 09's headline: its share of the networks, r chosen on validation people.
    """
    tables = []
    for task in tasks_of(embeddings.table).values():
        answers = headline(Material.of(task, embeddings), plan, seed)
        hits = answers.hits.mean(axis=0).round(DIGITS)
        tables.append(answers.table.assign(task=task.name, hits=hits)[list(COLUMNS)])
    return pd.concat(tables, ignore_index=True)
