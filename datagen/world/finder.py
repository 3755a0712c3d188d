"""The lips of drawn faces, by the world's lip reader; answers as the finders of `justdub.faces.finders` do.

Legend: F frames, H/W height/width, K corners of an outline, 2 x and y in pixels.
"""

from __future__ import annotations

import numpy as np

from justdub.faces.finders import Face

_CORNERS = 16  # of an ellipse


class WorldFinder:
    """The lip reader of the drawn world: one face, and it always says where its mouth would be."""

    def __init__(self) -> None:
        from justdub.evaluation.world import judges

        self._reader = judges.load().lips

    def find(self, frames_FHW3: np.ndarray) -> Face:
        height, width = frames_FHW3.shape[1:3]
        opening_F, width_F, x_F, y_F = self._reader.read(frames_FHW3).T
        angle_K = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        scale_2 = np.array([width, height]) / 96

        def ellipse(half_wide_F: np.ndarray, up_F: np.ndarray, down_F: np.ndarray) -> np.ndarray:
            tall_FK = np.where(np.sin(angle_K) < 0, up_F[:, None], down_F[:, None])
            points = (x_F[:, None] + half_wide_F[:, None] * np.cos(angle_K), y_F[:, None] + tall_FK * np.sin(angle_K))
            return (np.stack(points, -1) * scale_2).astype(np.float32)

        half_F = np.maximum(opening_F / 2, 0) + 3  # the lips themselves are about three pixels thick
        lips = ellipse(width_F / 2 + 1, half_F, half_F)
        lower = ellipse(width_F * 0.8, half_F + 2, half_F + width_F * 0.7)
        return Face(lips, lower)
