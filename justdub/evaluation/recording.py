"""Sound files without a picture: true recordings, timbre prompts, clean stems.

Legend: C channels, S samples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from justdub.errors import BadInputError
from justdub.media.container import check_input, open_container

LAYOUTS = {1: "mono", 2: "stereo"}


def read_recording(path: str | Path, rate: int, channels: int = 1) -> np.ndarray:
    """The whole first sound track of any media file, float32 (C, S).

    Raises:
        BadInputError: no such file, no sound in it, or sound that cannot be decoded.
    """
    import av

    path = check_input(path)
    container = open_container(path)
    try:
        if not container.streams.audio:
            raise BadInputError(f"{path} has no sound", expected="a sound file or a clip with sound")
        resampler = av.AudioResampler(format="fltp", layout=LAYOUTS[channels], rate=rate)
        parts = []
        for frame in container.decode(container.streams.audio[0]):
            frame.pts = None
            parts += [part.to_ndarray() for part in resampler.resample(frame)]
        parts += [part.to_ndarray() for part in resampler.resample(None)]
    except av.FFmpegError as error:
        raise BadInputError(f"{path}: its sound cannot be decoded: {error}", remedy="re-encode it") from error
    finally:
        container.close()
    if not parts:
        raise BadInputError(f"{path} holds no samples")
    return np.concatenate(parts, axis=1)
