"""Frames of a clip as a stream of small arrays: decord where it can, PyAV where it cannot.

Letters in array names: F frames, H height, W width, 3 colour channels (RGB).

Frame i of the output belongs to the instant `info.video.start + i / frame_rate`. A file's frame goes to the instant
nearest to its timestamp and is held until the next one, which is also how ffmpeg's `fps` filter resamples; for a
constant rate every frame simply comes once. Colours are converted as the file tags them (untagged: BT.601, as every
FFmpeg-based decoder does), 10-bit samples become 8-bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from justdub.errors import BadInputError, UsageError
from justdub.media.container import open_container
from justdub.media.probe import ClipInfo

DECODE_BYTES = 64 << 20  # decoded full-size pixels in flight before a resize
HELD_FRAMES = 2  # a decoder may lose this many frames at the end; the last one is held for them
_DECORD_REFUSES = {"av1", "vvc", "gif", "apng", "prores_raw"}
# Deeper samples are converted to 8 bits differently by decord's older swscale: one decoder keeps one look.
_DECORD_PIXELS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}
_UNTIMED = {"avi"}  # packets carry no presentation times: the order of decoding's output is the only clock


class FrameReader:
    """Iterate over a clip's frames in chunks.

    Args:
        info: the probed clip.
        size: (width, height) of the frames to return; default: as they are. Resized by antialiased bicubic.
        window: the most frames in a chunk.
        progress: called as progress(frames_done, frames_total) after each chunk.
        limit: stop after this many frames.
        backend: "auto", or "decord" or "pyav" to insist on one.

    Attributes:
        backend: the decoder in use, "decord" or "pyav" (set when iteration starts).
        notes: sentences for the report, complete when iteration ends.

    Raises (while iterating):
        BadInputError: the file cannot be decoded, or yields more than `HELD_FRAMES` frames fewer than promised.
    """

    def __init__(
        self,
        info: ClipInfo,
        *,
        size: tuple[int, int] | None = None,
        window: int = 32,
        progress: Callable[[int, int], None] | None = None,
        limit: int | None = None,
        backend: str = "auto",
    ) -> None:
        if window < 1:
            raise UsageError(f"window of {window} frames", expected="at least 1")
        if size is not None and min(size) < 1:
            raise UsageError(f"size {size}", expected="a width and a height of at least 1 pixel")
        if backend not in ("auto", "decord", "pyav"):
            raise UsageError(f"decoder {backend!r}", expected="auto, decord or pyav")
        self.info, self.window, self.progress = info, window, progress
        self.total = info.video.frames if limit is None else min(limit, info.video.frames)
        self.size = None if size == (info.video.width, info.video.height) else size
        self.backend = backend
        self.notes: list[str] = []
        self._decord_only = backend == "decord"

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields uint8 FHW3 chunks of at most `window` frames; the last may be shorter."""
        done, pending, count = 0, [], 0
        for part_FHW3 in self._parts():
            pending.append(part_FHW3)
            count += len(part_FHW3)
            if count >= self.window or done + count >= self.total:
                chunk_FHW3 = pending[0] if len(pending) == 1 else np.concatenate(pending)
                pending, count = [], 0
                done += len(chunk_FHW3)
                yield chunk_FHW3
                del chunk_FHW3, part_FHW3
                if self.progress is not None:
                    self.progress(done, self.total)

    @property
    def step(self) -> int:
        """Frames decoded at once: the whole window, or fewer while they are still large."""
        if self.size is None:
            return self.window
        return max(1, min(self.window, DECODE_BYTES // (self.info.video.width * self.info.video.height * 3)))

    def _parts(self) -> Iterator[np.ndarray]:
        """Resized uint8 FHW3 pieces that never straddle a window's border."""
        done = 0
        if self.backend != "pyav":
            reader = self._open_decord()
            while reader is not None and done < self.total:
                try:
                    part_FHW3 = reader.get_batch(range(done, done + self._ahead(done))).asnumpy()
                except Exception as error:  # decord raises RuntimeError, DECORDError, IndexError alike
                    self._fall_back(f"failed at frame {done}: {_first_line(error)}")
                    break
                done += len(part_FHW3)
                yield self._resize(part_FHW3)
            del reader
        if done < self.total:
            self.backend = "pyav"
            yield from self._pyav_parts(done)

    def _ahead(self, done: int) -> int:
        return min(self.step, self.window - done % self.window, self.total - done)

    def _open_decord(self):
        video = self.info.video
        if video.variable:
            return self._fall_back("does not place frames of a variable rate in time")
        if video.pixel_format not in _DECORD_PIXELS:
            return self._fall_back(f"is used for 8-bit pictures only, this one is {video.pixel_format}")
        if video.codec in _DECORD_REFUSES or self.info.container in ("mpegts", "gif"):
            return self._fall_back(f"cannot read {video.codec} in {self.info.container}")
        try:
            import decord
        except (ImportError, OSError):
            return self._fall_back("is not installed")
        try:
            decord.logging.set_level(decord.logging.QUIET)
            reader = decord.VideoReader(str(self.info.path), ctx=decord.cpu(0))
            shape = reader[0].shape
            reader.seek(0)
        except Exception as error:  # decord raises RuntimeError and DECORDError alike
            return self._fall_back(f"cannot read this file: {_first_line(error)}")
        if len(reader) != video.frames:
            return self._fall_back(f"counts {len(reader)} frames where the file shows {video.frames}")
        if tuple(shape) != (video.height, video.width, 3):
            return self._fall_back(f"gives {shape[1]}x{shape[0]} pixels")
        self.backend = "decord"
        return reader

    def _fall_back(self, why: str) -> None:
        if self._decord_only:
            raise BadInputError(f"{self.info.path}: decord {why}", remedy="leave the choice of the decoder to auto")
        self.notes.append(f"frames read with PyAV: decord {why}")

    def _pyav_parts(self, skip: int) -> Iterator[np.ndarray]:
        part, done = [], skip
        for index, frame_HW3 in enumerate(self._pyav_frames(skip)):
            part.append(frame_HW3)
            if len(part) == self._ahead(done):
                done = skip + index + 1
                yield self._resize(np.stack(part))
                part = []
            if skip + index + 1 >= self.total:
                return

    def _pyav_frames(self, skip: int) -> Iterator[np.ndarray]:
        """Upright uint8 HW3 frames for slots `skip`, `skip` + 1, ... of the constant grid."""
        video = self.info.video
        held, held_slot, next_slot = None, -1, 0
        untimed = not video.variable and self.info.container in _UNTIMED
        for number, frame in enumerate(self._decoded()):
            slot = number if untimed else round((frame.pts * frame.time_base - video.start) * video.frame_rate)
            if held is not None and slot > held_slot:
                yield from _repeat(held, video.rotation, max(skip, next_slot), slot)
                next_slot = max(next_slot, slot)
            if next_slot >= self.total:
                return
            held, held_slot = frame, max(slot, held_slot)
        if held is None:
            raise BadInputError(f"{self.info.path}: no frame can be decoded", remedy="re-encode it with ffmpeg")
        missing = round(video.last_start * video.frame_rate) - held_slot
        if missing > HELD_FRAMES:
            raise BadInputError(
                f"{self.info.path}: decoding ends after {held_slot + 1} of {video.frames} frames",
                expected="a complete file",
                remedy="copy it again, or repair it by re-encoding it with ffmpeg",
            )
        if missing > 0:
            self.notes.append(f"the last frame is held for {missing} more that could not be decoded")
        yield from _repeat(held, video.rotation, max(skip, next_slot), video.frames)

    def _decoded(self):
        """PyAV frames in presentation order; damaged packets are counted and skipped."""
        import av

        damaged = 0
        container = open_container(self.info.path)
        try:
            stream = container.streams[self.info.video.index]
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    damaged += 1
                    continue
                yield from (frame for frame in frames if frame.pts is not None)
        except av.FFmpegError:
            damaged += 1
        finally:
            container.close()
            if damaged:
                self.notes.append(f"{damaged} damaged packets were skipped and the frame before each is held")

    def _resize(self, part_FHW3: np.ndarray) -> np.ndarray:
        return part_FHW3 if self.size is None else resize_frames(part_FHW3, self.size)


def read_frames(
    info: ClipInfo,
    *,
    size: tuple[int, int] | None = None,
    window: int = 32,
    progress: Callable[[int, int], None] | None = None,
    limit: int | None = None,
) -> Iterator[np.ndarray]:
    """Yield a clip's frames as uint8 FHW3 chunks of at most `window`; see `FrameReader` for the arguments."""
    return iter(FrameReader(info, size=size, window=window, progress=progress, limit=limit))


def resize_frames(frames_FHW3: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Antialiased bicubic resize of uint8 FHW3 frames to (width, height)."""
    import torch

    frames_FCHW = torch.from_numpy(np.ascontiguousarray(frames_FHW3)).permute(0, 3, 1, 2)
    resized_FCHW = torch.nn.functional.interpolate(
        frames_FCHW, size=(size[1], size[0]), mode="bicubic", antialias=True, align_corners=False
    )
    return np.ascontiguousarray(resized_FCHW.permute(0, 2, 3, 1).numpy())


def _repeat(frame, rotation: int, first: int, stop: int) -> Iterator[np.ndarray]:
    if first >= stop:
        return
    if frame.format.name not in _DECORD_PIXELS:
        frame = frame.reformat(format="gbrp")  # straight to rgb24, swscale darkens deep samples by up to 3 levels
    frame_HW3 = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), k=rotation // 90))
    for _ in range(first, stop):
        yield frame_HW3


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return lines[0].rsplit("] ", 1)[-1].split(": ", 1)[-1][:120]  # without decord's time stamps and source lines
