"""The networks: parameters, keys, and logits that the originals' own code gives for the same weights."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.core.definitions import definitions_of
from robustprune.networks.architecture import ARCHITECTURES, build_model
from robustprune.networks.architecture import has_batchnorm as declares_batchnorm
from robustprune.networks.normalization import usual_normalization
from robustprune.networks.precision import has_batchnorm
from robustprune.networks.same_convolution import SameConv3x3

RGB, GREY, LARGE = (3, 32, 32), (1, 28, 28), (3, 224, 224)


@dataclass(frozen=True)
class Network:
    """What is known of a network: parameters, entries of its state dict, some of their names."""

    parameters: int
    keys: int
    some_keys: tuple[str, ...]
    shape: tuple[int, int, int] = RGB


PREACT_KEYS = ("conv1.weight", "layer1.0.bn1.running_var", "layer2.0.shortcut.0.weight", "bn.bias", "linear.bias")
WIDE_KEYS = ("init_conv.weight", "layer.1.block.0.shortcut.weight", "layer.2.block.3.conv_1.weight", "logits.bias")
NETWORKS = {
    "small_cnn": Network(38_282, 8, ("0.weight", "7.bias"), (1, 8, 8)),
    "fast_cnn": Network(166_406, 8, ("0.weight", "7.bias"), GREY),
    "resnet18": Network(11_173_962, 122, ("bn1.weight", "layer2.0.shortcut.1.running_mean", "linear.weight")),
    "preact_resnet18": Network(11_172_170, 107, PREACT_KEYS),
    "fast_preact_resnet18": Network(11_172_170, 107, PREACT_KEYS),
    "preact_resnet18_swish": Network(
        12_548_426, 107, ("conv_2d.weight", "layer_1.0.shortcut.weight", "layer_3.1.conv_2d_2.weight", "logits.bias")
    ),
    "wrn28_10_swish": Network(36_479_194, 155, WIDE_KEYS),
    "wrn70_16_swish": Network(266_796_506, 407, WIDE_KEYS),
}
BUILT = [name for name in ARCHITECTURES if name != "wrn70_16_swish"]  # a gigabyte; it has the code of wrn28_10_swish


def meta_model(architecture: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    with torch.device("meta"):
        return build_model(architecture, image_shape=shape, classes=classes)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_a_network_has_the_parameters_and_keys_of_its_original(architecture: str) -> None:
    known = NETWORKS[architecture]
    model = meta_model(architecture, known.shape, 10)
    assert sum(value.numel() for value in model.parameters()) == known.parameters
    assert len(model.state_dict()) == known.keys
    assert set(known.some_keys) <= set(model.state_dict())
    assert has_batchnorm(model) == declares_batchnorm(architecture)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 35, 37)], ids=str)
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_a_network_takes_images_and_classes_of_any_number(architecture: str, shape: tuple[int, int, int]) -> None:
    device = "cpu" if NETWORKS[architecture].parameters < 10**6 else "meta"  # some compute otherwise on a CPU
    with torch.device(device):
        model = build_model(architecture, image_shape=shape, classes=7).eval()
        assert model(torch.zeros(2, *shape)).shape == (2, 7)


def set_weights(model: nn.Module) -> nn.Module:
    """Every weight from a formula, in float64, so that another implementation can be given the same."""
    with torch.no_grad():
        for number, (name, value) in enumerate(sorted(model.state_dict().items())):
            if not value.is_floating_point():
                continue
            angle = torch.arange(value.numel(), dtype=torch.float64) * (number + 1) * 0.7 + number
            wave = torch.sin(angle).reshape(value.shape)
            if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
                value.copy_(1 + wave / 2)
            else:
                value.copy_(wave / 4 if value.ndim == 1 else wave * math.sqrt(2 / value[0].numel()))
    return model.double().eval()


def two_images() -> Tensor:
    return (torch.sin(torch.arange(2 * 3 * 32 * 32, dtype=torch.float64) * 0.37) * 0.5 + 0.5).reshape(2, *RGB)


# First logits of both images, computed with the originals' own code: wzekai99/DM-Improves-AT at b390f25 and, with the
# normalisation of its data loader, locuslab/fast_adversarial at 54f7287; torch 2.15, float64.
ORIGINAL_LOGITS = {
    "resnet18": ((0.34730385, 0.06298305, 0.25085343), (0.34737769, 0.06305454, 0.25092167)),
    "preact_resnet18": ((-0.18125030, -0.13311088, 0.32185257), (-0.18022645, -0.13621556, 0.32587688)),
    "fast_preact_resnet18": ((-0.33789012, 0.01545183, 0.23693151), (-0.33739264, 0.01466149, 0.23771912)),
    "preact_resnet18_swish": ((-0.28306501, 0.01068617, 0.18985530), (-0.28308221, 0.01069608, 0.18985639)),
    "wrn28_10_swish": ((0.20061525, -0.00876402, -0.21503213), (0.20061031, -0.00876276, -0.21502767)),
}


@pytest.mark.parametrize("architecture", ORIGINAL_LOGITS)
def test_a_network_computes_what_its_original_does(architecture: str) -> None:
    model = set_weights(build_model(architecture, image_shape=RGB, classes=10))
    with torch.no_grad():
        logits = model(two_images())
    expected = torch.tensor(ORIGINAL_LOGITS[architecture], dtype=torch.float64)
    torch.testing.assert_close(logits[:, :3], expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [6, 7])
def test_same_convolution_pads_as_tensorflow_does(side: int, stride: int) -> None:
    convolution = SameConv3x3(2, 3, stride).double()
    x = torch.randn(2, side, side, dtype=torch.float64)
    out = -(-side // stride)
    missing = (out - 1) * stride + 3 - side  # TensorFlow's formula; the smaller half goes before
    padded = np.zeros((2, side + missing, side + missing))
    padded[:, missing // 2 : missing // 2 + side, missing // 2 : missing // 2 + side] = x.numpy()
    kernel = convolution.weight.detach().numpy()
    expected = np.empty((3, out, out))
    for i in range(out):
        for j in range(out):
            window = padded[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
            expected[:, i, j] = np.einsum("kcij,cij->k", kernel, window)
    np.testing.assert_allclose(convolution(x[None])[0].detach().numpy(), expected, atol=1e-12)


def test_the_wide_network_is_initialised_as_gowal_et_al_do() -> None:
    torch.manual_seed(0)
    model = build_model("wrn28_10_swish", image_shape=RGB, classes=10)
    convolution = model.get_submodule("layer.2.block.3.conv_1")
    spread = torch.as_tensor(convolution.weight).std().item()
    assert spread == pytest.approx(math.sqrt(2 / (9 * 640)), rel=0.01)
    assert not torch.as_tensor(model.get_submodule("logits").bias).any()


def test_normalization_is_of_each_channel_and_no_part_of_the_state_dict() -> None:
    normalize = usual_normalization(3)
    out = normalize(torch.ones(1, 3, 2, 2))[0, :, 0, 0]
    expected = [(1 - mean) / std for mean, std in [(0.4914, 0.2471), (0.4822, 0.2435), (0.4465, 0.2616)]]
    torch.testing.assert_close(out, torch.tensor(expected))
    assert normalize.state_dict() == {}
    assert usual_normalization(1)(torch.tensor([[[[0.0, 1.0]]]])).tolist() == [[[[-1.0, 1.0]]]]


def test_large_images_get_the_stem_of_imagenet() -> None:
    model = meta_model("preact_resnet18", LARGE, 100).eval()
    sizes = []
    model.get_submodule("layer1").register_forward_hook(lambda *call: sizes.append(tuple(call[1][0].shape)))
    assert model(torch.empty(1, *LARGE, device="meta")).shape == (1, 100)
    assert sizes == [(1, 64, 56, 56)]
    extra = 3 * 64 * (7 * 7 - 3 * 3) + 90 * 513  # the larger stem, 90 more classes
    assert sum(value.numel() for value in model.parameters()) == 11_172_170 + extra == 11_226_020


def test_a_network_for_large_images_has_a_gradient_everywhere() -> None:
    torch.manual_seed(0)
    model = build_model("preact_resnet18", image_shape=LARGE, classes=100).train()
    images = torch.rand(2, *LARGE, requires_grad=True)
    F.cross_entropy(model(images), torch.tensor([3, 97])).backward()  # type: ignore[no-untyped-call]
    assert all(value.grad is not None and value.grad.any() for value in (images, *model.parameters()))


@pytest.mark.parametrize("architecture", BUILT)
def test_channels_last_and_bfloat16_give_about_the_same_logits(architecture: str) -> None:
    torch.manual_seed(0)
    shape = NETWORKS[architecture].shape
    model = build_model(architecture, image_shape=shape, classes=10).eval()
    images = torch.rand(2, *shape)
    with torch.no_grad():
        logits = model(images)
        last = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
        torch.testing.assert_close(last(images), logits, atol=1e-4, rtol=1e-4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = last(images)
    assert rough.dtype == torch.bfloat16
    assert ((rough - logits).abs() < 0.05 * logits.abs().max()).all()


def test_a_network_is_named_by_the_versions_of_all_it_is_built_on() -> None:
    definitions = {name: set(definitions_of([ARCHITECTURES.module(name)])) for name in ARCHITECTURES}
    preact = {f"models.{name}" for name in ("fast_preact_resnet18", "preact_resnet18", "normalization")}
    assert definitions["fast_preact_resnet18"] == preact
    assert {"models.wide_resnet", "models.same_convolution"} < definitions["wrn28_10_swish"]
    assert all(f"models.{name}" in definitions[name] for name in ARCHITECTURES)
