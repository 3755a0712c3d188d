"""What goes into a dub and what comes out: clips as arrays, between files and the model.

Letters: C channels, F/H/W frames/height/width, S samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from justdub.dubbing.manifest import Manifest
from justdub.dubbing.prompt import Prompt
from justdub.media import ClipInfo, check_output, write_clip

# Called with (stage, done, in all); stages in order: read, encode, denoise, decode, write.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Source:
    """A clip at working size, padded to the model's grid.

    Attributes:
        frames_FHW3: uint8, 8k + 1 frames, the last ones repeating the clip's last frame.
        audio_CS: float32 at the audio codec's rate, as long as the padded frames, silence at the end.
    """

    info: ClipInfo
    size: tuple[int, int]
    frames_FHW3: np.ndarray
    audio_CS: np.ndarray


@dataclass(frozen=True)
class Dub:
    """A dubbed clip, decoded, cut to the source's exact length.

    Attributes:
        frames_FHW3: uint8 RGB at working size.
        audio_CS: float32.
        audio_rate: Hz.
    """

    frames_FHW3: np.ndarray
    audio_CS: np.ndarray
    audio_rate: int
    source: Source
    prompt: Prompt
    manifest: Manifest

    def save(self, path: str | Path, *, progress: Progress | None = None) -> Manifest:
        """Write the clip at the source's size and rate, with its other streams, and the manifest ``PATH.json``."""
        path, info = Path(path), self.source.info
        check_output(path, inputs=[info.path])
        with self.manifest.timed("write"):
            report = write_clip(
                path,
                in_windows(self.frames_FHW3, progress),
                frame_rate=info.video.frame_rate,
                size=(info.video.width, info.video.height),
                sample_aspect=info.video.sample_aspect,
                audio_CS=self.audio_CS,
                audio_rate=self.audio_rate,
                frames_total=len(self.frames_FHW3),
                source=info,
                language=self.prompt.language,
                # Of x264: on talking heads as small as "medium" at this quality, and 2.5 to 4 times as fast.
                preset="veryfast",
            )
        self.manifest.record_output(path, report)
        self.manifest.write(Path(f"{path}.json"))
        return self.manifest


@dataclass(frozen=True)
class Generated:
    """A clip made from a prompt alone: frames_FHW3 uint8, audio_CS float32 at audio_rate Hz."""

    frames_FHW3: np.ndarray
    audio_CS: np.ndarray
    audio_rate: int


def fit(audio_CS: np.ndarray, seconds: Fraction | float, rate: int) -> np.ndarray:
    """Exactly so many seconds: cut, or filled up with silence (audio latents end up to 30 ms before the last frame)."""
    samples = round(seconds * rate)
    return np.pad(audio_CS[:, :samples], ((0, 0), (0, max(0, samples - audio_CS.shape[1]))))


def in_windows(frames_FHW3: np.ndarray, progress: Progress | None, window: int = 32) -> Any:
    for start in range(0, len(frames_FHW3), window):
        chunk = frames_FHW3[start : start + window]
        yield chunk
        if progress:
            progress("write", start + len(chunk), len(frames_FHW3))
