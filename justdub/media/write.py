"""Writing a clip: frames are streamed to ffmpeg, then sound, subtitles, chapters and tags of the source are joined.

Two passes. The first encodes the picture, so that frames can be given as they are made; the second copies it and adds
the sound, which a joint model may only know at the end. Both work under hidden names in the output's folder; the
result is measured and then renamed, so a file with the output's name is always whole.

Letters in array names: F frames, H height, W width, 3 colour channels (RGB); C sound channels, S samples.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from justdub.errors import BadInputError, JustDubError, UsageError
from justdub.media.arguments import join_arguments, picture_arguments
from justdub.media.audio import LAYOUTS, sound_span
from justdub.media.ffmpeg import FfmpegError, FfmpegProcess
from justdub.media.language import UNDEFINED
from justdub.media.output import check_output, disk_full, hidden_name, is_disk_full
from justdub.media.probe import ClipInfo, probe

COMMENT = "AI-generated dub"
_FILE_TOO_LARGE = getattr(signal, "SIGXFSZ", 0) or 1 << 30  # a per-file quota ends ffmpeg by this signal
_AUDIO_CHUNK = 1 << 18  # samples fed at once


@dataclass(frozen=True)
class WriteReport:
    """What was written, as measured in the finished file.

    Attributes:
        frames, frame_rate, width, height: of the picture.
        duration: seconds of picture.
        av_difference: seconds; the larger of how far the starts and how far the ends of sound and picture lie apart;
            None for a silent clip.
        streams: descriptions of what is in the file, in order.
        notes: what could not be kept or had to be changed.
    """

    path: Path
    frames: int
    frame_rate: Fraction
    width: int
    height: int
    duration: Fraction
    av_difference: float | None
    streams: tuple[str, ...]
    notes: tuple[str, ...]


class ClipWriter:
    """Write one clip; use as a context manager, `write` frames in order, then `finish`.

    Leaving the context without `finish` (an exception, a Ctrl-C) ends ffmpeg and removes every temporary file.

    Args:
        path: .mp4, .mov or .mkv (H.264 and AAC) or .webm (VP9 and Opus).
        frame_rate: exact frames per second.
        size: (width, height) of the picture in the file; frames of another size are scaled (Lanczos). An odd size in
            H.264 is kept exactly by storing 4:4:4, which some hardware players cannot show: the report notes it.
        sample_aspect: width of a pixel over its height.
        source: a clip whose subtitles, chapters and tags are carried over.
        language: of the sound: "fr", "fra" or "French".
        crf: quality, lower is better; default 18 for H.264, 28 for VP9.
        preset: x264's speed.
        frames_total: if known, the number of frames to come: used for progress and checked at the end.
        progress: called as progress(frames_written, frames_total or 0).
        comment: tag that marks the file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        frame_rate: Fraction,
        size: tuple[int, int] | None = None,
        sample_aspect: Fraction = Fraction(1),
        source: ClipInfo | None = None,
        language: str | None = None,
        crf: int | None = None,
        preset: str = "medium",
        frames_total: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        comment: str = COMMENT,
    ) -> None:
        self.path = check_output(path, inputs=[source.path] if source else [])
        self.suffix = self.path.suffix.lower()
        self.frame_rate, self.size, self.sample_aspect = Fraction(frame_rate), size, Fraction(sample_aspect)
        if self.frame_rate <= 0:
            raise UsageError(f"frame rate {frame_rate}", expected="a positive fraction")
        self.source, self.language, self.comment = source, language, comment
        self.crf, self.preset, self.frames_total, self.progress = crf, preset, frames_total, progress
        self.frames, self.notes = 0, []
        self._frame_shape: tuple[int, ...] | None = None
        self._picture = hidden_name(self.path, "picture", ".mp4")
        self._result = hidden_name(self.path, "result", self.suffix)
        self._process: FfmpegProcess | None = None

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._clean_up()

    def write(self, frames_FHW3: np.ndarray) -> None:
        """Append uint8 RGB frames; all calls give the same height and width."""
        if frames_FHW3.ndim != 4 or frames_FHW3.shape[3] != 3 or frames_FHW3.dtype != np.uint8:
            raise UsageError(
                f"frames of shape {frames_FHW3.shape} and type {frames_FHW3.dtype}", expected="uint8 FHW3 (RGB)"
            )
        if self._process is None:
            self._frame_shape = frames_FHW3.shape[1:]
            height, width = self._frame_shape[:2]
            self.size = self.size or (width, height)
            self._process = FfmpegProcess(
                picture_arguments(
                    self._picture,
                    (width, height),
                    self.size,
                    frame_rate=self.frame_rate,
                    sample_aspect=self.sample_aspect,
                    codec="vp9" if self.suffix == ".webm" else "h264",
                    crf=self.crf,
                    preset=self.preset,
                    notes=self.notes,
                )
            )
        if frames_FHW3.shape[1:] != self._frame_shape:
            raise UsageError(f"a frame of {frames_FHW3.shape[1:]} after ones of {self._frame_shape}")
        for frame_HW3 in frames_FHW3:
            if not self._process.write(np.ascontiguousarray(frame_HW3).data):
                self._wait()
                raise BadInputError("ffmpeg stopped reading frames without an error", remedy="try once more")
            self.frames += 1
        if self.progress is not None:
            self.progress(self.frames, self.frames_total or 0)

    def finish(self, audio_CS: np.ndarray | None = None, audio_rate: int | None = None) -> WriteReport:
        """Add the sound, measure the result and put it in its place.

        Args:
            audio_CS: float32 sound of 1, 2 or 6 channels that starts with the first frame; it is padded with silence
                or cut to the picture's length. None: a silent clip.
            audio_rate: its samples per second.
        """
        if self._process is None or not self.frames:
            raise UsageError("no frames were written", expected="at least one frame")
        if self.frames_total is not None and self.frames != self.frames_total:
            raise UsageError(f"{self.frames} frames were written", expected=f"{self.frames_total}")
        if audio_CS is not None:
            _check_sound(audio_CS, audio_rate)
        self._wait()
        channels = None if audio_CS is None else audio_CS.shape[0]
        self._process = FfmpegProcess(
            join_arguments(
                self._picture,
                self._result,
                duration=self.frames / self.frame_rate,
                channels=channels,
                audio_rate=audio_rate,
                language=self.language,
                source=self.source,
                comment=self.comment,
                notes=self.notes,
            )
        )
        if audio_CS is not None:
            for first in range(0, audio_CS.shape[1], _AUDIO_CHUNK):
                piece_SC = np.ascontiguousarray(audio_CS[:, first : first + _AUDIO_CHUNK].T, dtype="<f4")
                if not self._process.write(piece_SC.data):
                    break  # ffmpeg has all it needs, or failed: its exit code tells
        self._wait()
        report = self._measure(has_sound=audio_CS is not None)
        self._result.replace(self.path)
        self._clean_up()
        return report

    def _wait(self) -> None:
        try:
            self._process.finish()
        except FfmpegError as error:
            if is_disk_full(error.text) or error.code == -_FILE_TOO_LARGE:
                raise self._disk_full() from error
            raise
        finally:
            self._process = None

    def _disk_full(self) -> JustDubError:
        written = sum(file.stat().st_size for file in (self._picture, self._result) if file.exists())
        total, done = self.frames_total, max(self.frames, 1)
        # the picture exists twice while the sound is joined
        needed = round(written / done * total * 2.1) if total and not self._result.exists() else written * 2
        return disk_full(self.path.parent, written, needed)

    def _measure(self, has_sound: bool) -> WriteReport:
        info = probe(self._result)
        if info.video.frames != self.frames or info.video.frame_rate != self.frame_rate:
            raise BadInputError(
                f"{self.path} came out with {info.video.frames} frames at {info.video.frame_rate} per second",
                expected=f"{self.frames} at {self.frame_rate}",
                remedy="report this; another output format may work",
            )
        difference = None
        if has_sound:
            first, last = sound_span(info)
            ends = last - (info.video.start + self.frames / self.frame_rate)
            difference = float(max(abs(first - info.video.start), abs(ends)))
        return WriteReport(
            path=self.path,
            frames=info.video.frames,
            frame_rate=info.video.frame_rate,
            width=info.video.width,
            height=info.video.height,
            duration=self.frames / self.frame_rate,
            av_difference=difference,
            streams=describe_streams(info),
            notes=tuple(self.notes),
        )

    def _clean_up(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None
        for file in (self._picture, self._result):
            file.unlink(missing_ok=True)


def write_clip(
    path: str | Path,
    frames: Iterable[np.ndarray],
    *,
    frame_rate: Fraction,
    size: tuple[int, int] | None = None,
    sample_aspect: Fraction = Fraction(1),
    audio_CS: np.ndarray | None = None,
    audio_rate: int | None = None,
    frames_total: int | None = None,
    source: ClipInfo | None = None,
    language: str | None = None,
    crf: int | None = None,
    preset: str = "medium",
    progress: Callable[[int, int], None] | None = None,
    comment: str = COMMENT,
) -> WriteReport:
    """Write uint8 FHW3 chunks and their sound to `path` in one call; see `ClipWriter` for the arguments."""
    with ClipWriter(
        path,
        frame_rate=frame_rate,
        size=size,
        sample_aspect=sample_aspect,
        source=source,
        language=language,
        crf=crf,
        preset=preset,
        frames_total=frames_total,
        progress=progress,
        comment=comment,
    ) as writer:
        for frames_FHW3 in frames:
            writer.write(frames_FHW3)
        return writer.finish(audio_CS, audio_rate)


def describe_streams(info: ClipInfo) -> tuple[str, ...]:
    """One short description a stream: "video h264", "audio aac stereo (fra)", "subtitle mov_text (eng)"."""
    words = [f"video {info.video.codec}"]
    if info.audio is not None:
        words.append(f"audio {info.audio.codec} {info.audio.layout} ({info.audio.language or UNDEFINED})")
    words += [f"subtitle {track.codec} ({track.language or UNDEFINED})" for track in info.subtitles]
    if info.chapters:
        words.append(f"{info.chapters} chapters")
    return tuple(words)


def _check_sound(audio_CS: np.ndarray, audio_rate: int | None) -> None:
    if audio_CS.ndim != 2 or audio_CS.shape[0] not in LAYOUTS or not audio_rate:
        raise UsageError(
            f"sound of shape {audio_CS.shape} at {audio_rate} Hz", expected="(channels, samples), 1, 2 or 6 channels"
        )
    if not np.isfinite(audio_CS).all():
        raise BadInputError("the sound holds values that are no numbers (NaN or infinite)", remedy="make it again")
