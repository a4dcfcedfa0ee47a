"""How large the phantom is, per profile, and what identifies its files. Quick to import: the workflow asks often."""

import json
from dataclasses import asdict, dataclass, replace

VERSION = "1.0"
"""Goes up, with the reason in README.md, whenever the same seed gives other files."""


@dataclass(frozen=True)
class CohortSpec:
    """How large the phantom is and how its anatomy and networks hang together."""

    per_site: int = 8
    travelling: int = 4
    pretraining: int = 40
    per_task: int = 24
    bold_per_cohort: int = 1  # of the four cohorts with function; the others get region series
    n_volumes: int = 240
    paired_resolution: float = 1.5  # voxels of the image-network cohorts are so many times as wide
    # Correlation of the traits behind anatomy with those behind the network. Not 1, or the two together would give
    # diagnosis away. 0: the negative control, which holds the image-network cohorts only, balanced.
    coupling: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.coupling <= 1:
            raise ValueError(f"coupling: expected a number from 0 to 1, got {self.coupling}")
        negative = [name for name, value in asdict(self).items() if value < 0]
        if negative:
            raise ValueError(f"{', '.join(negative)}: expected 0 or more")


SPECS = {
    "smoke": CohortSpec(n_volumes=160),
    # More pairs than the least that would do: intervals of differences between methods need the subjects.
    "demo": CohortSpec(per_site=48, travelling=8, pretraining=800, per_task=300, bold_per_cohort=4),
}


def spec_for(profile: str, **changes) -> CohortSpec:
    """The cohort of a profile, with named changes such as `coupling=0` or `seed=1`."""
    if profile not in SPECS:
        known = ", ".join(SPECS)
        raise ValueError(f"profile {profile!r} has no phantom ({known} have one): give a manifest of real data")
    return replace(SPECS[profile], **changes)


def version_key(spec: CohortSpec) -> str:
    """What identifies the files: the phantom's version and every number of its size."""
    return json.dumps({"version": VERSION, **asdict(spec)}, sort_keys=True)
