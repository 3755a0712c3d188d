"""Sound lies on the picture's clock: a click and a flash at one instant stay together."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest

from justdub.errors import BadInputError
from justdub.media import FrameReader, probe, read_audio, write_clip

RATE = 48000
FLASHES = (10, 35)


def events(path: Path) -> tuple[list[float], list[float]]:
    """Instants in seconds after the first frame of (flashes, clicks) in an `event_clip`."""
    info = probe(path)
    brightness = np.concatenate([chunk.mean(axis=(1, 2, 3)) for chunk in FrameReader(info)])
    flashes = [float(n / info.video.frame_rate) for n in np.flatnonzero(brightness > 128)]
    level = np.abs(read_audio(info, rate=RATE, channels=1)[0])
    loud = np.flatnonzero(level > 0.5 * level.max())
    starts = loud[np.concatenate([[True], np.diff(loud) > RATE // 10])]
    return flashes, [start / RATE for start in starts]


EVENT_CLIPS = {
    "mp4": ("a.mp4", {}),
    "44100": ("a.mp4", {"audio_rate": 44100}),
    "29.97": ("a.mp4", {"rate": "30000/1001"}),
    "mkv": ("a.mkv", {}),
    "ts with an offset": ("a.ts", {"ts_offset": 1.4}),
    "webm": ("a.webm", {"vcodec": "vp9", "audio_codec": "libopus"}),
    "avi mp3": ("a.avi", {"vcodec": "mpeg4", "audio_codec": "pcm_s16le"}),
}


@pytest.mark.parametrize("name", EVENT_CLIPS)
def test_click_meets_flash_through_read_and_write(tmp_path: Path, name: str) -> None:
    file, options = EVENT_CLIPS[name]
    source = clips.event_clip(tmp_path / file, flash_frames=FLASHES, **options)
    flashes, clicks = events(source)
    assert len(flashes) == len(clicks) == 2
    assert np.abs(np.subtract(flashes, clicks)).max() < 0.001

    info = probe(source)
    assert [round(t * info.video.frame_rate) for t in flashes] == list(FLASHES)
    for suffix in (".mp4", ".mkv"):
        report = write_clip(
            tmp_path / f"out{suffix}", FrameReader(info), frame_rate=info.video.frame_rate, source=info,
            audio_CS=read_audio(info, rate=24000, channels=2), audio_rate=24000, preset="ultrafast",
        )  # fmt: skip
        again, heard = events(report.path)
        assert again == flashes
        assert np.abs(np.subtract(again, heard)).max() < 0.002


@pytest.mark.parametrize(("delays", "offset"), [({"audio_delay": 0.5}, 0.5), ({"video_delay": 0.5}, -0.5)])
def test_offset_becomes_silence_or_a_cut(tmp_path: Path, delays: dict, offset: float) -> None:
    info = probe(clips.make_clip(tmp_path / "a.mp4", seconds=2, **delays))
    sound = read_audio(info, rate=16000, channels=1)[0]
    assert sound.shape == (32000,)
    tone = np.abs(sound) > 0.05
    if offset > 0:
        assert np.flatnonzero(tone)[0] / 16000 == pytest.approx(0.5, abs=0.025)
    else:
        assert np.flatnonzero(tone)[-1] / 16000 == pytest.approx(1.5, abs=0.025)


def test_a_part_equals_that_part_of_the_whole(tmp_path: Path) -> None:
    info = probe(clips.make_clip(tmp_path / "a.mp4", seconds=6, size=(64, 48)))
    whole = read_audio(info, rate=48000, channels=2)
    part = read_audio(info, rate=48000, channels=2, start=Fraction(4), duration=Fraction(1, 2))
    assert part.shape == (2, 24000)
    assert np.abs(part - whole[:, 192000:216000]).max() < 1e-4
    past = read_audio(info, rate=48000, channels=2, start=Fraction(11, 2), duration=Fraction(1))
    assert np.abs(past[:, :20000]).max() > 0.1 and not past[:, 25000:].any()


def test_mono_goes_to_both_channels_unchanged(tmp_path: Path) -> None:
    info = probe(clips.make_clip(tmp_path / "a.mkv", audio="mono", audio_codec="pcm_s16le"))
    stereo, mono = (read_audio(info, rate=48000, channels=c) for c in (2, 1))
    assert np.array_equal(stereo[0], stereo[1]) and np.array_equal(stereo[0], mono[0])
    assert np.abs(mono).max() == pytest.approx(0.3, abs=0.01)


def test_surround_is_mixed_without_clipping(tmp_path: Path) -> None:
    loud = tmp_path / "a.mkv"
    clips.ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=1", "-f", "lavfi",
        "-i", "aevalsrc=exprs=0.99|0.99|0.99|0.99|0.99|0.99:channel_layout=5.1:sample_rate=48000:duration=1",
        "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "pcm_s16le", loud,
    )  # fmt: skip
    info = probe(loud)
    assert read_audio(info, rate=24000, channels=6).shape == (6, 24000)
    for channels in (1, 2):
        sound = read_audio(info, rate=24000, channels=channels)
        assert sound.shape == (channels, 24000)
        assert 0.9 < np.abs(sound[:, 2000:-2000]).max() <= 1.001


def test_eight_bit_samples(tmp_path: Path) -> None:
    info = probe(clips.make_clip(tmp_path / "a.avi", vcodec="mpeg4", audio_codec="pcm_u8"))
    sound = read_audio(info, rate=48000, channels=1)
    assert abs(sound.mean()) < 0.01 and np.abs(sound).max() == pytest.approx(0.3, abs=0.02)


def test_no_sound(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no sound"):
        read_audio(probe(clips.make_clip(tmp_path / "a.mp4", audio=None)), rate=16000, channels=1)
