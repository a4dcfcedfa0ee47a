"""What notebook 08 runs, per profile."""

from dataclasses import dataclass, field

from cinp_lib.baselines.bnt import BntConfig
from cinp_lib.baselines.classifier_training import ClassifierConfig
from cinp_lib.baselines.cnn import CnnConfig
from cinp_lib.network_encoder import NetworkEncoderConfig
from cinp_lib.probing import ProbeConfig
from study_lib.profiles import check_profile
from study_lib.statistics import BootstrapSettings


@dataclass(frozen=True)
class ProbingPlan:
    """Repeats of 7:2:1 for what is linear, and for what is trained by gradient: the first of the same ones."""

    repeats: int = 20  # so that nearly everybody is tested; those of notebook 09
    deep_repeats: int = 4
    # Pre-training with masked images alone: as many masked images as notebook 07 has seen.
    masked_iterations: int = 200
    masked_batch: int = 16
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    bnt: BntConfig = field(default_factory=BntConfig)
    cnn: CnnConfig = field(default_factory=CnnConfig)
    fine_tuning: ClassifierConfig = field(default_factory=lambda: ClassifierConfig(20, 5, learning_rate=1e-4))
    permutations: int = 40
    permutation_repeats: int = 2
    harmonised_task: str = "abide"
    harmonised_people: int = 10  # of each diagnosis at each site
    bootstrap: BootstrapSettings = field(default_factory=BootstrapSettings)


# Narrower than its authors' own, as there are few people to learn from.
SMALL_BNT = NetworkEncoderConfig(hidden=128, clusters=32, embedding=256)
SHORT = ClassifierConfig(epochs=1)

PLANS = {
    # Nothing is learned in so few steps; it shows that everything runs.
    "smoke": ProbingPlan(
        repeats=3,
        deep_repeats=2,
        masked_iterations=2,
        bnt=BntConfig(SMALL_BNT, SHORT),
        cnn=CnnConfig(training=SHORT),
        fine_tuning=SHORT,
        permutations=3,
        permutation_repeats=1,
        harmonised_people=3,
        bootstrap=BootstrapSettings(draws=200),
    ),
    "demo": ProbingPlan(bnt=BntConfig(SMALL_BNT)),
    "paper": ProbingPlan(
        repeats=50,
        deep_repeats=50,
        masked_iterations=1600,
        masked_batch=256,
        bnt=BntConfig(training=ClassifierConfig(200, 20, learning_rate=1e-4, device="auto")),
        cnn=CnnConfig((16, 32, 64, 128), training=ClassifierConfig(200, 20, device="auto")),
        fine_tuning=ClassifierConfig(50, 10, learning_rate=1e-5, device="auto"),
        permutations=1000,
        permutation_repeats=5,
        harmonised_people=10_000,  # everybody
    ),
}


def plan_for(profile: str) -> ProbingPlan:
    """The plan of a profile."""
    return PLANS[check_profile(profile)]
