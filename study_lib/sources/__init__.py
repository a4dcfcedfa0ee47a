"""Manifests from data sets as they are downloaded: one adapter per data set, one indexer for all BIDS trees.

`curate("abide", root)` gives a `Curation`: the manifest's rows, who is not in it and why, and what is odd
about the rest. `python -m study_lib.sources abide --root DIR --out FILE` writes it. `SOURCES` says which
adapters have met real data.
"""

from dataclasses import replace
from pathlib import Path

from study_lib.sources import (
    abide,
    adhd200,
    adni,
    bids,
    cnp,
    hbn,
    hcp,
    on_harmony,
    private_sites,
    qtim,
    srpbs,
)
from study_lib.sources.checksums import with_checksums
from study_lib.sources.curation import Curation, Request
from study_lib.sources.output import write_curation
from study_lib.sources.source import Source, Status

__all__ = ["SOURCES", "Curation", "Request", "Source", "Status", "curate", "write_curation"]

SMC, GSEV, GMC = private_sites.SOURCES
SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        *(SMC, adni.SOURCE, GSEV, GMC),
        *(hbn.SOURCE, hcp.SOURCE, qtim.SOURCE, cnp.SOURCE),
        *(abide.SOURCE, adhd200.SOURCE, srpbs.SOURCE),
        *(on_harmony.SOURCE, bids.SOURCE),
    )
}


def curate(
    name: str,
    root: str | Path,
    phenotypic: tuple[str | Path, ...] = (),
    checksums: bool = True,
    progress: bool = False,
    **choices: str,
) -> Curation:
    """Read the data set `name` under `root`; `choices` are those of `Request`: cohort, t1w, task."""
    if name not in SOURCES:
        raise KeyError(f"no data set {name!r}: expected one of {', '.join(SOURCES)}")
    request = Request(Path(root), tuple(Path(path) for path in phenotypic), **choices)
    if not request.root.is_dir():
        raise FileNotFoundError(f"no folder at {root}: root must be the folder that holds the data set")
    curation = SOURCES[name].build(request)
    if not checksums:
        return curation
    return replace(curation, table=with_checksums(curation.table, request.root, progress))
