"""Guidance as one table of weights over condition sets; only sets with a weight are run.

A condition set says what a forward pass is given. The guided prediction is a weighted sum over sets, the weights sum
to one, and every published scheme is a table::

    classifier-free      v(all) + (s - 1) [v(all) - v(all without text)]              Ho & Salimans, arXiv 2207.12598
    spatio-temporal      v(all) + s [v(all) - v(all with attention skipped)]          Hyung et al., arXiv 2411.18664
    modality             v(all) + (s - 1) [v(all) - v(all without cross-modal)]       LTX-2 guider
    reference (identity) v(all) + s [v(all) - v(all without reference)]               ID-LoRA, arXiv 2603.10256
    joint                v(all) + (s - 1) [v(all) - v(all without text and reference)]
    nested               v(S0) + sum of s_i [v(S_i) - v(S_i+1)] over a chain          MM-MovieDubber, arXiv 2505.16279

Each term has a scale for video and one for audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from justdub.errors import UsageError

# What a pass can be given. Taking "attention" away skips self-attention in the blocks of `Guidance.stg_blocks`.
TEXT, REFERENCE, CROSS_MODAL, ATTENTION = "text", "reference", "cross_modal", "attention"
ConditionSet = frozenset[str]
EVERYTHING: ConditionSet = frozenset({TEXT, REFERENCE, CROSS_MODAL, ATTENTION})
NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class Row:
    """Weight of one condition set in the prediction of each stream."""

    conditions: ConditionSet
    video: float
    audio: float


@dataclass(frozen=True)
class Guidance:
    """Scales of one run; the defaults are a single pass.

    Attributes:
        text, audio_text: classifier-free guidance (1 = off).
        reference, audio_reference: identity guidance (0 = off).
        joint, audio_joint: away from what is made without text and reference (1 = off).
        modality, audio_modality: modality guidance (1 = off).
        stg, audio_stg: spatio-temporal guidance (0 = off), in the blocks `stg_blocks`.
        rescale: share of the guided x0 that is scaled back to the deviation of the unguided one (0 = off).
    """

    text: float = 1.0
    audio_text: float = 1.0
    reference: float = 0.0
    audio_reference: float = 0.0
    joint: float = 1.0
    audio_joint: float = 1.0
    modality: float = 1.0
    audio_modality: float = 1.0
    stg: float = 0.0
    audio_stg: float = 0.0
    stg_blocks: tuple[int, ...] = ()
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rescale <= 1:
            raise UsageError(f"guidance rescale {self.rescale}", expected="0 to 1")
        if (self.stg or self.audio_stg) and not self.stg_blocks:
            raise UsageError("spatio-temporal guidance without blocks", expected="the blocks to skip attention in")

    def table(self) -> tuple[Row, ...]:
        """Weights of every set that is run. Each term takes one condition (or two) away from the full set."""
        weights: dict[ConditionSet, list[float]] = {EVERYTHING: [1.0, 1.0]}
        for taken, video, audio in (
            ({TEXT}, self.text - 1, self.audio_text - 1),
            ({ATTENTION}, self.stg, self.audio_stg),
            ({CROSS_MODAL}, self.modality - 1, self.audio_modality - 1),
            ({REFERENCE}, self.reference, self.audio_reference),
            ({TEXT, REFERENCE}, self.joint - 1, self.audio_joint - 1),
        ):
            row = weights.setdefault(EVERYTHING - taken, [0.0, 0.0])
            for stream, scale in enumerate((video, audio)):
                weights[EVERYTHING][stream] += scale
                row[stream] -= scale
        return _rows(weights)


def nested(chain: Sequence[ConditionSet], video: Sequence[float], audio: Sequence[float]) -> tuple[Row, ...]:
    """Table of a chain of nested sets S0 > S1 > ... > Sn with one scale per step.

    ``v(Sn) + sum over i of scale_i [v(S_i) - v(S_i+1)]``: scale 1 everywhere is v(S0) in one pass, equal scales are
    plain guidance of the last set.

    Args:
        chain: the sets, largest first, each a proper subset of the one before.
        video, audio: n scales each.
    """
    for larger, smaller in pairwise(chain):
        if not smaller < larger:
            raise UsageError(f"{sorted(smaller)} after {sorted(larger)}", expected="each set inside the one before")
    if not len(chain) - 1 == len(video) == len(audio):
        raise UsageError(f"{len(chain)} sets with {len(video)} and {len(audio)} scales", expected="one scale per step")
    weights: dict[ConditionSet, list[float]] = {conditions: [0.0, 0.0] for conditions in chain}
    weights[chain[-1]] = [1.0, 1.0]
    for step, (larger, smaller) in enumerate(pairwise(chain)):
        for stream, scales in enumerate((video, audio)):
            weights[larger][stream] += scales[step]
            weights[smaller][stream] -= scales[step]
    return _rows(weights)


def rescale(guided_BNC: Tensor, plain_BNC: Tensor, share: float) -> Tensor:
    """Pull the deviation of a guided x0 back to that of the plain one (Lin et al., arXiv 2305.08891, eq. 15-16)."""
    if share == 0:
        return guided_BNC
    dims = tuple(range(1, guided_BNC.ndim))
    factor = plain_BNC.std(dim=dims, keepdim=True) / guided_BNC.std(dim=dims, keepdim=True)
    return guided_BNC * (share * factor + (1 - share))


def _rows(weights: dict[ConditionSet, list[float]]) -> tuple[Row, ...]:
    used = {s: w for s, w in weights.items() if max(map(abs, w)) > NEGLIGIBLE}
    return tuple(Row(conditions, *pair) for conditions, pair in used.items())
