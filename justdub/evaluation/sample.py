"""One pair of clips as the metrics see it: files read on demand, features kept by content.

Legend: F frames, H/W height/width, 3 RGB, C channels, S samples, L landmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

from justdub.errors import BadInputError, MissingError
from justdub.evaluation.cache import Cache, digest_file
from justdub.evaluation.tools import Tools
from justdub.media import ClipInfo, probe, read_audio, read_frames

RATE = 16000  # Hz: what speech is judged at
SILENT = 1e-4  # full scale: below -80 dB everywhere there is nothing to hear


class Clip:
    """A file with picture, sound or both, probed and decoded when somebody asks.

    Args:
        path: the picture, and the sound unless `sound_from` names another file for it.
        longest: pixels of the longer side at which pictures are compared; smaller clips keep their size.
    """

    def __init__(self, path: Path, cache: Cache, *, longest: int = 640, sound_from: Clip | None = None) -> None:
        self.path, self.cache, self.longest, self._sound_from = path, cache, longest, sound_from
        self._sounds: dict[tuple[int, int], np.ndarray] = {}

    def with_sound_of(self, other: Clip) -> Clip:
        """This picture with another clip's sound."""
        return Clip(self.path, self.cache, longest=self.longest, sound_from=other)

    @cached_property
    def info(self) -> ClipInfo:
        """Raises BadInputError where the file is no clip."""
        return probe(self.path)

    @cached_property
    def picture_digest(self) -> str:
        return digest_file(self.path)

    @property
    def sound_digest(self) -> str:
        return self._sound_from.sound_digest if self._sound_from else self.picture_digest

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) at which pictures are compared: even numbers."""
        video = self.info.video
        scale = min(1.0, self.longest / max(video.width, video.height))
        return max(2, 2 * round(video.width * scale / 2)), max(2, 2 * round(video.height * scale / 2))

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
        """uint8 FHW3 chunks of at most 16 frames, at `size` (width, height), by default `self.size`."""
        return read_frames(self.info, size=size or self.size, window=16)

    def sound(self, rate: int = RATE, channels: int = 1) -> np.ndarray:
        """float32 (C, S) from the first frame to the end of the picture, preceded and followed by silence if need be.

        Raises:
            BadInputError: no sound, or silence.
        """
        key = (rate, channels)
        if key not in self._sounds:
            sound_CS = self._read_sound(rate, channels)
            if not np.isfinite(sound_CS).all():
                raise BadInputError(
                    f"{self.path.name}: its sound has samples that are no numbers", remedy="re-encode it"
                )
            if np.abs(sound_CS).max(initial=0) < SILENT:
                raise BadInputError(f"{self.path.name}: its sound is silent")
            self._sounds[key] = sound_CS
        return self._sounds[key]

    def _read_sound(self, rate: int, channels: int) -> np.ndarray:
        if self._sound_from is None:
            return read_audio(self.info, rate=rate, channels=channels)
        sound_CS = self._sound_from.sound(rate, channels)
        length = round(self.info.duration * rate)
        return np.pad(sound_CS[:, :length], ((0, 0), (0, max(0, length - sound_CS.shape[1]))))

    def forget(self) -> None:
        """Drop decoded sound: a run over many clips keeps none of them in memory."""
        self._sounds.clear()

    @property
    def speech(self) -> np.ndarray:
        """float32 (S,) mono at 16 kHz."""
        return self.sound()[0]

    def picture_feature(
        self, kind: str, make: Callable[[], dict[str, np.ndarray]], *settings: object
    ) -> dict[str, np.ndarray]:
        """Arrays that depend on the picture alone, kept by content."""
        return self.cache.arrays(kind, [self.picture_digest, *settings], make)

    def sound_feature(
        self, kind: str, make: Callable[[], dict[str, np.ndarray]], *settings: object
    ) -> dict[str, np.ndarray]:
        """Arrays that depend on the sound (and the length of the picture) alone, kept by content."""
        length = self.info.duration if self._sound_from else Fraction(0)
        return self.cache.arrays(kind, [self.sound_digest, length, *settings], make)


class Recording(Clip):
    """A sound file (or the sound of a clip) with no picture to go by: a true line, a timbre prompt, a clean stem."""

    def _read_sound(self, rate: int, channels: int) -> np.ndarray:
        from justdub.evaluation.recording import read_recording

        return read_recording(self.path, rate, channels)


@dataclass(frozen=True)
class Sample:
    """Everything that is known of one dub.

    Attributes:
        name: of the pair. source, dubbed: the clips; `dubbed` is None where the system made none, and `fault` says why.
        text, language: what should be said; empty if unknown. difficulty, emotion: labels of the user's, or empty.
        truth: a true recording of the line. voice: the timbre prompt. stem: clean speech of the dub.
        masks: a clip or picture, white where the face is. tools: models and settings.
    """

    name: str
    source: Clip
    dubbed: Clip | None
    tools: Tools
    text: str = ""
    language: str = ""
    difficulty: str = ""
    emotion: str = ""
    fault: str = ""
    truth: Clip | None = None
    voice: Clip | None = None
    stem: Clip | None = None
    masks: Path | None = None

    @property
    def dub(self) -> Clip:
        """The dubbed clip; raises BadInputError where there is none."""
        if self.dubbed is None:
            raise BadInputError(self.fault or f"{self.name}: there is no dub")
        return self.dubbed

    def needed(self, what: str) -> Clip:
        """`truth`, `voice` or `stem`; raises MissingError where it was not given."""
        clip = getattr(self, what)
        if clip is None:
            option = {"truth": "--truth DIR (true recordings of the lines)", "voice": "--voices DIR (timbre prompts)",
                      "stem": "--stems DIR (clean speech of each dub)"}[what]  # fmt: skip
            raise MissingError(f"no {what} was given for this clip", remedy=option)
        return clip

    def pair_feature(
        self, kind: str, make: Callable[[], dict[str, np.ndarray]], *settings: object
    ) -> dict[str, np.ndarray]:
        """Arrays that depend on both pictures, kept by content."""
        parts = [self.source.picture_digest, self.dub.picture_digest, *settings]
        return self.dub.cache.arrays(kind, parts, make)

    def replaced(self, **changes: object) -> Sample:
        return replace(self, **changes)
