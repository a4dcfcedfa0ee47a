"""The 116 regions of AAL in the order of its codes (Tzourio-Mazoyer et al. 2002, NeuroImage 15:273)."""

# code of the left region and the name of the pair; the right one has the next code
_PAIRS = """
2001 Precentral            2101 Frontal_Sup           2111 Frontal_Sup_Orb       2201 Frontal_Mid
2211 Frontal_Mid_Orb       2301 Frontal_Inf_Oper      2311 Frontal_Inf_Tri       2321 Frontal_Inf_Orb
2331 Rolandic_Oper         2401 Supp_Motor_Area       2501 Olfactory             2601 Frontal_Sup_Medial
2611 Frontal_Med_Orb       2701 Rectus                3001 Insula                4001 Cingulum_Ant
4011 Cingulum_Mid          4021 Cingulum_Post         4101 Hippocampus           4111 ParaHippocampal
4201 Amygdala              5001 Calcarine             5011 Cuneus                5021 Lingual
5101 Occipital_Sup         5201 Occipital_Mid         5301 Occipital_Inf         5401 Fusiform
6001 Postcentral           6101 Parietal_Sup          6201 Parietal_Inf          6211 SupraMarginal
6221 Angular               6301 Precuneus             6401 Paracentral_Lobule    7001 Caudate
7011 Putamen               7021 Pallidum              7101 Thalamus              8101 Heschl
8111 Temporal_Sup          8121 Temporal_Pole_Sup     8201 Temporal_Mid          8211 Temporal_Pole_Mid
8301 Temporal_Inf          9001 Cerebelum_Crus1       9011 Cerebelum_Crus2       9021 Cerebelum_3
9031 Cerebelum_4_5         9041 Cerebelum_6           9051 Cerebelum_7b          9061 Cerebelum_8
9071 Cerebelum_9           9081 Cerebelum_10
"""
_VERMIS = "9100 1_2 9110 3 9120 4_5 9130 6 9140 7 9150 8 9160 9 9170 10"


def _coded(text: str) -> list[tuple[str, str]]:
    words = text.split()
    return list(zip(words[::2], words[1::2], strict=True))


N_REGIONS = 116
AAL_NAME = "AAL"

AAL_REGIONS: dict[int, str] = {
    int(code) + right: f"{name}_{side}" for code, name in _coded(_PAIRS) for right, side in enumerate("LR")
} | {int(code): f"Vermis_{name}" for code, name in _coded(_VERMIS)}
"""Code to name, in ascending order of the codes, which is the order of columns everywhere."""

AAL_NAMES: tuple[str, ...] = tuple(AAL_REGIONS.values())
