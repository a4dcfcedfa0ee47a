"""What each notebook asks of a cluster's scheduler: graphics cards, memory, time, cores.

A site overrules any of it in `workflow/profiles/slurm/config.yaml` (`set-resources`, `set-threads`).
"""

from dataclasses import dataclass

from study_lib.workflow.story import Notebook


@dataclass(frozen=True)
class Resources:
    """Of one job; `hours` is the time limit, after which the job goes back into the queue and goes on."""

    cores: int = 4
    memory_gb: int = 8  # the phantom's notebooks stay under 6 GiB
    hours: float = 2
    gpus: int = 0

    def for_snakemake(self) -> dict[str, int]:
        """The same in the words of Snakemake; no card is asked for by not asking."""
        plain = {"mem_mb": 1000 * self.memory_gb, "runtime": round(60 * self.hours)}
        return plain | ({"gpu": self.gpus} if self.gpus else {})


COHORT = Resources(memory_gb=8, hours=2)
PAPER = {  # our estimates, not yet met with real cohorts of thousands of scans
    "01_data_curation": Resources(cores=16, memory_gb=32, hours=12),
    "02_fcn_construction": Resources(cores=16, memory_gb=64, hours=24),
    "03_gan_harmonization": Resources(cores=8, memory_gb=64, hours=24, gpus=1),
    "04_image_quality": Resources(cores=8, memory_gb=32, hours=6, gpus=1),
    "05_cortical_radius": Resources(cores=16, memory_gb=32, hours=12, gpus=1),
    "06_site_classification": Resources(cores=8, memory_gb=32, hours=24, gpus=1),
    "07_cinp_pretraining": Resources(cores=16, memory_gb=128, hours=48, gpus=1),
    "08_linear_probing": Resources(cores=8, memory_gb=64, hours=24, gpus=1),
    "09_network_prompting": Resources(cores=8, memory_gb=32, hours=4),
    "10_loss_ablation": Resources(cores=16, memory_gb=128, hours=48, gpus=1),
    "11_attribution": Resources(cores=8, memory_gb=64, hours=12, gpus=1),
}


def resources_of(notebook: Notebook, profile: str) -> Resources:
    """The phantom needs no graphics card and little memory; real cohorts have a table of their own."""
    return PAPER.get(notebook.name, Resources(memory_gb=32, hours=24)) if profile == "paper" else Resources()
