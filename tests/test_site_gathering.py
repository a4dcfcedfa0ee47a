"""States of the scans: made once for the same scans and model."""

from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest
from tiny_models import brain, tiny_model

from gan_lib.baseline_fits import fit_baselines
from gan_lib.harmonize import Harmonizer
from gan_lib.site_classifier import gathering
from gan_lib.site_classifier.examples import SliceChoice
from study_lib.intensity import StudyNormaliser
from study_lib.manifest import COLUMNS, Manifest, load_manifest
from study_lib.preparation import prepare_scans

ROLES = ("train", "train", "validation", "test")
CHOICE = SliceChoice(step=8)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Manifest:
    """Two sites; the second's scanner is nonlinear, and one of its test subjects has other values than all others."""
    folder, rows = tmp_path_factory.mktemp("cohort"), []
    for place, site in enumerate(("ADNI", "SMC")):
        for k, role in enumerate(ROLES):
            image = brain((5.0, 5.0, 5.0), centre_mm=np.array([0.0, -18.0 + k, 12.0]))
            values = np.asarray(image.dataobj) ** (1 + place)
            name = f"{site.lower()}{k}"
            nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), image.affine), folder / f"{name}.nii.gz")
            row = {"subject": name, "family": name, "cohort": "test", "site": site, "diagnosis": "control"}
            rows.append(row | {"role": role, "t1w": f"{name}.nii.gz"})
    pd.DataFrame(rows).reindex(columns=list(COLUMNS)).to_csv(folder / "manifest.csv", index=False)
    return load_manifest(folder / "manifest.csv", check_files=False)


@pytest.fixture(scope="module")
def harmonizer() -> Harmonizer:
    return Harmonizer(tiny_model())


def test_the_states_are_those_of_the_methods_and_are_made_once(cohort, harmonizer, tmp_path):
    states, calls = gathering.harmonised_states(harmonizer, ["ADNI"]), []
    counted = states | {"before": lambda visit: (calls.append(visit.subject), visit.volume)[1]}
    made = gathering.gather_states(tmp_path, cohort, cohort.table, harmonizer, counted, CHOICE)
    assert list(made) == ["before", "after ADNI"] and len(calls) == 8
    again = gathering.gather_states(tmp_path, cohort, cohort.table, harmonizer, counted, CHOICE)
    assert len(calls) == 8
    assert all(np.array_equal(made[name].images, again[name].images) for name in made)
    gathering.gather_states(tmp_path, cohort, cohort.table, harmonizer, counted, replace(CHOICE, step=9))
    assert len(calls) == 16
    others = Harmonizer(replace(tiny_model(), checksum="another"))
    gathering.gather_states(tmp_path, cohort, cohort.table, others, counted, replace(CHOICE, step=9))
    assert len(calls) == 24


def test_a_harmonised_state_is_the_translation_of_the_targets_own_scans_too(cohort, harmonizer, tmp_path):
    states = gathering.harmonised_states(harmonizer, ["SMC"])
    made = gathering.gather_states(tmp_path, cohort, cohort.table, harmonizer, states, CHOICE)
    model, style = harmonizer.model.config, harmonizer.style("SMC")
    for number in (0, 7):
        row = cohort.table.iloc[number : number + 1]
        (scan,) = prepare_scans(cohort, row, model.grid)
        volume = harmonizer.translate_prepared(scan.normalised(StudyNormaliser()), scan.mask, style)
        own = made["after SMC"].images[made["after SMC"].subjects == scan.subject]
        assert len(own) == len(CHOICE.of(scan.mask))
        first = volume[:, :, CHOICE.of(scan.mask)[0]].T
        assert float(own[0].astype(float).sum()) == pytest.approx(float(first.sum()), rel=1e-3)
        assert np.abs(own.astype(float) - made["before"].images[made["before"].subjects == scan.subject]).max() > 0.01


def test_a_baseline_s_state_is_its_own_transform_towards_the_target(cohort, harmonizer):
    model = harmonizer.model.config
    visits = [visit for visit, _ in gathering.visits_of(cohort, cohort.table, model.grid, model.normaliser)]
    fits = fit_baselines([visit.scan for visit in visits], ["nyul", "z_score"])
    states = gathering.baseline_states(fits, "SMC")
    assert list(states) == ["nyul", "z_score"]
    for name, method in states.items():
        expected = fits[name]["SMC"].transform(visits[0].scan.head, visits[0].mask)
        assert np.array_equal(method(visits[0]), expected)
