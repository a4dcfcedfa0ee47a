"""Folders as notebook 07 leaves them, with tiny pairs, and a plan that trains on them in seconds, for tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from small_cinp import TRAINING
from small_pairs import PAIRS, networks_of, people, write_cohort, write_store

from cinp_lib.ablations import AblationPlan
from cinp_lib.pair_store import PairStore
from cinp_lib.prompt_study import PromptPlan

DISORDERS = {"abide": "autism", "adhd200": "adhd"}
PROMPTING = PromptPlan(fraction=0.5, fractions=(0.5,), subsets=(1, 2), repeats=3, draws=4, probe_draws=1)
PLAN = AblationPlan(replace(TRAINING, iterations=8), PAIRS, PROMPTING, share=0.5)


def write_pretraining(folder: Path, number: int = 30, per_task: int = 24) -> Path:
    """`pairs` of people without a diagnosis, `task_pairs` of two tasks whose disorders shift every trait."""
    write_store(folder, people(number))
    signs = np.array([1.5, -1.5, 1.5, -1.5])
    group, rows = [], []
    for place, (task, disorder) in enumerate(DISORDERS.items()):
        for k, person in enumerate(people(per_task, seed=place + 1)):
            ill = k // 2 % 2 == 1
            trait = tuple(np.array(person.trait) + ill * signs)
            group.append(replace(person, name=f"{task}{k:02d}", trait=trait, role="unassigned"))
            rows.append((task, disorder if ill else "control"))
    cohort = write_cohort(folder / "task_data", group)
    table = cohort.table.assign(cohort=[task for task, _ in rows], diagnosis=[diagnosis for _, diagnosis in rows])
    PairStore.build(table, cohort, networks_of(group), folder / "task_pairs", PAIRS, 1)
    return folder
