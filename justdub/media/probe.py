"""What a clip is: rates, sizes, offsets and streams, with exact fractions; and why a file is no clip at all."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from justdub.errors import BadInputError
from justdub.media.container import check_input, open_container
from justdub.media.packets import Scan, scan_packets
from justdub.media.timing import constant_rate, fits, nominal_rate, snap

MAX_PIXELS = 4096 * 2304  # 4K in either orientation; above it a decoded window would not fit a desktop's memory
MIN_FRAMES = 2
_STILL_FORMATS = ("_pipe", "image2", "ico")


@dataclass(frozen=True)
class VideoStream:
    """The picture of a clip.

    Attributes:
        index: stream index in the container.
        codec: codec name, for example "h264".
        width, height: pixels of the upright picture, that is after `rotation` was applied.
        sample_aspect: width of a pixel over its height, after rotation (1 = square).
        rotation: degrees (0, 90, 180, 270) counter-clockwise by which the stored picture is turned to be upright;
            `numpy.rot90(stored_HW3, k=rotation // 90)`.
        frame_rate: frames per second; for a variable rate the nominal one that reading resamples to.
        variable: the file's own frame rate varies.
        frames: number of frames at `frame_rate`: what `read_frames` yields.
        start: time of the first frame on the container's clock, in seconds.
        duration: seconds from the first frame to the end of the last one.
        last_start: time of the last frame minus `start`, in seconds.
        pixel_format: for example "yuv420p10le".
    """

    index: int
    codec: str
    width: int
    height: int
    sample_aspect: Fraction
    rotation: int
    frame_rate: Fraction
    variable: bool
    frames: int
    start: Fraction
    duration: Fraction
    last_start: Fraction
    pixel_format: str


@dataclass(frozen=True)
class AudioStream:
    """The sound of a clip: `start` and `duration` in seconds on the container's clock, `rate` in Hz."""

    index: int
    codec: str
    channels: int
    layout: str
    rate: int
    start: Fraction
    duration: Fraction
    language: str | None


@dataclass(frozen=True)
class SubtitleStream:
    """A subtitle track; `text` is False for bitmap subtitles."""

    index: int
    codec: str
    language: str | None
    text: bool


@dataclass(frozen=True)
class ClipInfo:
    """Everything that reading and writing need to know about a file.

    Attributes:
        path: absolute path.
        audio: the sound track that is read (the default one, else the first), or None for a silent clip.
        subtitles: subtitle tracks in file order.
        other: descriptions of streams that are neither read nor copied ("audio mp3 (fra)", "data bin_data").
        chapters: number of chapters.
        container: ffmpeg's name of the format.
        start: the container's own start (the earliest stream) in seconds.
        notes: sentences for the report: what will be adjusted and what is unusual.
    """

    path: Path
    video: VideoStream
    audio: AudioStream | None
    subtitles: tuple[SubtitleStream, ...]
    other: tuple[str, ...]
    chapters: int
    container: str
    start: Fraction
    notes: tuple[str, ...]

    @property
    def duration(self) -> Fraction:
        """Seconds: frames over frame rate. The length of everything that is read and written."""
        return self.video.frames / self.video.frame_rate

    @property
    def display_aspect(self) -> Fraction:
        """Width over height as a player shows it."""
        return Fraction(self.video.width, self.video.height) * self.video.sample_aspect

    @property
    def audio_offset(self) -> Fraction | None:
        """Seconds by which the sound starts after the first frame (negative: before it); None without sound."""
        return None if self.audio is None else self.audio.start - self.video.start


def probe(path: str | Path) -> ClipInfo:
    """Look at a clip without decoding it (one frame excepted); a two-hour file takes about as long as a short one.

    Frame times come from the packets of the first `packets.SCAN_PACKETS` frames and of the last seconds; a rate that
    varies only in between is seen in mp4/mov (whose sample table is read whole) and not elsewhere.

    Raises:
        BadInputError: the file is missing, unreadable, damaged, truncated, too large, or holds no video.
    """
    path = check_input(path)
    container = open_container(path)
    try:
        video = _choose_video(path, container)
        index = video.index
        picture = _first_frame(path, container, video)
    finally:
        container.close()
    container = open_container(path)  # a fresh start: decoding moved the position
    try:
        video = container.streams[index]
        return _describe(path, container, video, picture, scan_packets(container, video, path))
    finally:
        container.close()


def _choose_video(path: Path, container):
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    streams = [stream for stream in container.streams.video if not stream.disposition & still]
    if container.format.name.endswith(_STILL_FORMATS):
        raise _still_image(path)
    if not streams:
        audio = bool(container.streams.audio)
        if not audio and container.streams.video:
            raise _still_image(path)
        what = "holds sound but no video" if audio else "holds no video stream"
        cover = " (its picture is cover art)" if container.streams.video else ""
        remedy = "pass the video that it belongs to" if audio else "pass another file"
        raise BadInputError(f"{path} {what}{cover}", expected="a clip with a picture", remedy=remedy)
    default = [stream for stream in streams if stream.disposition & Disposition.default]
    video = (default or streams)[0]
    width, height = video.codec_context.width, video.codec_context.height
    if width * height > MAX_PIXELS:
        raise BadInputError(
            f"{path} is {width}x{height} pixels",
            expected=f"at most {MAX_PIXELS} pixels a frame (4096x2304)",
            remedy="scale it down first, for example with ffmpeg -vf scale=-2:2160",
        )
    return video


def _still_image(path: Path) -> BadInputError:
    return BadInputError(
        f"{path} is a still picture", expected=f"a video of at least {MIN_FRAMES} frames", remedy="pass a video"
    )


@dataclass(frozen=True)
class _Picture:
    """What only a decoded frame tells."""

    width: int
    height: int
    rotation: int
    pixel_format: str
    notes: tuple[str, ...]


def _first_frame(path: Path, container, video) -> _Picture:
    import av

    video.thread_type = "SLICE"
    try:
        frame = next(container.decode(video), None)
    except (av.FFmpegError, OSError) as error:
        frame, reason = None, f": {error}"
    else:
        reason = ""
    if frame is None:
        codec = codec_name(video)
        raise BadInputError(
            f"{path}: not one picture of its {codec} video stream can be decoded{reason}",
            expected="a complete clip",
            remedy="copy it again, or re-encode it with ffmpeg",
        )
    if frame.width * frame.height > MAX_PIXELS:
        raise BadInputError(f"{path} is {frame.width}x{frame.height} pixels", expected=f"at most {MAX_PIXELS} pixels")
    notes = []
    quarters = round(frame.rotation / 90)
    if frame.rotation % 90:
        notes.append(f"rotation of {frame.rotation} degrees is rounded to {quarters * 90}")
    if frame.interlaced_frame:
        notes.append("the picture is interlaced and is read without deinterlacing")
    if getattr(video.codec_context, "color_trc", 0) in (16, 18):  # SMPTE ST 2084, ARIB STD-B67
        notes.append("HDR colours are converted without tone mapping")
    return _Picture(frame.width, frame.height, quarters * 90 % 360, frame.format.name, tuple(notes))


def _describe(path: Path, container, video, picture: _Picture, scan: Scan) -> ClipInfo:
    if scan.cut:
        raise BadInputError(
            f"{path} is truncated: {scan.cut}", expected="a complete file", remedy="copy or download it again"
        )
    if not scan.times and scan.untimed:
        raise BadInputError(
            f"{path} is a bare {container.format.name} stream without timestamps",
            expected="a clip in a container",
            remedy="wrap it first: ffmpeg -r 25 -i IN -c copy OUT.mp4",
        )
    if len(scan.times) < MIN_FRAMES or scan.last <= scan.times[0]:
        raise BadInputError(
            f"{path} has {len(scan.times)} video frame{'s' if len(scan.times) != 1 else ''}",
            expected=f"a video of at least {MIN_FRAMES} frames",
            remedy="pass a video, not a still picture",
        )
    notes = list(picture.notes)
    stream = _video_stream(video, picture, scan)
    if stream.variable:
        notes.append(f"variable frame rate: resampled to {stream.frame_rate} frames per second, {stream.frames} frames")
    audio = _choose_audio(container, scan)
    if audio is not None and abs(audio.start - stream.start) > Fraction(1, 20):  # less is codec priming
        late = float(audio.start - stream.start)
        notes.append(f"the sound starts {abs(late):.3f} s {'after' if late > 0 else 'before'} the picture")
    subtitles = tuple(
        SubtitleStream(track.index, codec_name(track), _language(track), _is_text(track))
        for track in container.streams.subtitles
    )
    kept = {stream.index, *(track.index for track in subtitles)} | ({audio.index} if audio else set())
    start = container.start_time
    return ClipInfo(
        path=path,
        video=stream,
        audio=audio,
        subtitles=subtitles,
        other=tuple(_name(track) for track in container.streams if track.index not in kept),
        chapters=len(container.chapters()),
        container=container.format.name,
        start=Fraction(start, 1_000_000) if start is not None else Fraction(0),
        notes=tuple(notes),
    )


def _video_stream(video, picture: _Picture, scan: Scan) -> VideoStream:
    base = video.time_base
    declared = [rate for rate in (video.guessed_rate, video.average_rate, video.base_rate) if rate]
    rate = constant_rate(scan.times, base, declared)
    if rate is not None and not scan.complete and not _table_fits(video, rate):
        rate = None
    variable = rate is None
    rate = rate or nominal_rate(scan.times, base)
    start = scan.times[0] * base
    last_start = scan.last * base - start
    step = scan.end - scan.last
    duration = last_start + (step * base if step > 0 and variable else 1 / rate)
    frames = len(scan.times) if scan.complete and not variable else max(MIN_FRAMES, round(duration * rate))
    turned = picture.rotation % 180 == 90
    aspect = Fraction(video.sample_aspect_ratio or 1) or Fraction(1)
    return VideoStream(
        index=video.index,
        codec=codec_name(video),
        width=picture.height if turned else picture.width,
        height=picture.width if turned else picture.height,
        sample_aspect=1 / aspect if turned else aspect,
        rotation=picture.rotation,
        frame_rate=rate,
        variable=variable,
        frames=frames,
        start=start,
        duration=duration,
        last_start=last_start,
        pixel_format=picture.pixel_format,
    )


def _table_fits(video, rate: Fraction) -> bool:
    """False if the sample table of a long mp4 (decoding order) shows another rate past the scanned part."""
    entries = getattr(video, "index_entries", None)
    if not entries or not video.frames or len(entries) < video.frames:
        return True  # no table of the whole file: nothing to learn
    stamps = sorted(entry.timestamp for entry in entries if not entry.is_discard)
    return len(stamps) < MIN_FRAMES or fits(stamps, video.time_base, snap(rate))


def _choose_audio(container, scan: Scan) -> AudioStream | None:
    from av.stream import Disposition

    streams = [track for track in container.streams.audio if track.codec_context and track.codec_context.sample_rate]
    default = [track for track in streams if track.disposition & Disposition.default]
    if not streams:
        return None
    track = (default or streams)[0]
    start = scan.starts.get(track.index)
    if start is None:  # an empty track
        return None
    if track.duration and scan.complete:
        duration = track.duration * track.time_base
    else:
        duration = scan.ends[track.index] - start
    return AudioStream(
        index=track.index,
        codec=codec_name(track),
        channels=track.codec_context.channels,
        layout=track.codec_context.layout.name,
        rate=track.codec_context.sample_rate,
        start=start,
        duration=duration,
        language=_language(track),
    )


def codec_name(track) -> str:
    """The codec's own name ("av1"), not that of the decoder chosen for it ("libdav1d")."""
    context = getattr(track, "codec_context", None)
    if context is None:
        return "unknown"
    return getattr(context.codec, "canonical_name", None) or context.name


def _language(track) -> str | None:
    language = track.metadata.get("language", "").strip()
    return None if language in ("", "und") else language


def _is_text(track) -> bool:
    bitmap = {"dvdsub", "dvbsub", "pgssub", "xsub", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"}
    return codec_name(track) not in bitmap


def _name(track) -> str:
    codec = codec_name(track)
    language = _language(track)
    return f"{track.type} {codec}" + (f" ({language})" if language else "")
