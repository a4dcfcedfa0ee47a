"""A model on disk: read back bit by bit, and refused wherever it is not what was written."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_slices import CONFIG, PEOPLE, write_cohort
from tiny_models import tiny_model, write_tiny_model

from gan_lib.harmonize import Harmonizer
from gan_lib.model_card import CardFacts
from gan_lib.model_folder import FILES, ModelFolderError, read_model, write_model
from gan_lib.model_making import model_of, scanners
from gan_lib.networks import NetworkConfig
from gan_lib.slices import SliceStore
from gan_lib.train_step import Networks
from gan_lib.trained_model import NETWORKS, Site
from study_lib.files import sha256_of

FACTS = CardFacts("phantom", {"cycle_l1": 0.0312}, "held-out subjects", "smoke", ("Trained for a look only.",))


def rewrite_config(folder: Path, **changes) -> None:
    """Change the config as an attentive forger would: with a checksum that fits."""
    from gan_lib.model_folder import _digest

    content = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(content | {"sha256": _digest(content)}))


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def test_a_model_comes_back_as_it_was_written(tmp_path):
    model = tiny_model(planes=("axial", "sagittal"))
    checksum = write_model(tmp_path / "model", model, FACTS)
    before = torch.random.get_rng_state()
    read = read_model(tmp_path / "model")
    assert torch.equal(torch.random.get_rng_state(), before)  # no weights were drawn that are then replaced
    assert read.checksum == checksum and len(checksum) == 64
    for name in NETWORKS:
        written, found = getattr(model, name).state_dict(), getattr(read, name).state_dict()
        assert list(written) == list(found) and all(torch.equal(written[key], found[key]) for key in written)
        assert not getattr(read, name).training and not any(p.requires_grad for p in getattr(read, name).parameters())
    config, found = model.config, read.config
    assert (found.networks, found.grid, found.iterations) == (config.networks, config.grid, config.iterations)
    assert dict(found.views) == dict(config.views) and found.normaliser == config.normaliser
    for ours, theirs in zip(config.sites, found.sites, strict=True):
        assert (ours.name, ours.subjects, ours.scanner) == (theirs.name, theirs.subjects, theirs.scanner)
        assert all(np.array_equal(ours.styles[plane], theirs.styles[plane]) for plane in ours.styles)


def test_writing_the_same_model_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path):
    for _ in range(2):
        write_model(tmp_path / "one", tiny_model(), FACTS)
    write_model(tmp_path / "two", tiny_model(), FACTS)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {*FILES, "config.json", "README.md"}
    assert all(sha256_of(tmp_path / "one" / name) == sha256_of(tmp_path / "two" / name) for name in names)


def test_the_card_says_what_it_is_who_it_learned_from_and_what_it_is_not_for(tmp_path):
    write_model(tmp_path / "model", tiny_model(), FACTS)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "not for diagnosis" in card and "Trained for a look only." in card
    assert "The cohort is a phantom: simulated heads, no images of people." in card
    assert "| ADNI | 3 | GE |" in card and "| cycle_l1 | 0.0312 |" in card and "held-out subjects" in card
    write_model(tmp_path / "real", tiny_model(), CardFacts("IXI"))
    assert "phantom" not in (tmp_path / "real" / "README.md").read_text()
    with pytest.raises(ValueError, match="such as 'phantom'; got ''"):
        CardFacts("")


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_or_missing_file_is_named(tmp_path, name):
    folder = write_tiny_model(tmp_path / "model")
    flip_last_byte(folder / name)
    with pytest.raises(ModelFolderError, match=rf"{name} differs from its checksum.*copy the whole folder"):
        Harmonizer.load(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"the model lacks {name}"):
        Harmonizer.load(folder)


def test_a_folder_that_a_kill_left_half_written_is_refused(tmp_path):
    folder = write_tiny_model(tmp_path / "model")
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected config\.json.*its writing was interrupted"):
        Harmonizer.load(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="give the folder `model`"):
        Harmonizer.load(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Harmonizer.load(tmp_path / "absent")


def test_files_of_two_models_do_not_make_one(tmp_path):
    one, two = (write_tiny_model(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    (one / "generator.safetensors").write_bytes((two / "generator.safetensors").read_bytes())
    with pytest.raises(ModelFolderError, match=r"generator\.safetensors differs from its checksum .*of another model"):
        Harmonizer.load(one)


def test_an_interrupted_overwriting_leaves_no_mixture(tmp_path, monkeypatch):
    folder = write_tiny_model(tmp_path / "model")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("study_lib.intensity.atomic_write_json", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_model(folder, tiny_model(seed=1), FACTS)
    with pytest.raises(FileNotFoundError, match="interrupted"):
        Harmonizer.load(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "expected JSON"),
        ("[1, 2]", "is not the folder of a harmonisation model"),
        ('{"kind": "a cake"}', "is not the folder of a harmonisation model"),
        ('{"kind": "gan_lib harmonisation model", "format": 2}', "format 1, got 2; a newer one needs a newer version"),
        ('{"kind": "gan_lib harmonisation model", "format": 1}', "does not fit its checksum"),
    ],
)
def test_a_config_that_is_none_or_of_a_newer_format_is_refused(tmp_path, text, words):
    folder = write_tiny_model(tmp_path / "model")
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelFolderError, match=words):
        Harmonizer.load(folder)


def test_settings_that_do_not_fit_the_weights_are_refused_whatever_their_checksum(tmp_path):
    folder = write_tiny_model(tmp_path / "model")
    content = json.loads((folder / "config.json").read_text())
    content["iterations"] = 11
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ModelFolderError, match="it was changed"):
        Harmonizer.load(folder)
    rewrite_config(folder, networks=content["networks"] | {"width": 8})
    with pytest.raises(ModelFolderError, match="weights do not fit the sizes"):
        Harmonizer.load(folder)
    rewrite_config(folder, networks=content["networks"] | {"attention": True})
    with pytest.raises(ModelFolderError, match="attention is not known here; update"):
        Harmonizer.load(folder)
    rewrite_config(folder, networks=content["networks"] | {"sites": 3})
    with pytest.raises(ModelFolderError, match="expected 3 different names, one per branch; got ADNI, SMC"):
        Harmonizer.load(folder)


def test_no_code_in_a_model_folder_is_ever_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    folder = write_tiny_model(tmp_path / "model")
    content = json.loads((folder / "config.json").read_text())
    (folder / "generator.safetensors").write_bytes(pickle.dumps(Trap()))
    rewrite_config(
        folder, files=content["files"] | {"generator.safetensors": sha256_of(folder / "generator.safetensors")}
    )
    with pytest.raises(ModelFolderError, match=r"generator\.safetensors: expected a whole safetensors file"):
        Harmonizer.load(folder)
    assert not (tmp_path / "sprung").exists()


def test_weights_that_training_broke_are_refused(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.generator.head.bias.fill_(torch.nan)
    write_model(tmp_path / "model", model, FACTS)
    with pytest.raises(ModelFolderError, match=r"head\.bias holds NaN"):
        Harmonizer.load(tmp_path / "model")


def test_a_model_whose_parts_do_not_go_together_is_not_made():
    config = tiny_model().config
    with pytest.raises(ValueError, match=r"expected 2 different names, one per branch; got ADNI$"):
        replace(config, sites=config.sites[:1])
    with pytest.raises(ValueError, match="at least one plane"):
        replace(config, views={})
    with pytest.raises(ValueError, match=r"site SMC: expected a axial style of 8 finite numbers; got shape \(0,\)"):
        replace(config, sites=(config.sites[0], Site("SMC", 3, {})))
    small = replace(config.views["axial"], box=config.views["axial"].box.padded(size=(80, 80)))
    with pytest.raises(ValueError, match=r"axial slices of \(64, 64\).*axial ones of \(80, 80\)"):
        replace(config, views={"axial": small})


def test_a_finished_training_becomes_a_model_whose_styles_are_means_over_its_own_volumes(tmp_path):
    cohort = write_cohort(tmp_path, PEOPLE)
    store = SliceStore.build(cohort.table, cohort, tmp_path / "slices", CONFIG, 1, False).in_plane(
        "axial", size=(16, 16)
    )
    networks = Networks(NetworkConfig(sites=3, size=(16, 16), width=4, cap=8, style=8, hidden=8))
    model = model_of(networks, store, 7, cohort.table.assign(vendor="GE", echo_time_ms=np.arange(len(PEOPLE)) + 2.0))
    assert [(site.name, site.subjects) for site in model.config.sites] == [("Alpha", 3), ("Beta", 1), ("Gamma", 2)]
    assert model.config.sites[1].scanner["vendor"] == "GE"
    for number, site in enumerate(model.config.sites):
        volumes = []
        for index in np.flatnonzero(store.table["site"] == site.name):
            images, masks = store.stack(index)  # noqa: PD013 - no table
            styles = []
            for image, mask in zip(images, masks, strict=True):
                if mask.sum() >= model.config.views["axial"].least_brain:
                    with torch.no_grad():
                        slices = torch.from_numpy(image)[None, None]
                        styles.append(networks.encoder(slices, torch.tensor([number])).numpy()[0])
            volumes.append(np.mean(styles, axis=0))
        assert np.abs(site.styles["axial"] - np.mean(volumes, axis=0)).max() < 1e-5
    write_model(tmp_path / "model", model, FACTS)
    assert Harmonizer.load(tmp_path / "model").sites == ("Alpha", "Beta", "Gamma")


def test_scanners_are_told_by_value_by_list_or_by_range():
    rows = pd.DataFrame(
        {
            "site": ["A", "A", "A", "B"],
            "vendor": ["GE", "GE", "GE", ""],
            "sequence": ["MPRAGE", "TFE", "MPRAGE", "TFE"],
            "echo_time_ms": [3.8, 4.1, 3.95, np.nan],
            "field_strength_t": [1.5, 1.5, 1.5, 3.0],
        }
    )
    found = scanners(rows)
    assert found["A"] == {
        "vendor": "GE",
        "field_strength_t": "1.5",
        "sequence": "MPRAGE, TFE",
        "echo_time_ms": "3.8 to 4.1",
    }
    assert found["B"] == {"vendor": "", "field_strength_t": "3", "sequence": "TFE", "echo_time_ms": ""}
