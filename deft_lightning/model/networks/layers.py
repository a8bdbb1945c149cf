"""Convolutions with their ReLU, and the last layer of a decoder, with a backward of their own.

Autograd's backward of a stride-2 layer followed by a ReLU copies and converts more than it computes on a CPU. The
functions here compute the same layers and the same gradients (`tests/model/networks/test_layers.py` holds them to the
plain layers):

- the ReLU is applied in place, and its mask is read from the output;
- the gradient of the bias is a matrix product over rows, since a sum over [B H W, C] with few channels is slow;
- a transposed convolution of kernel 4 and stride 2 to few channels is a convolution of kernel 2 to four times as many.
  With x padded by one pixel, every output pixel 2m + r - 1 (r = 0, 1; along one axis) is::

      y[2m + r - 1] = x_padded[m] w[r + 2] + x_padded[m + 1] w[r],    m = 0 ... H

  so that the four pixels (r_y, r_x) of one m are four channels of a 2 x 2 convolution, which `pixel_shuffle` puts side
  by side; the outermost row and column on each side are cut off.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

aten = torch.ops.aten
ROWS = 64
"""So many pixels stand in one row when a bias is summed."""


def convolution_relu(x: Tensor, weight: Tensor, bias: Tensor, groups: int = 1) -> Tensor:
    """relu(conv2d(x, weight, bias, stride=2, padding=1, groups=groups)), [B, C, H, W] to [B, c, H/2, W/2]."""
    if torch.compiler.is_compiling():  # exported programs have plain operators
        return F.relu(F.conv2d(x, weight, bias, stride=2, padding=1, groups=groups))
    return _ConvolutionReLU.apply(*_cast(x, weight, bias), False, groups)  # type: ignore[no-any-return]


def transposed_convolution_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """relu(conv_transpose2d(x, weight, bias, stride=2, padding=1)), [B, C, H, W] to [B, c, 2H, 2W]."""
    if torch.compiler.is_compiling():
        return F.relu(F.conv_transpose2d(x, weight, bias, stride=2, padding=1))
    return _ConvolutionReLU.apply(*_cast(x, weight, bias), True, 1)  # type: ignore[no-any-return]


def transposed_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """conv_transpose2d(x, weight, bias, stride=2, padding=1) for kernels of 4 x 4, [B, C, H, W] to [B, c, 2H, 2W]."""
    if torch.compiler.is_compiling():
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
    return _TransposedConvolution.apply(*_cast(x, weight, bias))  # type: ignore[no-any-return]


def _cast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the precision of an autocast region: inside the functions there is none."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


class _ConvolutionReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, transposed: bool, groups: int) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            y = aten.convolution(x, weight, bias, [2, 2], [1, 1], [1, 1], transposed, [0, 0], groups).relu_()
        ctx.save_for_backward(x, weight, y)
        ctx.transposed, ctx.groups = transposed, groups
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        gradient = aten.threshold_backward(gradient, y, 0)
        of_x, of_weight = _backward(gradient, x, weight, ctx.transposed, ctx.groups, ctx.needs_input_grad[0])
        return of_x, of_weight, _sum_over_pixels(gradient), None, None


class _TransposedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        with torch.autocast(x.device.type, enabled=False):
            pixels = F.conv2d(x, _as_convolution(weight), bias.repeat_interleave(4), padding=1)
            return F.pixel_shuffle(pixels, 2)[:, :, 1:-1, 1:-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x, of_weight = _backward(gradient, x, weight, True, 1, ctx.needs_input_grad[0])
        return of_x, of_weight, _sum_over_pixels(gradient)


def _as_convolution(weight: Tensor) -> Tensor:
    """[C, c, 4, 4] of the transposed convolution to [4 c, C, 2, 2] of the convolution before the shuffle."""
    inputs, outputs = weight.shape[:2]
    taps = weight.view(inputs, outputs, 2, 2, 2, 2).flip(2, 4)  # [C, c, tap_y, r_y, tap_x, r_x]
    return taps.permute(1, 3, 5, 0, 2, 4).reshape(4 * outputs, inputs, 2, 2)


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, transposed: bool, groups: int, of_x: bool
) -> tuple[Tensor | None, Tensor]:
    outputs = [of_x, True, False]
    of_input, of_weight, _ = aten.convolution_backward(
        gradient, x, weight, None, [2, 2], [1, 1], [1, 1], transposed, [0, 0], groups, outputs
    )
    return of_input, of_weight


def _sum_over_pixels(x: Tensor) -> Tensor:
    """Sum over batch, height and width of [B, C, H, W] in channels_last order, [C]."""
    channels = x.shape[1]
    flat = x.permute(0, 2, 3, 1).reshape(-1)  # pixel after pixel
    pixels = flat.numel() // channels
    if pixels % ROWS:
        return flat.view(-1, channels).sum(dim=0)
    rows = flat.view(pixels // ROWS, ROWS * channels)
    sums = (rows.new_ones(1, len(rows)) @ rows).view(ROWS, channels)
    return sums.sum(dim=0, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype)
