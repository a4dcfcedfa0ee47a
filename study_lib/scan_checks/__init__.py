"""Is a file what it claims to be? Checks of single files, each of which reads its file once.

Errors make a scan unusable, warnings name something odd with the evidence. `study_lib.manifest` runs these
over a cohort and compares scans with each other.
"""

from study_lib.scan_checks.atlas import check_atlas
from study_lib.scan_checks.bold import check_bold
from study_lib.scan_checks.contrast import Contrast, contrast_of
from study_lib.scan_checks.findings import Finding, UnreadableScan
from study_lib.scan_checks.mask import check_mask_of
from study_lib.scan_checks.reading import Scan, read_scan
from study_lib.scan_checks.volume import Examination, check_volume, examine

__all__ = [
    "Contrast",
    "Examination",
    "Finding",
    "Scan",
    "UnreadableScan",
    "check_atlas",
    "check_bold",
    "check_mask_of",
    "check_volume",
    "contrast_of",
    "examine",
    "read_scan",
]
