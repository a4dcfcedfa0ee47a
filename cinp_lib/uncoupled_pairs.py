"""The negative control: pairs of a phantom in which images know nothing of networks, and diagnosis acts on those alone.

Sites, ages and sexes are balanced over its classes, so prompting has nothing to go by.
"""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

from cinp_lib.connectivity.batch import make_networks
from cinp_lib.pair_store import PairStore, pretraining_rows
from cinp_lib.pairs import PairConfig
from study_lib.files import atomic_write_json, read_json
from study_lib.manifest import Manifest, load_manifest
from study_lib.phantom.cohort import ensure_cohort
from study_lib.phantom.spec import CohortSpec, version_key
from study_lib.workflow.digest import modules_digest

STAMP = "uncoupled.json"
PARTS = ("pretraining", "tasks")


def uncoupled_pairs(folder: str | Path, spec: CohortSpec, config: PairConfig, n_jobs: int = 1) -> dict[str, PairStore]:
    """Pairs for `pretraining` and of the people of the `tasks`; finished ones of the same settings are opened.

    The cohort's scans, more than a gigabyte in `demo`, are removed once they are prepared.
    """
    folder = Path(folder)
    if spec.coupling != 0:
        raise ValueError(f"uncoupled_pairs: expected a cohort with coupling 0, got {spec.coupling}")
    made_of = {"cohort": version_key(spec), "pairs": config.content(), "code": modules_digest([__name__])}
    made_of = json.loads(json.dumps(made_of))  # as it comes back from the file
    if read_json(folder / STAMP) != made_of:
        (folder / STAMP).unlink(missing_ok=True)
        manifest = ensure_cohort(folder / "cohort", spec, n_jobs)
        _make(folder, load_manifest(manifest, check_files=False), config, n_jobs)
        atomic_write_json(folder / STAMP, made_of)
    for leftover in ("cohort", "networks"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    return {part: PairStore.open(folder / part) for part in PARTS}


def _make(folder: Path, cohort: Manifest, config: PairConfig, n_jobs: int) -> None:
    """Networks of everybody, and the two stores."""
    failures = make_networks(cohort, folder / "networks", n_jobs=n_jobs, progress=False).failures
    if len(failures):
        raise ValueError(f"{folder}: no network of the phantom's {failures.iloc[0].to_dict()}")
    first = pretraining_rows(cohort)
    others = cohort.table.drop(first.index)
    for part, rows in zip(PARTS, (first, others), strict=True):
        own = replace(cohort, table=rows.reset_index(drop=True))
        store = PairStore.build(own.table, own, folder / "networks", folder / part, config, n_jobs)
        for _, row in store.excluded.iterrows():
            warnings.warn(
                f"uncoupled phantom, left out: {row['subject']} ({row['site']}): {row['reason']}", stacklevel=3
            )
