"""Frames: the same from either decoder, upright, on time, and never more than a window in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import clips
import numpy as np
import pytest

from justdub.errors import BadInputError, UsageError
from justdub.media import FrameReader, probe, read_frames


def _all(info, **options) -> np.ndarray:
    return np.concatenate(list(FrameReader(info, **options)))


def _ffmpeg_frames(path: Path, width: int, height: int) -> np.ndarray:
    raw = path.with_suffix(".rgb")
    clips.ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", raw)
    return np.fromfile(raw, dtype=np.uint8).reshape(-1, height, width, 3)


CLIPS = {
    "h264": {}, "29.97": {"rate": "30000/1001"}, "odd size": {"size": (161, 97), "vcodec": "h264-444"},
    "rotated 90": {"rotation": 90}, "rotated 180": {"rotation": 180}, "rotated 270": {"rotation": 270},
    "late picture": {"video_delay": 0.5}, "untagged": {"tagged": False},
}  # fmt: skip


@pytest.mark.parametrize("name", CLIPS)
def test_decoders_agree_with_each_other_and_with_ffmpeg(tmp_path: Path, name: str) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", **CLIPS[name])
    info = probe(path)
    by_pyav = _all(info, backend="pyav")
    assert len(by_pyav) == info.video.frames
    assert np.array_equal(by_pyav, _all(info, backend="decord"))
    assert np.array_equal(by_pyav, _ffmpeg_frames(path, info.video.width, info.video.height))
    small = {"size": (48, 32), "window": 7}
    assert np.array_equal(_all(info, backend="pyav", **small), _all(info, backend="decord", **small))


FALLBACKS = {
    "av1": ("a.mp4", {"vcodec": "av1"}), "ts": ("a.ts", {"ts_offset": 1.4}), "10-bit": ("a.mp4", {"vcodec": "hevc10"}),
    "variable": ("a.mkv", {"variable": True}), "vp9": ("a.webm", {"vcodec": "vp9"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FALLBACKS)
def test_falls_back_and_says_so(tmp_path: Path, name: str) -> None:
    file, options = FALLBACKS[name]
    info = probe(clips.make_clip(tmp_path / file, **options))
    reader = FrameReader(info)
    assert sum(map(len, reader)) == info.video.frames
    assert reader.backend in ("pyav", "decord")
    if name != "vp9":  # decord reads most, not all, of these
        assert reader.backend == "pyav"
    assert bool(reader.notes) == (reader.backend == "pyav")
    assert all("\n" not in note for note in reader.notes)


def test_falls_back_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import decord

    info = probe(clips.make_clip(tmp_path / "a.mp4"))
    whole = _all(info, backend="pyav")
    batch = decord.VideoReader.get_batch

    def fail_late(self, indices):
        if max(indices) > 15:
            raise RuntimeError("[12:00:00] somewhere.cc:1: it broke")
        return batch(self, indices)

    monkeypatch.setattr(decord.VideoReader, "get_batch", fail_late)
    reader = FrameReader(info, window=6)
    assert np.array_equal(np.concatenate(list(reader)), whole)
    assert reader.backend == "pyav" and "failed at frame 12: it broke" in reader.notes[0]


def test_avi_without_presentation_times_keeps_its_order(tmp_path: Path) -> None:
    info = probe(clips.make_clip(tmp_path / "a.avi"))
    assert np.array_equal(_all(info, backend="pyav"), _all(info, backend="decord"))


def test_variable_rate_holds_the_frame_before(tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", rate="25", seconds=2, variable=True)
    constant = clips.make_clip(tmp_path / "b.mp4", rate="25", seconds=2)
    frames, originals = _all(probe(path)).astype(int), _all(probe(constant)).astype(int)
    kept = [n for n in range(50) if (n % 3) * (n % 7) or n == 0]
    assert len(frames) == kept[-1] + 1
    for n in range(len(frames)):
        source = max(k for k in kept if k <= n)
        nearest = np.argmin([np.abs(frames[n] - original).mean() for original in originals])
        assert nearest == source


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_memory_is_bounded_by_the_window(tmp_path: Path, backend: str) -> None:
    info = probe(clips.make_clip(tmp_path / "a.mp4", seconds=10, audio=None))
    window, frame_bytes = 8, 160 * 96 * 3
    tracemalloc.start()
    try:
        count = 0
        for chunk in FrameReader(info, window=window, backend=backend):
            assert 0 < len(chunk) <= window and chunk.dtype == np.uint8
            count += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 250
    assert peak < 5 * window * frame_bytes + (1 << 20)
    assert 250 * frame_bytes > 2 * peak


def test_large_frames_are_resized_in_small_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("justdub.media.read.DECODE_BYTES", 3 * 160 * 96 * 3)
    info = probe(clips.make_clip(tmp_path / "a.mp4"))
    reader = FrameReader(info, size=(32, 16), window=8)
    assert reader.step == 3
    assert [chunk.shape for chunk in reader] == [(8, 16, 32, 3)] * 3 + [(1, 16, 32, 3)]


def test_limit_window_and_progress(tmp_path: Path) -> None:
    info, seen = probe(clips.make_clip(tmp_path / "a.mp4")), []
    sizes = [
        len(c) for c in read_frames(info, window=4, limit=10, progress=lambda done, total: seen.append((done, total)))
    ]
    assert sizes == [4, 4, 2]
    assert seen == [(4, 10), (8, 10), (10, 10)]
    with pytest.raises(UsageError):
        FrameReader(info, window=0)


@pytest.mark.parametrize(("missing", "held"), [(2, True), (5, False)])
def test_shortfall(tmp_path: Path, missing: int, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    info = probe(clips.make_clip(tmp_path / "a.mp4"))
    decoded = FrameReader._decoded

    def stop_early(self):
        for number, frame in enumerate(decoded(self)):
            if number < 25 - missing:
                yield frame

    monkeypatch.setattr(FrameReader, "_decoded", stop_early)
    reader = FrameReader(info, backend="pyav")
    if held:
        frames = np.concatenate(list(reader))
        assert len(frames) == 25 and np.array_equal(frames[22], frames[24])
        assert "held for 2 more" in reader.notes[0]
    else:
        with pytest.raises(BadInputError, match="ends after 20 of 25"):
            list(reader)


@pytest.mark.parametrize("vcodec", ["h264", "hevc10"])
def test_colours_follow_their_tag(tmp_path: Path, vcodec: str) -> None:
    path = tmp_path / "a.mp4"
    pixels = "yuv420p10le" if vcodec == "hevc10" else "yuv420p"
    clips.ffmpeg(
        "-f", "lavfi", "-i", "color=0xC83232:size=64x64:rate=25:duration=0.4",
        "-vf", f"format=rgb24,scale=out_color_matrix=bt709:out_range=tv,format={pixels}",
        "-c:v", "libx265" if vcodec == "hevc10" else "libx264", "-colorspace", "bt709", "-color_range", "tv", path,
    )  # fmt: skip
    frame = next(read_frames(probe(path)))[0]
    assert np.abs(frame.reshape(-1, 3).mean(axis=0) - (0xC8, 0x32, 0x32)).max() < 4
