"""The list of notebooks: in order, each after what it needs."""

import pytest

from study_lib.profiles import PROFILES
from study_lib.workflow.story import COHORT, STORY, Notebook, Story, load_story


def names(notebooks):
    return [notebook.name for notebook in notebooks]


@pytest.fixture
def story(tmp_path):
    return Story(tmp_path, (Notebook("01_a", "A", "?"), Notebook("02_b", "B", "?", ("01_a", COHORT))))


def test_until_takes_all_before_and_the_one_named(story):
    assert names(story.until(None)) == ["01_a", "02_b"]
    assert names(story.until("01")) == names(story.until("1")) == names(story.until("01_a")) == ["01_a"]


def test_an_unknown_number_is_refused_with_those_that_are_known(story):
    with pytest.raises(ValueError, match="expected one of 01, 02; got '03'"):
        story.until("03")


def test_a_notebook_cannot_need_one_that_comes_later(tmp_path):
    with pytest.raises(ValueError, match=r"01_a needs \['02_b'\]"):
        Story(tmp_path, (Notebook("01_a", "A", "?", ("02_b",)), Notebook("02_b", "B", "?")))


def test_our_story_states_a_question_and_the_time_for_each_notebook():
    assert load_story("study_lib.workflow.story:STORY") is STORY
    for notebook in STORY.notebooks:
        assert notebook.question.endswith("?")
        assert set(notebook.minutes) <= set(PROFILES)
        assert {"smoke", "demo"} <= set(notebook.minutes)


def test_a_cell_may_take_ten_times_the_notebook_and_any_time_where_none_is_stated():
    notebook = Notebook("01_a", "A", "?", minutes={"smoke": 0.1, "demo": 30})
    assert [notebook.cell_timeout(profile) for profile in PROFILES] == [600, 18_000, None]
