"""Tables that the two studies print: set beside our numbers, never mixed with them."""

import pandas as pd

HARMONISATION = (
    "Jeong: MR image harmonization based on cross-center style transfer using deep generative adversarial network "
    "(abstract, AAIC 2022)"
)
CINP = (
    "Hu, Wang, Xiao: Learning 3D Medical Image Models From Brain Functional Connectivity Network Supervision For "
    "Mental Disorder Diagnosis (MICCAI 2025)"
)


def harmonisation_sites() -> pd.DataFrame:
    """The data table of the harmonisation study."""
    columns = ["database", "subjects", "scanner", "field_strength_t", "technique", "echo_time_ms", "repetition_time_ms"]
    rows = [
        ("Samsung Medical Center (SMC)", 2804, "Philips", 3.0, "TFE", "4.6", "9.9"),
        ("ADNI", 4977, "GE", 1.5, "MPRAGE", "3.8-4.1", "8.6-10.4"),
        ("Gangnam Severance Hospital (GSEV)", 256, "GE", 1.5, "MPRAGE", "3.8-4.1", "8.6-10.4"),
        ("Gachon University Gil Medical Center (GMC)", 96, "Siemens", 3.0, "MPRAGE", "2.9", "1900"),
    ]
    return pd.DataFrame(rows, columns=columns)


def cinp_data_sets() -> pd.DataFrame:
    """The data sets of CINP; of their sizes only the number of pre-training pairs is known."""
    rows = [
        ("pre-training", "HBN, HCP, QTIM, CNP", "4619 T1-FCN pairs"),
        ("evaluation", "ABIDE", "autism or control"),
        ("evaluation", "ADHD-200", "ADHD or control"),
        ("evaluation", "SRPBS", "several disorders"),
    ]
    return pd.DataFrame(rows, columns=["use", "data_sets", "content"])


def cortical_radius() -> pd.DataFrame:
    """Mean cortical radius per hemisphere in mm."""
    rows = [
        ("Siemens to GE", "left", 2.1635, 1.9826, 2.0178),
        ("Siemens to GE", "right", 2.2065, 1.9947, 1.9843),
        ("GE to Philips", "left", 1.2382, 1.2486, 1.2637),
        ("GE to Philips", "right", 1.1737, 1.1864, 1.1872),
    ]
    return pd.DataFrame(rows, columns=["pair", "hemisphere", "source_mm", "target_mm", "transferred_mm"])


def protocol_classification() -> pd.DataFrame:
    """Accuracy of ResNet-50 in percent before and after harmonisation; chance is 50."""
    rows = [
        ("ADNI, GMC", 96.5299, 66.6666),
        ("ADNI, SMC", 91.2000, 64.3533),
        ("ADNI, GSEV", 94.6969, 69.0851),
        ("GSEV, GMC", 83.4595, 61.5141),
        ("SMC, GSEV", 88.1944, 55.8159),
        ("SMC, GMC", 87.8472, 57.8914),
        ("Mean", 90.3213, 62.5544),
    ]
    return pd.DataFrame(rows, columns=["pair", "before_percent", "after_percent"])


def cinp_gains() -> pd.DataFrame:
    """By how many points of accuracy CINP beats the best sMRI-based model."""
    rows = [("ABIDE", 1.46), ("ADHD-200", 1.26), ("SRPBS", 1.21)]
    return pd.DataFrame(rows, columns=["data_set", "points"])


def cinp_prompting() -> pd.DataFrame:
    """What is known of network prompting in CINP and its ablation (Table 3); its accuracies are not."""
    rows = [
        ("reference networks used in the evaluation", "10 % of each class"),
        ("number of subsets r, networks n of a class", "not known"),
        ("accuracies of Table 3", "not known"),
        ("draws of references", "not known"),
    ]
    return pd.DataFrame(rows, columns=["setting", "value"])


def cinp_loss_ablation() -> pd.DataFrame:
    """What is known of CINP's loss ablation (Table 4); its accuracies are not."""
    rows = [
        ("losses switched on and off", "INC, MIM, INM"),
        ("weights of MIM and INM", "alpha = beta = 1"),
        ("which combinations, and their accuracies", "not known"),
        ("pairs shuffled as a control", "asked for by reviewers"),
    ]
    return pd.DataFrame(rows, columns=["setting", "value"])
