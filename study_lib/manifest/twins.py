"""Scans compared with each other: one scan under two subjects, swapped sides within one subject."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from study_lib.scan_checks.findings import Finding, suspicion
from study_lib.scan_checks.likeness import core_likeness, mirrored
from study_lib.scan_checks.volume import Examination

# Copies of one scan correlate at 0.99 and more whatever was done to the file, different people at 0.4 at
# most, people of the built-in phantom, who share a template, at 0.86 at most.
SAME_SCAN, SAME_CORE = 0.985, 0.97
# Swapped sides: the mirror image explains the sibling clearly better, and is like it at all.
SWAPPED_RATIO, LEAST_LIKENESS = 0.85, 0.5
ROWS_AT_ONCE = 256


def identical_files(digests: Mapping[int, str], subjects: Mapping[int, str]) -> Iterator[tuple[int, Finding]]:
    """Rows whose file has the same bytes as another row's."""
    for line, other in _equal(digests, subjects):
        finding = _twin(line, other, subjects, "the file is byte for byte that of")
        yield line, replace(finding, kind="same file")


def same_scans(scans: Mapping[int, Examination], subjects: Mapping[int, str]) -> Iterator[tuple[int, Finding]]:
    """Rows whose T1w is that of another row, by its voxels or by its likeness; one finding a row."""
    stored = {line: scan.voxel_digest for line, scan in scans.items()}
    turned = {line: scan.content_digest for line, scan in scans.items()}
    findings = [
        (line, _twin(line, other, subjects, "the voxels are those of"))
        for digests in (stored, turned)
        for line, other in _equal(digests, subjects)
    ]
    for line, other, likeness, flipped in _near_identical(scans, subjects):
        same = "the mirror image" if flipped else "the same head"
        findings.append((line, _twin(line, other, subjects, f"the scan is {same} (correlation {likeness:.3f}) as")))
    found: dict[int, Finding] = {}
    for line, finding in sorted(findings, key=lambda item: not item[1].is_error):  # an error tells more
        found.setdefault(line, finding)
    yield from found.items()


def _twin(line: int, other: int, subjects: Mapping[int, str], what: str) -> Finding:
    message = f"{what} subject {subjects[other]!r} on line {other}"
    if subjects[line] == subjects[other]:
        return suspicion("same scan", message, "remove one of the two rows unless both sessions are meant")
    fix = "find out at the source whose scan it is, and remove the other row; both are left out until then"
    return Finding("same scan", message, fix)


def _equal(digests: Mapping[int, str], subjects: Mapping[int, str]) -> Iterator[tuple[int, int]]:
    """Each line that shares its digest, with another that has it, of another subject where there is one."""
    groups = defaultdict(list)
    for line, digest in digests.items():
        if digest:
            groups[digest].append(line)
    for lines in groups.values():
        for line in lines if len(lines) > 1 else ():
            others = sorted((other for other in lines if other != line), key=lambda o: subjects[o] == subjects[line])
            yield line, others[0]


def _near_identical(
    scans: Mapping[int, Examination], subjects: Mapping[int, str]
) -> Iterator[tuple[int, int, float, bool]]:
    """Subjects with the same head, or with one's the mirror image of the other's: line, twin, r, mirrored."""
    lines = [line for line, scan in scans.items() if scan.descriptor is not None]
    if len(lines) < 2:
        return
    heads = np.stack([scans[line].descriptor for line in lines])
    owner = np.unique([subjects[line] for line in lines], return_inverse=True)[1]
    for flipped in (False, True):
        others = (mirrored(heads) if flipped else heads).T.astype(np.float32)
        for start in range(0, len(lines), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            likeness = heads[rows].astype(np.float32) @ others
            likeness[owner[rows, None] == owner] = -1
            for index, twin in np.argwhere(likeness > SAME_SCAN):
                # Plain objects, such as two balls, are alike in outline; one head is alike inside as well.
                inside = core_likeness(heads[start + index], others[:, twin])
                if inside > SAME_CORE:
                    yield lines[start + index], lines[twin], float(likeness[index, twin]), flipped


def swapped_sides(scans: Mapping[int, Examination], subjects: Mapping[int, str]) -> Iterator[tuple[int, Finding]]:
    """Rows whose T1w is left-right swapped against the other scans of its subject."""
    groups = defaultdict(list)
    for line, scan in scans.items():
        if scan.upright is not None:
            groups[subjects[line]].append(line)
    for lines in groups.values():
        yield from _swapped_among(lines, scans)


def _swapped_among(lines: list[int], scans: Mapping[int, Examination]) -> Iterator[tuple[int, Finding]]:
    """The minority that is swapped against the rest; of two scans both: neither is known to be right."""
    pairs = {pair: _swap_evidence(*(scans[line] for line in pair)) for pair in combinations(lines, 2)}
    swapped = {pair: evidence for pair, evidence in pairs.items() if evidence}
    if not swapped:
        return
    count = {line: sum(line in pair for pair in swapped) for line in lines}
    most = max(count.values())
    for line in (line for line in lines if count[line] == most):
        pair = next(pair for pair in swapped if line in pair)
        other = pair[0] if pair[1] == line else pair[1]
        message = f"left and right are swapped against this subject's scan on line {other}: {swapped[pair]}"
        fix = "see which scan is right (a marker, the source) and convert the other again"
        yield line, Finding("left-right", message, fix)


def _swap_evidence(one: Examination, other: Examination) -> str:
    first, second = one.upright.astype(np.float32), other.upright.astype(np.float32)
    plain, swapped = float(first @ second), float(first @ mirrored(second))
    if swapped < LEAST_LIKENESS or 1 - swapped > SWAPPED_RATIO * (1 - plain):
        return ""
    return f"correlation {swapped:.3f} when mirrored, {plain:.3f} as it is"
