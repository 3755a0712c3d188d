"""Reading timestamps without decoding: what a probe may know of a long file in a short time.

The scan reads packets up to `SCAN_PACKETS` video packets or `SCAN_BYTES`, then jumps to the last seconds. An mp4's
sample table is in memory anyway, so there the whole file is judged.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

SCAN_PACKETS = 6000  # four minutes at 25 fps
SCAN_BYTES = 256 << 20
TAIL_SECONDS = 8
_REORDER = 32  # packets whose order is still open where the scan breaks off


@dataclass
class Scan:
    """Timestamps found in a file.

    Attributes:
        times: sorted presentation times of the video frames scanned, in ticks of the video stream.
        complete: the whole file was scanned.
        last: presentation time of the last video frame, in ticks.
        end: `last` plus the length of that frame, in ticks (0 extra where the file does not say).
        starts, ends: first and last presentation instant of each audio and video stream, in seconds.
        untimed: packets without any timestamp.
        cut: how the file was found to be truncated, or None.
    """

    times: list[int] = field(default_factory=list)
    complete: bool = True
    last: int = 0
    end: int = 0
    starts: dict[int, Fraction] = field(default_factory=dict)
    ends: dict[int, Fraction] = field(default_factory=dict)
    untimed: int = 0
    cut: str | None = None


def scan_packets(container, video, path: Path) -> Scan:
    """Scan the packets of an open PyAV container. It must be at its start; its position is lost."""
    scan = Scan()
    streams = [stream for stream in container.streams if stream.type in ("video", "audio")]
    broken = _read(scan, container, streams, video, stop=SCAN_PACKETS)
    if not scan.complete:
        scan.times = sorted(scan.times)[:-_REORDER]
        broken = _read_tail(scan, container, streams, video)
    scan.times.sort()
    scan.cut = (
        _index_cut(video, path) or _table_cut(scan, video) or _segment_cut(path) or _duration_cut(scan, container)
    )
    if scan.cut is None and broken and scan.complete:
        scan.cut = "its packets stop with an error"
    return scan


def _read(scan: Scan, container, streams, video, *, stop: int | None) -> bool:
    """Add packets to the scan; returns True if reading broke off with an error."""
    import av

    size = 0
    try:
        for packet in container.demux(streams):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                scan.untimed += packet.size > 0
                continue
            if packet.is_discard:  # before the start of an edit list
                continue
            size += packet.size
            _note(scan, packet, stamp, is_video=packet.stream_index == video.index, keep=stop is not None)
            if stop is not None and (len(scan.times) >= stop or size >= SCAN_BYTES):
                scan.complete = False
                return False
    except av.FFmpegError:
        return True
    return False


def _note(scan: Scan, packet, stamp: int, *, is_video: bool, keep: bool) -> None:
    index, base = packet.stream_index, packet.time_base
    start, end = stamp * base, (stamp + (packet.duration or 0)) * base
    scan.starts[index] = min(start, scan.starts.get(index, start))
    scan.ends[index] = max(end, scan.ends.get(index, end))
    if not is_video:
        return
    if keep:
        scan.times.append(stamp)
    scan.last = max(stamp, scan.last)
    scan.end = max(stamp + (packet.duration or 0), scan.end)


def _read_tail(scan: Scan, container, streams, video) -> bool:
    import av

    if container.duration is None:
        return _read(scan, container, streams, video, stop=None)
    target = (container.start_time or 0) + container.duration - TAIL_SECONDS * 1_000_000
    with contextlib.suppress(av.FFmpegError):  # not seekable: read on from here
        container.seek(max(target, 0))
    return _read(scan, container, streams, video, stop=None)


def _index_cut(video, path: Path) -> str | None:
    """An mp4's sample table points past the end of the file."""
    entries = getattr(video, "index_entries", None)  # PyAV >= 15
    if not entries:
        return None
    last = max((entry.pos + entry.size for entry in entries), default=0)
    have = path.stat().st_size
    if last <= have:
        return None
    return f"its index points to byte {last} but the file has {have} bytes"


def _table_cut(scan: Scan, video) -> str | None:
    if scan.complete and video.frames and len(scan.times) < video.frames * 0.98 - 2:
        return f"its header promises {video.frames} frames but only {len(scan.times)} are there"
    return None


def _segment_cut(path: Path) -> str | None:
    """A Matroska or WebM file ends before its Segment does (RFC 8794: an id, then a size, then the payload)."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    at, header_size = _ebml_size(head, 4)
    at += header_size or 0
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return None
    at, segment_size = _ebml_size(head, at + 4)
    have = path.stat().st_size
    if segment_size is None or at + segment_size <= have:
        return None
    return f"its header promises {at + segment_size} bytes but the file has {have}"


def _ebml_size(head: bytes, at: int) -> tuple[int, int | None]:
    """(place after the size field at `at`, its value; None for a size left open, as live recordings do)."""
    first = head[at] if at < len(head) else 0
    length = 9 - first.bit_length()
    if length > 8:
        return at + 1, None
    value = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    return at + length, None if value == (1 << 7 * length) - 1 else value


def _duration_cut(scan: Scan, container) -> str | None:
    """The header's duration goes well past the last packet (FLV and others that write it at the start)."""
    if container.duration is None or not scan.ends:
        return None
    if any(stream.type == "subtitle" for stream in container.streams):
        return None  # a cue may outlast the picture
    found = max(scan.ends.values()) - min(scan.starts.values())
    promised = Fraction(container.duration, 1_000_000)
    if promised - found <= max(Fraction(1, 4), min(Fraction(2), promised / 20)):
        return None
    return f"its header promises {float(promised):.1f} s but the data ends after {float(found):.1f} s"
