"""How hard the attackers try, per profile. The study names a ResNet-50 on pairs of protocols; the rest is our own."""

from dataclasses import dataclass, field

from gan_lib.baseline_fits import LEARNING
from gan_lib.site_classifier.examples import SliceChoice
from gan_lib.site_classifier.planting import Mark
from gan_lib.site_classifier.training import ClassifierConfig
from study_lib.profiles import check_profile


@dataclass(frozen=True)
class AttackPlan:
    """What notebook 06 runs. One seed each for the baselines, the planted mark and the attack against real scans."""

    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    choice: SliceChoice = field(default_factory=SliceChoice)
    mark: Mark = field(default_factory=Mark)
    n_seeds: int = 2
    pairs_apart: bool = False  # else a pair's accuracy is read from its two logits of one classifier of all sites
    all_targets: bool = False  # against real scans of every site, not of the target only
    baselines: tuple[str, ...] = LEARNING


PLANS = {
    # Nothing is learned in so few steps; it shows that everything runs.
    "smoke": AttackPlan(
        classifier=ClassifierConfig(steps=4, batch=8, validate_every=2, calibration=1),
        choice=SliceChoice(step=12),
        n_seeds=1,
    ),
    "demo": AttackPlan(),
    "paper": AttackPlan(
        classifier=ClassifierConfig(steps=20_000, batch=64, detail=False, shift=8, validate_every=500, patience=10),
        pairs_apart=True,
        all_targets=True,
    ),
}


def plan_for(profile: str) -> AttackPlan:
    """The plan of a profile."""
    return PLANS[check_profile(profile)]
