"""LPIPS: against a plain restatement, against its authors' package where that is, and never on wrong weights."""

import ast
import functools
import http.server
import threading

import numpy as np
import pytest
import torch
from torch.nn import functional

from gan_lib import perceptual
from gan_lib.perceptual import CHANNELS, CONVOLUTIONS, WeightsNotAvailable
from study_lib.files import sha256_of


@pytest.fixture
def weights(tmp_path):
    """A file laid out as torchvision's, with random numbers; and its trunk."""
    model = perceptual.untrained_distance(seed=3)
    stored = {"classifier.6.bias": torch.zeros(2)}
    for convolution, n in zip(model.trunk.convolutions, CONVOLUTIONS, strict=True):
        stored[f"features.{n}.weight"] = convolution.weight.data.clone()
        stored[f"features.{n}.bias"] = 0.01 * torch.randn(convolution.bias.shape)
    torch.save(stored, tmp_path / "alexnet.pth")
    return tmp_path / "alexnet.pth"


def pairs(n=2, size=(43, 37), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand((n, 1, *size), generator=generator) for _ in range(2))


def restated(weights, first, second) -> list[float]:
    """The published recipe, image by image and pixel by pixel."""
    stored = torch.load(weights, weights_only=True)
    heads = perceptual.linear_heads()
    mean, spread = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    result = []
    for pair in zip(first, second, strict=True):
        layers = []
        for grey in pair:
            x = ((torch.cat([grey] * 3) * 2 - 1) - mean.view(3, 1, 1)) / spread.view(3, 1, 1)
            own = []
            for k, (n, stride, padding) in enumerate(zip(CONVOLUTIONS, (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), strict=True)):
                if k in (1, 2):
                    x = functional.max_pool2d(x[None], kernel_size=3, stride=2)[0]
                w, b = stored[f"features.{n}.weight"], stored[f"features.{n}.bias"]
                x = functional.conv2d(x[None], w, b, stride, padding)[0].clamp(min=0)
                own.append(x)
            layers.append(own)
        total = 0.0
        for k, (a, b) in enumerate(zip(*layers, strict=True)):
            assert a.shape[0] == CHANNELS[k]
            at = [
                float((heads[k] * (one / one.norm() - other / other.norm()) ** 2).sum())
                for one, other in zip(a.flatten(1).T, b.flatten(1).T, strict=True)
            ]
            total += sum(at) / len(at)
        result.append(total)
    return result


def test_lpips_equals_its_recipe_restated(weights):
    first, second = pairs()
    got = perceptual.load_lpips(weights)(first, second)
    assert got.tolist() == pytest.approx(restated(weights, first, second), rel=1e-4)


def test_lpips_equals_the_package_of_its_authors():
    lpips = pytest.importorskip("lpips", reason="the reference package lpips is not installed", exc_type=Exception)
    reference = lpips.LPIPS(net="alex", pretrained=True, pnet_rand=True, verbose=False).eval()
    model = perceptual.untrained_distance()
    slices = [getattr(reference.net, f"slice{k}") for k in range(1, 6)]
    theirs = [layer for part in slices for layer in part if isinstance(layer, torch.nn.Conv2d)]
    for own, other in zip(model.trunk.convolutions, theirs, strict=True):
        own.load_state_dict(other.state_dict())
    for k, head in enumerate(perceptual.linear_heads()):
        getattr(model, f"head{k}").copy_(head.view(1, -1, 1, 1))
    first, second = pairs(3, (64, 71))
    expected = reference(first.expand(-1, 3, -1, -1) * 2 - 1, second.expand(-1, 3, -1, -1) * 2 - 1).flatten()
    assert model(first, second).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_the_heads_are_the_published_ones():
    heads = perceptual.linear_heads()
    assert [len(head) for head in heads] == list(CHANNELS)
    assert all((head >= 0).all() for head in heads)  # the authors clamp them at 0 while they train


def test_an_image_is_at_distance_zero_from_itself_and_blur_grows_it(weights):
    model = perceptual.load_lpips(weights)
    first, _ = pairs(1, (40, 40))
    blurred = [functional.avg_pool2d(first, n, 1, n // 2) for n in (1, 3, 7)]
    distances = [float(model(first, image)) for image in blurred]
    assert distances[0] == 0 < distances[1] < distances[2]


@pytest.mark.parametrize("side", [30, 31])
def test_images_without_a_fifth_layer_are_refused(weights, side):
    model = perceptual.untrained_distance()
    first, second = pairs(1, (side, 64))
    if side >= 31:
        assert model(first, second).shape == (1,)
        return
    with pytest.raises(ValueError, match=r"at least 31 pixels a side, got \(30, 64\); pad"):
        model(first, second)


def test_values_beyond_the_range_and_other_shapes_are_refused():
    model = perceptual.untrained_distance()
    first, second = pairs(1)
    with pytest.raises(ValueError, match=r"expected images in \[0, 1\], got values from -1 to"):
        model(first - 1 - first.min(), second)
    with pytest.raises(ValueError, match="expected two stacks"):
        model(first.expand(-1, 3, -1, -1), second)


def test_a_volume_is_the_mean_of_its_slices_with_brain(weights):
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 40, 35, 9)).astype(np.float32)
    mask = np.zeros((40, 35, 9), dtype=bool)
    mask[5:35, 4:30, 2:7] = True
    mask[20, 20, 7] = True  # too little to count
    model = perceptual.load_lpips(weights)
    expected = []
    for k in range(2, 7):
        one, other = (torch.from_numpy((a * mask)[:, :, k].T.copy())[None, None] for a in (first, second))
        expected.append(float(model(one, other)))
    metric = perceptual.lpips_metric(model, batch=2)
    assert metric.better == "lower"
    assert metric.function(first, second, mask) == pytest.approx(np.mean(expected), rel=1e-5)
    every_second = perceptual.lpips_metric(model, step=2).function(first, second, mask)
    assert every_second == pytest.approx(np.mean(expected[::2]), rel=1e-5)
    with pytest.raises(ValueError, match="the mask is empty"):
        metric.function(first, second, mask & False)


def test_a_partial_file_is_refused_by_name(weights, tmp_path):
    stored = torch.load(weights, weights_only=True)
    torch.save({k: v for k, v in stored.items() if k != "features.6.bias"}, tmp_path / "partial.pth")
    with pytest.raises(ValueError, match=r"partial.pth: expected torchvision's AlexNet, which has features.6.bias"):
        perceptual.load_lpips(tmp_path / "partial.pth")
    torch.save(stored | {"features.0.weight": torch.zeros(64, 1, 11, 11)}, tmp_path / "grey.pth")
    with pytest.raises(ValueError, match=r"features.0.weight is \(64, 1, 11, 11\), AlexNet's \(64, 3, 11, 11\)"):
        perceptual.load_lpips(tmp_path / "grey.pth")
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match=r"page.pth: not a file of plain torch weights"):
        perceptual.load_lpips(tmp_path / "page.pth")


def test_without_weights_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert perceptual.find_weights() is None
    with pytest.raises(WeightsNotAvailable, match=r"weights not available: no file .*alexnet-owt-7be5be79.pth.*path"):
        perceptual.load_lpips(perceptual.cached_weights())
    with pytest.raises(WeightsNotAvailable, match=r"no file nowhere\.pth"):
        perceptual.find_weights("nowhere.pth")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(weights, monkeypatch):
    """Serves the folder of `weights` on this machine, for one test."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    handler = functools.partial(QuietHandler, directory=str(weights.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_download_is_kept_if_its_checksum_is_right_and_not_fetched_twice(server, weights, tmp_path):
    kept = tmp_path / "cache" / "kept.pth"
    digest = sha256_of(weights)
    assert perceptual.download_weights(kept, f"{server}/alexnet.pth", digest[:8]) == kept
    assert sha256_of(kept) == digest
    assert perceptual.download_weights(kept, f"{server}/gone.pth", digest[:8]) == kept


def test_a_wrong_checksum_or_a_missing_file_keeps_nothing(server, tmp_path):
    kept = tmp_path / "cache" / "kept.pth"
    with pytest.raises(ValueError, match=r"SHA-256 is [0-9a-f]{64}, expected 00000000…; nothing was kept"):
        perceptual.download_weights(kept, f"{server}/alexnet.pth", "00000000")
    with pytest.raises(WeightsNotAvailable, match=r"weights not available: .*404.*pass its path"):
        perceptual.download_weights(kept, f"{server}/gone.pth", "00000000")
    assert list(kept.parent.iterdir()) == []


def test_offline_says_so(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WeightsNotAvailable, match="weights not available"):
        perceptual.download_weights(tmp_path / "kept.pth", "http://127.0.0.1:9/alexnet.pth")


def test_the_untrained_distance_depends_on_its_seed_alone():
    first, second = pairs(1)
    one, same, other = (float(perceptual.untrained_distance(seed)(first, second)) for seed in (0, 0, 1))
    assert one == same != other
    assert float(perceptual.untrained_distance()(first, first)) == 0


def test_no_module_imports_torchvision_which_fails_beside_a_cpu_torch(repository):
    for path in sorted((repository / "gan_lib").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in names} & {"torchvision", "lpips"}, path
