"""The table: every kind of clip goes through probe, frames, sound and writer. `pytest -s` prints it."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import clips
import pytest

from justdub.media import FrameReader, probe, read_audio, write_clip

EXTRAS = {"subtitles": True, "chapters": True, "title": "Table"}
ROWS: dict[str, tuple[str, dict]] = {
    "23.976": ("a.mp4", {"rate": "24000/1001", **EXTRAS}),
    "24": ("a.mkv", {"rate": "24", **EXTRAS}),
    "25": ("a.mp4", {"rate": "25", **EXTRAS}),
    "29.97": ("a.mov", {"rate": "30000/1001"}),
    "30": ("a.mp4", {"rate": "30"}),
    "50": ("a.mkv", {"rate": "50"}),
    "59.94": ("a.mp4", {"rate": "60000/1001"}),
    "variable": ("a.mp4", {"rate": "30", "variable": True}),
    "rotated 90": ("a.mp4", {"rotation": 90}),
    "rotated 270, 4:3 pixels": ("a.mp4", {"rotation": 270, "sample_aspect": "4/3"}),
    "161:160 pixels": ("a.mp4", {"sample_aspect": "161/160"}),
    "HEVC 10-bit": ("a.mp4", {"vcodec": "hevc10"}),
    "VP9 webm": ("a.webm", {"vcodec": "vp9", "subtitles": True}),
    "AV1": ("a.mp4", {"vcodec": "av1"}),
    "TS with an offset": ("a.ts", {"ts_offset": 1.4}),
    "late sound": ("a.mp4", {"audio_delay": 0.3}),
    "late picture": ("a.mp4", {"video_delay": 0.3}),
    "mono 44.1 kHz": ("a.mp4", {"audio": "mono", "audio_rate": 44100}),
    "5.1": ("a.mkv", {"audio": "5.1", **EXTRAS}),
    "silent": ("a.mp4", {"audio": None, **EXTRAS}),
    "odd size": ("a.mp4", {"size": (161, 97), "vcodec": "h264-444"}),
    "AVI, 8-bit sound": ("a.avi", {"vcodec": "mpeg4", "audio_codec": "pcm_u8"}),
}
_HEAD = f"\n{'clip':24} {'rate':>11} {'frames':>6} {'seconds':>8} {'A/V ms':>7}  {'reader':6}  streams"


@pytest.mark.parametrize("name", ROWS)
def test_row(tmp_path: Path, name: str) -> None:
    file, options = ROWS[name]
    info = probe(clips.make_clip(tmp_path / file, seconds=2, **options))
    reader = FrameReader(info, size=(info.video.width // 2, info.video.height // 2), window=16)
    channels = {"mono": 1, "5.1": 6}.get(options.get("audio", "stereo"), 2)
    sound = None if info.audio is None else read_audio(info, rate=24000, channels=channels)
    report = write_clip(
        tmp_path / "out.mp4",
        reader,
        frame_rate=info.video.frame_rate,
        size=(info.video.width, info.video.height),
        sample_aspect=info.video.sample_aspect,
        audio_CS=sound,
        audio_rate=24000,
        frames_total=info.video.frames,
        source=info,
        language="fr",
        preset="ultrafast",
    )
    result = probe(report.path)
    difference = "-" if report.av_difference is None else f"{report.av_difference * 1000:.1f}"
    if name == next(iter(ROWS)):
        sys.stdout.write(_HEAD + "\n")
    sys.stdout.write(
        f"{name:24} {report.frame_rate!s:>11} {report.frames:6} {float(report.duration):8.4f} {difference:>7}  "
        f"{reader.backend:6}  {', '.join(report.streams)}\n"
    )

    assert result.video.frame_rate == info.video.frame_rate == Fraction(options.get("rate", "25"))
    assert result.video.frames == info.video.frames == report.frames
    assert not result.video.variable and result.video.start == 0 and result.video.rotation == 0
    assert result.duration == info.duration
    assert abs(info.duration - 2) <= 2 / info.video.frame_rate  # the variable clip ends with a dropped frame
    assert (result.video.width, result.video.height) == (info.video.width, info.video.height)
    assert result.display_aspect == info.display_aspect
    assert len(result.subtitles) == len(info.subtitles) == int("subtitles" in options)
    assert result.chapters == info.chapters == 2 * int("chapters" in options)
    if info.audio is None:
        assert result.audio is None and report.av_difference is None
    else:
        assert report.av_difference <= 0.020
        assert (result.audio.channels, result.audio.rate, result.audio.language) == (channels, 48000, "fra")
