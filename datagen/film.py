"""Clips as files that lose nothing or little: H.264 in RGB and FLAC, in an MP4.

Made in this process with PyAV, in memory, then renamed into place: a file with its final name is whole. Such files are
for training and measuring; browsers do not show RGB.

Legend: F frames, H/W height/width, S samples.
"""

from __future__ import annotations

import io
import secrets
from fractions import Fraction
from pathlib import Path

import numpy as np

LOSSLESS = 0  # x264's quantiser: 0 loses nothing, 12 less than can be seen
_PRESET = "ultrafast"  # without loss, slower presets save 15 % for twice the time


def encode(
    frames_FHW3: np.ndarray,
    samples_S: np.ndarray | None,
    *,
    frame_rate: Fraction | int,
    sample_rate: int = 16000,
    quantiser: int = LOSSLESS,
) -> bytes:
    """An MP4 of uint8 RGB frames and float32 mono sound, full scale 1, rounded to 16 bits. None: no sound.

    The bytes depend on the arguments and on the libraries' versions alone.
    """
    import av

    av.logging.set_level(None)  # x264 reports every clip
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        picture = container.add_stream(
            "libx264rgb", rate=Fraction(frame_rate), options={"qp": str(quantiser), "preset": _PRESET}
        )
        picture.height, picture.width = frames_FHW3.shape[1:3]
        picture.pix_fmt = "rgb24"
        picture.codec_context.thread_count = 1
        sound = None
        if samples_S is not None:
            sound = container.add_stream("flac", rate=sample_rate, layout="mono")
            sound.codec_context.format = "s16"
        for frame_HW3 in frames_FHW3:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HW3), format="rgb24")))
        container.mux(picture.encode(None))
        if sound is not None:
            whole_1S = np.rint(np.clip(samples_S, -1, 1) * 32767).astype(np.int16)[None]
            step = sound.codec_context.frame_size or whole_1S.shape[1]
            for first in range(0, whole_1S.shape[1], step):
                part_1S = np.ascontiguousarray(whole_1S[:, first : first + step])
                part = av.AudioFrame.from_ndarray(part_1S, format="s16", layout="mono")
                part.sample_rate, part.pts = sample_rate, first
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
    return file.getvalue()


def put(path: Path, content: bytes) -> None:
    """Write a file under a hidden name beside `path`, then rename it. The name is nobody else's: another machine that
    was thought dead may be at the same clip."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
