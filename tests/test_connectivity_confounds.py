"""Real confounds of three eras of fMRIPrep, through every strategy."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cinp_lib.connectivity import STRATEGIES, SubjectError, read_confounds

NOT_SCRUBBED = [name for name, strategy in STRATEGIES.items() if not strategy.scrub]


@pytest.fixture
def newest(shared_data: Path, tmp_path: Path) -> Path:
    """fMRIPrep 25.2.4, with the JSON out of the same subject's archive."""
    import tarfile

    stem = "sub-v1s0x0050642_ses-1_task-rest_run-1_desc-confounds_timeseries"
    shutil.copy(shared_data / "fmriprep" / f"{stem}.tsv.gz", tmp_path)
    with tarfile.open(shared_data / "fmriprep" / "abide_sub-v1s0x0050642_fmriprep25.2.4.tar.gz") as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith(f"{stem}.json"))
        (tmp_path / f"{stem}.json").write_bytes(archive.extractfile(member).read())
    return tmp_path / f"{stem}.tsv.gz"


def test_confounds_of_fmriprep_25_load_by_every_strategy(newest: Path) -> None:
    table = pd.read_csv(newest, sep="\t", na_values="n/a")
    for name, strategy in STRATEGIES.items():
        confounds = read_confounds(newest, strategy, n_volumes=240)
        assert confounds.n_volumes == 240
        assert confounds.mean_fd_mm == pytest.approx(table["framewise_displacement"].mean())
        if strategy.scrub:
            assert 0 < len(confounds.kept) < 240
            above = np.flatnonzero(table["framewise_displacement"] > strategy.fd_threshold_mm)
            assert not set(above) & set(confounds.kept) and confounds.mean_fd_kept_mm < confounds.mean_fd_mm
        else:
            assert len(confounds.kept) == 240
        assert (confounds.regressors is None) == (name == "none")
    compcor = read_confounds(newest, "24p_acompcor").regressors
    assert compcor.shape == (240, 24 + 10 + 6) and not compcor.isna().any().any()
    assert read_confounds(newest, "36p").regressors.shape == (240, 36 + 6)


@pytest.mark.parametrize(
    "name", ["nilearn_test_desc-confounds_regressors", "nilearn_test-v21_desc-confounds_timeseries"]
)
def test_confounds_of_the_two_older_namings_load_by_every_strategy(shared_data: Path, name: str) -> None:
    path = shared_data / "fmriprep" / f"{name}.tsv"  # the older one's JSON is packed: .json.gz
    for strategy in STRATEGIES:
        confounds = read_confounds(path, strategy, n_volumes=30)
        unsteady = [c for c in pd.read_csv(path, sep="\t") if c.startswith("non_steady")]
        assert confounds.kept.min() >= len(unsteady) if len(confounds.kept) else True
    assert {c.split("_comp")[0] for c in read_confounds(path, "24p_acompcor").regressors if "_comp_" in c} <= {
        "a",
        "c",
        "w",
    }


def test_a_packed_table_reads_as_an_unpacked_one(newest: Path, tmp_path: Path) -> None:
    plain = newest.with_suffix("")
    plain.write_bytes(gzip.decompress(newest.read_bytes()))
    pd.testing.assert_frame_equal(read_confounds(plain, "36p").regressors, read_confounds(newest, "36p").regressors)


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("0.1\t0.2\n0.3\t0.4\n")
    with pytest.raises(SubjectError, match="expected a header"):
        read_confounds(path, "minimal")
    path.write_text("trans_x,trans_y\n1,2\n")
    with pytest.raises(SubjectError, match="separated by tabs"):
        read_confounds(path, "minimal")
    with pytest.raises(SubjectError, match="no confounds table"):
        read_confounds(tmp_path / "absent.tsv", "minimal")


def test_scrubbing_without_displacements_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    motion = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    names = [f"{m}{end}" for m in motion for end in ("", "_derivative1", "_power2", "_derivative1_power2")]
    names += [
        f"{m}{end}"
        for m in ("csf", "white_matter", "global_signal")
        for end in ("", "_derivative1", "_power2", "_derivative1_power2")
    ]
    table = pd.DataFrame(rng.normal(size=(80, len(names))), columns=names)
    table["cosine00"], table["std_dvars"], table["framewise_displacement"] = 0.1, 1.0, np.nan
    path = tmp_path / "sub-a_task-rest_desc-confounds_timeseries.tsv"
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    with pytest.raises(SubjectError, match="framewise_displacement is missing in 79 volumes"):
        read_confounds(path, "36p_scrub")
