"""The fine mask: latents that change when the lips are painted over; two faces and none are turned down."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from datagen import mask
from datagen.job import MaskSettings
from datagen.probe import explained
from datagen.store import Rejected
from datagen.tools import Film
from justdub.backbone import checkpoint
from justdub.faces.finders import Face
from justdub.tokens import Geometry


def face(frames: int = 9, faces: int = 1, seen: int | None = None) -> Face:
    square = np.array([[40, 60], [56, 60], [56, 68], [40, 68]], np.float32)
    outline = np.repeat(square[None], frames, 0)
    if seen is not None:
        outline[seen:] = np.nan
    return Face(outline, outline, faces)


def test_a_latent_is_masked_when_painting_the_lips_changes_it(tiny_folder) -> None:
    codec = checkpoint.load(tiny_folder).video_codec
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (9, 96, 96, 3), np.uint8)
    none = np.zeros((9, 96, 96), bool)
    assert not mask.fine(codec, frames, none, 0.0).any()
    painted = none.copy()
    painted[:, 70:80, 40:56] = True
    change = mask.change(codec, frames, painted)
    assert change.shape == (2, 3, 3) and change[:, 2, 1].min() > change[:, 0].max()
    low, high = (mask.fine(codec, frames, painted, threshold) for threshold in (1e-6, float(change.max()) * 0.9))
    assert (low | high).equal(low) and high.any() and low.sum() > high.sum()


def test_the_box_mask_covers_the_area_and_nothing_else() -> None:
    area = np.zeros((9, 96, 96), bool)
    area[0, 40:50, 10:20] = True
    area[4, 10, 90] = True
    found = mask.box(area, Geometry(frames_per_latent=8, pixels_per_latent=32))
    assert found.nonzero().tolist() == [[0, 1, 0], [1, 0, 2]]


def test_the_area_is_grown_and_held() -> None:
    film = Film(np.zeros((9, 96, 96, 3), np.uint8), np.zeros(16), Fraction(25))
    moving = face(seen=5)
    area = mask.area(moving, film, MaskSettings(finder="world", grow=0.0, hold=0.08))
    assert area[4].sum() >= 16 * 8 and area[6].any() and not area[7].any()
    grown = mask.area(moving, film, MaskSettings(finder="world", grow=0.25, hold=0.0))
    assert grown[0].sum() > area[0].sum() and not grown[5].any()


def test_no_face_and_two_faces_are_turned_down() -> None:
    mask.check(face())
    with pytest.raises(Rejected, match="no face in 67% of the frames"):
        mask.check(face(seen=3))
    with pytest.raises(Rejected, match="2 faces at once"):
        mask.check(face(faces=2))


def test_the_probe_finds_what_is_there_and_nothing_where_there_is_nothing() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 10)
    features = rng.standard_normal((400, 30))
    told = features @ rng.standard_normal(30) + 0.1 * rng.standard_normal(400)
    assert explained(features, told, group) > 0.9
    assert abs(explained(features, rng.standard_normal(400), group)) < 0.1
    assert torch.tensor(explained(features * 0, told, group)) == pytest.approx(0.0, abs=0.05)
