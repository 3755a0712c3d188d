"""Who finds faces: the drawn world's reader against the truth; what is missing says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datagen.world import World
from datagen.world.finder import WorldFinder
from justdub.errors import BadInputError, MissingError, UsageError
from justdub.faces.finders import MediapipeFinder, open_finder


def test_the_lips_of_drawn_faces_lie_in_their_outlines() -> None:
    world = World()
    chosen = [n for n in range(12) if world.plan(n, "test").scene_type == "dialogue"][:4]
    batch, inside = world.batch(chosen, "test"), []
    for place in range(len(chosen)):
        clip = batch[place]
        face = WorldFinder().find(clip.frames)
        assert face.seen == 1.0 and face.faces == 1
        low, high = face.lips_FK2.min(1), face.lips_FK2.max(1)
        middle = (clip.box_F4[:, :2] + clip.box_F4[:, 2:]) / 2
        inside.append(((middle > low) & (middle < high)).all(1).mean())
        assert (face.lower_FK2[..., 1].max(1) > high[:, 1]).all(), "the lower face reaches below the lips"
    assert np.mean(inside) > 0.95


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="finder 'eyes'"):
        open_finder("eyes")
    with pytest.raises(MissingError, match="no insightface models at"):
        open_finder("insightface", str(tmp_path / "none"))


def test_mediapipe_finds_a_face_in_a_photograph_and_none_in_noise() -> None:
    pytest.importorskip("mediapipe", reason="mediapipe is not installed (extra face)")
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    frames = np.repeat(data.astronaut()[None], 2, 0)
    face = MediapipeFinder().find(frames)
    assert face.seen == 1.0 and face.faces == 1
    x, y = face.lips_FK2[0].mean(0)
    assert 180 < x < 270 and 130 < y < 220
    double = np.concatenate((frames, frames), 2)
    assert MediapipeFinder().find(double).faces == 2
    noise = np.random.default_rng(0).integers(0, 255, frames.shape, np.uint8)
    assert MediapipeFinder().find(noise).seen == 0.0
    with pytest.raises((BadInputError, MissingError)):
        MediapipeFinder("nowhere.task")
