"""The layers with a backward of their own, against the plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deft_lightning.model.networks import layers

Layer = tuple[object, ...]


def plain_convolution(x: Tensor, weight: Tensor, bias: Tensor, groups: int = 1) -> Tensor:
    return F.relu(F.conv2d(x, weight, bias, stride=2, padding=1, groups=groups))


def plain_transposed_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.relu(F.conv_transpose2d(x, weight, bias, stride=2, padding=1))


def plain_transposed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)


def two_groups(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return layers.convolution_relu(x, weight, bias, groups=2)


def two_plain_groups(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return plain_convolution(x, weight, bias, groups=2)


CASES = [  # the layer, the plain one, shapes of input and weight, channels of the output
    (layers.convolution_relu, plain_convolution, (2, 3, 8, 8), (4, 3, 4, 4), 4),
    (two_groups, two_plain_groups, (2, 4, 8, 8), (6, 2, 4, 4), 6),
    (layers.transposed_convolution_relu, plain_transposed_relu, (2, 3, 4, 4), (3, 5, 4, 4), 5),
    (layers.transposed_convolution, plain_transposed, (2, 3, 4, 4), (3, 5, 4, 4), 5),
    (layers.transposed_convolution, plain_transposed, (2, 4, 8, 8), (4, 1, 4, 4), 1),
]


def arguments(x: tuple[int, ...], weight: tuple[int, ...], outputs: int, dtype: torch.dtype, memory_format) -> list:
    random = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=random, dtype=dtype) for shape in (x, weight, (outputs,))]
    tensors[0] = tensors[0].contiguous(memory_format=memory_format)
    return [tensor.requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("layer", "plain", "x", "weight", "outputs"), CASES)
def test_gradients_are_those_of_finite_differences(layer, plain, x, weight, outputs, memory_format) -> None:
    inputs = arguments(x, weight, outputs, torch.float64, memory_format)
    torch.testing.assert_close(layer(*inputs), plain(*inputs), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(layer, inputs)


@pytest.mark.parametrize(("layer", "plain", "x", "weight", "outputs"), CASES)
def test_single_precision_equals_the_plain_layer(layer, plain, x, weight, outputs) -> None:
    """At the size of a training step, where bias sums take the path over rows."""
    x = (64, x[1], 32, 32)
    results = []
    for function in (layer, plain):
        inputs = arguments(x, weight, outputs, torch.float32, torch.channels_last)
        output = function(*inputs)
        (output * torch.linspace(0.5, 1, output.numel()).view_as(output)).sum().backward()
        results.append([output.detach(), *(tensor.grad for tensor in inputs)])
    for ours, theirs in zip(*results, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


def test_an_autocast_region_computes_in_half_precision_and_gradients_are_single() -> None:
    inputs = arguments((8, 4, 16, 16), (8, 4, 4, 4), 8, torch.float32, torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        output = layers.convolution_relu(*inputs)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    plain = arguments((8, 4, 16, 16), (8, 4, 4, 4), 8, torch.float32, torch.channels_last)
    plain_convolution(*plain).sum().backward()
    for ours, theirs in zip(inputs, plain, strict=True):
        assert ours.grad.dtype == torch.float32
        assert float((ours.grad - theirs.grad).norm() / theirs.grad.norm()) < 0.02
