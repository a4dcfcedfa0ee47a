"""Notebook parameters: what a notebook declares, and whether what it is given fits.

papermill runs on with an unknown parameter and hands text to a number; here both are errors, by name.
"""

import ast
import difflib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TYPES = {"int": int, "float": float, "bool": bool, "str": str}
Value = int | float | bool | str


class ParameterError(ValueError):
    """A parameter that the notebook does not know, or a value that does not fit it."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: `name: kind = default  # meaning`."""

    name: str
    kind: str
    default: Value
    meaning: str


@dataclass(frozen=True)
class Setting:
    """A parameter as typed on the command line: `03.n_iterations=500`."""

    notebook: str
    name: str
    text: str


def declared_parameters(notebook: str | Path) -> dict[str, Parameter]:
    """The parameters of a notebook as papermill reads them, in the cell's order."""
    from papermill import inspect_notebook  # takes seconds, and most calls need no parameters

    found = inspect_notebook(papermill_path(notebook))
    return {name: _declared(entry, notebook) for name, entry in found.items()}


def papermill_path(path: str | Path) -> str:
    """papermill formats the paths it is given; braces in a folder's name are meant as they are."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _declared(entry: dict[str, str], notebook: str | Path) -> Parameter:
    name, kind = entry["name"], entry["inferred_type_name"]
    line = f"{name}: type = literal  # meaning"
    if kind not in TYPES:
        raise ParameterError(
            f"{notebook}: parameter {name}: expected `{line}` with type {', '.join(TYPES)}; got type {kind}"
        )
    try:
        default = ast.literal_eval(entry["default"])
    except (ValueError, SyntaxError) as error:
        raise ParameterError(
            f"{notebook}: parameter {name}: expected `{line}`; got {entry['default']!r}, no literal"
        ) from error
    return Parameter(name, kind, checked_value(name, kind, default), entry["help"])


def checked_parameters(declared: dict[str, Parameter], given: dict[str, Any], where: str) -> dict[str, Value]:
    """`given` with every value of its declared type; all that does not fit is refused in one message."""
    values, problems = {}, []
    for name, value in given.items():
        try:
            values[name] = checked_value(name, _known(declared, name).kind, value)
        except ParameterError as error:
            problems.append(str(error))
    if problems:
        raise ParameterError("\n".join(f"{where}: {problem}" for problem in problems))
    return values


def _known(declared: dict[str, Parameter], name: str) -> Parameter:
    if name in declared:
        return declared[name]
    near = difflib.get_close_matches(name.lower(), declared, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    known = ", ".join(f"{parameter.name} ({parameter.kind})" for parameter in declared.values()) or "none"
    raise ParameterError(f"unknown parameter {name!r}{hint}; known: {known}")


def checked_value(name: str, kind: str, value: Any) -> Value:
    """`value` if it is of the declared kind; an int where a float is due becomes one."""
    if kind == "float" and type(value) is int:
        value = float(value)
    if type(value) is not TYPES[kind]:
        raise ParameterError(f"parameter {name!r}: expected {kind}; got {type(value).__name__} {value!r}")
    if kind == "float" and not math.isfinite(value):
        raise ParameterError(f"parameter {name!r}: expected a finite number; got {value}")
    return value


def parse_setting(text: str) -> Setting:
    """Take `03.n_iterations=500` apart."""
    match = re.fullmatch(r"(?P<notebook>\w+)\.(?P<name>\w+)=(?P<text>.*)", text, flags=re.DOTALL)
    if match is None:
        raise ParameterError(f"--set: expected NOTEBOOK.NAME=VALUE, as in 03.n_iterations=500; got {text!r}")
    return Setting(**match.groupdict())


def value_from_text(parameter: Parameter, text: str) -> Value:
    """The value that `text` spells for a parameter of its kind."""
    readers = {"int": _int, "float": float, "bool": _bool, "str": str}
    try:
        value = readers[parameter.kind](text)
    except ValueError as error:
        wanted = {"int": "a whole number", "float": "a number", "bool": "true or false"}[parameter.kind]
        raise ParameterError(f"parameter {parameter.name!r}: expected {wanted}; got {text!r}") from error
    return checked_value(parameter.name, parameter.kind, value)


def _int(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text):  # int() also takes "1_0" and " 1 "
        raise ValueError(text)
    return int(text)


def _bool(text: str) -> bool:
    words = {"true": True, "false": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def settings_of(declared: dict[str, Parameter], settings: list[Setting], where: str) -> dict[str, Value]:
    """The values of several settings of one notebook, less those that are the default anyway.

    All problems are told in one message.
    """
    values, problems = {}, []
    for setting in settings:
        try:
            if setting.name in values:
                raise ParameterError(f"parameter {setting.name!r} is set twice")
            values[setting.name] = value_from_text(_known(declared, setting.name), setting.text)
        except ParameterError as error:
            problems.append(f"{where}: {error}")
    if problems:
        raise ParameterError("\n".join(problems))
    return {name: value for name, value in values.items() if value != declared[name].default}
