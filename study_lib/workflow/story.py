"""The notebooks in the order of the story: what each asks, what it reads, how long it takes.

A notebook joins by one entry in `STORY`; the workflow, the report and the command line read it from here.
"""

import importlib
from dataclasses import dataclass, field
from pathlib import Path

from study_lib.provenance import REPOSITORY
from study_lib.workflow.grid import Grid

COHORT = "cohort"


@dataclass(frozen=True)
class Notebook:
    """One notebook: `needs` names other notebooks of the story, or `COHORT` for the manifest of scans."""

    name: str
    title: str
    question: str
    needs: tuple[str, ...] = ()
    minutes: dict[str, float] = field(default_factory=dict, hash=False)  # by profile, on 2 cores
    all_cores: bool = False  # notebooks that train take every core, one at a time
    grid: Grid | None = None  # jobs that come before the notebook, which reads their results

    @property
    def number(self) -> str:
        """The two digits that the name begins with: "03"."""
        return self.name.split("_")[0]

    def cell_timeout(self, profile: str) -> int | None:
        """Seconds after which one cell counts as stuck: ten times the whole notebook; never where unknown."""
        minutes = self.minutes.get(profile)
        return None if minutes is None else max(600, round(600 * minutes))


@dataclass(frozen=True)
class Story:
    """Notebooks in order, and the folder they lie in."""

    folder: Path
    notebooks: tuple[Notebook, ...]

    def __post_init__(self) -> None:
        known = {COHORT}
        for notebook in self.notebooks:
            unknown = sorted(set(notebook.needs) - known)
            if unknown:
                raise ValueError(f"story: {notebook.name} needs {unknown}; before it are {sorted(known)}")
            known.add(notebook.name)

    def path(self, notebook: Notebook) -> Path:
        """Where the notebook's source lies."""
        return self.folder / f"{notebook.name}.ipynb"

    def numbered(self, number: str) -> Notebook:
        """The notebook with this number ("03", "3") or this name."""
        for notebook in self.notebooks:
            if number in (notebook.number, notebook.name) or number.zfill(2) == notebook.number:
                return notebook
        known = ", ".join(notebook.number for notebook in self.notebooks)
        raise ValueError(f"notebook: expected one of {known}; got {number!r}")

    def until(self, number: str | None) -> tuple[Notebook, ...]:
        """The notebooks up to and including this number; all of them for None."""
        if number is None:
            return self.notebooks
        return self.notebooks[: self.notebooks.index(self.numbered(number)) + 1]


STORY = Story(
    folder=REPOSITORY / "notebooks",
    notebooks=(
        Notebook(
            name="01_data_curation",
            title="Data curation",
            question="Who is in the study, and is every file what it claims to be?",
            needs=(COHORT,),
            minutes={"smoke": 0.5, "demo": 2},
        ),
        Notebook(
            name="02_fcn_construction",
            title="Functional networks",
            question="What does each subject's functional network look like?",
            needs=(COHORT, "01_data_curation"),
            minutes={"smoke": 0.5, "demo": 2},
        ),
        Notebook(
            name="03_gan_harmonization",
            title="GAN harmonisation",
            question="Can one model translate between all sites, volume by volume?",
            needs=(COHORT, "01_data_curation"),
            minutes={"smoke": 2, "demo": 18},
            all_cores=True,
        ),
        Notebook(
            name="04_image_quality",
            title="Image quality",
            question="Is the translated image close to the truth?",
            needs=(COHORT, "01_data_curation", "03_gan_harmonization"),
            minutes={"smoke": 1, "demo": 4},
            all_cores=True,
        ),
        Notebook(
            name="05_cortical_radius",
            title="Cortical radius",
            question="Is the anatomy kept?",
            needs=(COHORT, "01_data_curation", "03_gan_harmonization", "04_image_quality"),
            minutes={"smoke": 5, "demo": 8},
            all_cores=True,
        ),
        Notebook(
            name="06_site_classification",
            title="Site classification",
            question="Can a ResNet-50 still tell the protocol?",
            needs=(COHORT, "01_data_curation", "03_gan_harmonization", "04_image_quality"),
            minutes={"smoke": 2, "demo": 15},
            all_cores=True,
        ),
        Notebook(
            name="07_cinp_pretraining",
            title="CINP pre-training",
            question="Do images learn from networks?",
            needs=(COHORT, "01_data_curation", "02_fcn_construction"),
            minutes={"smoke": 1, "demo": 6},
            all_cores=True,
        ),
        Notebook(
            name="08_linear_probing",
            title="Linear probing",
            question="What do frozen embeddings know about diagnosis?",
            needs=(COHORT, "03_gan_harmonization", "07_cinp_pretraining"),
            minutes={"smoke": 1, "demo": 6},
            all_cores=True,
        ),
        Notebook(
            name="09_network_prompting",
            title="Network prompting",
            question="Can a T1 and a few reference networks diagnose?",
            needs=(COHORT, "07_cinp_pretraining"),
            minutes={"smoke": 1, "demo": 2},
            all_cores=True,
        ),
        Notebook(
            name="10_loss_ablation",
            title="Loss ablation",
            question="Which loss does the work, and is it the pairing?",
            needs=(COHORT, "07_cinp_pretraining"),
            minutes={"smoke": 1, "demo": 13},
            all_cores=True,
            grid=Grid(
                command="cinp_lib.ablate_command --variant {variant} --seed {seed} --preset {profile}"
                " --pretraining 07_cinp_pretraining --out 10_loss_ablation/variants",
                result="variants/{variant}-{seed}.json",
                variants=("inc_mim_inm", "inc_mim", "inc_inm", "inc", "mim", "shuffled_pairs", "uncoupled"),
                phantom_only=("uncoupled",),
                longest=("uncoupled",),  # makes a cohort of its own
                options=("share", "device"),
            ),
        ),
        Notebook(
            name="11_attribution",
            title="Attribution",
            question="Which regions and connections carry the decision?",
            needs=(COHORT, "07_cinp_pretraining"),
            minutes={"smoke": 1, "demo": 2},
            all_cores=True,
        ),
    ),
)
COHORT_MINUTES = {"smoke": 1, "demo": 5}


def load_story(reference: str) -> Story:
    """The story at "module:name"; tests tell shorter stories than ours."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
