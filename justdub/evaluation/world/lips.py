"""The lip reader: how far the lips are open, how wide the mouth is and where it lies, frame by frame.

Legend: F frames, H = W = 96, C channels, L places of the coarse grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from justdub.evaluation.world.nets import PictureTower
from justdub.evaluation.world.pictures import pixels

CHANNELS = ("opening", "width", "x", "y")
_MIDDLE, _SPREAD = (4.0, 24.0, 48.0, 62.0), (4.0, 4.0, 5.0, 5.0)  # pixels: about means and deviations in the world


@dataclass(frozen=True)
class LipsSettings:
    """Shape of the net."""

    fold: int = 4
    widths: tuple[int, ...] = (48, 96)
    blocks: int = 2


class LipsNet(nn.Module):
    """Pixels (F, 3, 96, 96), -1..1 -> (F, 4): `CHANNELS` in pixels, x and y of the mouth's centre.

    One head looks where the mouth is, the others read the features found there.
    """

    def __init__(self, settings: LipsSettings) -> None:
        super().__init__()
        self.tower = PictureTower(settings.fold, settings.widths, settings.blocks)
        width = settings.widths[-1]
        self.look = nn.Conv2d(width, 4, 1)
        self.read = nn.Sequential(nn.Linear(4 * (width + 2), 128), nn.SiLU(), nn.Linear(128, len(CHANNELS)))

    def forward(self, pixels_F3HW: Tensor) -> Tensor:
        seen_FCHW = self.tower(pixels_F3HW)
        height, width = seen_FCHW.shape[2:]
        down_HW, right_HW = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        places_F2L = torch.stack((right_HW, down_HW)).flatten(1).expand(len(seen_FCHW), -1, -1)
        share_F4L = self.look(seen_FCHW).flatten(2).float().softmax(-1)
        features = torch.cat((seen_FCHW.flatten(2).float(), places_F2L.float()), 1)
        found_F4C = share_F4L @ features.transpose(1, 2)
        return self.read(found_F4C.flatten(1)).float() * torch.tensor(_SPREAD) + torch.tensor(_MIDDLE)


class LipReader:
    """The trained net."""

    def __init__(self, net: LipsNet) -> None:
        self.net = net.eval()

    @torch.inference_mode()
    def read(self, frames_FHW3: np.ndarray) -> np.ndarray:
        """uint8 frames of any size -> float32 (F, 4), `CHANNELS` in pixels of a 96-pixel frame."""
        return self.net(pixels(frames_FHW3)).numpy()
