"""Who is in the phantom: cohorts, sites, age, sex, diagnosis and families, before anybody is scanned."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from study_lib.phantom.acquisition import SCANNERS

SITES = tuple(SCANNERS)
PAIRED_COHORT = "phantom-pretraining"
HARMONISATION_SPLIT = {"train": 0.6, "validation": 0.1, "test": 0.3}
SIBLING_SHARE = 0.2  # of the pre-training cohort, in pairs: families must stay together
DEMENTIA_SHARE = {"SMC": 0.25, "ADNI": 0.35, "GSEV": 0.25, "GMC": 0.25}

# Share of each diagnosis at each site: unequal, so that a pipeline that learns the site seems to learn the disorder.
TASKS = {
    "phantom-abide": {
        "control": {"SMC": 0.38, "ADNI": 0.56, "GSEV": 0.48, "GMC": 0.62},
        "autism": {"SMC": 0.62, "ADNI": 0.44, "GSEV": 0.52, "GMC": 0.38},
    },
    "phantom-adhd200": {
        "control": {"SMC": 0.62, "ADNI": 0.48, "GSEV": 0.60, "GMC": 0.44},
        "adhd": {"SMC": 0.38, "ADNI": 0.52, "GSEV": 0.40, "GMC": 0.56},
    },
    "phantom-srpbs": {
        "control": {"SMC": 0.34, "ADNI": 0.44, "GSEV": 0.36, "GMC": 0.46},
        "depression": {"SMC": 0.30, "ADNI": 0.32, "GSEV": 0.38, "GMC": 0.28},
        "schizophrenia": {"SMC": 0.36, "ADNI": 0.24, "GSEV": 0.26, "GMC": 0.26},
    },
}
MALE_SHARE = {"control": 0.52, "autism": 0.64, "adhd": 0.62, "depression": 0.44, "schizophrenia": 0.58}
AGE_YEARS = {  # mean and spread; patients are slightly older
    "phantom-pretraining": (26.0, 8.0),
    "phantom-abide": (19.0, 6.0),
    "phantom-adhd200": (17.0, 5.0),
    "phantom-srpbs": (36.0, 9.0),
    "harmonisation": (70.0, 6.0),
}
PATIENTS_OLDER_YEARS = 1.5


@dataclass(frozen=True)
class Person:
    """One subject. `sites` holds a session and its scanner for each visit; one visit has no session name."""

    subject: str
    family: str
    cohort: str
    visits: tuple[tuple[str, str], ...]
    age_years: float
    sex: str
    diagnosis: str
    role: str
    number: int = 0  # seeds everything that is drawn for this person
    family_number: int = -1  # seeds what siblings share; -1 for people without siblings in the cohort

    @property
    def harmonisation(self) -> bool:
        """Whether this is a subject of the harmonisation study, scanned at full resolution and without function."""
        return self.cohort not in TASKS and self.cohort != PAIRED_COHORT


def harmonisation_people(per_site: int, travelling: int, seed: int) -> list[Person]:
    """Subjects of the four sites, and travelling subjects with a rescan at one site each."""
    rng = np.random.default_rng([seed, 1])
    people = []
    for site in SITES:
        roles = _quota(HARMONISATION_SPLIT, per_site)
        diagnoses = _quota({"control": 1 - DEMENTIA_SHARE[site], "dementia": DEMENTIA_SHARE[site]}, per_site)
        for k, diagnosis in enumerate(rng.permutation(diagnoses)):
            people.append(
                _person(f"{site.lower()}{k + 1:03d}", site.lower(), (("", site),), str(diagnosis), roles[k], rng)
            )
    for k in range(travelling):
        visits = [(site.lower(), site) for site in SITES]
        again = SITES[k % len(SITES)]
        visits.append((f"{again.lower()}rescan", again))
        people.append(_person(f"travelling{k + 1:02d}", "travelling", tuple(visits), "control", "travelling", rng))
    return _numbered(people, 1_000_000)


def pretraining_people(count: int, seed: int) -> list[Person]:
    """Healthy subjects with image and network, some of them in pairs of siblings."""
    rng = np.random.default_rng([seed, 2])
    n_siblings = 2 * int(SIBLING_SHARE * count / 2)
    people = []
    for k in range(count):
        name = f"pre{k + 1:04d}"
        family = f"pre{k - k % 2 + 1:04d}" if k < n_siblings else name
        site = SITES[rng.integers(len(SITES))]
        people.append(_person(name, PAIRED_COHORT, (("", site),), "control", "pre-training", rng, family))
    return _numbered(people, 2_000_000)


def task_people(task: str, count: int, seed: int, balanced: bool = False) -> list[Person]:
    """Subjects of one diagnosis task; `balanced` gives every class the same sites, ages and sexes."""
    order = list(TASKS).index(task)
    rng = np.random.default_rng([seed, 3 + order])
    classes = list(TASKS[task])
    prefix = task.removeprefix("phantom-")
    people = []
    for site in SITES:
        share = {c: 1 / len(classes) if balanced else TASKS[task][c][site] for c in classes}
        here = _part(count, SITES.index(site))
        for diagnosis in _quota(share, here - here % len(classes) if balanced else here):
            name = f"{prefix}{len(people) + 1:04d}"
            draw_as = "control" if balanced else diagnosis
            person = _person(name, task, (("", site),), draw_as, "unassigned", rng)
            people.append(replace(person, diagnosis=diagnosis))
    if balanced:
        people = _matched(people, classes)
    return _numbered(people, 3_000_000 + 100_000 * order)


def _matched(people: list[Person], classes: list[str]) -> list[Person]:
    """At each site, the first of each class gets one age and sex, the second of each another, and so on."""
    models: dict[tuple[str, int], Person] = {}
    seen: dict[tuple[str, str], int] = {}
    result = []
    for person in people:
        site = person.visits[0][1]
        rank = seen[site, person.diagnosis] = seen.get((site, person.diagnosis), -1) + 1
        model = models.setdefault((site, rank), person)
        result.append(replace(person, age_years=model.age_years, sex=model.sex))
    return result


def _person(subject, cohort, visits, diagnosis, role, rng, family=None) -> Person:
    mean, spread = AGE_YEARS.get(cohort, AGE_YEARS["harmonisation"])
    older = PATIENTS_OLDER_YEARS if diagnosis != "control" else 0
    age = round(float(np.clip(rng.normal(mean + older, spread), mean - 2 * spread, mean + 2.5 * spread)), 1)
    sex = "M" if rng.random() < MALE_SHARE.get(diagnosis, 0.5) else "F"
    name = cohort if cohort.startswith("phantom-") else f"phantom-{cohort}"
    return Person(subject, family or subject, name, visits, age, sex, diagnosis, role)


def _numbered(people: list[Person], start: int) -> list[Person]:
    """Give everybody a number of their own, and siblings the number of their family."""
    members = Counter(person.family for person in people)
    first: dict[str, int] = {}
    result = []
    for number, person in enumerate(people, start):
        first.setdefault(person.family, number)
        family = first[person.family] if members[person.family] > 1 else -1
        result.append(replace(person, number=number, family_number=family))
    return result


def _part(count: int, index: int) -> int:
    """The size of the index-th of four nearly equal parts."""
    return count // len(SITES) + (index < count % len(SITES))


def _quota(shares: dict[str, float], count: int) -> list[str]:
    """Exactly `count` names in the given shares (largest remainders first), in the order of the names."""
    exact = np.array(list(shares.values())) * count
    whole = np.floor(exact + 1e-9).astype(int)
    for k in np.argsort(whole - exact, kind="stable")[: count - whole.sum()]:
        whole[k] += 1
    return [name for name, n in zip(shares, whole, strict=True) for _ in range(n)]
