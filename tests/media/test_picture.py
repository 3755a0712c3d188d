"""A clip as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import justdub.examples
from justdub.errors import UsageError
from justdub.media import probe
from justdub.media.picture import Glance, draw, glance, spectrogram
from justdub.media.png import write_png

CLIP = Path(justdub.examples.__file__).with_name("clip.mp4")


def test_frames_are_spread_over_the_clip_and_the_sound_is_all_there():
    info = probe(CLIP)
    found = glance(info, columns=5, height=48)
    assert found.frames.shape == (5, 48, 48, 3)
    assert len(found.sound) == pytest.approx(float(info.duration) * 16000, abs=16)
    assert len({frame.tobytes() for frame in found.frames}) == 5


def test_a_tone_is_a_line_at_its_height():
    seconds = np.arange(16000) / 16000
    low, high = (
        spectrogram(np.sin(2 * np.pi * hertz * seconds).astype(np.float32), 50).sum(2).mean(1).argmax()
        for hertz in (300, 3000)
    )
    assert 0 < high < low < 64
    mel = [64 * (1 - np.log10(1 + hertz / 700) / np.log10(1 + 8000 / 700)) for hertz in (300, 3000)]
    assert (low, high) == pytest.approx(mel, abs=2)


def test_silence_is_drawn_dark_and_narrow_clips_are_filled_up():
    frames = np.full((2, 96, 96, 3), 200, np.uint8)
    silent = Glance(frames, np.zeros(100, np.float32))
    wide = Glance(frames.repeat(3, 0), np.zeros(16000, np.float32))
    picture = draw([silent, wide])
    assert picture.shape[1] == 6 * 96
    assert (picture[:96, :192] == 200).all() and not picture[:96, 192:].any()


def test_png_is_read_back_by_another_decoder(tmp_path):
    import av

    picture = np.random.default_rng(0).integers(256, size=(10, 12, 3), dtype=np.uint8)
    write_png(tmp_path / "p.png", picture)
    with av.open(str(tmp_path / "p.png")) as container:
        frame = next(container.decode(video=0))
    assert np.array_equal(frame.to_ndarray(format="rgb24"), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_the_verb_refuses_what_it_cannot_do(tmp_path):
    from justdub.cli.main import run

    assert run(["show", str(CLIP), "-o", str(tmp_path / "p.png"), "--columns", "3"]) == 0
    assert run(["show", str(CLIP), "-o", str(tmp_path / "p.jpg")]) == UsageError.exit_code
    assert run(["show", str(CLIP), "-o", str(tmp_path / "p.png"), "--columns", "0"]) == UsageError.exit_code
    assert run(["show", str(tmp_path / "none.mp4"), "-o", str(tmp_path / "q.png")]) != 0
    assert not (tmp_path / "q.png").exists()
