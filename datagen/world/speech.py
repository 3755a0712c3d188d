"""Utterances from espeak-ng, in this process, with the time of every phoneme.

espeak-ng keeps state in C statics that survive even `espeak_Terminate`: the place in its pitch flutter, the count of
glottal cycles (roughness) and a random number generator (breath), so a sentence can sound different after another one.
Hence our own voice files (see `voices.Voice`) switch flutter and roughness off, and the generator is seeded before
every utterance; then the result depends on the arguments alone (measured over thousands of shuffled utterances).
The library is loaded from a private copy in a temporary folder, so that no other user of espeak-ng in this process
shares those statics; the folder also holds our voice files, beside links to the data of the `espeakng-loader` wheel.

Thread safety: one lock around the library; threads queue, processes run side by side.
Source of the structures and constants: espeak-ng's public header `speak_lib.h`, version 1.52.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import shutil
import tempfile
import threading
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16000  # Hz, what leaves this module
NATIVE_RATE = 22050  # Hz, what espeak-ng makes
LANGUAGES = {"en": "English", "fr": "French", "es": "Spanish", "de": "German", "ru": "Russian"}

_DATA_FILES = ("phontab", "phondata", "phonindex", "intonations", "lang", *(f"{code}_dict" for code in LANGUAGES))
_OPTIONS = 0x8003  # phoneme events | events carry IPA | do not exit the process on a missing file
_SYNCHRONOUS, _UTF8, _EVENT_PHONEME = 2, 1, 7
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4


@dataclass(frozen=True)
class Phoneme:
    """One phoneme: `start` and `end` in seconds, `ipa` with stress and length marks ('' never occurs)."""

    start: float
    end: float
    ipa: str


@dataclass(frozen=True)
class Utterance:
    """Sound, float32 (S,) at 16 kHz, full scale 1, and its phonemes; time 0 is the first sample."""

    samples: np.ndarray
    phonemes: tuple[Phoneme, ...]

    @property
    def duration(self) -> float:
        """Seconds from the first sample to the end of the last phoneme."""
        return self.phonemes[-1].end if self.phonemes else len(self.samples) / SAMPLE_RATE


class _Ident(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Ident),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Engine:
    """The private copy of the library and its folder, made on first use."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as missing:
            raise ImportError(
                "the drawn world speaks through espeak-ng: pip install 'espeakng-loader>=0.2.4'"
            ) from missing
        self.home = tempfile.TemporaryDirectory(prefix="justdub-espeak-")
        self.process = os.getpid()
        folder, data = Path(self.home.name), Path(espeakng_loader.get_data_path())
        library = Path(espeakng_loader.get_library_path())
        self.voices = folder / "voices" / "!v"
        self.voices.mkdir(parents=True)
        for name in _DATA_FILES:
            self._link(data / name, folder / name)
        self.written = ""
        self.pieces: list[bytes] = []
        self.events: list[tuple[int, str]] = []
        self.callback = _Callback(self._receive)
        self.loaded = str(shutil.copy(library, folder / library.name))
        self._load()

    def _load(self) -> None:
        self.espeak = ctypes.CDLL(self.loaded)
        self.espeak.espeak_Initialize(_SYNCHRONOUS, 0, self.home.name.encode(), _OPTIONS)
        self.espeak.espeak_SetSynthCallback(self.callback)

    def _load_again(self) -> None:
        """Forget all that was said: the library keeps it in variables of its own."""
        self.espeak.espeak_Terminate()
        _unload(self.espeak._handle)
        self._load()

    @staticmethod
    def _link(source: Path, target: Path) -> None:
        try:
            target.symlink_to(source, target_is_directory=source.is_dir())
        except OSError:  # no right to make links: Windows without developer mode
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)

    def _receive(self, wave, count, events) -> int:
        if wave and count:
            self.pieces.append(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type:
            if events[index].type == _EVENT_PHONEME:
                raw = ctypes.string_at(ctypes.addressof(events[index].id), 8).split(b"\0")[0]
                self.events.append((events[index].sample, raw.decode("utf-8", "ignore")))
            index += 1
        return 0

    def set_voice_file(self, text: str) -> None:
        """Make `text` the voice file that is known as `_VARIANT`. There is only one: the library reads 349 at most."""
        if text != self.written:
            (self.voices / _VARIANT).write_text(f"language variant\nname {_VARIANT}\n{text}")
            self.written = text

    def speak(self, text: str, voice: str, settings: dict[int, int]) -> tuple[bytes, list[tuple[int, str]]]:
        self._load_again()  # what was said before changes how a trilled r sounds
        self.pieces, self.events = [], []
        self.espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))
        if self.espeak.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"espeak-ng knows no voice {voice!r}; languages here: {', '.join(LANGUAGES)}")
        for parameter, value in settings.items():
            self.espeak.espeak_SetParameter(parameter, value, 0)
        raw = text.encode()
        self.espeak.espeak_Synth(raw, ctypes.c_size_t(len(raw) + 1), 0, 1, 0, _UTF8, None, None)
        return b"".join(self.pieces), self.events


_VARIANT = "speaker"
_unload = _ctypes.FreeLibrary if os.name == "nt" else _ctypes.dlclose
_lock = threading.Lock()
_engine: _Engine | None = None


def hash_text(text: str) -> int:
    """A 32-bit number of a text that is the same in every process (Python's own `hash` is not)."""
    return zlib.crc32(text.encode())


@lru_cache(maxsize=1)
def _anti_alias() -> np.ndarray:
    """Low-pass at 0.92 of the lower Nyquist frequency, 8 zero crossings a side: 7057 taps at the common rate."""
    from scipy.signal import firwin

    return firwin(2 * 8 * 441 + 1, 0.92 / 441, window=("kaiser", 5.0)).astype(np.float32)


def resample(samples: np.ndarray) -> np.ndarray:
    """22.05 kHz -> 16 kHz (ratio 320/441), zero phase, so that phoneme times stay true. float32 in and out."""
    from scipy.signal import resample_poly

    return resample_poly(samples, 320, 441, window=_anti_alias()).astype(np.float32)


def speak(
    text: str, language: str, voice: str, *, pitch: int = 50, rate: int = 175, pitch_range: int = 50, volume: int = 80
) -> Utterance:
    """Say `text`; the result depends on the arguments alone.

    Args:
        text: what to say; a comma is a short pause.
        language: one of `LANGUAGES`.
        voice: the lines of an espeak-ng voice file (`voices.Voice.lines`).
        pitch, pitch_range: 0..99 with 50 = the voice's own; rate: words/min, 80..450; volume: 0..200.
    """
    global _engine
    with _lock:
        if _engine is None or _engine.process != os.getpid():
            _engine = _Engine()
        settings = {_RATE: rate, _VOLUME: volume, _PITCH: pitch, _RANGE: pitch_range}
        _engine.set_voice_file(voice)
        raw, events = _engine.speak(text, f"{language}+{_VARIANT}", settings)
    native = np.frombuffer(raw, np.int16).astype(np.float32) / 32768
    events = [event for event in events if not event[1].startswith("(")]  # "(en)": the engine borrows another language
    times = [sample / NATIVE_RATE for sample, _ in events] + [len(native) / NATIVE_RATE]
    phonemes: list[Phoneme] = []
    for start, end, (_, ipa) in zip(times[:-1], times[1:], events, strict=True):
        if not ipa.strip("_:; ") or end <= start:
            continue  # a pause: nobody speaks until the next phoneme's start
        if ipa == "ʲ" and phonemes:  # the soft release of the consonant before
            phonemes[-1] = Phoneme(phonemes[-1].start, end, phonemes[-1].ipa + ipa)
        else:
            phonemes.append(Phoneme(start, end, ipa))
    return Utterance(resample(native), tuple(phonemes))
