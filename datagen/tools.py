"""What the stages work with, loaded once in a process when it is first asked for."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datagen.film import encode
from datagen.job import DatagenJob, SamplingSettings, plain
from datagen.store import Store
from justdub.dubbing.settings import DubSettings

# Stage: the stages whose results it reads, and the sections of the job that decide its own.
STAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "script": ((), ("script", "footage")),
    "generate": (("script",), ("generate",)),
    "split": (("generate",), ("split",)),
    "mask": (("split",), ("mask",)),
    "inpaint": (("mask",), ("inpaint",)),
    "lips": (("inpaint",), ("lips",)),
    "filter": (("lips",), ("filter",)),
}


class Film(NamedTuple):
    """A clip in memory: frames uint8 (F, H, W, 3), samples float32 (S,) mono at 16 kHz, frames per second."""

    frames: np.ndarray
    samples: np.ndarray
    rate: Fraction


RATE = 16000  # Hz: of the sound between stages


class Tools:
    """Of one process. `origin` (of stores) names all that a stage's results depend on, its predecessors' included."""

    def __init__(self, job: DatagenJob) -> None:
        self.job, self.root, self._stores = job, Path(job.out), {}

    def store(self, stage: str) -> Store:
        """The results of a stage."""
        if stage not in self._stores:
            self._stores[stage] = Store(self.root, stage, self.origin(stage))
        return self._stores[stage]

    def origin(self, stage: str) -> dict[str, Any]:
        """What a stage's results depend on: settings of it and of the stages before it, the seed, the backbone."""
        job, found = plain(self.job), {"seed": self.job.seed}
        wanted = [stage]
        while wanted:
            needs, sections = STAGES[wanted.pop()]
            found |= {section: job[section] for section in sections}
            wanted += needs
        if stage != "script":
            found |= {"backbone": self.fingerprint, "adapters": self.worn, "quantiser": job["quantiser"]}
        return found

    @property
    def count(self) -> int:
        """Clips of the run."""
        return len(self.footage) if self.footage else self.job.clips

    @cached_property
    def footage(self) -> list[Any]:
        """The user's clips (`datagen.footage.Footage`), none where clips are generated."""
        from datagen import footage

        chosen = self.job.footage
        if not chosen.folder:
            return []
        return footage.find(Path(chosen.folder), Path(chosen.lines) if chosen.lines else None)

    @cached_property
    def fingerprint(self) -> str:
        """Of the backbone's weights."""
        from justdub.backbone import checkpoint

        text = Path(self.job.text_encoder) if self.job.text_encoder else None
        return checkpoint.fingerprint(checkpoint.find(self.job.backbone), text_encoder=text)

    @cached_property
    def worn(self) -> dict[str, str]:
        """The job's adapters, and the sha256 of their files."""
        from justdub.lora.reference import parse_reference
        from justdub.lora.shelf import file_digest, find

        return {text: file_digest(find(parse_reference(text).name)) for text in self.job.adapters}

    @cached_property
    def pipe(self) -> Any:
        """The backbone with its adapters, as a `DubPipeline`."""
        from justdub.dubbing.pipeline import DubPipeline
        from justdub.lora.reference import parse_reference
        from justdub.lora.shelf import find

        job = self.job
        text = job.text_encoder or None
        pipe = DubPipeline.from_pretrained(job.backbone, device=job.device, dtype=job.dtype, text_encoder=text)
        for name in job.adapters:
            reference = parse_reference(name)
            pipe.load_adapter(find(reference.name), reference.strength)
        return pipe

    @cached_property
    def geometry(self) -> Any:
        """Of the backbone's latents."""
        return self.pipe.backbone.transformer.geometry

    @cached_property
    def finder(self) -> Any:
        """Who finds faces."""
        from datagen.world.finder import WorldFinder
        from justdub.faces.finders import open_finder

        if self.job.mask.finder == "world":
            return WorldFinder()
        return open_finder(self.job.mask.finder, self.job.mask.models)

    @cached_property
    def judge(self) -> Any:
        """Who measures pairs, or None."""
        from datagen.judging import open_judge

        return open_judge(self.job.filter)

    def seed(self, stage: str, number: int, part: int = 0) -> int:
        """Of a clip's noise in a stage."""
        place = list(STAGES).index(stage)
        return int(np.random.default_rng([0xDA7A, self.job.seed, place, number, part]).integers(2**31))

    def settings(self, sampling: SamplingSettings, seed: int) -> DubSettings:
        """Of a generation. Data is made without a reference: a first frame to keep there is none."""
        size = tuple(self.job.generate.size) or None
        return DubSettings(
            seed=seed, steps=sampling.steps, guidance=sampling.guidance, audio_guidance=sampling.audio_guidance,
            size=size,
            keep_first_frame=False,
        )  # fmt: skip

    def encode(self, film: Film) -> bytes:
        """As a file."""
        return encode(film.frames, film.samples, frame_rate=film.rate, sample_rate=RATE, quantiser=self.job.quantiser)

    def read(self, path: Path, frames: int | None = None, size: tuple[int, int] | None = None) -> Film:
        """A clip's first frames (all) and the sound that belongs to them.

        Raises:
            BadInputError: no clip.
        """
        return read_film(path, frames, size)


def read_film(path: Path, frames: int | None = None, size: tuple[int, int] | None = None) -> Film:
    """See `Tools.read`."""
    from justdub.media import FrameReader, probe, read_audio

    info = probe(path)
    rate, count = info.video.frame_rate, info.video.frames if frames is None else min(frames, info.video.frames)
    reader = FrameReader(info, size=size or (info.video.width, info.video.height), limit=count)
    picture_FHW3 = np.concatenate(list(reader))
    sound_S = np.zeros(round(count / rate * RATE), np.float32)
    if info.audio is not None:
        found_S = read_audio(info, rate=RATE, channels=1, duration=count / rate)[0]
        sound_S[: len(found_S)] = found_S[: len(sound_S)]
    return Film(picture_FHW3, sound_S, rate)


def resample(samples_S: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Mono sound at another rate, float32."""
    if rate == wanted:
        return samples_S
    from math import gcd

    from scipy.signal import resample_poly

    step = gcd(rate, wanted)
    return resample_poly(samples_S, wanted // step, rate // step).astype(np.float32)
