"""What every judge of pictures sees: frames of 96 x 96 pixels, -1..1.

Legend: F frames, H/W height/width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SIDE = 96  # pixels


def pixels(frames_FHW3: np.ndarray) -> Tensor:
    """uint8 frames of any size -> (F, 3, 96, 96) float32."""
    pixels_F3HW = torch.from_numpy(np.ascontiguousarray(frames_FHW3)).permute(0, 3, 1, 2).float() / 127.5 - 1
    if pixels_F3HW.shape[2:] == (SIDE, SIDE):
        return pixels_F3HW
    return functional.interpolate(pixels_F3HW, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
