"""Writing: exact rates and sizes, real BT.709, everything carried over, and nothing left behind by a failure."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest

from justdub.errors import BadInputError, UsageError
from justdub.media import ClipWriter, FrameReader, check_output, language_tag, probe, read_audio, write_clip

FAST = {"preset": "ultrafast"}


def noise(frames: int, size: tuple[int, int] = (64, 48), chunk: int = 5) -> Iterator[np.ndarray]:
    """Chunks of random frames, which hardly compress."""
    random = np.random.default_rng(0)
    for first in range(0, frames, chunk):
        yield random.integers(0, 256, (min(chunk, frames - first), size[1], size[0], 3), dtype=np.uint8)


def tone(seconds: float, rate: int = 24000, channels: int = 2) -> np.ndarray:
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return np.tile(wave.astype(np.float32), (channels, 1))


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith(".justdub"))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "60000/1001", "331/20"])
def test_every_rate_in_every_container(tmp_path: Path, suffix: str, rate: str) -> None:
    report = write_clip(
        tmp_path / f"a{suffix}", noise(30), frame_rate=Fraction(rate), audio_CS=tone(30 / Fraction(rate)),
        audio_rate=24000, frames_total=30, **FAST,
    )  # fmt: skip
    assert (report.frames, report.frame_rate, report.duration) == (30, Fraction(rate), 30 / Fraction(rate))
    assert report.av_difference <= 0.02
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("length", [0.0, 0.4, 3.0])
def test_sound_is_fitted_to_the_picture(tmp_path: Path, length: float) -> None:
    report = write_clip(
        tmp_path / "a.mp4", noise(25), frame_rate=Fraction(25), audio_CS=tone(length), audio_rate=24000, **FAST
    )
    assert report.frames == 25 and report.av_difference <= 0.02


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_channels(tmp_path: Path, channels: int, suffix: str) -> None:
    report = write_clip(
        tmp_path / f"a{suffix}", noise(10), frame_rate=Fraction(25), audio_CS=tone(0.4, channels=channels),
        audio_rate=24000, language="French", **FAST,
    )  # fmt: skip
    audio = probe(report.path).audio
    assert (audio.channels, audio.rate, audio.language) == (channels, 48000, "fra")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("size", [(161, 97), (160, 97), (98, 160)])
def test_any_size_is_kept_exactly(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    report = write_clip(
        tmp_path / f"a{suffix}", noise(5), frame_rate=Fraction(25), size=size, sample_aspect=Fraction(4, 3), **FAST
    )
    assert (report.width, report.height) == size
    aspect = probe(report.path).video.sample_aspect
    assert aspect == Fraction(4, 3) or suffix == ".webm"
    assert abs(aspect - Fraction(4, 3)) * size[0] <= 1  # Matroska stores a shown size in whole pixels
    assert any("odd size" in note for note in report.notes) == (suffix != ".webm" and (size[0] | size[1]) % 2 == 1)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_colours_are_converted_and_tagged_bt709(tmp_path: Path, suffix: str) -> None:
    colours = np.array([[200, 50, 50], [30, 180, 60], [40, 60, 220], [240, 240, 240], [10, 10, 10]], dtype=np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (5, 64, 64, 3))
    path = tmp_path / f"a{suffix}"
    write_clip(path, [np.ascontiguousarray(frames)], frame_rate=Fraction(25), crf=8, **FAST)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (int(frame.colorspace), int(frame.color_range)) == (1, 1)
        assert (int(frame.color_primaries), int(frame.color_trc)) == (1, 1)
    again = np.concatenate(list(FrameReader(probe(path)))).mean(axis=(1, 2))
    assert np.abs(again - colours).max() < 5


@pytest.mark.parametrize("target", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("origin", [".mp4", ".mkv", ".ts"])
def test_what_lies_beside_is_carried_over(tmp_path: Path, origin: str, target: str) -> None:
    text = {"subtitles": True, "chapters": True, "title": "A title"} if origin != ".ts" else {"ts_offset": 1.4}
    info = probe(clips.make_clip(tmp_path / f"in{origin}", rotation=0 if origin != ".mp4" else 90, **text))
    report = write_clip(
        tmp_path / f"out{target}", FrameReader(info), frame_rate=info.video.frame_rate, source=info,
        audio_CS=read_audio(info, rate=24000, channels=2), audio_rate=24000, language="es-MX", **FAST,
    )  # fmt: skip
    result = probe(report.path)
    assert result.video.rotation == 0 and report.av_difference <= 0.02
    assert result.audio.language == "spa"
    assert (len(result.subtitles), result.chapters) == (len(info.subtitles), info.chapters)
    with av.open(str(report.path)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
        starts = [float(c["start"] * c["time_base"]) for c in container.chapters()]
        cues = (
            [float(p.pts * p.time_base) for p in container.demux(subtitles=0) if p.size > 2]
            if text.get("subtitles")
            else []
        )
    assert tags["comment"] == "AI-generated dub"
    assert "compatible_brands" not in tags or target == ".mp4"
    if text.get("title"):
        assert tags["title"] == "A title"
        assert starts == [0.0, 0.5]
        assert cues == pytest.approx([0.1, 0.5], abs=0.002)


def test_subtitles_move_with_the_first_frame(tmp_path: Path) -> None:
    whole = clips.make_clip(tmp_path / "whole.mkv", seconds=2, subtitles=True)
    late = tmp_path / "late.mkv"
    clips.ffmpeg(
        "-itsoffset", "0.3", "-i", whole, "-i", whole, "-map", "0:v", "-map", "1:a", "-map", "0:s", "-c", "copy", late
    )
    info = probe(late)
    assert info.video.start == Fraction(3, 10)
    for suffix in (".mp4", ".mkv"):
        report = write_clip(
            tmp_path / f"out{suffix}", FrameReader(info), frame_rate=info.video.frame_rate, source=info,
            audio_CS=read_audio(info, rate=24000, channels=2), audio_rate=24000, **FAST,
        )  # fmt: skip
        with av.open(str(report.path)) as container:
            cues = [float(p.pts * p.time_base) for p in container.demux(subtitles=0) if p.size > 2]
        assert cues == pytest.approx([0.1, 0.5], abs=0.002)
        assert report.av_difference <= 0.02 and probe(report.path).video.start == 0


def test_source_without_streams_to_copy_still_gives_its_tags(tmp_path: Path) -> None:
    info = probe(clips.make_clip(tmp_path / "in.mp4", title="T", audio=None))
    write_clip(tmp_path / "out.mp4", FrameReader(info), frame_rate=Fraction(25), source=info, **FAST)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["title"] == "T"


NAMES = ["a b.mp4", "it's.mkv", "co:lon.mp4", "-dash.mp4", "日本 é.webm", "%d{}[];$(x).mp4", "n" * 250 + ".mp4"]


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = clips.make_clip(tmp_path / f"in-{name[:200].rsplit('.', 1)[0]}.mp4", subtitles=True)
    report = write_clip(name, noise(3), frame_rate=Fraction(25), source=probe(source), **FAST)
    assert report.path == tmp_path / name and report.path.stat().st_size
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, source.name])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_a_failure_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old one")

    def frames() -> Iterator[np.ndarray]:
        yield from noise(10)
        patience = time.monotonic() + 20
        while not leftovers(tmp_path) and time.monotonic() < patience:
            time.sleep(0.01)  # ffmpeg opens its file in its own time
        assert leftovers(tmp_path)
        raise error("stop")

    with pytest.raises(error):
        write_clip(path, frames(), frame_rate=Fraction(25), **FAST)
    assert path.read_bytes() == b"the old one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_the_old_file_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old one")
    with ClipWriter(path, frame_rate=Fraction(25), **FAST) as writer:
        for chunk in noise(10):
            writer.write(chunk)
        assert path.read_bytes() == b"the old one"
        writer.finish(tone(0.4), 24000)
    assert probe(path).video.frames == 10


def test_ffmpeg_speaks_for_itself(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="preset") as caught:
        write_clip(tmp_path / "a.mp4", noise(200), frame_rate=Fraction(25), preset="no-such-preset")
    assert "Broken pipe" not in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


_QUOTA = """
import resource, sys
from fractions import Fraction
import numpy as np
from justdub.errors import BadInputError
from justdub.media import write_clip
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
frames = (np.random.default_rng(i).integers(0, 256, (5, 120, 160, 3), dtype=np.uint8) for i in range(12))
try:
    write_clip(sys.argv[1], frames, frame_rate=Fraction(25), preset="ultrafast", frames_total=60)
except BadInputError as error:
    print(error)
"""


def test_file_size_limit_is_one_clear_line(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _QUOTA, str(tmp_path / "a.mp4")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert "no room left in" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small file system")
@pytest.mark.parametrize("room", [0.3, 1.4])  # too small for the picture; for the picture twice
def test_full_disk_is_one_clear_line(tmp_path: Path, room: float) -> None:
    enough = write_clip(tmp_path / "a.mp4", noise(30, (160, 120)), frame_rate=Fraction(25), crf=30, **FAST)
    kilobytes = round(room * enough.path.stat().st_size / 1024)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        with pytest.raises(BadInputError, match="no room left in") as caught:
            write_clip(disk / "a.mp4", noise(30, (160, 120)), frame_rate=Fraction(25), frames_total=30, crf=30, **FAST)
        assert "MB" in str(caught.value) and "choose another folder" in str(caught.value)
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_wrong_calls(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    calls = {
        "no frames": lambda: write_clip(path, [], frame_rate=Fraction(25)),
        "too few": lambda: write_clip(path, noise(3), frame_rate=Fraction(25), frames_total=4, **FAST),
        "float frames": lambda: write_clip(path, [np.zeros((1, 8, 8, 3))], frame_rate=Fraction(25)),
        "sizes differ": lambda: write_clip(path, [*noise(2), *noise(2, (32, 32))], frame_rate=Fraction(25), **FAST),
        "no rate": lambda: write_clip(path, noise(2), frame_rate=Fraction(0)),
        "sound's rate": lambda: write_clip(path, noise(2), frame_rate=Fraction(25), audio_CS=tone(1), **FAST),
    }
    for name, call in calls.items():
        with pytest.raises(UsageError):
            call()
        assert not list(tmp_path.iterdir()), name
    nan = np.full((2, 100), np.nan, dtype=np.float32)
    with pytest.raises(BadInputError, match="NaN"):
        write_clip(path, noise(2), frame_rate=Fraction(25), audio_CS=nan, audio_rate=24000, **FAST)
    assert not list(tmp_path.iterdir())


def test_check_output(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "in.mp4")
    (tmp_path / "link.mp4").symlink_to(source)
    (tmp_path / "folder.mp4").mkdir()
    assert check_output(tmp_path / "new.MP4", inputs=[source]) == tmp_path / "new.MP4"
    refused = {
        tmp_path / "a.avi": "unknown output format",
        tmp_path / "a": "unknown output format",
        tmp_path / "no" / "a.mp4": "does not exist",
        tmp_path / "folder.mp4": "is a folder",
        source: "also an input",
        tmp_path / "link.mp4": "also an input",
    }
    for path, words in refused.items():
        with pytest.raises(UsageError, match=words):
            check_output(path, inputs=[source])
    assert not leftovers(tmp_path)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that not even root may write in")
def test_unwritable_folder() -> None:
    with pytest.raises(BadInputError, match="nothing can be written"):
        check_output("/proc/a.mp4")


TAGS = {"fr": "fra", "French": "fra", "pt-BR": "por", "zh_CN": "zho", "deu": "deu", "": "und", "Klingonese!": "und"}


@pytest.mark.parametrize("given", TAGS)
def test_language_tags(given: str) -> None:
    assert language_tag(given) == TAGS[given]
    assert language_tag(None) == "und"
