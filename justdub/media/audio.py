"""The sound of a clip on the picture's clock.

Letters in array names: C channels, S samples. Sample 0 is the instant of the first video frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from justdub.errors import BadInputError, UsageError
from justdub.media.container import open_container
from justdub.media.probe import ClipInfo

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
SEEK_BEFORE = Fraction(2)  # seconds decoded ahead of `start`, so that codecs with memory have settled
JUMP = Fraction(1, 50)  # a timestamp this far from where the samples end is a gap or an overlap, not rounding


def read_audio(
    info: ClipInfo,
    *,
    rate: int,
    channels: int,
    start: Fraction | int = 0,
    duration: Fraction | None = None,
) -> np.ndarray:
    """Decode, remix and resample the sound of a clip.

    Sound that starts after the picture is preceded by silence, sound before it is cut, and the end is padded or cut.
    Mono goes to both channels unchanged; fewer channels than the file has are mixed by swresample's standard
    downmix, scaled so that it cannot clip.

    Args:
        rate: samples per second.
        channels: 1, 2 or 6.
        start: seconds after the first video frame.
        duration: seconds; default: to the end of the picture.

    Returns:
        float32 CS array of round(duration * rate) samples within [-1, 1] where the file stays within it.

    Raises:
        BadInputError: the clip has no sound, or none of it can be decoded.
    """
    if info.audio is None:
        raise BadInputError(f"{info.path} has no sound", expected="a clip with an audio track")
    if channels not in LAYOUTS or rate < 1:
        raise UsageError(f"{channels} channels at {rate} Hz", expected="1, 2 or 6 channels and a rate above 0")
    start = Fraction(start)
    if start < 0:
        raise UsageError(f"start of {float(start):.3f} s", expected="0 or later")
    duration = max(info.duration - start, Fraction(0)) if duration is None else Fraction(duration)
    sound_CS = np.zeros((channels, round(duration * rate)), dtype=np.float32)
    origin = info.video.start + start
    decoded = False
    for time, run_CS in _runs(info, origin, duration, rate, channels):
        decoded = True
        _place(sound_CS, run_CS, round((time - origin) * rate))
    if not decoded and start == 0:
        raise BadInputError(f"{info.path}: its {info.audio.codec} sound cannot be decoded", remedy="re-encode it")
    return sound_CS


def sound_span(info: ClipInfo) -> tuple[Fraction, Fraction]:
    """Instants of the first and after the last sample that a player hears, in seconds on the container's clock.

    The ends are decoded: codec priming and padding do not count, whatever the container's header says.
    """
    import av

    first = last = info.audio.start
    container = open_container(info.path)
    try:
        stream = container.streams[info.audio.index]
        opening = next((frame for frame in container.decode(stream) if frame.pts is not None), None)
        if opening is not None:
            first = opening.pts * opening.time_base
            last = first + Fraction(opening.samples, opening.sample_rate)
        tail = info.audio.start + info.audio.duration - SEEK_BEFORE
        if tail > first:
            container.seek(round(tail / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.pts is not None:
                last = max(last, frame.pts * frame.time_base + Fraction(frame.samples, frame.sample_rate))
    except av.FFmpegError:
        pass  # damaged sound: what was heard so far is the span
    finally:
        container.close()
    return first, last


def _place(sound_CS: np.ndarray, part_CS: np.ndarray, at: int) -> None:
    first, last = max(at, 0), min(at + part_CS.shape[1], sound_CS.shape[1])
    if first < last:
        sound_CS[:, first:last] = part_CS[:, first - at : last - at]


def _runs(
    info: ClipInfo, origin: Fraction, duration: Fraction, rate: int, channels: int
) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Yield (instant of the first sample in seconds on the container's clock, float32 CS samples)."""
    resampler, began, expected, made = None, Fraction(0), Fraction(0), 0
    for frame in _decoded(info, origin, duration):
        time = frame.pts * frame.time_base
        shape = (frame.layout.name, frame.sample_rate, frame.format.name)
        if resampler is None or shape != resampler.shape or abs(time - expected) > JUMP:
            if resampler is not None:
                yield began + Fraction(made, rate), resampler.convert(None)
            resampler, began, made = _Resampler(frame, rate, channels), time, 0
        expected = time + Fraction(frame.samples, frame.sample_rate)
        part_CS = resampler.convert(frame)
        yield began + Fraction(made, rate), part_CS
        made += part_CS.shape[1]
    if resampler is not None:
        yield began + Fraction(made, rate), resampler.convert(None)


def _decoded(info: ClipInfo, origin: Fraction, duration: Fraction):
    """PyAV audio frames that touch [origin, origin + duration); damaged packets become gaps."""
    import av

    container = open_container(info.path)
    try:
        stream = container.streams[info.audio.index]
        if origin - info.video.start > SEEK_BEFORE:
            container.seek(round((origin - SEEK_BEFORE) / stream.time_base), stream=stream)
        end = origin + duration
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                if frame.pts is None:
                    continue
                time = frame.pts * frame.time_base
                if time >= end:
                    return
                if time + Fraction(frame.samples, frame.sample_rate) > origin - 1:
                    yield frame
    except av.FFmpegError:
        return  # the rest of the file is missing: silence
    finally:
        container.close()


class _Resampler:
    """One run of samples of one shape, converted to `channels` at `rate`."""

    def __init__(self, frame, rate: int, channels: int) -> None:
        import av

        self.shape = (frame.layout.name, frame.sample_rate, frame.format.name)
        self.channels = channels
        source = frame.layout.nb_channels
        # Mono is copied to every front channel at full level; swresample would attenuate it by 3 dB.
        self.spread = source == 1 and channels == 2
        # Only with an integer output does swresample scale a downmix so that it cannot clip.
        self.integer = source > channels
        layout = "mono" if self.spread else LAYOUTS[channels]
        self._converter = av.AudioResampler(format="s32p" if self.integer else "fltp", layout=layout, rate=rate)

    def convert(self, frame) -> np.ndarray:
        """float32 CS samples that are ready; None flushes the rest."""
        if frame is not None:
            frame.pts = None  # the caller keeps the time; the converter must not invent or drop samples
        parts = [part.to_ndarray() for part in self._converter.resample(frame)]
        rows = 1 if self.spread else self.channels
        part_CS = np.concatenate(parts, axis=1) if parts else np.zeros((rows, 0), dtype=np.float32)
        if part_CS.dtype == np.int32:
            part_CS = part_CS.astype(np.float64) / 2**31
        part_CS = part_CS.astype(np.float32, copy=False)
        return np.repeat(part_CS, 2, axis=0) if self.spread else part_CS
