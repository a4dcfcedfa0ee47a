"""The card of a model: what it is, who it learned from, how good it is, and what it must not be used for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_lib.model_folder import ModelConfig, Site

NOT_FOR_DIAGNOSIS = "Research only: not a medical device, and not for diagnosis."
LIMITS = (
    "A generative network can add or remove structure. Judge its output with the change map, and never read a lesion "
    "off it.",
    "Where sites differ in who was scanned (age, disease), some of what the model calls site is biology, and is "
    "changed with it (Cohen, Luck and Honari 2018).",
    "A site, sequence or pathology unlike those above was never seen. The source site need not be known, which does "
    "not mean that any source is handled equally well.",
    "It sees slices of the grid above. Detail finer than that grid is taken over from the input, not translated.",
    "Slices with little brain are not translated by the networks: they change as the slices next to them do.",
)


@dataclass(frozen=True)
class CardFacts:
    """What only training knows. Cohorts that are simulated say so in their name: "phantom"."""

    cohort: str
    numbers: Mapping[str, float] = field(default_factory=dict)  # results, and on which people
    measured_on: str = ""
    profile: str = ""
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.cohort:
            raise ValueError("CardFacts.cohort: expected the name of the training data, such as 'phantom'; got ''")


def model_card(config: "ModelConfig", facts: CardFacts) -> str:
    """The card as Markdown."""
    parts = ["# MR harmonisation model\n", f"**{NOT_FOR_DIAGNOSIS}**\n", _origin(facts)]
    parts += [_use(config), "## Training sites\n", _sites(config.sites), "## Model\n", _model(config)]
    if facts.numbers:
        parts += ["## Results\n", _numbers(facts)]
    limits = "\n".join(f"- {line}" for line in (*LIMITS, *facts.remarks))
    return "\n".join([*parts, "## Limits\n", limits]) + "\n"


def _origin(facts: CardFacts) -> str:
    profile = f" (profile `{facts.profile}`)" if facts.profile else ""
    text = "One generator translates T1-weighted brain MRI between all sites below.\n\n"
    text += f"Training cohort: {facts.cohort}{profile}.\n"
    if "phantom" in facts.cohort.lower():
        text += (
            "\n**The cohort is a phantom: simulated heads, no images of people.** The model shows how the method "
            "behaves where the truth is known, and is of no use on images of people.\n"
        )
    return text


def _use(config: "ModelConfig") -> str:
    target = config.sites[0].name
    return f"""## Use

```
gan-harmonize IN.nii.gz OUT.nii.gz --model THIS_FOLDER --target {target} --mask BRAIN_MASK.nii.gz
```

Input: one T1-weighted volume, skull-stripped or with its brain mask, on any grid. Output: float32 on the grid of the
input, in the study's normalised units [0, 1], 0 outside the brain. It is no longer in the scanner's units.
"""


def _sites(sites: "tuple[Site, ...]") -> str:
    names = list(dict.fromkeys(name for site in sites for name in site.scanner))
    rows = [["site", "training subjects", *(name.replace("_", " ") for name in names)]]
    rows += [[site.name, str(site.subjects), *(_cell(site.scanner.get(name)) for name in names)] for site in sites]
    return _table(rows)


def _model(config: "ModelConfig") -> str:
    networks = config.networks
    spacing = " x ".join(f"{size:g}" for size in config.grid.spacing_mm)
    residual = "added to its input" if networks.residual else "taken as it is"
    return f"""- Iterations: {config.iterations}
- Slices: {", ".join(config.views)}, {networks.size[0]} x {networks.size[1]}, of a grid of {spacing} mm
- Intensities: {type(config.normaliser).__name__} (`normaliser.json`)
- Generator: width {networks.width}, cap {networks.cap}; its output is {residual}
- Style: {networks.style} numbers per volume; a target site's is the mean over its training volumes (`sites.json`)
"""


def _numbers(facts: CardFacts) -> str:
    on = f"Measured on {facts.measured_on} (cohort: {facts.cohort}).\n\n" if facts.measured_on else ""
    return on + _table([["metric", "value"], *([name, f"{value:.4g}"] for name, value in facts.numbers.items())])


def _table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def _cell(value: str | float | None) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
