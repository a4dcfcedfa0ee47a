"""`gan-harmonize` on files, folders and BIDS trees, and the page to look at."""

import json
import re
import shutil
import tomllib
from html.parser import HTMLParser
from importlib import import_module

import nibabel
import numpy as np
import pandas as pd
import pytest
from tiny_models import brain, inside, tiny_model, write_tiny_model
from typer.testing import CliRunner

from gan_lib import __main__ as library_command
from gan_lib.harmonize import Harmonizer
from gan_lib.harmonize_command import app
from gan_lib.quality_page import histogram_figure, quality_numbers, quality_page, slices_figure
from study_lib.files import sha256_of

GRID = {"spacing_mm": (4.0, 4.2, 5.0), "codes": "LIA"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "in" / "sub-01_T1w.nii.gz"
    path.parent.mkdir()
    nibabel.save(brain(**GRID), path)
    return path


def call(*words) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def voxels(path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def head_and_mask(folder, name: str):
    """A head with bone and scalp, and its mask beside it as fMRIPrep calls it."""
    image = brain((4.0, 4.0, 4.0), scale=1.2)
    index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    points = nibabel.affines.apply_affine(image.affine, index)
    head = np.where(inside(points, scale=1.17), 800.0, 0.0)
    head[inside(points, scale=1.07)] = 40.0
    head = np.where(inside(points), np.asarray(image.dataobj), head).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(head, image.affine), folder / f"{name}_T1w.nii.gz")
    mask = nibabel.Nifti1Image(inside(points).astype(np.uint8), image.affine)
    nibabel.save(mask, folder / f"{name}_desc-brain_mask.nii.gz")


def test_one_file_becomes_one_file_with_what_the_library_gives(tmp_path, model, scan):
    out, difference, page = tmp_path / "out.nii.gz", tmp_path / "change.nii.gz", tmp_path / "look.html"
    code, said = call(scan, out, "--model", model, "--target", "SMC", "--difference", difference, "--qc", page)
    assert code == 0 and "harmonised to site SMC" in said
    ours = Harmonizer.load(model)
    assert np.array_equal(voxels(out), np.asarray(ours.harmonize(nibabel.load(scan), "SMC").dataobj))
    before = np.asarray(ours.normalised(nibabel.load(scan)).dataobj)
    assert np.array_equal(voxels(difference), voxels(out) - before)
    assert nibabel.load(out).affine.tobytes() == nibabel.load(scan).affine.tobytes()
    assert "site SMC" in page.read_text() and ours.model.checksum[:16] in page.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out.nii.gz", "change.nii.gz", "look.html"}


def test_a_reference_image_is_a_target_too(tmp_path, model, scan):
    reference = tmp_path / "reference.nii.gz"
    nibabel.save(brain((5.0, 5.0, 5.0)), reference)
    words = (scan, tmp_path / "out.nii.gz", "--model", model, "--reference", reference)
    code, said = call(*words, "--reference-site", "SMC")
    assert code == 0 and "a reference, read as an image of SMC" in said
    code, said = call(*words, "--overwrite")
    assert code == 0
    expected = Harmonizer.load(model).harmonize(nibabel.load(scan), reference=nibabel.load(reference))
    assert np.array_equal(voxels(tmp_path / "out.nii.gz"), np.asarray(expected.dataobj))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{scan} {out} --model {model}", "--target SITE or --reference IMAGE, got neither"),
        ("{scan} {out} --model {model} --target SMC --reference {scan}", "got both"),
        ("{scan} {out} --model {model} --target GMC", "ADNI, SMC, got 'GMC'"),
        ("{scan} {out} --model {folder} --target SMC", "expected config.json"),
        ("{scan} {out} --model {model} --target SMC --planes coronal", "trained on axial slices, got coronal"),
        ("{scan} {out} --model {model} --target SMC --detail fine", "native or grid, got 'fine'"),
        ("{scan} {out} --model {model} --target SMC --device cuda:99", "cuda:99"),
        ("{scan} {folder}/out.mgz --model {model} --target SMC", "ends in .nii.gz or .nii"),
        ("{scan} {scan} --model {model} --target SMC --overwrite", "an input, which is never overwritten"),
        ("{scan} {link} --model {model} --target SMC --overwrite", "an input, which is never overwritten"),
        ("{scan} {out} --model {model} --reference {there} --difference {there} --overwrite", "this is an input"),
        ("{scan} {out} --model {model} --target SMC --difference {out}", "are one file"),
        ("{scan} {there} --model {model} --target SMC", "there already; give --overwrite"),
        ("{folder}/absent.nii.gz {out} --model {model} --target SMC", "no such image or folder"),
        ("{folder} {out} --model {model} --target SMC --mask {scan}", "expected a folder of masks"),
        ("{folder} {folder} --model {model} --target SMC", "the folder of the inputs"),
        ("{empty} {out} --model {model} --target SMC", "expected T1w volumes"),
        ("{folder} {out} --model {model} --target SMC --difference {out}", "give each its own"),
    ],
)
def test_options_that_cannot_be_used_end_with_2_and_write_nothing(tmp_path, model, scan, words, said):
    places = {"scan": scan, "folder": scan.parent, "model": model, "out": tmp_path / "out.nii.gz"}
    places |= {"link": scan.parent / "link.nii.gz", "there": tmp_path / "there.nii.gz", "empty": tmp_path / "empty"}
    places["link"].hardlink_to(scan)
    places["empty"].mkdir()
    nibabel.save(brain(), places["there"])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code, output = call(*words.format(**places).split())
    assert code == 2 and said in output
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_head_without_a_mask_ends_with_1_and_goes_through_with_it(tmp_path, model):
    head_and_mask(tmp_path, "sub-02")
    words = (tmp_path / "sub-02_T1w.nii.gz", tmp_path / "out.nii.gz", "--model", model, "--target", "ADNI")
    code, said = call(*words)
    assert code == 1 and "looks like a head with skull" in said and not (tmp_path / "out.nii.gz").exists()
    code, _ = call(*words, "--mask", tmp_path / "sub-02_desc-brain_mask.nii.gz")
    assert code == 0
    assert not voxels(tmp_path / "out.nii.gz")[voxels(tmp_path / "sub-02_desc-brain_mask.nii.gz") == 0].any()


def test_a_folder_is_mirrored_its_faults_are_listed_and_it_resumes(tmp_path, model, scan):
    folder, out = scan.parent, tmp_path / "out"
    head_and_mask(folder / "deeper", "sub-02")
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9), np.float32), np.eye(4)), folder / "blank.nii.gz")
    (folder / "torn.nii.gz").write_bytes(scan.read_bytes()[:900])
    words = (folder, out, "--model", model, "--target", "ADNI", "--qc", tmp_path / "pages")
    code, said = call(*words)
    assert code == 1 and "2 harmonised, 0 were there, 2 failed" in said
    failures = pd.read_csv(out / "failures.csv").set_index("file")
    assert list(failures.index) == ["blank.nii.gz", "torn.nii.gz"]
    assert "no brain found" in failures.loc["blank.nii.gz", "reason"] and failures["fix"].notna().all()
    done = [out / "sub-01_T1w.nii.gz", out / "deeper" / "sub-02_T1w.nii.gz"]
    assert all(path.is_file() for path in done)
    assert (tmp_path / "pages" / "deeper" / "sub-02_T1w.html").is_file()
    record = json.loads((out / "deeper" / "sub-02_T1w.json").read_text())
    assert record["Sources"] == ["deeper/sub-02_T1w.nii.gz", "deeper/sub-02_desc-brain_mask.nii.gz"]
    assert record["Harmonisation"]["ModelSHA256"] == Harmonizer.load(model).model.checksum

    first = [path.stat().st_mtime_ns for path in done]
    code, said = call(*words)
    assert code == 1 and "0 harmonised, 2 were there, 2 failed" in said
    assert [path.stat().st_mtime_ns for path in done] == first
    nibabel.save(brain(**GRID, scale=0.95), scan)  # another scan under the old name
    (folder / "torn.nii.gz").unlink()
    (folder / "blank.nii.gz").unlink()
    code, said = call(*words)
    assert code == 0 and "1 harmonised, 1 were there, 0 failed" in said
    assert pd.read_csv(out / "failures.csv").empty


def test_another_target_or_model_makes_everything_anew_and_a_foreign_file_is_left_alone(tmp_path, model, scan):
    out = tmp_path / "out"
    assert call(scan.parent, out, "--model", model, "--target", "ADNI")[0] == 0
    first = sha256_of(out / scan.name)
    assert "1 harmonised" in call(scan.parent, out, "--model", model, "--target", "SMC")[1]
    assert sha256_of(out / scan.name) != first
    other = write_tiny_model(tmp_path / "other", seed=3)
    assert "1 harmonised" in call(scan.parent, out, "--model", other, "--target", "SMC")[1]
    (out / "sub-01_T1w.json").unlink()  # now it is nobody's
    assert call(scan.parent, out, "--model", model, "--target", "SMC")[0] == 1
    failure = pd.read_csv(out / "failures.csv").iloc[0]
    assert "is there already" in failure["reason"] and "--overwrite" in failure["fix"]
    assert "1 harmonised" in call(scan.parent, out, "--model", model, "--target", "SMC", "--overwrite")[1]


def test_an_older_result_does_not_stand_for_an_input_that_fails_now(tmp_path, model, scan):
    out = tmp_path / "out"
    assert call(scan.parent, out, "--model", model, "--target", "ADNI")[0] == 0
    scan.write_bytes(b"no image")
    assert call(scan.parent, out, "--model", model, "--target", "ADNI")[0] == 1
    assert {path.name for path in out.iterdir()} == {"failures.csv"}


def test_outputs_inside_the_folder_of_inputs_are_no_inputs_of_the_next_run(tmp_path, model, scan):
    folder = scan.parent
    words = (folder, folder / "out", "--model", model, "--target", "ADNI", "--difference", folder / "change")
    assert call(*words)[0] == 0
    code, said = call(*words)
    assert code == 0 and "0 harmonised, 1 were there" in said


def test_masks_may_lie_in_a_folder_of_their_own(tmp_path, model):
    head_and_mask(tmp_path / "in", "sub-02")
    (tmp_path / "masks").mkdir()
    (tmp_path / "in" / "sub-02_desc-brain_mask.nii.gz").rename(tmp_path / "masks" / "sub-02_T1w.nii.gz")
    words = (tmp_path / "in", tmp_path / "out", "--model", model, "--target", "ADNI")
    assert call(*words)[0] == 1
    assert call(*words, "--mask", tmp_path / "masks")[0] == 0


def test_a_bids_tree_becomes_a_bids_derivative(phantom, tmp_path, model):
    table = pd.read_csv(phantom, dtype=str).fillna("")
    table = table[(table["role"] == "travelling")].head(3)
    for path in [*table["t1w"], *table["t1w_mask"]]:
        (tmp_path / "bids" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(phantom.parent / path, tmp_path / "bids" / path)
    out = tmp_path / "bids" / "derivatives" / "harmonised"
    words = (tmp_path / "bids", out, "--model", model, "--target", "ADNI")
    code, said = call(*words)
    assert code == 0 and "3 harmonised" in said
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    for t1w, mask in zip(table["t1w"], table["t1w_mask"], strict=True):
        made = out / t1w.replace("_T1w.nii.gz", "_desc-harmonised_T1w.nii.gz")
        image, native = nibabel.load(made), nibabel.load(phantom.parent / t1w)
        assert image.shape == native.shape and image.affine.tobytes() == native.affine.tobytes()
        assert not voxels(made)[voxels(phantom.parent / mask) == 0].any()
        record = json.loads(made.with_name(made.name.replace(".nii.gz", ".json")).read_text())
        assert record["SkullStripped"] is True and record["Sources"] == [t1w, mask]
    assert "3 were there" in call(*words)[1]  # its own derivatives are no input


def test_two_inputs_that_would_become_one_file_are_refused(tmp_path, model, scan):
    nibabel.save(brain(), scan.parent / "sub-01_T1w.nii")
    code, said = call(scan.parent, tmp_path / "out", "--model", model, "--target", "ADNI")
    assert code == 2 and "would both become sub-01_T1w; rename or move one" in said


class Page(HTMLParser):
    """What a page asks for and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def result_of(image, **changes):
    ours = Harmonizer(tiny_model(**changes))
    return ours.translate(image, ours.style("ADNI"))


def test_the_page_is_one_small_file_that_asks_for_nothing_and_says_what_its_pictures_show():
    page = quality_page(result_of(brain(**GRID)), {"input": "a<b>.nii", "model": "abc"})
    parsed = Page(page)
    assert not parsed.all("script") and not re.search(r"https?://|//cdn|@import|url\(", page)
    assert all(image["src"].startswith("data:image/png;base64,") for image in parsed.all("img"))
    assert len(parsed.all("img")) == 2 and all(len(image["alt"]) > 60 for image in parsed.all("img"))
    assert parsed.all("html")[0]["lang"] == "en" and "prefers-color-scheme: dark" in page
    assert "a&lt;b&gt;.nii" in page and "not for diagnosis" in page and len(page) < 600_000


def test_before_and_after_share_their_grey_limits_and_every_panel_shows_its_sides():
    figure = slices_figure(result_of(brain(**GRID)))
    panels = [axes for axes in figure.axes if axes.images and axes.texts]
    assert len(panels) == 9
    grey = [panel.images[0].get_clim() for panel in panels if panel.images[0].get_cmap().name == "gray"]
    assert len(grey) == 6 and set(grey) == {(0, 1)}
    change = [panel.images[0].get_clim() for panel in panels if panel.images[0].get_cmap().name != "gray"]
    assert len(set(change)) == 1 and change[0][0] == -change[0][1]
    assert all({text.get_text() for text in panel.texts} in ({"L", "R"}, {"P", "A"}) for panel in panels)


def test_left_is_left_in_every_orientation_of_the_scan():
    def bright_on_the_right(codes):
        image = brain((4.0, 4.0, 4.0), codes=codes)
        index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
        x = nibabel.affines.apply_affine(image.affine, index)[..., 0]
        return nibabel.Nifti1Image((np.asarray(image.dataobj) * np.where(x > 0, 2, 1)).astype(np.float32), image.affine)

    for codes in ("RAS", "LIA", "PSR"):
        figure = slices_figure(result_of(bright_on_the_right(codes), identity=True))
        axial = next(axes for axes in figure.axes if axes.get_ylabel() == "axial")
        shown = np.asarray(axial.images[0].get_array())
        middle = shown.shape[1] // 2
        assert shown[:, middle + 2 :].mean() > 1.3 * shown[:, : middle - 2].mean()
        assert [text.get_text() for text in axial.texts] == ["L", "R"]


def test_the_numbers_of_the_page_are_those_of_the_brain():
    result = result_of(brain(**GRID))
    numbers = quality_numbers(result)
    before, after = result.before[result.mask], result.after[result.mask]
    assert numbers["mean absolute change"] == pytest.approx(np.abs(after - before).mean(), rel=1e-5)
    assert numbers["share of voxels at 0 after"] == (after == 0).mean()
    assert numbers["share of voxels at 1 after"] == (after == 1).mean()
    assert numbers["voxels in the brain"] == result.mask.sum()
    shares = [np.sum(patch.get_data()[0]) for patch in histogram_figure(result).axes[0].patches]
    assert shares == pytest.approx([100, 100], abs=1e-6)


def test_the_console_script_and_the_librarys_command_lead_here(repository):
    scripts = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["gan-harmonize"].partition(":")
    assert callable(getattr(import_module(module), function))
    output = CliRunner().invoke(library_command.app, ["--help"]).output
    assert "harmonize" in output and "train" in output
    assert "Exit code 0" in CliRunner().invoke(library_command.app, ["harmonize", "--help"]).output
