"""What the mouth should do to make a sound: opening and width of the lips that belong to it, frame by frame.

Legend: B batch, T mel frames, M mel bins, F video frames, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from justdub.evaluation.world.nets import TimeTower
from justdub.evaluation.world.sound import BINS, MEL_PER_FRAME, log_mel, scaled

_MIDDLE, _SPREAD = (4.0, 24.0), (4.0, 4.0)  # pixels


@dataclass(frozen=True)
class ArticulationSettings:
    """Shape of the net: 25 steps per second."""

    width: int = 96
    dilations: tuple[int, ...] = (1, 1, 2, 1)


class ArticulationNet(nn.Module):
    """Log-mel (B, T, M), nat -> (B, F, 2): opening and width in pixels of a 96-pixel frame."""

    def __init__(self, settings: ArticulationSettings) -> None:
        super().__init__()
        self.tower = TimeTower(BINS, settings.width, 2, settings.dilations, stride=2)

    def forward(self, mel_BTM: Tensor) -> Tensor:
        found_BF2 = self.tower(scaled(mel_BTM))[:, :: MEL_PER_FRAME // 2].float()
        return found_BF2 * torch.tensor(_SPREAD) + torch.tensor(_MIDDLE)


class Articulation:
    """The trained net."""

    def __init__(self, net: ArticulationNet) -> None:
        self.net = net.eval()

    @torch.inference_mode()
    def expect(self, samples_S: np.ndarray, frames: int) -> np.ndarray:
        """float32 (S,) at 16 kHz -> (F, 2) for `frames` frames; past the end of the sound its last value."""
        found_F2 = self.net(torch.from_numpy(log_mel(samples_S))[None])[0].numpy()
        return found_F2[np.minimum(np.arange(frames), len(found_F2) - 1)]
