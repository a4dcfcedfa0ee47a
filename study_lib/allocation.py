"""Families to parts, so that every stratum gets its ratio as nearly as whole families allow."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import pairwise, product

Cell = tuple[Hashable, ...]


def allocate(families: Sequence[str], strata: Sequence[tuple[str, ...]], ratios: Sequence[int], key: str) -> list[int]:
    """The part (0, 1, …) of each subject; `key` names the draw.

    Families come in an order drawn by hash, and each goes where the parts are least filled: overall, in its
    class, in its site and in its stratum (after Sechidis et al. 2011, with whole families). Large families
    land in the largest part more often than others do, but not always.
    """
    cells = _cells(strata, sum(ratios))
    members = defaultdict(list)
    for subject, family in enumerate(families):
        members[family].append(subject)
    _check_classes(families, strata, len(ratios))
    filling = _Filling(cells, ratios, key)
    waiting = _families_per_class(members.values(), strata)
    part = [0] * len(families)
    for family in sorted(members, key=lambda f: _draw(key, f)):
        classes = {strata[subject][:1] for subject in members[family]}
        chosen = filling.place(members[family], filling.must_take(classes, waiting))
        waiting.subtract(classes)
        for subject in members[family]:
            part[subject] = chosen
    _check_parts(part, strata, ratios)
    return part


class _Filling:
    """How full each part is, in every cell that counts."""

    def __init__(self, cells: list[list[Cell]], ratios: Sequence[int], key: str) -> None:
        self.cells, self.key, self.n_parts = cells, key, len(ratios)
        size = Counter(cell for own in cells for cell in own)
        self.quota = {cell: _quota(n, ratios, _draw(key, repr(cell))) for cell, n in size.items()}
        self.count = {cell: [0] * len(ratios) for cell in size}

    def place(self, members: Sequence[int], parts: Sequence[int]) -> int:
        """Put a family into the part where it does least harm, and return that part."""
        added = Counter(cell for subject in members for cell in self.cells[subject])
        chosen = min(parts, key=lambda p: (self._harm(added, p), _draw(self.key, f"{sorted(members)}/{p}")))
        for cell, n in added.items():
            self.count[cell][chosen] += n
        return chosen

    def must_take(self, classes: set[Cell], waiting: Counter) -> list[int]:
        """The parts to choose from: the empty ones, once a class has no more families left than those."""
        for own in sorted(classes):
            empty = [p for p in range(self.n_parts) if self.count["class", *own][p] == 0]
            if empty and waiting[own] <= len(empty):
                return empty
        return list(range(self.n_parts))

    def _harm(self, added: Counter, p: int) -> float:
        """Growth of sum over cells of (count - quota)^2 / quota, per member: size alone is no harm."""
        return sum(
            n * (1 + 2 * (self.count[cell][p] - self.quota[cell][p])) / max(self.quota[cell][p], 0.5)
            for cell, n in added.items()
        )


def _cells(strata: Sequence[tuple[str, ...]], smallest: int) -> list[list[Cell]]:
    """Per subject, the cells to balance: all, class, each further column, and stratum (small ones merged)."""
    size = Counter(strata)
    column_size = Counter((k, value) for stratum in strata for k, value in enumerate(stratum))
    cells = []
    for stratum in strata:
        columns = [("column", k, value) for k, value in enumerate(stratum) if k > 0]
        large = [cell for cell in columns if column_size[cell[1:]] >= smallest]
        merged = stratum if size[stratum] >= smallest else (*stratum[:1], "small strata")
        cells.append([("all",), ("class", *stratum[:1]), *large, ("stratum", *merged)])
    return cells


def _quota(n: int, ratios: Sequence[int], draw: float) -> list[int]:
    """Whole numbers that sum to n and are n * ratio / sum(ratios) on average over draws."""
    edges, total = [0], 0
    for ratio in ratios:
        total += ratio
        edges.append(int(n * total / sum(ratios) + draw) if total < sum(ratios) else n)
    return [after - before for before, after in pairwise(edges)]


def _draw(key: str, name: str) -> float:
    """A uniform number in [0, 1) that depends on the two texts alone."""
    digest = hashlib.sha256(f"{key}|{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _families_per_class(members: Sequence[Sequence[int]], strata: Sequence[tuple[str, ...]]) -> Counter:
    return Counter(own for family in members for own in {strata[subject][:1] for subject in family})


def _check_classes(families: Sequence[str], strata: Sequence[tuple[str, ...]], n_parts: int) -> None:
    per_class = defaultdict(set)
    for family, stratum in zip(families, strata, strict=True):
        per_class[stratum[:1]].add(family)
    few = {(own[0] if own else "all"): len(found) for own, found in per_class.items() if len(found) < n_parts}
    if few or not per_class:
        found = ", ".join(f"{name!r} has {n}" for name, n in sorted(few.items())) or "the table is empty"
        raise ValueError(
            f"expected at least {n_parts} families of every class, one for each part; {found}; "
            "merge the class, leave it out, or add subjects"
        )


def _check_parts(part: Sequence[int], strata: Sequence[tuple[str, ...]], ratios: Sequence[int]) -> None:
    found = {(stratum[:1], p) for stratum, p in zip(strata, part, strict=True)}
    for own, p in product(sorted({stratum[:1] for stratum in strata}), range(len(ratios))):
        if (own, p) not in found:
            raise ValueError(
                f"families too large: class {own} has no subject in part {p + 1} of {len(ratios)}; "
                "merge the class or leave out the largest families"
            )
