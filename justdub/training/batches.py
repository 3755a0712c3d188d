"""Which pairs an update of the weights reads, and everything random about them, from the step's number alone.

Nothing here has a state: step 700 is the same whether the run came there by itself or was resumed, and the samples of a
step are the same whether one process computes them or two. Samples of one update share a shape.

Letters: B batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from justdub import flow
from justdub.training.config import DropoutSettings, InpaintSettings, NoiseSettings

ORDER, DRAWS, DROPOUT = 1, 2, 3  # what a random stream is for: streams of different purposes never meet


@dataclass(frozen=True)
class Gap:
    """What of a clip is generated when the rest is given: the face mask, `grow` latents larger, and, if `sound`, the
    sound, from `start` to `end` (shares of the clip's length)."""

    start: float
    end: float
    sound: bool
    grow: int


@dataclass(frozen=True)
class Draw:
    """What is random about one sample of an update.

    Attributes:
        index: of the pair. seed: of its noise. keep_first_frame: give the first frame clean.
        condition: `full`, `no_text`, `no_reference` or `nothing`.
        video_sigma, audio_sigma: noise levels. gap: what is generated, None for everything.
    """

    index: int
    seed: int
    condition: str
    keep_first_frame: bool
    video_sigma: float
    audio_sigma: float
    gap: Gap | None = None

    @property
    def has_reference(self) -> bool:
        return self.condition in ("full", "no_text")

    @property
    def has_text(self) -> bool:
        return self.condition in ("full", "no_reference")


class Order:
    """The pairs of every update: shuffled anew each epoch, updates of one shape each.

    Args:
        shapes: of every pair, in the list's order. size: pairs in an update, of all processes together.

    A shape with fewer pairs than `size` is filled up from its own beginning.
    """

    def __init__(self, shapes: Sequence[Hashable], size: int, seed: int) -> None:
        if not shapes:
            raise ValueError("no pairs")
        self.size, self.seed = size, seed
        groups: dict[Hashable, list[int]] = {}
        for index, shape in enumerate(shapes):
            groups.setdefault(shape, []).append(index)
        self.groups = [np.array(indices) for indices in groups.values()]
        self.per_epoch = sum(-(-len(group) // size) for group in self.groups)
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])

    def update(self, step: int) -> np.ndarray:
        """Indices of the pairs of an update, (size,)."""
        epoch, place = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._shuffle(epoch))
        return self._epoch[1][place]

    def _shuffle(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, ORDER, epoch])
        updates = []
        for group in self.groups:
            order = rng.permutation(group)
            order = np.resize(order, -(-len(order) // self.size) * self.size)
            updates += list(order.reshape(-1, self.size))
        return [updates[place] for place in rng.permutation(len(updates))]


def random_stream(*numbers: int) -> int:
    """A seed for torch that belongs to these numbers alone."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def draw(
    index: int,
    step: int,
    slot: int,
    seed: int,
    tokens: int,
    noise: NoiseSettings,
    dropout: DropoutSettings,
    inpaint: InpaintSettings,
) -> Draw:
    """The random choices for the sample in place `slot` of an update.

    Args:
        tokens: target video tokens of the sample, which set the shift of the noise levels unless the settings do.
    """
    choices = np.random.default_rng([seed, DRAWS, step, slot])
    own = int(choices.integers(2**62))
    generator = torch.Generator().manual_seed(int(choices.integers(2**62)))
    tokens = noise.tokens or tokens
    video, audio = (float(flow.sample_sigmas(1, tokens, sampler=noise.sampler, generator=generator)) for _ in range(2))
    if choices.uniform() >= noise.apart:
        audio = video
    states = ("no_text", "no_reference", "nothing")
    edges = np.cumsum([getattr(dropout, state) for state in states])
    place = int(np.searchsorted(edges, choices.uniform(), side="right"))
    condition = states[place] if place < len(states) else "full"
    keep_first_frame = bool(choices.uniform() < noise.first_frame)
    gap = _gap(choices, inpaint) if choices.uniform() < inpaint.share else None
    return Draw(index, own, condition, keep_first_frame, video, audio, gap)


def _gap(choices: np.random.Generator, settings: InpaintSettings) -> Gap:
    """One of the clip's halves, a little more or less of it; masks reach further in some clips than in others."""
    middle, edge = 0.5 + choices.uniform(-0.04, 0.04), choices.uniform(0, 0.05)
    start, end = (middle, 1 - edge) if choices.uniform() < 0.5 else (edge, middle)
    return Gap(start, end, bool(choices.uniform() >= settings.lips), int(choices.integers(3)))
