"""Masks drawn over frames: the picture shows all that is masked, and every mask where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from datagen import overlay
from datagen.__main__ import main
from justdub.tokens import Geometry

GEOMETRY = Geometry(frames_per_latent=8, pixels_per_latent=32)


def test_the_window_holds_every_masked_latent_and_stays_in_the_frame() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(3, 12, 2)
        cells_fhw = torch.zeros(2, height, width, dtype=torch.bool)
        row, column = rng.integers(0, height), rng.integers(0, width)
        cells_fhw[0, row : row + 2, column : column + 2] = True
        top, left, side = overlay.window(cells_fhw, GEOMETRY)
        assert top % 32 == left % 32 == side % 32 == 0
        assert top >= 0 and left >= 0 and top + side <= 32 * height and left + side <= 32 * width
        assert cells_fhw[0, top // 32 : (top + side) // 32, left // 32 : (left + side) // 32].sum() == cells_fhw.sum()


def test_masks_are_drawn_where_they_are_and_nowhere_else() -> None:
    grey = np.full((64, 64, 3), 100, np.uint8)
    none = np.zeros((64, 64), bool)
    fine, box = none.copy(), none.copy()
    fine[:32], box[32:, 32:] = True, True
    side = overlay.over(grey, none, none, none).shape[0]
    assert (overlay.over(grey, none, none, none) == 100).all()
    drawn = overlay.over(grey, fine, box, none)
    half = side // 2
    assert (drawn[: half - 1] != 100).any(-1).all(), "all of a tint"
    assert (drawn[half:, : half - 1] == 100).all() and (drawn[half + 20 : -20, half + 20 : -20] == 100).all()
    assert (drawn[half + 20, half] != 100).any(), "of a line its edge"


def test_the_command_writes_a_picture(tree: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from PIL import Image

    config, picture = tmp_path / "job.yaml", tmp_path / "masks.png"
    config.write_text(yaml.safe_dump(tree))
    drawn = ["masks", str(config), "-q", "-o", str(picture), "--columns", "3"]
    assert main([*drawn, "world:1"]) == 0
    assert Image.open(picture).size == (3 * 208 + 2 * 4, 208)
    for clip, code, words in (("world:x", 2, "clip 'world:x'"), ("nowhere.mp4", 3, "nowhere.mp4")):
        assert main([*drawn, clip]) == code
        told = capsys.readouterr().err.strip()
        assert words in told and "\n" not in told
