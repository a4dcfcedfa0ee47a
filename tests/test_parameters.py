"""Notebook parameters are checked by name and type before anything runs."""

import pytest
from tiny_notebooks import write_notebook

from study_lib.workflow.parameters import (
    Parameter,
    ParameterError,
    checked_parameters,
    declared_parameters,
    parse_setting,
    settings_of,
)

CELL = """profile: str = "smoke"  # size of the run
n_iterations: int = 500  # training steps
rate: float = 1e-4  # learning rate
coherence: bool = True  # coherence loss on
"""


@pytest.fixture
def declared(tmp_path):
    return declared_parameters(write_notebook(tmp_path / "03_x.ipynb", parameters=CELL))


def settings(declared, *texts):
    return settings_of(declared, [parse_setting(text) for text in texts], "--set 03")


def test_the_declaration_is_read_with_type_default_and_meaning(declared):
    assert list(declared.values()) == [
        Parameter("profile", "str", "smoke", "size of the run"),
        Parameter("n_iterations", "int", 500, "training steps"),
        Parameter("rate", "float", 1e-4, "learning rate"),
        Parameter("coherence", "bool", True, "coherence loss on"),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("03.n_iterations=7", {"n_iterations": 7}),
        ("03.n_iterations=-7", {"n_iterations": -7}),
        ("03.rate=3", {"rate": 3.0}),
        ("03.rate=2e-5", {"rate": 2e-5}),
        ("03.coherence=False", {"coherence": False}),
        ("03.profile=a=b c", {"profile": "a=b c"}),
        ("03.profile=", {"profile": ""}),
        ("03.profile=7", {"profile": "7"}),
        ("03.n_iterations=500", {}),  # what is the default anyway changes nothing, so it redoes nothing
    ],
)
def test_text_becomes_a_value_of_the_declared_type(declared, text, value):
    assert settings(declared, text) == value
    assert [type(entry) for entry in settings(declared, text).values()] == [type(entry) for entry in value.values()]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_iteration": 3}, "unknown parameter 'n_iteration' (did you mean 'n_iterations'?)"),
        ({"N_ITERATIONS": 3}, "did you mean 'n_iterations'"),
        ({"zzz": 3}, "known: profile (str), n_iterations (int), rate (float), coherence (bool)"),
        ({"n_iterations": "3"}, "'n_iterations': expected int; got str '3'"),
        ({"n_iterations": 3.0}, "'n_iterations': expected int; got float 3.0"),
        ({"n_iterations": True}, "'n_iterations': expected int; got bool True"),
        ({"coherence": 1}, "'coherence': expected bool; got int 1"),
        ({"rate": float("nan")}, "'rate': expected a finite number; got nan"),
        ({"profile": None}, "'profile': expected str; got NoneType None"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(declared, given, message):
    with pytest.raises(ParameterError) as caught:
        checked_parameters(declared, given, "03_x.ipynb")
    assert message in str(caught.value)
    assert str(caught.value).startswith("03_x.ipynb: ")


def test_all_mistakes_are_told_at_once(declared):
    with pytest.raises(ParameterError) as caught:
        settings(declared, "03.n_iterations=many", "03.rat=1", "03.coherence=yes", "03.rate=1", "03.rate=2")
    lines = str(caught.value).splitlines()
    assert [line.removeprefix("--set 03: ").split("; ")[0] for line in lines] == [
        "parameter 'n_iterations': expected a whole number",
        "unknown parameter 'rat' (did you mean 'rate'?)",
        "parameter 'coherence': expected true or false",
        "parameter 'rate' is set twice",
    ]


@pytest.mark.parametrize(
    "cell",
    [
        "n: int | None = 3  # a union, which papermill cannot read",
        "n = 3  # no type",
        "n: list = [3]  # no plain type",
        "n: int = 1 + 2  # no literal",
        "n: int = 1.5  # another type than it says",
    ],
)
def test_a_declaration_that_cannot_be_checked_is_refused(tmp_path, cell):
    try:
        declared = declared_parameters(write_notebook(tmp_path / "03_x.ipynb", parameters=cell))
    except ParameterError as error:
        assert "'n'" in str(error) or "parameter n:" in str(error)
    else:
        assert "n" not in declared, "papermill skipped the line, so giving `n` is refused as unknown"
