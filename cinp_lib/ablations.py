"""Table 4 and its controls: the same pre-training without some of its losses, with exchanged pairs, without coupling.

Every variant trains for one share of the profile's iterations, the same for all, and is judged as notebook 09 judges:
prompting with networks of training people, the number of subsets chosen on validation people.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cinp_lib import presets, prompt_study
from cinp_lib.losses import LossWeights
from cinp_lib.pairs import PairConfig
from cinp_lib.pretraining_state import PretrainingConfig
from cinp_lib.prompt_study import PromptPlan
from study_lib.phantom.spec import CohortSpec, spec_for

Pairs = Literal["own", "shuffled", "uncoupled"]


@dataclass(frozen=True)
class Variant:
    """Which losses count (weights of INC, MIM and INM), and whose networks the images are paired with."""

    words: str
    weights: LossWeights
    pairs: Pairs = "own"  # or exchanged within sites; or of a phantom whose images and networks are unconnected


VARIANTS = {
    "inc_mim_inm": Variant("INC + MIM + INM", LossWeights()),
    "inc_mim": Variant("INC + MIM", LossWeights(matching=0.0)),
    "inc_inm": Variant("INC + INM", LossWeights(reconstruction=0.0)),
    "inc": Variant("INC", LossWeights(reconstruction=0.0, matching=0.0)),
    # Nothing aligns components, so it has none, and its network encoder never learns: what prompting gives is that of
    # random projections of networks.
    "mim": Variant("MIM", LossWeights(contrastive=0.0, matching=0.0)),
    "shuffled_pairs": Variant("all, pairs shuffled within site", LossWeights(), "shuffled"),
    "uncoupled": Variant("all, coupling off", LossWeights(), "uncoupled"),
}
WHOLE = "inc_mim_inm"
CONTROLS = ("shuffled_pairs", "uncoupled")


@dataclass(frozen=True)
class AblationPlan:
    """How long variants train, how they are judged, and the size of the uncoupled phantom (None: without it)."""

    training: PretrainingConfig
    pairs: PairConfig
    prompting: PromptPlan
    share: float  # of the iterations of pre-training, for every variant
    uncoupled: CohortSpec | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"AblationPlan.share: expected a number above 0, at most 1, got {self.share}")

    @property
    def iterations(self) -> int:
        """Of every variant."""
        return max(1, round(self.share * self.training.iterations))

    @property
    def variants(self) -> tuple[str, ...]:
        """Those that can be made with this plan."""
        return tuple(n for n, v in VARIANTS.items() if v.pairs != "uncoupled" or self.uncoupled is not None)

    def config(self, name: str, seed: int) -> PretrainingConfig:
        """The settings of a variant: the whole schedule of pre-training, run through faster."""
        training, weights = self.training, variant(name).weights
        shortened = {"iterations": self.iterations, "warm_up": round(self.share * training.warm_up)}
        training = training if weights.contrastive else training.without_components
        return replace(training, objective=replace(training.objective, weights=weights), seed=seed, **shortened)

    def content(self, name: str, seed: int) -> dict[str, Any]:
        """All settings that the outcome of a variant depends on, as JSON takes them."""
        content = {"training": self.config(name, seed).plain(), "prompting": asdict(self.prompting)}
        if variant(name).pairs == "uncoupled":
            content |= {"pairs": self.pairs.content(), "cohort": asdict(self.uncoupled)}
        return content


def variant(name: str) -> Variant:
    """The variant of a name."""
    if name not in VARIANTS:
        raise KeyError(f"variant: expected one of {', '.join(VARIANTS)}, got {name!r}")
    return VARIANTS[name]


# Half as many people for each task as the cohort has: the control takes minutes, and need not tell methods apart.
_UNCOUPLED: Mapping[str, Mapping[str, int]] = {
    "smoke": {"pretraining": 28, "per_task": 24},
    "demo": {"pretraining": 800, "per_task": 152},
}
_SHARES = {"smoke": 0.2, "demo": 0.35, "paper": 1.0}  # in `demo` what thirteen minutes on two cores allow


def plan_for(profile: str, share: float = 0.0, image_weights: str = "") -> AblationPlan:
    """The plan of a profile; `share` 0 takes the profile's own. `image_weights`: those that pre-training began with."""
    chosen, uncoupled = presets.preset(profile), None
    if profile in _UNCOUPLED:
        alone = {"per_site": 0, "travelling": 0, "bold_per_cohort": 0, "coupling": 0.0}
        uncoupled = spec_for(profile, **alone, **_UNCOUPLED[profile])
    own = prompt_study.PLANS[profile].headline
    training = replace(chosen.training, image_weights=image_weights)
    return AblationPlan(training, chosen.pairs, own, share or _SHARES[profile], uncoupled)
