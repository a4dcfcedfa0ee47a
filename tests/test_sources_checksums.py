import hashlib

import pandas as pd
from source_trees import write_tree

from study_lib.sources.checksums import HASHED, content_digests, with_checksums

DIGEST = hashlib.sha256(b"content").hexdigest()
KEY = f"SHA256E-s7--{DIGEST}.nii.gz"


def test_files_are_hashed_by_their_content(tmp_path):
    write_tree(tmp_path, {"a.nii.gz": b"content", "b.nii.gz": b"other"})
    found = content_digests(tmp_path, ["b.nii.gz", "a.nii.gz"])
    assert found == {"a.nii.gz": DIGEST, "b.nii.gz": hashlib.sha256(b"other").hexdigest()}


def test_the_hash_of_an_annexed_file_is_read_off_its_link(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to(f".git/annex/objects/7X/xm/{KEY}/{KEY}")
    (tmp_path / "b.nii.gz").symlink_to(".git/annex/objects/7X/xm/k/MD5E-s7--75cab8005361c2504ba5a7f02ecbacd7.nii.gz")
    assert content_digests(tmp_path, ["a.nii.gz", "b.nii.gz"]) == {"a.nii.gz": DIGEST, "b.nii.gz": ""}


def test_an_annexed_file_with_another_key_is_hashed_when_its_content_is_here(tmp_path):
    target = ".git/annex/objects/7X/xm/k/MD5E-s7--75cab8005361c2504ba5a7f02ecbacd7.nii.gz"
    write_tree(tmp_path, {target: b"content"})
    (tmp_path / "a.nii.gz").symlink_to(target)
    assert content_digests(tmp_path, ["a.nii.gz"]) == {"a.nii.gz": DIGEST}


def test_the_text_that_stands_in_for_an_unlocked_file_is_not_taken_for_the_file(tmp_path):
    write_tree(tmp_path, {"a.nii.gz": f"/annex/objects/{KEY}\n", "b.nii.gz": "/annex/objects/MD5E-s7--75ca.nii.gz\n"})
    assert content_digests(tmp_path, ["a.nii.gz", "b.nii.gz"]) == {"a.nii.gz": DIGEST, "b.nii.gz": ""}


def test_checksums_stand_beside_their_files_and_empty_cells_stay_empty(tmp_path):
    write_tree(tmp_path, {"a": b"content"})
    table = pd.DataFrame({"t1w": ["a", ""], "bold": ["", ""], "time_series": ["", "gone"]})
    found = with_checksums(table, tmp_path)[[f"{name}_sha256" for name in HASHED]]
    assert found.to_numpy().tolist() == [[DIGEST, "", ""], ["", "", ""]]
