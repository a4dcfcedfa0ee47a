"""The atlas: 116 labels, in AAL's order, and in its place."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_runs import GRID, brain_and_labels, write_atlas

from cinp_lib.connectivity import AAL, AAL_NAMES, AAL_REGIONS, fetch_aal, load_atlas
from cinp_lib.connectivity.atlas import AAL_LABELS_SHA256, labels_checksum
from study_lib.grid import Grid


def test_of_two_public_copies_of_aal_the_one_that_is_2_mm_off_is_refused(shared_data: Path) -> None:
    atlas = load_atlas(shared_data / "atlas/aal_neurostorm_2mm_1to116/atlas.nii.gz")
    assert atlas.names == AAL_NAMES and labels_checksum(atlas.labels) == AAL_LABELS_SHA256
    other = shared_data / "atlas/aal_spm_2mm_codes/AAL.nii"
    with pytest.raises(ValueError, match=r"off: .* after moving it by \(-2, \+0, -2\) mm.*--atlas-as-is"):
        load_atlas(other)
    as_is = load_atlas(other, check_place=False)  # its codes are mapped to the same order
    assert labels_checksum(as_is.labels) == AAL_LABELS_SHA256 and as_is.digest != atlas.digest


def test_codes_become_columns_in_ascending_order_whatever_the_axes(tmp_path: Path) -> None:
    labels = brain_and_labels()[1]
    codes = np.array([0, *AAL_REGIONS], np.int16)[labels]
    flipped = nib.Nifti1Image(codes, GRID.affine).as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))
    nib.save(flipped, tmp_path / "AAL.nii.gz")
    atlas = load_atlas(tmp_path / "AAL.nii.gz", check_place=False)
    np.testing.assert_array_equal(atlas.on_grid(GRID), labels)
    assert atlas.names == AAL_NAMES and atlas.name == "AAL"


def test_names_come_from_the_table_beside_the_image_by_label_not_by_row(tmp_path: Path) -> None:
    write_atlas(tmp_path)
    image = next(tmp_path.glob("*.nii.gz"))
    rows = [f"{k}\tRegion{k}" for k in range(116, 0, -1)]
    Path(str(image).replace(".nii.gz", ".tsv")).write_text("\n".join(["index\tname", *rows]))
    assert load_atlas(image, check_place=False).names[:2] == ("Region1", "Region2")
    Path(str(image).replace(".nii.gz", ".tsv")).write_text("index\tname\n1\tx\n")
    with pytest.raises(ValueError, match="expected a name for every label"):
        load_atlas(image, check_place=False)


def test_resampling_is_by_nearest_neighbour_and_keeps_every_region(tmp_path: Path) -> None:
    atlas = write_atlas(tmp_path)
    fine = atlas.on_grid(Grid.isotropic(4.0))
    np.testing.assert_array_equal(np.unique(fine), np.arange(117))
    np.testing.assert_array_equal(fine[::2, ::2, ::2][:23, :27, :23], atlas.labels[:23, :27, :23])
    np.testing.assert_allclose(atlas.volumes_mm3().sum(), 512 * (atlas.labels > 0).sum())


def test_atlases_of_other_size_or_interpolated_are_refused(tmp_path: Path) -> None:
    labels = brain_and_labels()[1].astype(np.float32)
    cases = {"a": np.minimum(labels, 90), "b": labels * 0.5, "c": labels + 3000 * (labels > 0)}
    messages = ["expected 116 labels beside 0, got 90", "interpolated", "neither AAL's codes nor 1 to 116"]
    for (name, data), message in zip(cases.items(), messages, strict=True):
        nib.save(nib.Nifti1Image(data.astype(np.float32), GRID.affine), tmp_path / f"{name}.nii.gz")
        with pytest.raises(ValueError, match=message):
            load_atlas(tmp_path / f"{name}.nii.gz", check_place=False)
    with pytest.raises(FileNotFoundError, match="fetch_aal"):
        load_atlas(tmp_path / "absent.nii.gz")
    with pytest.raises(ValueError, match="got names alone"):
        AAL.on_grid(GRID)


def test_without_internet_the_fetch_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(FileNotFoundError, match=r"aal_for_SPM12\.tar\.gz.*--atlas"):
        fetch_aal(tmp_path)


def test_a_fetched_copy_is_compared_with_its_checksum(shared_data: Path, tmp_path: Path) -> None:
    """nilearn's folder as its fetcher leaves it: first the labels as published, then with two regions swapped."""
    source = shared_data / "atlas/aal_spm_2mm_codes/AAL.nii"
    folder = tmp_path / "aal_SPM12" / "aal" / "atlas"
    folder.mkdir(parents=True)
    rows = "".join(f"<label><index>{c}</index><name>{n}</name></label>" for c, n in AAL_REGIONS.items())
    (folder / "AAL.xml").write_text(f"<atlas><data>{rows}</data></atlas>")
    (folder / "AAL.nii").write_bytes(source.read_bytes())
    atlas = fetch_aal(tmp_path)
    assert atlas.names == AAL_NAMES and "the atlas is off" in atlas.notes[0]
    image = nib.load(source)
    data = np.asarray(image.dataobj).copy()
    data[np.asarray(image.dataobj) == 2001] = 2002
    data[np.asarray(image.dataobj) == 2002] = 2001
    nib.save(nib.Nifti1Image(data, image.affine), folder / "AAL.nii")
    with pytest.raises(ValueError, match="expected labels with SHA-256"):
        fetch_aal(tmp_path)
