"""What the probe reports of good clips, and the one line it gives for every file that is none."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import clips
import pytest

from justdub.errors import BadInputError
from justdub.media import probe
from justdub.media.timing import constant_rate, nominal_rate

RATES = ["24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("rate", RATES)
def test_rate_is_exact_in_every_clock(tmp_path: Path, rate: str, suffix: str) -> None:
    video = probe(clips.make_clip(tmp_path / f"a{suffix}", rate=rate, size=(64, 48))).video
    assert video.frame_rate == Fraction(rate)
    assert not video.variable
    assert video.frames == round(Fraction(rate))


@pytest.mark.parametrize("rate", ["24000/1001", "30", "60"])
def test_variable_rate_is_resampled_to_its_grid(tmp_path: Path, rate: str) -> None:
    info = probe(clips.make_clip(tmp_path / "a.mp4", rate=rate, seconds=2, variable=True))
    assert info.video.variable
    assert info.video.frame_rate == Fraction(rate)
    assert any("variable frame rate" in note for note in info.notes)


def test_jittered_times_have_the_rate_of_their_median() -> None:
    times = [0, 33, 68, 100, 134, 165, 201, 233]  # a phone: about 30 per second, in milliseconds
    assert constant_rate(times, Fraction(1, 1000), [Fraction(30)]) is None
    assert nominal_rate(times, Fraction(1, 1000)) == 30


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_turns_size_and_aspect(tmp_path: Path, rotation: int) -> None:
    video = probe(clips.make_clip(tmp_path / "a.mp4", rotation=rotation, sample_aspect="4/3")).video
    assert video.rotation == rotation
    assert (video.width, video.height) == ((160, 96) if rotation == 180 else (96, 160))
    assert video.sample_aspect == (Fraction(4, 3) if rotation == 180 else Fraction(3, 4))


def test_streams_and_offsets(tmp_path: Path) -> None:
    info = probe(clips.make_clip(tmp_path / "a.mkv", audio="5.1", language="fra", subtitles=True, chapters=True))
    assert (info.audio.channels, info.audio.layout, info.audio.rate, info.audio.language) == (6, "5.1", 48000, "fra")
    assert [(track.codec, track.language, track.text) for track in info.subtitles] == [("subrip", "eng", True)]
    assert info.chapters == 2
    assert info.duration == 1
    assert info.display_aspect == Fraction(160, 96)

    late = probe(clips.make_clip(tmp_path / "b.mp4", video_delay=0.5))
    assert late.video.start == Fraction(1, 2)
    assert late.audio_offset == Fraction(-1, 2)
    assert any("before the picture" in note for note in late.notes)


def test_codec_has_its_own_name(tmp_path: Path) -> None:
    assert probe(clips.make_clip(tmp_path / "a.mp4", vcodec="av1")).video.codec == "av1"


def test_silent_clip(tmp_path: Path) -> None:
    info = probe(clips.make_clip(tmp_path / "a.mp4", audio=None))
    assert info.audio is None and info.audio_offset is None
    assert info.notes == ()


def test_long_files_are_scanned_at_both_ends_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("justdub.media.packets.SCAN_PACKETS", 80)
    monkeypatch.setattr("justdub.media.packets.TAIL_SECONDS", 1)
    for suffix in (".mp4", ".mkv", ".ts"):
        video = probe(clips.make_clip(tmp_path / f"a{suffix}", rate="30000/1001", seconds=8, size=(64, 48))).video
        assert (video.frames, video.frame_rate, video.variable) == (240, Fraction(30000, 1001), False), suffix


def test_late_change_of_rate_is_seen_in_a_sample_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("justdub.media.packets.SCAN_PACKETS", 60)
    slow = "setpts='if(lt(N,100),N,100+(N-100)*1.7)/25/TB'"
    path = tmp_path / "a.mp4"
    clips.ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=8", "-vf", slow, "-fps_mode", "vfr",
        "-c:v", "libx264", "-preset", "ultrafast", path,
    )  # fmt: skip
    assert probe(path).video.variable


TORTURE = [
    "a b.mp4", "it's.mp4", 'quo"te.mp4', "co:lon.mp4", "-dash.mp4", "naïve 日本.mp4", "100%d.mp4",
    "semi;$(touch x)`y`.mp4", "[br]{ack}*?.mp4", "#hash?a=b.mp4", "file:x.mp4", "n" * 250 + ".mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", TORTURE)
def test_any_file_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(clips.make_clip(tmp_path / "plain.mp4"), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe(name).path == tmp_path / name


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


REFUSED = {
    "missing": (lambda folder: folder / "none.mp4", "no such file"),
    "missing folder": (lambda folder: folder / "no" / "none.mp4", "no such file"),
    "folder": (lambda folder: folder, "is a folder"),
    "empty": (lambda folder: _write(folder / "a.mp4", b""), "is empty"),
    "text": (lambda folder: clips.broken_text(folder / "a.mp4"), "is a text file"),
    "noise": (lambda folder: _write(folder / "a.mp4", bytes(range(256)) * 40), "not a media file"),
    "no index": (lambda folder: clips.broken_no_index(folder / "a.mp4"), "without its index"),
    "half mp4": (lambda folder: clips.broken_half(folder / "a.mp4"), "truncated"),
    "most of an mp4": (lambda folder: clips.broken_half(folder / "a.mp4", keep=0.95, seconds=2), "truncated"),
    "half mkv": (lambda folder: clips.broken_half(folder / "a.mkv", seconds=2), "truncated"),
    "half avi": (lambda folder: clips.broken_half(folder / "a.avi", vcodec="mpeg4"), "truncated"),
    "audio": (lambda folder: clips.audio_only(folder / "a.m4a"), "sound but no video"),
    "cover art": (lambda folder: clips.audio_only(folder / "a.mp3", cover=True), "cover art"),
    "png": (lambda folder: clips.image(folder / "a.png"), "still picture"),
    "jpg": (lambda folder: clips.image(folder / "a.jpg"), "still picture"),
    "gif": (lambda folder: clips.image(folder / "a.gif"), "1 video frame"),
    "one frame": (lambda folder: clips.one_frame(folder / "a.mp4"), "1 video frame"),
    "playlist": (
        lambda folder: clips.broken_playlist(folder / "a.mp4", clips.make_clip(folder / "b.mp4")),
        "playlist",
    ),
    "concat": (lambda folder: clips.broken_concat(folder / "a.mp4", clips.make_clip(folder / "b.mp4")), "playlist"),
    "nul in path": (lambda folder: f"{folder}/a\0b.mp4", "no such file|cannot be read"),
    "very long path": (lambda folder: folder / ("n" * 300 + ".mp4"), "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(tmp_path: Path, name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(BadInputError, match=words) as caught:
        probe(make(tmp_path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_too_many_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", "color=size=8000x8000:rate=5:duration=0.4", "-c:v", "mpeg4", path)
    with pytest.raises(BadInputError, match="8000x8000"):
        probe(path)
    clips.ffmpeg("-f", "lavfi", "-i", "color=size=2304x4096:rate=5:duration=0.4", "-c:v", "mpeg4", path)
    assert probe(path).video.height == 4096


def test_bare_stream_is_told_to_be_wrapped(tmp_path: Path) -> None:
    path = tmp_path / "a.h264"
    clips.ffmpeg("-i", clips.make_clip(tmp_path / "a.mp4", audio=None), "-c", "copy", path)
    with pytest.raises(BadInputError, match="without timestamps"):
        probe(path)


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clips.make_clip(tmp_path / "a.mp4")

    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # tests may run as root, whom no file mode stops
    with pytest.raises(BadInputError, match="permission denied"):
        probe(path)
