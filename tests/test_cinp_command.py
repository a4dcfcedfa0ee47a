"""`python -m cinp_lib pretrain` and `embed` on people of one's own: images, region series, sites of any name."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_pairs import people, write_cohort
from typer.testing import CliRunner

from cinp_lib.embed_command import app as embed_app
from cinp_lib.embeddings import PairEmbeddings
from cinp_lib.pretrain_command import app
from cinp_lib.pretrained_model import PretrainedModel
from study_lib.manifest import COLUMNS

OWN = [replace(person, role="unassigned") for person in people(20, ("Bern 3T", "Cork"))]


def write_people(folder, group, without=()):
    """Files and manifest; everybody but those of `without` has region series."""
    cohort = write_cohort(folder, group)
    table = cohort.table.copy()
    for row in table.itertuples():
        if row.subject not in without:
            path = f"{row.subject}_series.npy"
            np.save(folder / path, np.random.default_rng(row.Index).normal(size=(80, 116)))
            table.loc[row.Index, "time_series"] = path
    table.reindex(columns=list(COLUMNS)).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def arguments(manifest, out, *more):
    fixed = ["--preset", "smoke", "--batch", "4", "--n-jobs", "1", "--device", "cpu"]
    return ["--manifest", str(manifest), "--out", str(out), *fixed, *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write_people(folder, OWN, without=("p03",))
    result = CliRunner().invoke(app, arguments(folder / "manifest.csv", folder / "out", "--iterations", "2"))
    assert result.exit_code == 0, result.output
    assert "left out: p03" in result.output and "no network of this subject" in result.output
    return folder


def test_people_of_ones_own_give_a_model_and_its_scores_on_people_it_has_not_seen(trained):
    out = trained / "out"
    model = PretrainedModel.load(out / "model")
    scores = json.loads((out / "evaluation.json").read_text())
    assert scores["retrieval_gallery"] + len(set(model.seen["subject"])) == len(OWN) - 1
    assert scores["retrieval_r1_chance"] == pytest.approx(1 / scores["retrieval_gallery"])
    records = pd.read_csv(out / "records.csv")
    best = records["iteration"][records["validation_error"].idxmin()]
    assert model.about["cohort"] == "manifest" and model.about["record"]["iteration"] == best
    assert set(records["iteration"]) == {0, 2}


def test_the_same_command_again_trains_nothing_anew(trained):
    before = (trained / "out" / "records.csv").read_text()
    again = CliRunner().invoke(app, arguments(trained / "manifest.csv", trained / "out", "--iterations", "2"))
    assert again.exit_code == 0
    assert (trained / "out" / "records.csv").read_text() == before


def test_embeddings_of_all_scans_come_as_two_files_with_who_they_are(trained):
    given = ["--manifest", str(trained / "manifest.csv"), "--model", str(trained / "out" / "model"), "--n-jobs", "1"]
    given += ["--networks", str(trained / "out" / "networks")]
    result = CliRunner().invoke(embed_app, [*given, "--out", str(trained / "all"), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    embedded = PairEmbeddings.load(trained / "all")
    table = pd.read_csv(trained / "all.csv", dtype=str, keep_default_na=False)
    assert {"subject", "session", "site", "role", "diagnosis"} <= set(table)
    assert len(embedded) == len(OWN)  # the one without a network has its image's
    missing = embedded.table["subject"] == "p03"
    assert np.isfinite(embedded.images).all() and np.isnan(embedded.networks[missing]).all()
    assert np.isfinite(embedded.networks[~missing]).all()
    refused = CliRunner().invoke(embed_app, [*given, "--out", str(trained / "all"), "--unseen"])
    assert refused.exit_code == 2 and "shared subject" in refused.output


@pytest.mark.parametrize(
    ("role", "more", "said"),
    [
        ("test", (), "rows of role pre-training or unassigned"),
        ("unassigned", ("--preset", "fast"), "expected one of smoke, demo, paper"),
        ("unassigned", ("--batch", "1"), "batch of at least 2 pairs"),
        ("unassigned", ("--batch", "64"), "Choose a batch of at most"),
    ],
)
def test_what_cannot_be_trained_is_said(trained, tmp_path, role, more, said):
    table = pd.read_csv(trained / "manifest.csv", dtype=str, keep_default_na=False).assign(role=role)
    table.to_csv(tmp_path / "manifest.csv", index=False)
    given = [*arguments(tmp_path / "manifest.csv", trained / "out", *more), "--root", str(trained)]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2
    assert said in result.output


def test_a_folder_without_a_model_is_said(trained, tmp_path):
    given = ["--manifest", str(trained / "manifest.csv"), "--model", str(tmp_path), "--out", str(tmp_path / "x")]
    result = CliRunner().invoke(embed_app, given)
    assert result.exit_code == 2 and "expected a pre-trained model" in result.output


def test_sigterm_saves_and_ends_with_the_code_that_says_call_again(trained, tmp_path):
    command = [sys.executable, "-m", "cinp_lib", "pretrain"]
    command += arguments(trained / "manifest.csv", tmp_path / "out", "--iterations", "100000")
    command += ["--networks", str(trained / "out" / "networks")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            deadline = time.monotonic() + 240
            while not (tmp_path / "out" / "records.csv").exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            words = process.communicate(timeout=120)[1]
        finally:
            process.kill()
    assert process.returncode == 75
    assert "start the same command again" in words
    assert list((tmp_path / "out" / "checkpoints").glob("step-*.safetensors"))
