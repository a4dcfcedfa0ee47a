"""A manifest's scans harmonised: the manifest of the results names them, and nobody is lost without a word."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from tiny_models import brain, inside, write_tiny_model

from gan_lib.harmonize import Harmonizer
from gan_lib.harmonize_manifest import harmonize_manifest
from study_lib.files import sha256_of
from study_lib.manifest import COLUMNS, load_manifest


@pytest.fixture(scope="module")
def harmonizer(tmp_path_factory):
    return Harmonizer.load(write_tiny_model(tmp_path_factory.mktemp("model")), device="cpu")


@pytest.fixture
def cohort(tmp_path):
    """Two people, the second with a mask, and a third whose file is damaged."""
    folder = tmp_path / "data" / "anat"
    folder.mkdir(parents=True)
    rows = []
    for k, name in enumerate(("s1", "s2", "s3")):
        image = brain((5.0, 5.0, 5.0), scale=1.0 + 0.1 * k)
        nibabel.save(image, folder / f"{name}_T1w.nii")
        index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
        mask = inside(nibabel.affines.apply_affine(image.affine, index))
        row = {
            "subject": name,
            "family": name,
            "cohort": "c",
            "site": "SMC",
            "role": "unassigned",
            "t1w": f"anat/{name}_T1w.nii",
        }
        if name == "s2":
            nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), image.affine), folder / "s2_mask.nii.gz")
            row["t1w_mask"] = "anat/s2_mask.nii.gz"
        rows.append(row | {"diagnosis": "control", "time_series": f"anat/{name}.tsv", "sex": "F", "age_years": 30 + k})
    (folder / "s3_T1w.nii").write_bytes(b"no image")
    csv = tmp_path / "data" / "manifest.csv"
    pd.DataFrame(rows).reindex(columns=list(COLUMNS)).to_csv(csv, index=False)
    return load_manifest(csv, check_files=False)


def test_the_new_manifest_names_what_the_library_makes_of_every_scan(tmp_path, harmonizer, cohort):
    named = cohort.table.set_index("subject", drop=False)
    csv, failures = harmonize_manifest(harmonizer, "ADNI", cohort, named, tmp_path / "out", progress=False)
    made = load_manifest(csv)
    assert made.table["subject"].tolist() == ["s1", "s2"] and made.excluded.empty
    for row, source in zip(made.table.to_dict("records"), cohort.table.to_dict("records"), strict=False):
        mask = nibabel.load(cohort.path(source, "t1w_mask")) if source["t1w_mask"] else None
        expected = harmonizer.harmonize(nibabel.load(cohort.path(source, "t1w")), "ADNI", mask=mask)
        written = nibabel.load(made.path(row, "t1w"))
        assert np.array_equal(np.asarray(written.dataobj), np.asarray(expected.dataobj))
        assert row["t1w_sha256"] == sha256_of(made.path(row, "t1w"))
        assert {name: row[name] for name in ("site", "sex", "age_years", "diagnosis", "family")} == {
            name: source[name] for name in ("site", "sex", "age_years", "diagnosis", "family")
        }
    assert made.path(made.table.iloc[1], "t1w_mask").is_file() and made.table["time_series"].tolist() == ["", ""]
    assert failures["file"].tolist() == ["anat/s3_T1w.nii"] and failures["reason"].iloc[0]


def test_called_again_it_makes_only_what_is_missing(tmp_path, harmonizer, cohort):
    csv, _ = harmonize_manifest(harmonizer, "ADNI", cohort, cohort.table, tmp_path / "out", progress=False)
    first, second = (csv.parent / "anat" / f"{name}_T1w.nii.gz" for name in ("s1", "s2"))
    kept, before = first.stat().st_mtime_ns, csv.read_bytes()
    second.unlink()
    harmonize_manifest(harmonizer, "ADNI", cohort, cohort.table, tmp_path / "out", progress=False)
    assert first.stat().st_mtime_ns == kept and second.is_file() and csv.read_bytes() == before


def test_where_nothing_can_be_harmonised_the_first_reasons_are_given(tmp_path, harmonizer, cohort):
    broken = cohort.table[cohort.table["subject"] == "s3"]
    with pytest.raises(ValueError, match="none of 1 scans could be harmonised"):
        harmonize_manifest(harmonizer, "ADNI", cohort, broken, tmp_path / "out", progress=False)
