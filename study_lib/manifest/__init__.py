"""One row per scan: who, where, how, and which files; read, validated and written in one place.

`load_manifest` raises `ManifestError` for a table it cannot trust, and lists rows whose files are bad in
`Manifest.excluded`, each with its reason and fix. Nothing is left out in silence.
"""

from study_lib.files import sha256_of
from study_lib.manifest.columns import COLUMN_SPECS, COLUMNS, DIAGNOSES, ROLES
from study_lib.manifest.problems import (
    EXCLUDED_COLUMNS,
    ManifestError,
    Problem,
    exclusion,
    exclusion_table,
)
from study_lib.manifest.table import Manifest, load_manifest, write_manifest

__all__ = [
    "COLUMNS",
    "COLUMN_SPECS",
    "DIAGNOSES",
    "EXCLUDED_COLUMNS",
    "ROLES",
    "Manifest",
    "ManifestError",
    "Problem",
    "exclusion",
    "exclusion_table",
    "load_manifest",
    "sha256_of",
    "write_manifest",
]
