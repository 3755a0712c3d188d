"""Whether lips and sound agree in time: the offset at which they fit best, and how clearly.

Legend: B batch, F frames, T mel frames, M mel bins, E embedding, P side of a cut-out in pixels, O offsets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from justdub.evaluation.world.nets import PictureTower, TimeTower
from justdub.evaluation.world.pictures import SIDE, pixels
from justdub.evaluation.world.scores import speech
from justdub.evaluation.world.sound import BINS, MEL_PER_FRAME, envelope, log_mel, scaled

CUT = 40  # pixels of a 96-pixel frame
REACH = 7  # frames; offsets -7..7 are tried


@dataclass(frozen=True)
class SyncSettings:
    """Shape of the net."""

    fold: int = 4
    widths: tuple[int, ...] = (32, 64)
    blocks: int = 1
    mouth: int = 48
    width: int = 128
    dilations: tuple[int, ...] = (1, 1)
    sound_dilations: tuple[int, ...] = (1, 2, 2, 2)
    size: int = 64


class SyncNet(nn.Module):
    """Cut-outs of the mouth and a spectrogram -> a vector of either for every frame, both of length 1."""

    def __init__(self, settings: SyncSettings) -> None:
        super().__init__()
        self.tower = PictureTower(settings.fold, settings.widths, settings.blocks)
        places = (CUT // settings.fold // 2 ** (len(settings.widths) - 1)) ** 2
        self.mouth = nn.Linear(settings.widths[-1] * places, settings.mouth)
        self.movement = TimeTower(settings.mouth, settings.width, settings.size, settings.dilations, stride=1)
        self.sound = TimeTower(BINS, settings.width, settings.size, settings.sound_dilations, stride=2)

    def see(self, cut_BF3PP: Tensor) -> Tensor:
        """Pixels -1..1 -> (B, F, E)."""
        batch, frames = cut_BF3PP.shape[:2]
        seen = self.mouth(self.tower(cut_BF3PP.flatten(0, 1)).flatten(1))
        return nn.functional.normalize(self.movement(seen.view(batch, frames, -1)).float(), dim=-1)

    def hear(self, mel_BTM: Tensor) -> Tensor:
        """Log-mel, nat -> (B, F', E), one vector per frame time from 0."""
        return nn.functional.normalize(self.sound(scaled(mel_BTM))[:, :: MEL_PER_FRAME // 2].float(), dim=-1)


def cut_out(pixels_F3HW: Tensor, centre_F2: np.ndarray) -> Tensor:
    """(F, 3, 40, 40) around x, y in pixels; a cut-out stays within the frame."""
    corner_F2 = np.clip(np.round(centre_F2 - CUT / 2), 0, SIDE - CUT).astype(int)
    pairs = zip(pixels_F3HW, corner_F2, strict=True)
    return torch.stack([frame[:, y : y + CUT, x : x + CUT] for frame, (x, y) in pairs])


def curve(seen_FE: np.ndarray, heard_FE: np.ndarray, weight_F: np.ndarray) -> np.ndarray:
    """(O,) mean likeness of picture at frame f and sound at frame f + o, for o = -`REACH`..`REACH`.

    Args:
        weight_F: how much each frame of the sound counts.
    """
    likeness_FF = seen_FE @ heard_FE.T
    frames, heard = likeness_FF.shape
    means = []
    for offset in range(-REACH, REACH + 1):
        first, last = max(0, -offset), min(frames, heard - offset)
        place = np.arange(first, last)
        weight = weight_F[place + offset]
        means.append(float((likeness_FF[place, place + offset] * weight).sum() / max(weight.sum(), 1e-6)))
    return np.array(means)


@dataclass(frozen=True)
class Sync:
    """offset: frames by which the sound is late (negative: early). confidence: the best mean likeness over all
    offsets minus their median. curve_O: the mean likeness at offsets -7..7."""

    offset: int
    confidence: float
    curve_O: np.ndarray


class SyncJudge:
    """The trained net."""

    def __init__(self, net: SyncNet) -> None:
        self.net = net.eval()

    @torch.inference_mode()
    def judge(self, frames_FHW3: np.ndarray, samples_S: np.ndarray, centre_F2: np.ndarray) -> Sync:
        """Frames uint8 of any size at 25 fps, float32 sound at 16 kHz, and the mouth's centre in pixels of a 96-pixel
        frame, as the lip reader finds it."""
        seen_FE = self.net.see(cut_out(pixels(frames_FHW3), centre_F2)[None])[0].numpy()
        heard_FE = self.net.hear(torch.from_numpy(log_mel(samples_S))[None])[0].numpy()
        weight_F = np.zeros(len(heard_FE))
        weight_F[speech(envelope(samples_S, len(heard_FE)))] = 1
        curve_O = curve(seen_FE, heard_FE, weight_F)
        return Sync(int(curve_O.argmax()) - REACH, float(curve_O.max() - np.median(curve_O)), curve_O)
