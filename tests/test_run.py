"""The record a notebook leaves: metrics that depend on nothing but the numbers, circumstances apart from them."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest

from study_lib.profiles import PROFILES, check_profile
from study_lib.provenance import git_state, package_versions
from study_lib.run import start


@dataclass(frozen=True)
class Config:
    steps: int = 3
    folder: Path = Path("a/b")
    rate: float = 0.5


def begin(root, **changes):
    settings = {"notebook": "01_x", "profile": "smoke", "seed": 0, "output_root": root} | changes
    return start(**settings)


def content(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_metrics_hold_exactly_what_the_contract_says(tmp_path):
    run = begin(tmp_path, seed=5)
    run.record({"subjects": np.int64(32), "rate": np.float32(0.25), "mean": 1.5}, cohort="phantom")
    assert run.folder == tmp_path / "smoke" / "01_x"
    assert content(run.folder / "metrics.json") == {
        "cohort": "phantom",
        "profile": "smoke",
        "seed": 5,
        "metrics": {"subjects": 32, "rate": 0.25, "mean": 1.5},
    }


def test_two_runs_of_the_same_numbers_write_the_same_metrics_byte_for_byte(tmp_path):
    written = []
    for order in (1, -1):
        run = begin(tmp_path)
        values = {name: float(run.rng(name).random()) for name in ["b", "a"][::order]}
        with run.timing("images", 10 * order + 20):
            run.record(values, cohort="phantom")
        written.append((run.folder / "metrics.json").read_bytes())
    assert written[0] == written[1]


def test_the_record_says_where_the_numbers_come_from(tmp_path):
    manifest = tmp_path / "mine.csv"
    manifest.write_text("subject\n1\n", encoding="utf-8")
    manifest.with_suffix(".json").write_text('{"PhantomVersion": "3"}', encoding="utf-8")
    run = begin(tmp_path, seed=2, parameters={"manifest": str(manifest)}, config=Config(rate=np.float32(0.25)))
    run.record({"subjects": 1}, cohort="phantom")
    record = content(run.folder / "run.json")
    assert record["config"] == {"steps": 3, "folder": "a/b", "rate": 0.25}
    assert record["parameters"] == {
        "profile": "smoke", "seed": 2, "output_root": str(tmp_path), "manifest": str(manifest),
    }  # fmt: skip
    assert record["manifest_checksum"] == hashlib.sha256(b"subject\n1\n").hexdigest()
    assert record["phantom_version"] == "3"
    assert record["python"] == sys.version.split()[0]
    assert record["packages"]["numpy"] == np.__version__
    assert record["cores"] >= 1
    assert record["wall_seconds"] >= 0
    assert record["peak_memory_mib"] > 10
    assert {"commit", "dirty", "platform", "started", "timings", "exhibits"} <= set(record)


def test_a_run_without_a_cohort_of_scans_has_no_checksum(tmp_path):
    run = begin(tmp_path)
    run.record({"subjects": 1}, cohort="none")
    record = content(run.folder / "run.json")
    assert (record["manifest_checksum"], record["phantom_version"]) == (None, None)


@pytest.mark.parametrize(
    ("metrics", "problem"),
    [
        ({"good": 1, "ssim_after": float("nan")}, "ssim_after = nan"),
        ({"ssim_after": np.float32("inf")}, "ssim_after = inf"),
        ({"by_site": {"ADNI": 1}}, "by_site = {'ADNI': 1} (dict)"),
        ({"all": [1, 2]}, "all = [1, 2] (list)"),
        ({"one": np.ones(1)}, "one = array([1.]) (ndarray)"),
        ({"passed": True}, "passed = True (bool)"),
        ({"passed": np.True_}, "passed = np.True_ (bool)"),
        ({"name": "0.5"}, "name = '0.5' (str)"),
        ({"none": None}, "none = None (NoneType)"),
        ({"SSIM after": 1}, "the name 'SSIM after'"),
        ({3: 1}, "the name 3"),
        ({"a": None, "b": float("nan")}, "a = None (NoneType); b = nan"),
    ],
)
def test_what_is_no_finite_number_is_refused_by_name_and_nothing_is_written(tmp_path, metrics, problem):
    run = begin(tmp_path)
    with pytest.raises(ValueError, match=r"expected \{name: finite number\}") as caught:
        run.record(metrics, cohort="phantom")
    assert problem in str(caught.value)
    assert list(run.folder.iterdir()) == []


def test_a_run_that_begins_takes_the_previous_record_away(tmp_path):
    begin(tmp_path).record({"subjects": 1}, cohort="phantom")
    run = begin(tmp_path)
    assert not (run.folder / "metrics.json").exists()
    assert not (run.folder / "run.json").exists()


@pytest.mark.parametrize("seed", [-1, 1.0, True, "1", None])
def test_a_seed_is_a_whole_number_from_zero_on(tmp_path, seed):
    with pytest.raises(ValueError, match="seed: expected a whole number from 0 on; got"):
        begin(tmp_path, seed=seed)


def test_an_unknown_profile_is_refused_with_the_list():
    assert [check_profile(name) for name in PROFILES] == ["smoke", "demo", "paper"]
    with pytest.raises(ValueError, match="expected one of smoke, demo, paper; got 'dmeo'"):
        check_profile("dmeo")


def test_generators_are_named_independent_and_repeatable(tmp_path):
    run, again, other = begin(tmp_path), begin(tmp_path), begin(tmp_path, seed=1)
    split = run.rng("split").random(20_000)
    np.testing.assert_array_equal(split, again.rng("split").random(20_000))
    for stranger in (run.rng("bootstrap"), other.rng("split")):
        assert abs(np.corrcoef(split, stranger.random(20_000))[0, 1]) < 0.03


def test_timings_are_work_per_second_and_add_up(tmp_path, monkeypatch):
    run, clock = begin(tmp_path), iter([10.0, 12.0, 20.0, 23.0])
    with monkeypatch.context() as patch:
        patch.setattr("study_lib.run.time.monotonic", lambda: next(clock))
        for count in (30, 20):
            with run.timing("volumes_read", count):
                pass
    run.record({"subjects": 1}, cohort="phantom")
    assert content(run.folder / "run.json")["timings"] == {"volumes_read": 10.0}


def figure():
    drawn = matplotlib.figure.Figure(figsize=(2, 1))
    drawn.subplots().set_title("Ages at each site")
    return drawn


def test_a_figure_is_written_as_png_and_pdf_with_the_same_bytes_every_time(tmp_path):
    runs = [begin(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        run.save_figure(figure(), "ages", "Boxes: quartiles.")
        run.record({"subjects": 1}, cohort="phantom")
    for suffix in ("png", "pdf"):
        first, second = (run.folder / "figures" / f"ages.{suffix}" for run in runs)
        assert first.stat().st_size > 500
        assert first.read_bytes() == second.read_bytes()
    assert content(runs[0].folder / "run.json")["exhibits"] == [
        {
            "kind": "figure",
            "name": "ages",
            "title": "Ages at each site",
            "caption": "Boxes: quartiles.",
            "source": "",
            "files": ["figures/ages.png", "figures/ages.pdf"],
        }
    ]


def test_a_table_keeps_every_digit_in_csv_and_reads_well_in_latex(tmp_path):
    run = begin(tmp_path)
    table = pd.DataFrame({"site_name": ["A & B", "50 %"], "age": [1 / 3, np.nan], "n": [1, 20_000]})
    run.save_table(table, "table_1", "Ages, 5 % of_all.")
    pd.testing.assert_frame_equal(pd.read_csv(run.folder / "tables" / "table_1.csv"), table)
    latex = (run.folder / "tables" / "table_1.tex").read_text(encoding="utf-8")
    for line in (r"site\_name & age & n \\", r"A \& B & 0.3333 & 1 \\", r"50 \% &  & 20000 \\"):
        assert line in latex
    assert r"\caption{Ages, 5 \% of\_all.}" in latex


def test_the_name_of_a_table_s_index_becomes_a_column(tmp_path):
    run = begin(tmp_path)
    run.save_table(pd.DataFrame({"n": [1]}, index=pd.Index(["ADNI"], name="site")), "sites", "Sites.")
    assert (run.folder / "tables" / "sites.csv").read_text(encoding="utf-8") == "site,n\nADNI,1\n"


@pytest.mark.parametrize("name", ["Fig 1", "../up", "", "a.png", "_x"])
def test_exhibit_names_that_are_no_file_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="exhibit name: expected lower case"):
        begin(tmp_path).save_figure(figure(), name)


def test_saving_an_exhibit_again_replaces_it(tmp_path):
    run = begin(tmp_path)
    for caption in ("first", "second"):
        run.save_figure(figure(), "ages", caption)
    run.record({"subjects": 1}, cohort="phantom")
    assert [exhibit["caption"] for exhibit in content(run.folder / "run.json")["exhibits"]] == ["second"]


def test_what_is_not_there_yet_is_missed_with_the_command_that_makes_it(tmp_path):
    run = begin(tmp_path, notebook="04_x")
    with pytest.raises(FileNotFoundError, match=r"03_gan_harmonization writes.*profile smoke --until 03`"):
        run.product("03_gan_harmonization", "model")
    with pytest.raises(FileNotFoundError, match=r"expected a CSV at .*phantom/manifest.csv.*--until 01`"):
        _ = run.manifest
    mistaken = begin(tmp_path, parameters={"manifest": "nowhere.csv"})
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv; check the parameter `manifest`"):
        _ = mistaken.manifest


def test_the_memory_of_children_counts():
    """In a process of its own: this one's peak may already be higher than now plus a child."""
    watch = """
import subprocess, sys
from study_lib.memory import PeakMemory
memory = PeakMemory(interval_seconds=0.05)
alone = memory.mib()
fill = "block = bytearray(200 * 2**20); block[::4096] = bytes([1]) * len(block[::4096]); print(flush=True); input()"
with subprocess.Popen([sys.executable, "-c", fill], stdin=-1, stdout=-1) as child:
    child.stdout.readline()
    print(memory.mib() - alone)
    child.communicate(b"\\n")
memory.stop()
"""
    seen = subprocess.run([sys.executable, "-c", watch], check=True, capture_output=True, text=True)
    assert 190 < float(seen.stdout) < 300


def test_outside_of_git_the_commit_is_unknown_and_a_parent_s_commit_is_not_ours(tmp_path):
    unknown = {"commit": "unknown", "dirty": "unknown"}
    assert git_state(tmp_path) == unknown
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@x"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_text("1", encoding="utf-8")
    for words in (["init", "--quiet"], ["add", "file"], ["commit", "--quiet", "-m", "m"]):
        subprocess.run([*git, *words], check=True)
    assert git_state(tmp_path / "sub") == unknown
    assert len(git_state(tmp_path)["commit"]) == 40
    assert git_state(tmp_path)["dirty"] is False
    (tmp_path / "file").write_text("2", encoding="utf-8")
    assert git_state(tmp_path)["dirty"] is True


def test_versions_are_those_of_the_packages_that_the_project_names():
    versions = package_versions()
    assert {"torch", "nilearn", "snakemake", "monai"} <= set(versions)
    assert "pytest" not in versions
    assert "not installed" not in versions.values()


def test_without_a_place_the_run_goes_to_the_project_s_outputs_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("study_lib.run.REPOSITORY", tmp_path)
    assert start("01_x", "smoke").folder == tmp_path / "outputs" / "smoke" / "01_x"
