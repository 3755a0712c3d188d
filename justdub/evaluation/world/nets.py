"""The two small convolutional towers that the judges are made of.

Legend: B batch, T steps in time, M inputs, O outputs, C channels, H/W height/width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TimeBlock(nn.Module):
    """x + a convolution over time: kernel 5, same length."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.conv = nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation)

    def forward(self, x_BCT: Tensor) -> Tensor:
        return x_BCT + nn.functional.silu(self.conv(self.norm(x_BCT)))


class TimeTower(nn.Module):
    """(B, T, M) -> (B, ceil(T / stride), O).

    Args:
        dilations: of the blocks, one each. stride: in time, of the first convolution.
    """

    def __init__(self, inputs: int, width: int, outputs: int, dilations: Sequence[int], stride: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, width, 5, padding=2, stride=stride)
        self.blocks = nn.Sequential(*(TimeBlock(width, dilation) for dilation in dilations))
        self.last = nn.Conv1d(width, outputs, 1)

    def forward(self, x_BTM: Tensor) -> Tensor:
        x_BCT = nn.functional.silu(self.first(x_BTM.transpose(1, 2)))
        return self.last(self.blocks(x_BCT)).transpose(1, 2)


class PlaneBlock(nn.Module):
    """x + a 3 x 3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + nn.functional.silu(self.conv(self.norm(x_BCHW)))


class PictureTower(nn.Module):
    """Pictures (B, 3, H, W), -1..1 -> features (B, C, h, w).

    Pixels are folded `fold` x `fold` before the first convolution; every further width halves height and width.

    Args:
        widths: channels of each level. blocks: per level.
    """

    def __init__(self, fold: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.fold = fold
        layers: list[nn.Module] = []
        before = 3 * fold * fold
        for level, width in enumerate(widths):
            layers += [nn.Conv2d(before, width, 3, padding=1, stride=1 if level == 0 else 2), nn.SiLU()]
            layers += [PlaneBlock(width) for _ in range(blocks)]
            before = width
        self.layers = nn.Sequential(*layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        folded = nn.functional.pixel_unshuffle(pixels_B3HW, self.fold)
        return self.layers(folded.contiguous(memory_format=torch.channels_last))
