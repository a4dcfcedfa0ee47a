"""The exhibits of the two studies, in the order of the papers, and which of ours stand beside each.

Ours are named as they lie under `outputs/<profile>/`, without the ending: `05_cortical_radius/tables/errors`;
`*` stands for any letters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from study_lib import papers
from study_lib.workflow.comparisons import Comparison, cinp_gains, cortical_radius, protocol_classification


@dataclass(frozen=True)
class PaperExhibit:
    """One table or figure of a study: what it printed, as far as that is known, and what we show for it."""

    name: str
    title: str
    notebooks: tuple[str, ...]  # that answer it
    ours: tuple[str, ...]
    note: str = ""  # what is known of the paper's own
    printed: Callable[[], pd.DataFrame] | None = None
    comparison: Comparison | None = None  # the paper's numbers and ours, in columns of their own

    @property
    def heading(self) -> str:
        """ "Table 2: who is diagnosed"."""
        return f"{self.name}: {self.title}" if self.name else self.title


@dataclass(frozen=True)
class PaperStudy:
    """A study and its exhibits."""

    key: str
    title: str
    source: str
    exhibits: tuple[PaperExhibit, ...]


PICTURES = "The study's own pictures are not ours to show."
CINP = PaperStudy(
    "cinp",
    "Study 1: CINP, contrastive image-network pre-training",
    papers.CINP,
    (
        PaperExhibit(
            "Table 1", "the data sets", ("01_data_curation",), ("01_data_curation/tables/table_one",),
            "Of the paper's sizes, only the number of pre-training pairs is known.", papers.cinp_data_sets,
        ),
        PaperExhibit(
            "Fig. 1", "from images and networks to one space", ("02_fcn_construction", "07_cinp_pretraining"),
            ("02_fcn_construction/figures/one_subject", "02_fcn_construction/figures/mean_network", "07_*/figures/*"),
            "The paper draws the method here and states no number.",
        ),
        PaperExhibit(
            "Table 2", "diagnosis beside baselines", ("08_linear_probing",), ("08_*",),
            "The paper's absolute accuracies are not known, only the gain over the best model on structural MRI. "
            "On ABIDE a model on networks (BNT) was better than CINP.",
            comparison=cinp_gains,
        ),
        PaperExhibit(
            "Fig. 2 and Table 3", "network prompting", ("09_network_prompting",), ("09_*",),
            "The paper's values are not known. 10 % of the networks were used in its evaluation.",
        ),
        PaperExhibit(
            "Table 4", "which loss does the work", ("10_loss_ablation",), ("10_*",),
            "The paper's values are not known.",
        ),
        PaperExhibit(
            "", "Which regions and connections matter", ("11_attribution",), ("11_*",),
            "Not in the paper: its reviewers asked for it.",
        ),
    ),
)  # fmt: skip
HARMONISATION = PaperStudy(
    "harmonisation",
    "Study 2: Multi Harmonization GAN",
    papers.HARMONISATION,
    (
        PaperExhibit(
            "", "The data of four institutions", ("01_data_curation",),
            ("01_data_curation/tables/scanners", "01_data_curation/figures/montage"),
            printed=papers.harmonisation_sites,
        ),
        PaperExhibit(
            "", "Source-to-reference harmonisation", ("03_gan_harmonization",),
            ("03_gan_harmonization/figures/source_to_reference",), PICTURES,
        ),
        PaperExhibit(
            "", "Harmonisation per institution, with SSIM and LPIPS", ("03_gan_harmonization", "04_image_quality"),
            (
                "03_gan_harmonization/figures/institutions", "04_image_quality/figures/institutions",
                "04_image_quality/tables/institutions", "04_image_quality/tables/lpips",
            ),
            "The study's scores are not known.",
        ),
        PaperExhibit(
            "", "Cycle-consistency transfer", ("03_gan_harmonization",), ("03_gan_harmonization/figures/cycle",),
            PICTURES,
        ),
        PaperExhibit(
            "", "Siemens to GE: slices and surface", ("05_cortical_radius",),
            ("05_cortical_radius/figures/slices_gmc_to_adni", "05_cortical_radius/figures/surface_gmc_to_adni"),
            PICTURES,
        ),
        PaperExhibit(
            "", "GE to Philips: slices", ("05_cortical_radius",),
            ("05_cortical_radius/figures/slices_adni_to_smc",), PICTURES,
        ),
        PaperExhibit(
            "Table 8", "cortical radius correlation", ("05_cortical_radius",),
            ("05_cortical_radius/figures/agreement", "05_cortical_radius/tables/limits_of_agreement"),
            "The study announces it; its content is not known. Ours is the "
            "correlation of source and transferred radius.",
        ),
        PaperExhibit(
            "", "Cortical radius maintenance", ("05_cortical_radius",),
            ("05_cortical_radius/tables/table_2", "05_cortical_radius/figures/errors"),
            "Mean per hemisphere, in mm. Near the source: kept. Near the target: harmonised. The two pull apart.",
            comparison=cortical_radius,
        ),
        PaperExhibit(
            "", "Protocol classification", ("06_site_classification",),
            ("06_site_classification/figures/pairs", "06_site_classification/tables/pairs"),
            "Accuracy in percent; chance is 50. The paper does not say whether its classifier was trained anew after "
            "harmonisation: frozen is the easy test, fresh the strict one.",
            comparison=protocol_classification,
        ),
    ),
)  # fmt: skip
STUDIES = (CINP, HARMONISATION)
