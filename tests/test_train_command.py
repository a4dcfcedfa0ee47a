"""`python -m gan_lib train` on sites of one's own: names, sizes and numbers of subjects are free."""

import json
import os
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from small_slices import Person, write_cohort
from typer.testing import CliRunner

from gan_lib.harmonize import Harmonizer
from gan_lib.train_command import app

# Five sites with names of their own, without roles; one has three subjects, one volume is of another size.
OWN = tuple(
    Person(
        f"{site[:4].lower()}{n}", site, 10 * place + n, role="unassigned", low=(3, 4, 2), shape=(11 + place % 2, 13, 12)
    )
    for place, site in enumerate(("Aachen", "Bern 3T", "Cork", "Delft", "Espoo"))
    for n in range(3 if site == "Cork" else 10)
)


def arguments(manifest, out, *more):
    return [
        "--manifest",
        str(manifest),
        "--out",
        str(out),
        "--preset",
        "smoke",
        "--n-jobs",
        "1",
        "--device",
        "cpu",
        *more,
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write_cohort(folder, OWN)
    result = CliRunner().invoke(app, arguments(folder / "manifest.csv", folder / "out", "--iterations", "3"))
    assert result.exit_code == 0, result.output
    return folder


def test_five_sites_of_other_names_and_sizes_give_a_model_that_harmonises(trained):
    harmonizer = Harmonizer.load(trained / "out" / "model")
    assert harmonizer.sites == ("Aachen", "Bern 3T", "Cork", "Delft", "Espoo")
    image, mask = nib.load(trained / "cork0_T1w.nii"), nib.load(trained / "cork0_mask.nii")
    harmonised = harmonizer.harmonize(image, target="Bern 3T", mask=mask)
    assert np.array_equal(harmonised.affine, image.affine)
    assert (np.asarray(harmonised.dataobj)[np.asarray(mask.dataobj) == 0] == 0).all()


def test_subjects_without_a_role_are_split_and_nobody_is_in_two_parts(trained):
    parts = {part: json.loads((trained / "out" / "slices" / part / "store.json").read_text()) for part in PARTS}
    names = {part: {row["subject"] for row in content["volumes"]} for part, content in parts.items()}
    assert not names["training"] & names["validation"]
    assert names["training"] | names["validation"] == {person.name for person in OWN}
    assert {row["site"] for row in parts["training"]["volumes"]} == {person.site for person in OWN}


PARTS = ("training", "validation")


def test_the_same_command_again_trains_nothing_anew(trained):
    before = (trained / "out" / "records.csv").read_text()
    again = CliRunner().invoke(app, arguments(trained / "manifest.csv", trained / "out", "--iterations", "3"))
    assert again.exit_code == 0
    records = pd.read_csv(trained / "out" / "records.csv")
    assert (trained / "out" / "records.csv").read_text() == before
    assert records["iteration"].iloc[-1] == 3


def test_the_card_names_the_data_and_is_not_for_diagnosis(trained):
    card = (trained / "out" / "model" / "README.md").read_text()
    assert "not for diagnosis" in card.lower()
    assert "manifest" in card
    assert "Bern 3T" in card


@pytest.mark.parametrize(
    ("people", "more", "said"),
    [
        (tuple(p for p in OWN if p.site == "Cork"), (), "at least two sites"),
        (tuple(Person("ann", "A", 0, role="travelling") for _ in range(1)), (), "role 'train'"),
        (OWN, ("--preset", "fast"), "expected one of smoke, demo, paper"),
        (OWN, ("--batch", "0"), "expected at least 1"),
    ],
)
def test_what_cannot_be_trained_is_said(tmp_path, people, more, said):
    write_cohort(tmp_path, people)
    result = CliRunner().invoke(app, arguments(tmp_path / "manifest.csv", tmp_path / "out", *more))
    assert result.exit_code == 2
    assert said in result.output


def test_sigterm_saves_and_ends_with_the_code_that_says_call_again(trained, tmp_path):
    command = [sys.executable, "-m", "gan_lib", "train"]
    command += arguments(trained / "manifest.csv", tmp_path / "out", "--iterations", "100000")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "out" / "records.csv").exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            words = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 75
    assert "start the same command again" in words
    assert list((tmp_path / "out" / "checkpoints").glob("step-*.safetensors"))
