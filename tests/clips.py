"""Synthetic clips for the tests: every rate, container, codec and defect that users bring.

    clip = make_clip(tmp_path / "a.mp4", rate="30000/1001", audio="5.1", subtitles=True)

`make_clip` writes the file and returns its path; the same request is encoded once per test session and copied after
that. Pictures are ffmpeg's `testsrc2` (it moves, so frames differ), sound is a 440 Hz sine (other channels: other
pitches). `event_clip` puts a white flash and a click at the same instants, for alignment tests. The `broken_*` and
other makers produce the defects.
"""

from __future__ import annotations

import atexit
import hashlib
import shutil
import subprocess
import tempfile
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

SUBTITLE_CUES = ((0.1, 0.4, "First line"), (0.5, 0.8, "Second line, é"))
CHAPTERS = ((0.0, 0.5, "Opening"), (0.5, 1.0, "End"))

_CODECS = {
    "h264": ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p"],
    "h264-444": ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p"],
    "hevc10": ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p10le"],
    "vp9": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "300k", "-pix_fmt", "yuv420p"],
    "av1": ["-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p", "-svtav1-params", "lp=1"],
    "mpeg4": ["-c:v", "mpeg4", "-q:v", "4"],
}
_LAYOUTS = {"mono": ("mono", 1), "stereo": ("stereo", 2), "5.1": ("5.1", 6)}
_PITCHES = (440, 550, 660, 110, 770, 880)


@lru_cache(maxsize=1)
def ffmpeg_exe() -> str:
    """The ffmpeg binary of imageio-ffmpeg."""
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def ffmpeg(*args: str | Path) -> None:
    """Run ffmpeg quietly; a failure raises with its standard error."""
    argv = [ffmpeg_exe(), "-hide_banner", "-v", "error", "-nostdin", "-y", *map(str, args)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv[1:])}\n{done.stderr}")


@lru_cache(maxsize=1)
def _cache() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="justdub-clips-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def make_clip(
    path: str | Path,
    *,
    rate: str = "25",
    seconds: float = 1.0,
    size: tuple[int, int] = (160, 96),
    vcodec: str = "h264",
    audio: str | None = "stereo",
    audio_rate: int = 48000,
    audio_codec: str | None = None,
    language: str | None = "eng",
    rotation: int = 0,
    variable: bool = False,
    subtitles: bool = False,
    chapters: bool = False,
    title: str | None = None,
    sample_aspect: str | None = None,
    tagged: bool = True,
    video_delay: float = 0.0,
    audio_delay: float = 0.0,
    ts_offset: float = 0.0,
    faststart: bool = False,
) -> Path:
    """Write a clip; the suffix chooses the container (.mp4 .mov .mkv .webm .ts .avi).

    Args:
        rate: frame rate as a fraction, "24000/1001".
        size: stored width and height in pixels (before rotation).
        vcodec: one of h264, h264-444, hevc10, vp9, av1, mpeg4.
        audio: mono, stereo, 5.1 or None for a silent file.
        audio_codec: an ffmpeg encoder name; by default aac, or libopus in webm.
        rotation: degrees counter-clockwise that a player turns the picture (display matrix): 0, 90, 180, 270.
        variable: drop every 3rd and 7th picture, so that the frame rate varies around the same nominal rate.
        subtitles: one text track with `SUBTITLE_CUES`.
        chapters: the two `CHAPTERS`.
        tagged: mark the colours as bt709.
        video_delay, audio_delay: seconds by which one stream starts late.
        ts_offset: seconds added to every timestamp (mpegts).
    """
    path = Path(path)
    request = repr(sorted((key, value) for key, value in locals().items() if key != "path"))
    cached = _cache() / (hashlib.sha256((request + path.suffix).encode()).hexdigest()[:16] + path.suffix)
    if not cached.exists():
        if rotation:
            upright = {**_arguments(locals()), "rotation": 0}
            ffmpeg(
                "-display_rotation", str(rotation), "-i", make_clip(cached.with_name("up-" + cached.name), **upright),
                "-map", "0:v", "-map", "0:a?", "-map", "0:s?", "-c", "copy", cached,
            )  # fmt: skip
        elif video_delay or audio_delay:
            aligned = {**_arguments(locals()), "video_delay": 0.0, "audio_delay": 0.0}
            whole = make_clip(cached.with_name("al-" + cached.name), **aligned)
            ffmpeg(
                "-itsoffset", str(video_delay), "-i", whole, "-itsoffset", str(audio_delay), "-i", whole,
                "-map", "0:v", "-map", "1:a", "-c", "copy", cached,
            )  # fmt: skip
        else:
            _encode(cached, **_arguments(locals()))
    shutil.copyfile(cached, path)
    return path


def _arguments(local_values: dict) -> dict:
    skip = {"path", "request", "cached", "upright", "aligned", "whole"}
    return {key: value for key, value in local_values.items() if key not in skip}


def _encode(path: Path, **request) -> None:
    width, height = request["size"]
    rate, seconds, audio = request["rate"], request["seconds"], request["audio"]
    inputs = ["-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={rate}:duration={seconds}"]
    maps, count = ["-map", "0:v"], 1
    if audio:
        layout, channels = _LAYOUTS[audio]
        waves = "|".join(f"0.3*sin(2*PI*{pitch}*t)" for pitch in _PITCHES[:channels])
        source = f"aevalsrc=exprs={waves}:channel_layout={layout}:sample_rate={request['audio_rate']}"
        inputs += ["-f", "lavfi", "-i", f"{source}:duration={seconds}"]
        maps += ["-map", f"{count}:a"]
        count += 1
    output = list(_CODECS[request["vcodec"]])
    filters = [f"scale={width}:{height},setsar=1"] if width % 2 or height % 2 else []  # testsrc2 rounds to even
    if request["variable"]:
        filters.append("select='mod(n,3)*mod(n,7)+eq(n,0)'")
        output += ["-fps_mode", "vfr"]
    if request["sample_aspect"]:
        filters.append(f"setsar={request['sample_aspect']}")
    if request["tagged"]:
        filters.append("scale=out_color_matrix=bt709:out_range=tv")
        output += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    if filters:
        output += ["-vf", ",".join(filters)]
    if audio:
        opus = ["-c:a", "libopus"] if path.suffix == ".webm" else ["-c:a", "aac"]
        output += ["-c:a", request["audio_codec"]] if request["audio_codec"] else opus
        if audio == "5.1" and path.suffix == ".webm":
            output += ["-mapping_family", "1"]
        if request["language"]:
            output += ["-metadata:s:a:0", f"language={request['language']}"]
    if request["subtitles"]:
        inputs += ["-i", str(write_srt(path.with_suffix(".srt")))]
        maps += ["-map", f"{count}:s"]
        count += 1
        codec = {".mp4": "mov_text", ".mov": "mov_text", ".webm": "webvtt"}.get(path.suffix, "srt")
        output += ["-c:s", codec, "-metadata:s:s:0", "language=eng"]
    if request["chapters"]:
        inputs += ["-f", "ffmetadata", "-i", str(write_chapters(path.with_suffix(".ffmeta"), seconds))]
        output += ["-map_chapters", str(count)]
    if request["title"]:
        output += ["-metadata", f"title={request['title']}"]
    if request["ts_offset"]:
        output += ["-output_ts_offset", str(request["ts_offset"])]
    if request["faststart"]:
        output += ["-movflags", "+faststart"]
    ffmpeg(*inputs, *maps, *output, path)


def write_srt(path: Path) -> Path:
    """`SUBTITLE_CUES` as a .srt file."""
    blocks = [
        f"{number}\n{_clock(start)} --> {_clock(end)}\n{text}\n"
        for number, (start, end, text) in enumerate(SUBTITLE_CUES, start=1)
    ]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


def _clock(seconds: float) -> str:
    millis = round(seconds * 1000)
    return f"{millis // 3600000:02}:{millis // 60000 % 60:02}:{millis // 1000 % 60:02},{millis % 1000:03}"


def write_chapters(path: Path, seconds: float) -> Path:
    """`CHAPTERS`, scaled to the clip's length, in ffmpeg's metadata format."""
    lines = [";FFMETADATA1"]
    for start, end, title in CHAPTERS:
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={round(start * seconds * 1000)}"]
        lines += [f"END={round(end * seconds * 1000)}", f"title={title}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def event_clip(
    path: str | Path,
    *,
    rate: str = "25",
    seconds: float = 2.0,
    flash_frames: tuple[int, ...] = (10, 35),
    size: tuple[int, int] = (64, 64),
    audio_rate: int = 48000,
    audio_codec: str = "aac",
    vcodec: str = "h264",
    ts_offset: float = 0.0,
) -> Path:
    """A black clip whose frames `flash_frames` are white, with a 5 ms tone burst starting at the same instants."""
    path = Path(path)
    step = 1 / Fraction(rate)
    flashes = "+".join(f"eq(N,{frame})" for frame in flash_frames)
    bursts = "+".join(f"between(t,{float(f * step)},{float(f * step) + 0.005})" for f in flash_frames)
    offset = ["-output_ts_offset", str(ts_offset)] if ts_offset else []
    ffmpeg(
        "-f", "lavfi", "-i", f"color=black:size={size[0]}x{size[1]}:rate={rate}:duration={seconds}",
        "-f", "lavfi", "-i",
        f"aevalsrc=exprs='0.8*sin(2*PI*2000*t)*({bursts})':sample_rate={audio_rate}:duration={seconds}",
        "-vf", f"format=yuv420p,geq=lum='if({flashes},235,16)':cb=128:cr=128",
        *_CODECS[vcodec], "-c:a", audio_codec, *offset, path,
    )  # fmt: skip
    return path


def audio_only(path: str | Path, *, cover: bool = False, seconds: float = 1.0) -> Path:
    """A sound file (.m4a, .mp3, .wav), with a cover picture if asked."""
    path = Path(path)
    if not cover:
        ffmpeg("-f", "lavfi", "-i", f"sine=440:duration={seconds}", path)
        return path
    picture = image(path.with_suffix(".cover.png"))
    ffmpeg(
        "-f", "lavfi", "-i", f"sine=440:duration={seconds}", "-i", picture, "-map", "0:a", "-map", "1:v",
        "-c:v", "copy", "-disposition:v:0", "attached_pic", path,
    )  # fmt: skip
    return path


def image(path: str | Path, *, size: tuple[int, int] = (160, 96)) -> Path:
    """A still picture (.png, .jpg, .gif)."""
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=size={size[0]}x{size[1]}", "-frames:v", "1", "-update", "1", Path(path))
    return Path(path)


def one_frame(path: str | Path) -> Path:
    """A video of one single frame."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x96:rate=25", "-frames:v", "1", *_CODECS["h264"], Path(path))
    return Path(path)


def broken_half(path: str | Path, *, keep: float = 0.5, **clip) -> Path:
    """A clip whose index comes first and whose payload ends early (an interrupted download)."""
    whole = make_clip(path, **{"faststart": Path(path).suffix in {".mp4", ".mov"}, **clip})
    data = whole.read_bytes()
    whole.write_bytes(data[: int(len(data) * keep)])
    return whole


def broken_no_index(path: str | Path) -> Path:
    """An mp4 that ends before its index (an interrupted recording)."""
    whole = make_clip(path)
    data = whole.read_bytes()
    whole.write_bytes(data[: data.rindex(b"moov") - 4])
    return whole


def broken_text(path: str | Path) -> Path:
    """Prose under a video's name."""
    Path(path).write_text("This is not a video. " * 200, encoding="utf-8")
    return Path(path)


def broken_playlist(path: str | Path, target: Path) -> Path:
    """An HLS playlist that points at another file, under a video's name."""
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n"
    Path(path).write_text(text, encoding="utf-8")
    return Path(path)


def broken_concat(path: str | Path, target: Path) -> Path:
    """An ffconcat script that names another file, under a video's name."""
    Path(path).write_text(f"ffconcat version 1.0\nfile {target.name}\n", encoding="utf-8")
    return Path(path)
