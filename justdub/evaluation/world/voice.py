"""Who speaks: a vector of a sound in which two sounds of one voice are close, whatever is said in whatever language.

Legend: B batch, T mel frames, M mel bins, C channels, E embedding, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from justdub.evaluation.world.nets import TimeTower
from justdub.evaluation.world.sound import BINS, log_mel, scaled


@dataclass(frozen=True)
class VoiceSettings:
    """Shape of the net."""

    width: int = 128
    dilations: tuple[int, ...] = (1, 2, 1, 2)
    size: int = 64


class VoiceNet(nn.Module):
    """Log-mel (B, T, M), nat -> (B, E), length 1."""

    def __init__(self, settings: VoiceSettings) -> None:
        super().__init__()
        self.tower = TimeTower(BINS, settings.width, settings.width + 1, settings.dilations, stride=2)
        self.last = nn.Linear(2 * settings.width, settings.size)

    def forward(self, mel_BTM: Tensor) -> Tensor:
        found_BTC = self.tower(scaled(mel_BTM)).float()
        weight_BT1 = found_BTC[..., :1].softmax(1)  # silence says nothing about a voice
        mean_BC = (weight_BT1 * found_BTC[..., 1:]).sum(1)
        spread_BC = ((weight_BT1 * found_BTC[..., 1:].square()).sum(1) - mean_BC.square()).clamp(min=1e-4).sqrt()
        return nn.functional.normalize(self.last(torch.cat((mean_BC, spread_BC), 1)).float(), dim=1)


class VoiceJudge:
    """The trained net."""

    def __init__(self, net: VoiceNet) -> None:
        self.net = net.eval()

    @torch.inference_mode()
    def embed(self, samples_S: np.ndarray) -> np.ndarray:
        """float32 (S,) at 16 kHz -> (E,); the product of two of them is their likeness, -1..1."""
        return self.net(torch.from_numpy(log_mel(samples_S))[None])[0].numpy()
