"""ffmpeg's command lines for the two passes of writing: the graph by ffmpeg-python, the rest as plain lists."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from justdub.media.audio import LAYOUTS
from justdub.media.container import FORMATS, media_url
from justdub.media.ffmpeg import argument_list
from justdub.media.language import UNDEFINED, language_tag
from justdub.media.probe import ClipInfo, SubtitleStream

AUDIO_RATE = 48000  # what AAC players and Opus expect
_COLOURS = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
_SUBTITLE_CODECS = {".mp4": "mov_text", ".mov": "mov_text", ".webm": "webvtt"}
_MATROSKA_TEXT = {"ass", "ssa", "subrip", "srt"}
_CONTAINER_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")


def picture_arguments(
    target: Path,
    frame_size: tuple[int, int],
    size: tuple[int, int],
    *,
    frame_rate: Fraction,
    sample_aspect: Fraction,
    codec: str,
    crf: int | None,
    preset: str,
    notes: list[str],
) -> list[str]:
    """First pass: raw RGB frames of `frame_size` on standard input become a picture-only mp4 of `size`.

    The colours are really converted to BT.709 limited range, and tagged so. `codec` is "h264" or "vp9".
    """
    import ffmpeg

    width, height = size
    odd = bool(width % 2 or height % 2)
    aspect = sample_aspect.limit_denominator(10000)
    if codec == "vp9":
        pixels = "yuv420p"
        encoder = {"c:v": "libvpx-vp9", "crf": 28 if crf is None else crf, "b:v": 0, "cpu-used": 4, "row-mt": 1}
    else:
        pixels = "yuv444p" if odd else "yuv420p"  # H.264 cannot crop 4:2:0 to an odd size
        encoder = {"c:v": "libx264", "crf": 18 if crf is None else crf, "preset": preset}
        if odd:
            notes.append(f"odd size {width}x{height}: stored as 4:4:4, which some hardware players cannot show")
    frames = ffmpeg.input(
        "pipe:0", format="rawvideo", pix_fmt="rgb24", s=f"{frame_size[0]}x{frame_size[1]}", framerate=str(frame_rate)
    )
    picture = (
        frames.filter(
            "scale",
            width,
            height,
            flags="lanczos+accurate_rnd+full_chroma_int",
            out_color_matrix="bt709",
            out_range="tv",
        )
        .filter("format", pixels)
        .filter("setsar", sar=f"{aspect.numerator}/{aspect.denominator}", max=10000)
        .filter("setparams", range="tv", color_primaries="bt709", color_trc="bt709", colorspace="bt709")
    )
    return argument_list(ffmpeg.output(picture, media_url(target), **encoder, **_COLOURS))


def join_arguments(
    picture: Path,
    target: Path,
    *,
    duration: Fraction,
    channels: int | None,
    audio_rate: int | None,
    language: str | None,
    source: ClipInfo | None,
    comment: str,
    notes: list[str],
) -> list[str]:
    """Second pass: copy the picture, encode the sound from standard input, carry over what `source` has beside.

    The sound is raw float32, interleaved, and becomes exactly `duration` seconds: `-shortest` would also stop at the
    last subtitle. The source is moved in time so that its first frame is instant 0.
    """
    import ffmpeg

    suffix = target.suffix
    streams = [ffmpeg.input(media_url(picture))["v:0"]]
    options: dict[str, str | int] = {"c:v": "copy"}
    if channels is not None:
        streams.append(_sound(channels, audio_rate, duration))
        options |= _sound_options(channels, suffix, language, notes)
    if suffix in (".mp4", ".mov"):
        options["movflags"] = "+faststart"
    last_input, extra = [], ["-map_metadata", "-1", "-map_chapters", "-1"]
    if source is not None:
        last_input, extra = _from_source(source, number=len(streams), suffix=suffix, notes=notes)
    extra += ["-metadata", f"comment={comment}", "-t", _decimal(duration)]
    output = ffmpeg.output(*streams, media_url(target), **options)
    return argument_list(output, last_input=last_input, extra=extra)


def _sound(channels: int, rate: int, duration: Fraction):
    import ffmpeg

    samples = round(duration * AUDIO_RATE)
    raw = ffmpeg.input("pipe:0", format="f32le", ar=rate, channel_layout=LAYOUTS[channels])["a:0"]
    return raw.filter("aresample", AUDIO_RATE).filter("apad", whole_len=samples).filter("atrim", end_sample=samples)


def _sound_options(channels: int, suffix: str, language: str | None, notes: list[str]) -> dict[str, str | int]:
    tag = language_tag(language)
    if language and tag == UNDEFINED:
        notes.append(f"language {language!r} has no known code: the sound is tagged as undefined")
    codec: dict[str, str | int] = {"c:a": "aac"}
    if suffix == ".webm":
        codec = {"c:a": "libopus", "mapping_family": 1 if channels > 2 else 0}
    kilobits = (64 if channels > 2 else 96) * channels
    return {**codec, "b:a": f"{kilobits}k", "metadata:s:a:0": f"language={tag}"}


def _from_source(source: ClipInfo, *, number: int, suffix: str, notes: list[str]) -> tuple[list[str], list[str]]:
    """(arguments of the source as input `number`, output options that take subtitles, chapters and tags from it)."""
    shift = source.start - source.video.start  # ffmpeg itself already subtracts the container's start
    last_input = ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS]
    last_input += ["-itsoffset", _decimal(shift), "-i", media_url(source.path)]
    options = ["-map_metadata", f"{number}:g", "-map_chapters", str(number)]
    for tag in _CONTAINER_TAGS:
        options += ["-metadata", f"{tag}="]
    kept = 0
    for track in source.subtitles:
        codec = _subtitle_codec(track, suffix)
        if codec is None:
            notes.append(f"subtitle track {track.index} ({track.codec}) does not fit in {suffix}: left out")
            continue
        options += ["-map", f"{number}:{track.index}", f"-c:s:{kept}", codec]
        options += [f"-metadata:s:s:{kept}", f"language={track.language or UNDEFINED}"]
        kept += 1
    if suffix == ".mkv" and "matroska" in source.container:
        options += ["-map", f"{number}:t?", "-c:t", "copy"]  # the fonts of styled subtitles
    notes += [f"not carried over: {name}" for name in source.other if not _is_bookkeeping(name)]
    return last_input, options


def _subtitle_codec(track: SubtitleStream, suffix: str) -> str | None:
    if suffix == ".mkv":
        return "copy" if track.codec in _MATROSKA_TEXT or not track.text else "srt"
    return _SUBTITLE_CODECS[suffix] if track.text else None


def _is_bookkeeping(name: str) -> bool:
    """True for streams that only hold what is carried over otherwise (an mp4's chapter titles, attachments)."""
    return name.startswith(("data ", "attachment "))


def _decimal(seconds: Fraction) -> str:
    """Seconds as ffmpeg reads them: microseconds, never scientific notation."""
    return f"{float(seconds):.6f}"
