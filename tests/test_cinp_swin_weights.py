"""Published weights: files of their very layout, made here; what is partial or foreign changes nothing."""

import itertools
from dataclasses import replace

import pytest
import torch

from benchmarks.plain_cinp import plain_encoder
from cinp_lib.image_config import ImageEncoderConfig
from cinp_lib.image_encoder import ImageEncoder, load_swin_ssl_weights
from study_lib.files import sha256_of

# The published depths; fewer features and a smaller window keep the files small.
CONFIG = ImageEncoderConfig(size=(32, 32, 32), features=6, heads=(1, 2, 3, 2), window=3, merging="legacy")
STAGES, BLOCKS = (1, 2, 3, 4), (0, 1)
FILLED = 2 + 4 * (2 * 14 + 3)
BLOCK = ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "attn.relative_position_bias_table"]
BLOCK += ["attn.relative_position_index", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias"]
BLOCK += ["mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"]
MERGING = ["reduction.weight", "norm.weight", "norm.bias"]
EXTRA = {
    "module.norm.weight": (96,),
    "module.norm.bias": (96,),
    "module.rotation_head.weight": (4, 96),
    "module.contrastive_head.weight": (8, 96),
    "module.conv.0.weight": (48, 96, 3, 3, 3),
}


def published_names():
    """Written down from what is known of the file, not derived from our modules."""
    names = ["module.patch_embed.proj.weight", "module.patch_embed.proj.bias"]
    for stage in STAGES:
        blocks = itertools.product(BLOCKS, BLOCK)
        names += [f"module.layers{stage}.0.blocks.{block}.{name}" for block, name in blocks]
        names += [f"module.layers{stage}.0.downsample.{name}" for name in MERGING]
    return names


@pytest.fixture
def source():
    torch.manual_seed(7)
    encoder = ImageEncoder(CONFIG)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return encoder


@pytest.fixture
def stored(source):
    own = source.swin.state_dict()
    back = {
        name: name.removeprefix("module.").replace("fc1", "linear1").replace("fc2", "linear2")
        for name in published_names()
    }
    return {name: own[inner].clone() for name, inner in back.items()} | {n: torch.randn(s) for n, s in EXTRA.items()}


def save(path, tensors, **beside):
    torch.save({"state_dict": tensors, **beside}, path)
    return path


def fresh():
    torch.manual_seed(8)
    return ImageEncoder(CONFIG)


def refused(path, text, encoder=None):
    """The refusal names the file, and no tensor of the encoder has moved."""
    encoder = encoder or fresh()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=text) as caught:
        load_swin_ssl_weights(encoder, path)
    assert path.name in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_a_published_file_fills_every_tensor_and_says_what_it_left(source, stored, tmp_path):
    path = save(tmp_path / "model_swinvit.pt", stored, epoch=3, optimizer={"lr": 4e-4})
    encoder = fresh()
    report = load_swin_ssl_weights(encoder, path)
    assert (report.filled, report.expected, report.merging) == (FILLED, FILLED, "legacy")
    assert set(report.left) == set(EXTRA) and report.sha256 == sha256_of(path)
    volumes = torch.randn(2, 1, 32, 32, 32)
    torch.testing.assert_close(encoder(volumes).grid, source(volumes).grid, rtol=0, atol=0)


def test_features_are_those_that_monais_encoder_with_its_old_merging_gives_from_the_file(stored, tmp_path):
    encoder, plain = fresh().double(), plain_encoder(CONFIG).double()
    load_swin_ssl_weights(encoder, save(tmp_path / "model_swinvit.pt", stored))
    names = {n.removeprefix("module.").replace("fc1", "linear1").replace("fc2", "linear2"): n for n in stored}
    plain.load_state_dict({inner: stored[n] for inner, n in names.items() if n not in EXTRA})
    volumes = torch.randn(2, 1, 32, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(encoder(volumes).grid, plain(volumes)[-1], rtol=0, atol=1e-10)


def test_monais_own_loader_reads_the_layout_too(stored):
    from monai.networks.nets import SwinUNETR

    net = SwinUNETR(in_channels=1, out_channels=2, feature_size=12)  # only to see which names its loader asks for
    asked = set()

    class Asked(dict):
        def __getitem__(self, name):
            asked.add(name)
            own = name.removeprefix("module.").replace("fc1", "linear1").replace("fc2", "linear2")
            return net.swinViT.state_dict()[own]

    net.load_from({"state_dict": Asked()})
    assert asked == set(published_names())


def test_an_encoder_of_the_new_merging_is_refused_with_the_reason(stored, tmp_path):
    path = save(tmp_path / "model_swinvit.pt", stored)
    encoder = ImageEncoder(replace(CONFIG, merging="v2"))
    refused(path, r'patch merging of MONAI up to 1.4; .* compute other features. Use .*merging="legacy"', encoder)


@pytest.mark.parametrize("lost", ["layers3.0.downsample.norm.bias", "layers1.0.blocks.1.mlp.fc2.bias"])
def test_a_file_that_lacks_one_tensor_is_refused_and_says_which(stored, tmp_path, lost):
    stored.pop(f"module.{lost}")
    path = save(tmp_path / "cut.pt", stored)
    refused(path, rf"{FILLED} tensors of the encoder; 1 are not there, the first is module.{lost}. .*a part of")


def as_dae(stored):
    inner = {name.replace("module.", "encoder."): value for name, value in stored.items()}
    return {"model": inner | {"encoder.mask_token": torch.zeros(1, 6), "out.conv.conv.bias": torch.zeros(1)}}


def as_swin_unetr(stored):
    inner = {name.replace("module.", "swinViT."): value for name, value in stored.items()}
    return {
        "state_dict": inner | {"encoder1.layer.conv1.conv.weight": torch.zeros(2), "out.conv.conv.bias": torch.zeros(1)}
    }


def as_own_pretraining(stored):
    return {"state_dict": {n.replace("module.", "swinViT.").replace("fc", "linear"): v for n, v in stored.items()}}


def as_monais(stored):
    return {n.removeprefix("module.").replace("fc", "linear"): v for n, v in stored.items()}


def as_this_projects(stored):
    return {f"image_encoder.swin.{name}": value for name, value in as_monais(stored).items()}


@pytest.mark.parametrize(
    ("layout", "seems"),
    [
        (as_dae, ".*disrupted autoencoders"),
        (as_swin_unetr, "a SwinUNETR checkpoint, trained to segment"),
        (as_own_pretraining, "a checkpoint of one's own pre-training with MONAI"),
        (as_monais, "a state dict of MONAI's SwinTransformer"),
        (as_this_projects, "a checkpoint of this project"),
        (lambda stored: {"state_dict": {}}, "empty"),
        (lambda stored: {"fc.weight": torch.zeros(2)}, "something else: it begins with fc.weight"),
    ],
)
def test_a_foreign_file_is_refused_and_named_as_what_it_seems_to_be(stored, tmp_path, layout, seems):
    torch.save(layout(stored), tmp_path / "other.pt")
    refused(tmp_path / "other.pt", rf"other.pt: expected model_swinvit.pt.*It seems to be {seems}")


def test_tensors_of_another_size_or_numbering_and_broken_ones_are_refused(stored, tmp_path):
    name = "module.layers2.0.blocks.0.attn.qkv.weight"
    path = save(tmp_path / "wide.pt", stored | {name: torch.zeros(72, 24)})
    refused(path, rf"wide.pt: {name} is \(72, 24\), this encoder's \(36, 12\); .*features=48, window=7")
    path = save(tmp_path / "nan.pt", stored | {name: torch.full((36, 12), float("nan"))})
    refused(path, rf"nan.pt: {name} holds NaN or infinity")
    index = "module.layers2.0.blocks.0.attn.relative_position_index"
    path = save(tmp_path / "order.pt", stored | {index: stored[index].flip(0)})
    refused(path, r"order.pt: .*relative_position_index: places of the window are numbered otherwise")


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere.pt; download https://.*model_swinvit.pt"):
        load_swin_ssl_weights(fresh(), tmp_path / "nowhere.pt")
    page = tmp_path / "page.pt"
    page.write_text("<html>not found</html>")
    refused(page, r"page.pt: not a file of plain torch weights")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", r"list.pt: expected tensors by name, got a list")
    with pytest.raises(ValueError, match="expected an ImageEncoder, got Linear"):
        load_swin_ssl_weights(torch.nn.Linear(2, 2), page)
