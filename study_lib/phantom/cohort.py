"""The phantom on disk: a BIDS data set with fMRIPrep-style derivatives, a truth folder, and its manifest.

Everything is drawn from the seed and a person's number alone, so the files are the same on any number of workers.
"""

import json
import shutil
from itertools import zip_longest
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from study_lib.files import atomic_path, atomic_write_json
from study_lib.lock import only_one
from study_lib.manifest import write_manifest
from study_lib.phantom import bids
from study_lib.phantom.people import (
    PAIRED_COHORT,
    TASKS,
    Person,
    harmonisation_people,
    pretraining_people,
    task_people,
)
from study_lib.phantom.scan import PersonTruth, ScanSettings, scan_person
from study_lib.phantom.spec import VERSION, CohortSpec, version_key
from study_lib.sources import curate

STAMP = "phantom.json"
BEGUN = ".begun"  # what a run that is not finished has done; gone when it is


def people_of(spec: CohortSpec) -> list[Person]:
    """Everybody in the cohort, in the order of their files."""
    uncoupled = spec.coupling == 0
    people = [] if uncoupled else harmonisation_people(spec.per_site, spec.travelling, spec.seed)
    people += pretraining_people(spec.pretraining, spec.seed)
    for task in TASKS:
        people += task_people(task, spec.per_task, spec.seed, balanced=uncoupled)
    return people


def ensure_cohort(folder: str | Path, spec: CohortSpec, workers: int = -1, progress: bool = True) -> Path:
    """Write the cohort unless it is there already, and return its manifest.

    A cohort that was cut off goes on where it stopped; one of another version or size is written anew.
    """
    folder = Path(folder)
    manifest = folder / "manifest.csv"
    if not (_is_stamped(folder / STAMP, spec) and manifest.exists()):
        with only_one(folder.parent / f".{folder.name}.lock"):
            _write_cohort(folder, manifest, spec, workers, progress)
    return manifest


def _write_cohort(folder: Path, manifest: Path, spec: CohortSpec, workers: int, progress: bool) -> None:
    _discard_other(folder, spec)
    people = people_of(spec)
    with Parallel(n_jobs=workers, return_as="generator") as pool:
        truths = _scan_all(pool, folder, spec, people, progress)
        # In a worker too: it has the template in memory, which takes ten seconds to build.
        list(
            pool(
                [delayed(bids.write_tables)(folder, people), delayed(bids.write_effects)(folder, people, spec.coupling)]
            )
        )
    bids.write_truth(folder, people, truths)
    _write_manifest(folder, manifest)
    atomic_write_json(folder / STAMP, json.loads(version_key(spec)))
    shutil.rmtree(folder / BEGUN)


def _is_stamped(stamp: Path, spec: CohortSpec) -> bool:
    try:
        return json.loads(stamp.read_text()) == json.loads(version_key(spec))
    except (FileNotFoundError, json.JSONDecodeError):
        return False


def _discard_other(folder: Path, spec: CohortSpec) -> None:
    """Keep what an interrupted run of the same specification has written, and nothing else."""
    begun = folder / BEGUN / STAMP
    if folder.exists() and not _is_stamped(begun, spec):
        if any(folder.iterdir()) and not (begun.exists() or (folder / STAMP).exists()):
            raise FileExistsError(f"{folder} holds files that are no phantom: name an empty folder, or remove them")
        shutil.rmtree(folder)
    for leftover in folder.rglob(".partial-*"):  # of a run that was killed while it wrote
        leftover.unlink()
    atomic_write_json(begun, json.loads(version_key(spec)))


def _scan_all(pool: Parallel, folder: Path, spec: CohortSpec, people: list[Person], progress: bool):
    with_bold = _bold_subjects(spec, people)
    jobs = (delayed(_scan_once)(folder, person, _settings(spec, person.subject in with_bold)) for person in people)
    return list(tqdm(pool(jobs), total=len(people), desc="phantom", unit="subject", disable=not progress))


def _scan_once(folder: Path, person: Person, settings: ScanSettings) -> PersonTruth:
    """Scan a person, or read the truth back if that was finished before an interruption."""
    marker = folder / BEGUN / f"{person.subject}.npz"
    if marker.exists():
        with np.load(marker) as saved:
            return PersonTruth(**saved)
    truth = scan_person(folder, person, settings)
    with atomic_path(marker) as temporary:
        np.savez(temporary, **vars(truth))
    return truth


def _settings(spec: CohortSpec, with_bold: bool) -> ScanSettings:
    return ScanSettings(spec.seed, spec.coupling, spec.paired_resolution, spec.n_volumes, with_bold)


def _bold_subjects(spec: CohortSpec, people: list[Person]) -> set[str]:
    """A few of every cohort with function, one of each diagnosis in turn: the form of the data tells nothing of it."""
    chosen: set[str] = set()
    for cohort in (PAIRED_COHORT, *TASKS):
        by_diagnosis: dict[str, list[str]] = {}
        for person in people:
            if person.cohort == cohort:
                by_diagnosis.setdefault(person.diagnosis, []).append(person.subject)
        in_turn = [name for names in zip_longest(*by_diagnosis.values()) for name in names if name]
        chosen |= set(in_turn[: spec.bold_per_cohort])
    return chosen


def _write_manifest(folder: Path, manifest: Path) -> None:
    """Index the finished data set as any user's own BIDS tree is indexed, and refuse to lose anybody."""
    curation = curate("bids", root=folder)
    if len(curation.excluded):
        raise ValueError(f"the phantom's own files were not all indexed: {curation.excluded.iloc[0].to_dict()}")
    write_manifest(curation.table, manifest, root=folder)
    sidecar = manifest.with_suffix(".json")
    atomic_write_json(sidecar, json.loads(sidecar.read_text()) | {"PhantomVersion": VERSION})
