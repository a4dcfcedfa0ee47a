"""Every state of the scans that is attacked: as they are, harmonised, and as the baselines leave them; made once."""

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from gan_lib.baseline_fits import Fits
from gan_lib.harmonize import Harmonizer
from gan_lib.site_classifier.examples import Method, SiteSlices, SliceChoice, gather, visits_of
from gan_lib.slices.pieces import digest_of, piece_key
from gan_lib.travelling import by_target
from study_lib.files import atomic_write_text
from study_lib.manifest import Manifest

BEFORE = "before"


def after(site: str) -> str:
    """The name of the state in which all scans, the site's own too, have the style of that site."""
    return f"after {site}"


def gather_states(
    folder: str | Path,
    cohort: Manifest,
    rows: pd.DataFrame,
    harmonizer: Harmonizer,
    states: Mapping[str, Method],
    choice: SliceChoice,
    n_jobs: int = 1,
) -> dict[str, SiteSlices]:
    """`examples.gather` on the grid and box of a model; what was made of the same scans and model is read again.

    A folder holds the states of one choice of target: baselines are known by their names alone.
    """
    folder, model, config = Path(folder), harmonizer.model, harmonizer.model.config
    files = {name: folder / f"{name.replace(' ', '_')}.npz" for name in states}
    scans = [piece_key(cohort, row, config.grid, config.normaliser) for _, row in rows.iterrows()]
    content = [scans, rows["role"].tolist(), model.checksum, repr(choice), list(states)]
    stamp = folder / "made_from.json"
    if not (stamp.is_file() and json.loads(stamp.read_text()) == digest_of(content)):
        stamp.unlink(missing_ok=True)
        visits = visits_of(cohort, rows, config.grid, config.normaliser, n_jobs)
        box = next(iter(config.views.values())).box
        for name, slices in gather(visits, states, box, choice).items():
            slices.check().save(files[name])
        atomic_write_text(stamp, json.dumps(digest_of(content)))
    return {name: SiteSlices.load(path) for name, path in files.items()}


def harmonised_states(harmonizer: Harmonizer, targets: Iterable[str]) -> dict[str, Method]:
    """The scans as they are, and in the style of each target."""
    states: dict[str, Method] = {BEFORE: lambda visit: visit.volume}
    for target in targets:
        states[after(target)] = _translated(harmonizer, target)
    return states


def baseline_states(fits: Fits, target: str) -> dict[str, Method]:
    """The scans as every baseline takes them to a target."""
    return {name: partial(by_target(own), target=target) for name, own in fits.items()}


def _translated(harmonizer: Harmonizer, target: str) -> Method:
    style = harmonizer.style(target)
    return lambda visit: harmonizer.translate_prepared(visit.volume, visit.mask, style)
