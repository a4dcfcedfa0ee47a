"""Who is in the phantom."""

from collections import Counter

import pytest

from study_lib.phantom.cohort import _bold_subjects, people_of
from study_lib.phantom.people import SITES, TASKS, harmonisation_people, pretraining_people, task_people
from study_lib.phantom.spec import SPECS, CohortSpec, spec_for


@pytest.mark.parametrize("profile", SPECS)
def test_nobody_appears_twice_and_everybody_is_drawn_from_numbers_of_their_own(profile):
    people = people_of(spec_for(profile))
    assert len({person.subject for person in people}) == len(people)
    assert len({person.number for person in people}) == len(people)


@pytest.mark.parametrize(
    ("profile", "per_site", "travelling", "pairs", "per_task"), [("smoke", 8, 4, 40, 24), ("demo", 40, 8, 300, 160)]
)
def test_every_profile_is_at_least_as_large_as_promised(profile, per_site, travelling, pairs, per_task):
    counts = Counter(person.cohort for person in people_of(spec_for(profile)))
    assert min(counts[f"phantom-{site.lower()}"] for site in SITES) >= per_site
    assert counts["phantom-travelling"] >= travelling
    assert counts["phantom-pretraining"] >= pairs
    assert min(counts[task] for task in TASKS) >= per_task


def test_travelling_subjects_visit_every_site_and_one_of_them_twice():
    travellers = [p for p in harmonisation_people(2, 4, seed=0) if p.role == "travelling"]
    for person in travellers:
        visited = Counter(site for _, site in person.visits)
        assert set(visited) == set(SITES)
        assert sorted(visited.values()) == [1, 1, 1, 2]
    assert {Counter(s for _, s in p.visits).most_common(1)[0][0] for p in travellers} == set(SITES)


def test_siblings_come_in_pairs_and_share_a_family_number():
    people = pretraining_people(40, seed=0)
    families = Counter(person.family for person in people)
    assert Counter(families.values()) == {2: 4, 1: 32}
    for person in people:
        assert (person.family_number >= 0) == (families[person.family] == 2)
    twins = [person for person in people if person.family_number >= 0]
    assert len({person.family_number for person in twins}) == 4


def test_diagnosis_depends_on_the_site_unless_the_cohort_is_balanced():
    for task in TASKS:
        unbalanced = _shares(task_people(task, 160, seed=0))
        assert max(unbalanced.values()) - min(unbalanced.values()) > 0.05
        balanced = task_people(task, 160, seed=0, balanced=True)
        classes = len(TASKS[task])
        assert all(abs(share - 1 / classes) < 0.03 for share in _shares(balanced).values())


def test_in_a_balanced_cohort_every_class_has_the_same_ages_and_sexes_at_every_site():
    people = task_people("phantom-abide", 160, seed=3, balanced=True)
    for site in SITES:
        own = [p for p in people if p.visits[0][1] == site]
        of_class = [sorted((p.age_years, p.sex) for p in own if p.diagnosis == d) for d in ("control", "autism")]
        assert of_class[0] == of_class[1]


@pytest.mark.parametrize("profile", SPECS)
def test_the_negative_control_of_every_profile_is_balanced_to_the_person(profile):
    people = people_of(spec_for(profile, coupling=0))
    for task, classes in TASKS.items():
        own = Counter((p.visits[0][1], p.diagnosis) for p in people if p.cohort == task)
        assert all(len({own[site, c] for c in classes}) == 1 for site in SITES)


@pytest.mark.parametrize("profile", SPECS)
def test_every_diagnosis_has_bold_where_a_cohort_has_enough_of_it(profile):
    spec = spec_for(profile)
    people = people_of(spec)
    chosen = _bold_subjects(spec, people)
    assert len(chosen) == 4 * spec.bold_per_cohort
    with_bold = {p.diagnosis for p in people if p.subject in chosen}
    if spec.bold_per_cohort >= 3:
        assert with_bold == {"control", "autism", "adhd", "depression", "schizophrenia"}


@pytest.mark.parametrize("wrong", [{"coupling": 2}, {"coupling": -0.1}, {"seed": -1}, {"pretraining": -5}])
def test_a_size_that_cannot_be_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        spec_for("smoke", **wrong)


def test_the_negative_control_holds_the_paired_cohorts_only():
    people = people_of(CohortSpec(coupling=0))
    assert not any(person.harmonisation for person in people)
    assert {person.cohort for person in people} == {"phantom-pretraining", *TASKS}


def test_another_seed_gives_other_people_and_the_same_seed_the_same():
    assert people_of(CohortSpec(seed=1)) == people_of(CohortSpec(seed=1))
    assert people_of(CohortSpec(seed=1)) != people_of(CohortSpec(seed=2))


def test_an_unknown_profile_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"profile 'paper' has no phantom \(smoke, demo have one\): give a manifest"):
        spec_for("paper")


def _shares(people):
    """Share of controls at each site."""
    sites = Counter(p.visits[0][1] for p in people)
    controls = Counter(p.visits[0][1] for p in people if p.diagnosis == "control")
    return {site: controls[site] / sites[site] for site in sites}
