"""What training holds, as one flat dictionary of tensors and one of plain numbers, and back; strict in both ways.

parts = {"generator": generator, "generator_adam": adam, "ema": ema}
tensors, numbers = pack(parts)
unpack(parts, tensors, numbers)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

MACHINE = ("fused", "foreach", "capturable", "differentiable")  # how to compute, not what: the present choice holds
Tensors = dict[str, Tensor]
Numbers = dict[str, Any]


def pack(parts: Mapping[str, Any]) -> tuple[Tensors, Numbers]:
    """Tensors named `<part>/<key>` (not copied) and the plain numbers of each part.

    A part is a torch optimiser, or anything with `state_dict` and `load_state_dict` whose entries are tensors and
    plain values: modules, learning rate schedules, `Ema`. An optimiser's tensors are shaped as its parameters or single
    numbers (Adam, AdamW, SGD, RMSprop, …).
    """
    tensors: Tensors = {}
    numbers: Numbers = {}
    for name, part in parts.items():
        _check_name(name)
        flat, numbers[name] = _flat(part)
        tensors |= {f"{name}/{key}": value for key, value in flat.items()}
    return tensors, numbers


def unpack(parts: Mapping[str, Any], tensors: Mapping[str, Tensor], numbers: Numbers, whole: bool = True) -> None:
    """Put back what `pack` gave; where anything does not fit, all of it is named and nothing is changed.

    Values are copied, on the device and in the memory layout of the part. `whole=False` leaves parts of the
    checkpoint that are not asked for.
    """
    split: dict[str, Tensors] = {name: {} for name in parts}
    strange = []
    for key, value in tensors.items():
        name, _, rest = key.partition("/")
        if name in split:
            split[name][rest] = value
        elif whole:
            strange.append(f"unexpected {key}")
    strange += [f"unexpected {name}" for name in numbers if whole and name not in parts]
    fits = {name: _fit(part, split[name], numbers.get(name)) for name, part in parts.items()}
    strange += [f"{problem} in {name}" for name, fit in fits.items() for problem in fit.problems]
    if strange:
        raise ValueError(
            "the checkpoint does not fit what is being trained: " + "; ".join(strange) + ". "
            "Train with the configuration it was saved under, or start in an empty folder"
        )
    for fit in fits.values():
        fit.apply()


@dataclass(frozen=True)
class _Fit:
    """What keeps saved values from being loaded, and how to load them."""

    problems: list[str]
    apply: Callable[[], None]


def _check_name(name: str) -> None:
    if not name or "/" in name:
        raise ValueError(f"part: expected a name without '/'; got {name!r}")


def _flat(part: Any) -> tuple[Tensors, Numbers]:
    if isinstance(part, Optimizer):
        return _flat_optimiser(part)
    content = part.state_dict()
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    return tensors, {key: value for key, value in content.items() if key not in tensors}


def _fit(part: Any, tensors: Tensors, numbers: Numbers | None) -> _Fit:
    if numbers is None:
        return _Fit(["missing everything"], lambda: None)
    if isinstance(part, Optimizer):
        return _fit_optimiser(part, tensors, numbers)
    have, have_numbers = _flat(part)
    problems = _key_problems(have, tensors) + _key_problems(have_numbers, numbers)
    problems += [
        f"{key}: expected {_looks(have[key])}, got {_looks(value)}"
        for key, value in tensors.items()
        if key in have and _looks(have[key]) != _looks(value)
    ]
    return _Fit(problems, lambda: part.load_state_dict({**tensors, **numbers}))


def _key_problems(expected: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    missing = [f"missing {key}" for key in expected if key not in got]
    return missing + [f"unexpected {key}" for key in got if key not in expected]


def _looks(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _flat_optimiser(optimiser: Optimizer) -> tuple[Tensors, Numbers]:
    """Tensors named `<parameter's place>/<key>`; the groups' numbers, and what else is kept for a parameter."""
    content = optimiser.state_dict()
    tensors: Tensors = {}
    values: dict[str, Numbers] = {}
    for place, entries in content["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{place}/{key}"] = value
            else:
                values.setdefault(str(place), {})[key] = value
    return tensors, {"kind": type(optimiser).__name__, "groups": content["param_groups"], "values": values}


def _fit_optimiser(optimiser: Optimizer, tensors: Tensors, numbers: Numbers) -> _Fit:
    state = _state_by_place(tensors, numbers["values"])
    problems = _group_problems(optimiser, numbers) or _state_problems(optimiser, state)

    def apply() -> None:
        groups = [_group(now, saved) for now, saved in zip(_groups(optimiser), numbers["groups"], strict=True)]
        parameters = _parameters(optimiser)
        placed = {
            place: {key: _placed(value, parameters[place]) for key, value in entries.items()}
            for place, entries in state.items()
        }
        optimiser.load_state_dict({"state": placed, "param_groups": groups})

    return _Fit(problems, apply)


def _state_by_place(tensors: Tensors, values: dict[str, Numbers]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {int(place): dict(entries) for place, entries in values.items()}
    for name, value in tensors.items():
        place, _, key = name.partition("/")
        state.setdefault(int(place), {})[key] = value
    return dict(sorted(state.items()))


def _group_problems(optimiser: Optimizer, numbers: Numbers) -> list[str]:
    kind, now, saved = type(optimiser).__name__, _groups(optimiser), numbers["groups"]
    if numbers["kind"] != kind:
        return [f"optimiser: expected {kind}, got {numbers['kind']}"]
    sizes = [[len(group["params"]) for group in groups] for groups in (now, saved)]
    if sizes[0] != sizes[1]:
        return [f"parameters in each group: expected {sizes[0]}, got {sizes[1]}"]
    pairs = enumerate(zip(now, saved, strict=True))
    return [f"{problem} of group {number}" for number, pair in pairs for problem in _key_problems(*pair)]


def _state_problems(optimiser: Optimizer, state: dict[int, dict[str, Any]]) -> list[str]:
    parameters = _parameters(optimiser)
    keys = {key for entries in state.values() for key in entries}
    problems = []
    for place, entries in state.items():
        if place >= len(parameters):
            problems.append(f"unexpected parameter {place}")
            continue
        problems += [f"missing {place}/{key}" for key in sorted(keys - set(entries))]
        shape = parameters[place].shape
        problems += [
            f"{place}/{key}: expected the parameter's shape {tuple(shape)}, got {tuple(value.shape)}"
            for key, value in entries.items()
            if isinstance(value, Tensor) and value.ndim and value.shape != shape
        ]
    return problems


def _groups(optimiser: Optimizer) -> list[dict[str, Any]]:
    return optimiser.state_dict()["param_groups"]


def _parameters(optimiser: Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _group(now: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """The saved numbers, as the types they had (JSON has no tuples), with the present ways of computing."""
    return {
        key: value if key in MACHINE else (tuple(saved[key]) if isinstance(value, tuple) else saved[key])
        for key, value in now.items()
    }


def _placed(value: Any, parameter: Tensor) -> Any:
    """A copy in the parameter's memory layout: fused Adam on CPU reads other layouts as if they were the same."""
    if not isinstance(value, Tensor):
        return value
    if not value.ndim or value.shape != parameter.shape:  # `step`: the optimiser knows its device
        return value.clone()
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
