"""Whose face it is: a vector of frames in which two clips of one face are close, whatever scene and movement.

Legend: N pictures, H = W = 96, C channels, E embedding, F frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from justdub.evaluation.world.nets import PictureTower
from justdub.evaluation.world.pictures import pixels

_LOOKED_AT = 4  # frames of a clip


@dataclass(frozen=True)
class FaceSettings:
    """Shape of the net."""

    fold: int = 4
    widths: tuple[int, ...] = (48, 96, 128)
    blocks: int = 1
    size: int = 64


class FaceNet(nn.Module):
    """Pixels (N, 3, 96, 96), -1..1 -> (N, E), length 1."""

    def __init__(self, settings: FaceSettings) -> None:
        super().__init__()
        self.tower = PictureTower(settings.fold, settings.widths, settings.blocks)
        self.look = nn.Conv2d(settings.widths[-1], 4, 1)
        self.last = nn.Linear(4 * settings.widths[-1], settings.size)

    def forward(self, pixels_N3HW: Tensor) -> Tensor:
        seen_NCHW = self.tower(pixels_N3HW)
        share_N4L = self.look(seen_NCHW).flatten(2).float().softmax(-1)
        found_N4C = share_N4L @ seen_NCHW.flatten(2).float().transpose(1, 2)
        return nn.functional.normalize(self.last(found_N4C.flatten(1)).float(), dim=1)


class FaceJudge:
    """The trained net."""

    def __init__(self, net: FaceNet) -> None:
        self.net = net.eval()

    @torch.inference_mode()
    def embed(self, frames_FHW3: np.ndarray) -> np.ndarray:
        """uint8 frames of any size -> (E,), the mean direction of four frames spread over the clip; the product of
        two of them is their likeness, -1..1."""
        places = np.linspace(0, len(frames_FHW3) - 1, _LOOKED_AT).round().astype(int)
        mean_E = self.net(pixels(frames_FHW3[places])).mean(0)
        return (mean_E / mean_E.norm()).numpy()
