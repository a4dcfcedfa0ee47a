"""Named ways to remove confounds, each with its paper and every threshold; nothing is left to a library's default."""

from dataclasses import dataclass
from typing import Literal

Expansion = Literal["basic", "derivatives", "power2", "full"]


@dataclass(frozen=True)
class ConfoundStrategy:
    """Which columns of fMRIPrep's table are regressed out, and which volumes are dropped.

    `motion`, `wm_csf`, `global_signal`: basic = the signals, derivatives = and their changes, power2 = and their
    squares, full = all of these; None = not used. Volumes before the steady state are always dropped.
    """

    name: str
    paper: str
    motion: Expansion | None = None
    wm_csf: Expansion | None = None
    global_signal: Expansion | None = None
    n_compcor: int = 0  # components of white matter and as many of CSF
    high_pass: bool = True  # fMRIPrep's cosines (128 s); CompCor was estimated beside them
    scrub: bool = False
    fd_threshold_mm: float = 0.5  # fMRIPrep's limits for motion outliers
    std_dvars_threshold: float = 1.5
    shortest_segment: int = 5  # kept volumes between dropped ones, below which they are dropped too
    low_pass_hz: float | None = None

    @property
    def components(self) -> tuple[str, ...]:
        """The parts in nilearn's words."""
        used = {
            "high_pass": self.high_pass,
            "motion": self.motion,
            "wm_csf": self.wm_csf,
            "global_signal": self.global_signal,
            "compcor": self.n_compcor,
            "scrub": self.scrub,
        }
        return tuple(name for name, value in used.items() if value)

    @property
    def removes_nothing(self) -> bool:
        """Whether series stay as they are, but for the volumes before the steady state."""
        return not self.components and self.low_pass_hz is None


_ALL = (
    ConfoundStrategy("none", "no confound removal, for comparison only", high_pass=False),
    ConfoundStrategy("minimal", "Fox et al. 2005, PNAS 102:9673", motion="basic", wm_csf="basic"),
    ConfoundStrategy(
        "24p_acompcor",
        "Friston et al. 1996, MRM 35:346; Behzadi et al. 2007, NeuroImage 37:90",
        motion="full",
        n_compcor=5,
    ),
    ConfoundStrategy(
        "24p_acompcor_scrub",
        "24P+aCompCor of Parkes et al. 2018, NeuroImage 171:415; scrubbing: Power et al. 2014, NeuroImage 84:320",
        motion="full",
        n_compcor=5,
        scrub=True,
    ),
    ConfoundStrategy(
        "36p",
        "Satterthwaite et al. 2013, NeuroImage 64:240; Ciric et al. 2017, NeuroImage 154:174",
        motion="full",
        wm_csf="full",
        global_signal="full",
    ),
    ConfoundStrategy(
        "36p_scrub",
        "Satterthwaite et al. 2013, NeuroImage 64:240; scrubbing: Power et al. 2014, NeuroImage 84:320",
        motion="full",
        wm_csf="full",
        global_signal="full",
        scrub=True,
    ),
    ConfoundStrategy(
        "36p_scrub_strict",
        "as 36p_scrub, with the 0.2 mm of Power et al. 2014 and the low-pass of Satterthwaite et al. 2013",
        motion="full",
        wm_csf="full",
        global_signal="full",
        scrub=True,
        fd_threshold_mm=0.2,
        low_pass_hz=0.08,
    ),
)
STRATEGIES: dict[str, ConfoundStrategy] = {strategy.name: strategy for strategy in _ALL}
DEFAULT_STRATEGY = "24p_acompcor_scrub"
"""Our choice: the study does not name one. It needs no global signal, whose removal moves every edge."""


def strategy_of(strategy: "str | ConfoundStrategy") -> ConfoundStrategy:
    """The strategy of that name, or the given one."""
    if isinstance(strategy, ConfoundStrategy):
        return strategy
    if strategy not in STRATEGIES:
        raise KeyError(f"confound strategy: expected one of {', '.join(STRATEGIES)}, got {strategy!r}")
    return STRATEGIES[strategy]
