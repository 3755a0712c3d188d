"""LSE-C, LSE-D and ASync by SyncNet (Chung, Zisserman 2016; the measures: Prajwal et al. 2020).

Two towers: five frames of the cut-out face (224x224, BGR 0..255) and 0.2 s of sound (13 mel cepstra) give vectors of
1024. Distances are averaged over the clip for every offset within 15 frames; LSE-D is the smallest, LSE-C the median
minus the smallest, the offset is where it lies. The tensors are those published as syncnet_v2, as safetensors.

The published figures cut faces out by another detector (S3FD): compare figures of one cutter only.

Legend: B batch, F frames, T frames of sound (100/s), E vector, O offsets, S samples, 3 BGR.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from scipy.signal import medfilt
from torch import Tensor, nn

from justdub.errors import BadInputError
from justdub.evaluation.faces import OUTLINE, cut, filled, landmarks, require
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.mfcc import mfcc
from justdub.evaluation.needed import need
from justdub.evaluation.sample import Clip, Sample
from justdub.evaluation.tools import Tools
from justdub.evaluation.weights import load_tensors

REACH, SIDE, SPAN = 15, 224, 5
_RATE = 25  # frames per second that it was trained on
_BATCH = 16
_MARGIN = 0.4  # of the face's half side, around the cut-out

# (channels, kernel, stride, padding) of a convolution with normalisation and ReLU; ("pool", kernel, stride, padding).
_SOUND = (
    (64, 3, 1, 1), ("pool", 1, 1, 0), (192, 3, 1, 1), ("pool", 3, (1, 2), 0), (384, 3, 1, 1), (256, 3, 1, 1),
    (256, 3, 1, 1), ("pool", 3, 2, 0), (512, (5, 4), 1, 0),
)  # fmt: skip
_LIPS = (
    (96, (5, 7, 7), (1, 2, 2), 0), ("pool", (1, 3, 3), (1, 2, 2), 0),
    (256, (1, 5, 5), (1, 2, 2), (0, 1, 1)), ("pool", (1, 3, 3), (1, 2, 2), (0, 1, 1)),
    (256, (1, 3, 3), 1, (0, 1, 1)), (256, (1, 3, 3), 1, (0, 1, 1)), (256, (1, 3, 3), 1, (0, 1, 1)),
    ("pool", (1, 3, 3), (1, 2, 2), 0), (512, (1, 6, 6), 1, 0),
)  # fmt: skip


def _tower(plan: tuple, channels: int, convolution, normalisation, pool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for kind, kernel, stride, padding in plan:
        if kind == "pool":
            layers.append(pool(kernel, stride, padding))
        else:
            layers += [convolution(channels, kind, kernel, stride, padding), normalisation(kind), nn.ReLU()]
            channels = kind
    return nn.Sequential(*layers)


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """The published layout: netcnnaud, netfcaud, netcnnlip, netfclip."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = _tower(_SOUND, 1, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d)
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = _tower(_LIPS, 3, nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d)

    def hear(self, cepstra_B1KT: Tensor) -> Tensor:
        """(B, 1, 13, 20) -> (B, 1024)."""
        return self.netfcaud(self.netcnnaud(cepstra_B1KT).flatten(1))

    def see(self, faces_B3FHW: Tensor) -> Tensor:
        """(B, 3, 5, 224, 224), BGR 0..255 -> (B, 1024)."""
        return self.netfclip(self.netcnnlip(faces_B3FHW).flatten(1))


def load(path: Path) -> SyncNet:
    """The network with the user's tensors; see `load_tensors` for what is raised."""
    net = SyncNet()
    load_tensors(path, net)
    return net.eval()


def distances(seen_FE: np.ndarray, heard_FE: np.ndarray) -> np.ndarray:
    """(O,) mean distance at offsets -15..15: the vector of frame f against that of sound f + o; nought beyond the
    ends, as published."""
    padded = np.pad(heard_FE, ((REACH, REACH), (0, 0)))
    rows = [np.linalg.norm(seen_FE - padded[o : o + len(seen_FE)] + 1e-6, axis=1).mean() for o in range(2 * REACH + 1)]
    return np.array(rows)


def _cut_faces(clip: Clip) -> np.ndarray:
    """uint8 (F, 224, 224, 3) BGR: the face, its box smoothed over 13 frames, at 25 frames per second."""
    outline = filled(landmarks(clip))[:, OUTLINE]
    low, high = outline.min(1), outline.max(1)
    half = medfilt((high - low).max(1) / 2, 13 if len(low) >= 13 else 1)
    x, y = (medfilt((low + high)[:, axis] / 2, 13 if len(low) >= 13 else 1) for axis in (0, 1))
    wanted = _slots(clip)
    faces, place = [], 0
    for chunk in clip.frames():
        for frame in chunk:
            for _ in range(wanted.count(place)):
                side = 2 * half[place] * (1 + _MARGIN)
                square = (x[place] - side / 2, y[place] - half[place], side)
                faces.append(cut(frame, square, SIDE)[..., ::-1])
            place += 1
    return np.stack(faces)


def _slots(clip: Clip) -> list[int]:
    """The frame shown at each instant of a clock of 25 frames per second."""
    video = clip.info.video
    count = int(clip.info.duration * _RATE)
    return [min(video.frames - 1, int(Fraction(k, _RATE) * video.frame_rate)) for k in range(count)]


@torch.inference_mode()
def offsets(clip: Clip, tools: Tools) -> np.ndarray:
    """(O,) mean distances of a clip's picture and sound, kept by content.

    Raises:
        BadInputError: no face, silence, or shorter than about 0.5 s.
    """
    net, _ = need(lambda: tools.model("syncnet", lambda: load(tools.path("syncnet"))), require)
    path = tools.path("syncnet")
    cepstra_KT = torch.from_numpy(mfcc(np.round(clip.speech * 32767)).T).float()

    def make() -> dict[str, np.ndarray]:
        faces = torch.from_numpy(_cut_faces(clip)).permute(3, 0, 1, 2)
        count = min(faces.shape[1], cepstra_KT.shape[1] // 4) - SPAN
        if count < 2:
            raise BadInputError(f"{clip.path.name}: too short for SyncNet")
        seen, heard = [], []
        for first in range(0, count, _BATCH):
            places = range(first, min(first + _BATCH, count))
            seen.append(net.see(torch.stack([faces[:, k : k + SPAN] for k in places]).float()))
            heard.append(net.hear(torch.stack([cepstra_KT[None, :, 4 * k : 4 * k + 20] for k in places])))
        return {"distances": distances(torch.cat(seen).numpy(), torch.cat(heard).numpy())}

    stamp = (path, path.stat().st_size, clip.picture_digest, clip.longest)
    return clip.sound_feature("syncnet", make, *stamp)["distances"]


def offset_of(distances_O: np.ndarray) -> int:
    """Frames by which the sound is late (25 per second), the published figure's negative."""
    return int(distances_O.argmin()) - REACH


def _dub(sample: Sample) -> np.ndarray:
    return offsets(sample.dub, sample.tools)


_NEEDS = "SyncNet weights (safetensors), mediapipe"

METRICS = (
    Metric("lse_c", "LSE-C", "", Better.HIGHER, _NEEDS,
           "Prajwal et al. 2020: median minus smallest mean distance over offsets within 15 frames.",
           lambda s: float(np.median(_dub(s)) - _dub(s).min())),
    Metric("lse_d", "LSE-D", "", Better.LOWER, _NEEDS,
           "Prajwal et al. 2020: smallest mean distance of SyncNet's vectors of picture and sound.",
           lambda s: float(_dub(s).min())),
    Metric("async", "ASync", "frames", Better.LOWER, _NEEDS,
           "Chung, Zisserman 2016: size of the offset of the smallest distance, frames of 1/25 s.",
           lambda s: float(abs(offset_of(_dub(s))))),
)  # fmt: skip
