"""How much memory a dub needs, and how to make it fit: the tiers of ``--memory``.

A dub goes through phases, and each needs other parts of the backbone::

    text          text encoder, connectors           once, then they may go
    encode        video VAE (never in tiles: latents are the same on every machine), audio VAE
    denoise       transformer, adapters, reference cache
    refine        the same at full size, of two stages
    decode        video VAE (in tiles where asked), vocoder

What is needed at once is counted (`count.Blueprint`) for a list of ways to use memory, from the fastest to the
smallest; a tier takes the first that fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from justdub.backbone.attention import CachePlace
from justdub.backbone.count import Blueprint, Shape
from justdub.errors import MissingError
from justdub.sequence import SequenceRules

# The modules of a diffusers pipeline that work together.
PARTS = {
    "text": ("text_encoder", "connectors"),
    "transformer": ("transformer",),
    "video": ("vae",),
    "audio": ("audio_vae", "vocoder"),
}
TIERS = (80, 48, 24, 16)
# Of a card, what the CUDA context, the kernels' workspaces and the allocator's gaps take.
RESERVE, SHARE = 0.6 * 2**30, 0.95
GIB = 2**30
PROMPT_TOKENS = 1024


@dataclass(frozen=True)
class Use:
    """How memory is used. All False: everything is on the device, all the time.

    Attributes:
        free_text: the text encoder works first and is then forgotten.
        stream_text: its layers are brought to the device one by one.
        one_at_a_time: every part is on the device only while it works.
        tiles: the picture is decoded in tiles.
        fp8: the transformer's weights are stored in eight bits and computed with in sixteen.
        stream: the transformer's blocks are brought to the device one by one.
        cache: where the reference's keys and values are kept.
    """

    free_text: bool = False
    stream_text: bool = False
    one_at_a_time: bool = False
    tiles: bool = False
    fp8: bool = False
    stream: bool = False
    cache: CachePlace = "device"

    def __str__(self) -> str:
        said = {
            "text encoder freed": self.free_text,
            "its layers streamed": self.stream_text,
            "one part at a time": self.one_at_a_time,
            "decoding in tiles": self.tiles,
            "weights in fp8": self.fp8,
            "blocks streamed": self.stream,
            f"cache: {self.cache}": self.cache != "device",
        }
        return ", ".join(name for name, on in said.items() if on) or "everything on the device"


_FREED = Use(free_text=True, one_at_a_time=True, tiles=True)
# From the fastest to the smallest.
LADDER = (
    Use(),
    Use(free_text=True),
    Use(free_text=True, tiles=True),
    _FREED,
    replace(_FREED, cache="host"),
    replace(_FREED, fp8=True),
    replace(_FREED, fp8=True, cache="host"),
    replace(_FREED, stream=True),
    replace(_FREED, stream=True, cache="host"),
    replace(_FREED, stream=True, fp8=True, cache="host"),
)


@dataclass(frozen=True)
class Job:
    """What is to be dubbed, as far as memory is concerned.

    Attributes:
        first: the clip at the size of the first (or only) stage.
        second: at the size of the second, or None.
        texts: different prompts, each with its own cache.
        adapters: bytes of all adapters.
        cached: whether the reference's keys and values are kept.
    """

    first: Shape
    second: Shape | None
    rules: SequenceRules
    texts: int = 2
    adapters: int = 0
    cached: bool = False


@dataclass(frozen=True)
class Estimate:
    """Bytes on the device in each phase, and beside it."""

    use: Use
    phases: dict[str, int]
    host: int

    @property
    def peak(self) -> int:
        return max(self.phases.values())

    @property
    def worst(self) -> str:
        return max(self.phases, key=self.phases.__getitem__)


class Estimator:
    """Counts what a job needs; equal questions are counted once."""

    def __init__(self, blueprint: Blueprint, job: Job) -> None:
        self.blueprint, self.job = blueprint, job
        self._known: dict[tuple, Any] = {}

    def estimate(self, use: Use) -> Estimate:
        blueprint, job, weights = self.blueprint, self.job, self.blueprint.weights
        transformer = blueprint.transformer_fp8 if use.fp8 else weights["transformer"]
        stored = transformer + job.adapters
        if use.stream:
            # Two blocks at once (one works, one arrives) and what is outside of the blocks.
            per_block = (transformer * blueprint.block_bytes) // weights[
                "transformer"
            ] + job.adapters // blueprint.layers
            outside = weights["transformer"] - blueprint.layers * blueprint.block_bytes
            transformer_here = 2 * per_block + outside
        else:
            transformer_here = stored
        text = weights["text"]
        alone = {"text": text, "video": weights["video"], "audio": weights["audio"], "transformer": transformer_here}
        if use.stream_text:
            alone["text"] = text // 8  # the embedding table is its largest layer
        alone["text"] += self._text_activations()
        phases = {
            "text": self._with(use, alone, "text"),
            "encode": self._with(use, alone, "video") + self._encoding(job.second or job.first),
            "denoise": self._with(use, alone, "transformer") + self._denoising(job.first, use),
            "decode": self._with(use, alone, "video") + self._decoding(job.second or job.first, use.tiles),
        }
        if job.second is not None:
            texts = replace(job, texts=1)
            phases["refine"] = self._with(use, alone, "transformer") + self._denoising(job.second, use, texts.texts)
        host = sum(weights.values()) + job.adapters + self._frames()
        if use.cache == "host":
            host += self._cache_bytes(job.first) * job.texts
        return Estimate(use, phases, host)

    def _with(self, use: Use, alone: dict[str, int], part: str) -> int:
        """Bytes of the weights that are on the device while a part works."""
        if use.one_at_a_time:
            return alone[part]
        if part == "text" and use.free_text:
            return alone["text"]
        here = sum(size for name, size in alone.items() if name != "text" or not use.free_text)
        return here

    def _once(self, *key: Any, count: Any) -> Any:
        if key not in self._known:
            self._known[key] = count()
        return self._known[key]

    def _denoising(self, shape: Shape, use: Use, texts: int | None = None) -> int:
        peak, cache = self._pass(shape)
        factor = {"device": 1.0, "fp8": 0.5, "host": 0.0}[use.cache]
        layer = cache // max(1, self.blueprint.layers)
        extra = 2 * layer if use.cache != "device" else 0  # of the layer that is being read, twice
        return peak + extra + int(cache * factor) * (self.job.texts if texts is None else texts)

    def _pass(self, shape: Shape) -> tuple[int, int]:
        job = self.job
        return self._once("pass", shape, count=lambda: self.blueprint.denoising(shape, job.rules, cached=job.cached))

    def _cache_bytes(self, shape: Shape) -> int:
        return self._pass(shape)[1]

    def _encoding(self, shape: Shape) -> int:
        return self._once("encode", shape, count=lambda: self.blueprint.encoding(shape))

    def _decoding(self, shape: Shape, tiles: bool) -> int:
        return self._once("decode", shape, tiles, count=lambda: self.blueprint.decoding(shape, tiles=tiles))

    def _text_activations(self) -> int:
        """All hidden states of a full prompt, stacked and projected."""
        config = self.blueprint.connectors.config
        states = PROMPT_TOKENS * int(config.caption_channels) * int(config.text_proj_in_factor)
        return 4 * states * torch.finfo(self.blueprint.dtype).bits // 8

    def _frames(self) -> int:
        shape = self.job.second or self.job.first
        return 2 * 3 * shape.frames * shape.width * shape.height  # the source and the result, uint8


def choose(estimator: Estimator, budget: int, *, ladder: Sequence[Use] = LADDER) -> Estimate:
    """The first use of memory that fits into `budget` bytes of the device; the smallest one if none does."""
    best = None
    for use in ladder:
        found = estimator.estimate(use)
        if found.phases["text"] > budget and use.free_text:
            found = estimator.estimate(replace(use, stream_text=True))
        if found.peak <= budget:
            return found
        if best is None or found.peak < best.peak:
            best = found
    return best


def tier_budget(gigabytes: float) -> int:
    """Bytes that a card of so many GiB has for tensors."""
    return int(gigabytes * GIB * SHARE - RESERVE)


def free_bytes(device: torch.device) -> int:
    """What is free on a device: of the system for the CPU and for Apple's shared memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return int(psutil.virtual_memory().available)


# -- too little of it --------------------------------------------------------------------------------------------------

KNOBS = {
    "read": "a shorter clip",
    "encode": "a smaller --size, or a shorter clip (encoding is never tiled)",
    "denoise": "a smaller --memory tier, --cache host, or a smaller --size",
    "refine": "a smaller --memory tier, a smaller --size, or one stage",
    "decode": "--memory 48 or less (decodes in tiles), or a smaller --size",
}
_SAID = re.compile(r"out of memory|not enough memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)


def is_shortage(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_SAID.search(str(error)))


@contextmanager
def guard(stage: str) -> Iterator[None]:
    """Within, memory that ran out becomes one line that names what to change.

    Raises:
        MissingError: instead of the library's own exception.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        first = str(error).partition("\n")[0][:120] or type(error).__name__
        raise MissingError(
            f"not enough memory to {stage} ({first})", remedy=KNOBS.get(stage, "a smaller --size or a shorter clip")
        ) from error
