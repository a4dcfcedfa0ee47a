"""Tasks: people, classes and parts."""

import numpy as np
import pandas as pd
import pytest

from cinp_lib.tasks import tasks_of


def people(cohort: str, number: int, diagnoses: tuple[str, ...], role: str = "unassigned") -> pd.DataFrame:
    names = [f"{cohort}{k}" for k in range(number)]
    diagnosis = [diagnoses[k % len(diagnoses)] for k in range(number)]
    return pd.DataFrame(
        {"subject": names, "family": names, "cohort": cohort, "site": "A", "role": role, "diagnosis": diagnosis}
    )


def test_people_of_a_task_are_found_by_the_end_of_their_cohorts_name_and_not_those_who_pretrained():
    table = pd.concat(
        [
            people("phantom-abide", 5, ("autism", "control")),
            people("abide", 4, ("autism", "control"), role="pre-training"),
            people("abide2", 4, ("autism", "control")),
            people("SRPBS", 6, ("schizophrenia", "control", "depression")),
        ],
        ignore_index=True,
    )
    tasks = tasks_of(table)
    assert list(tasks) == ["abide", "srpbs"]
    assert tasks["abide"].table["subject"].tolist() == [f"phantom-abide{k}" for k in range(5)]
    assert tasks["srpbs"].classes == ("control", "depression", "schizophrenia")
    assert tasks["srpbs"].y.tolist() == [2, 0, 1, 2, 0, 1]
    assert table["subject"][tasks["srpbs"].places].tolist() == tasks["srpbs"].table["subject"].tolist()


def test_one_scan_stands_for_a_person_and_a_scan_of_pretraining_does_not_hide_it():
    earlier = people("abide", 1, ("control",), role="pre-training")
    table = pd.concat([earlier, *[people("abide", 4, ("control", "autism"))] * 2], ignore_index=True)
    assert tasks_of(table)["abide"].places.tolist() == [1, 2, 3, 4]


def test_parts_hold_everybody_once_and_no_family_twice():
    task = tasks_of(people("adhd200", 60, ("adhd", "control")))["adhd200"]
    for split in task.splits(3):
        parts = [task.part(part) for part in (split.train, split.validation, split.test)]
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(60))
        assert [len(part) for part in parts] == [42, 12, 6]


def test_tables_without_a_task_say_what_was_expected():
    with pytest.raises(ValueError, match="expected a cohort named after abide, adhd200, srpbs, got other"):
        tasks_of(people("other", 4, ("adhd", "control")))
    with pytest.raises(ValueError, match="task abide: expected people of two classes or more, got only 'autism'"):
        tasks_of(people("abide", 4, ("autism",)))
