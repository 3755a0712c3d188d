"""What an adapter consists of: ranks, alphas, and which linear modules of every block it changes.

A block has 28 linear modules (JUST-DUB-IT's set): four projections in each of six attentions, and two in each of two
feed-forwards. They belong to three groups, which may have learning rates of their own: `video`, `audio` and `cross`
(the two attentions between the streams). No torch here: a job is checked before a model is loaded.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from justdub.errors import UsageError

ATTENTIONS = ("attn1", "attn2", "audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARDS = ("ff", "audio_ff")
LAYERS = ("net.0.proj", "net.2")
MODULES = (
    *(f"{attention}.{projection}" for attention in ATTENTIONS for projection in PROJECTIONS),
    *(f"{feed_forward}.{layer}" for feed_forward in FEED_FORWARDS for layer in LAYERS),
)
CROSS_MODAL = ("audio_to_video_attn", "video_to_audio_attn")
GROUPS = ("video", "audio", "cross")


@dataclass(frozen=True)
class LoraSettings:
    """Attributes:
    rank, alpha: of every module; the update is alpha / rank * B A. alpha None: equal to the rank.
    targets: names of modules within a block, whole ("ff.net.2") or their part before a dot ("attn1", "audio_ff").
    ranks, alphas: of targets that differ, by the same names.
    dropout: on the input of A.
    """

    rank: int = 128
    alpha: float | None = None
    targets: tuple[str, ...] = (*ATTENTIONS, *FEED_FORWARDS)
    ranks: dict[str, int] = field(default_factory=dict)
    alphas: dict[str, float] = field(default_factory=dict)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not self.targets:
            raise UsageError("lora.targets is empty", expected="modules to train")
        for name in (*self.targets, *self.ranks, *self.alphas):
            expand(name)
        for name in (*self.ranks, *self.alphas):
            if not set(expand(name)) & set(self.modules):
                raise UsageError(f"{name} has a rank or alpha but is no target", expected=", ".join(self.targets))
        for rank in (self.rank, *self.ranks.values()):
            if rank < 1:
                raise UsageError(f"rank {rank}", expected="1 or more")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"lora.dropout is {self.dropout}", expected="0 to below 1")

    @property
    def modules(self) -> tuple[str, ...]:
        """Names within a block of everything that is trained, in the order of `MODULES`."""
        chosen = {module for name in self.targets for module in expand(name)}
        return tuple(module for module in MODULES if module in chosen)

    def rank_of(self, module: str) -> int:
        return _own(self.ranks, module, self.rank)

    def alpha_of(self, module: str) -> float:
        rank = self.rank_of(module)
        return _own(self.alphas, module, float(rank) if self.alpha is None else self.alpha)


def expand(name: str) -> tuple[str, ...]:
    """The modules of a block that a target's name means.

    Raises:
        UsageError: none, with the nearest name.
    """
    found = tuple(module for module in MODULES if module == name or module.startswith(f"{name}."))
    if not found:
        known = (*ATTENTIONS, *FEED_FORWARDS, *MODULES)
        near = difflib.get_close_matches(name, known, 1)
        expected = ", ".join((*ATTENTIONS, *FEED_FORWARDS)) + ", or one of their layers"
        raise UsageError(f"unknown module {name!r}", expected=expected, remedy=near[0] if near else "")
    return found


def within_block(module: str) -> str:
    """A module's name within its block."""
    return re.sub(r"^.*transformer_blocks\.\d+\.", "", module)


def group(module: str) -> str:
    """`video`, `audio` or `cross`, for a module's name within a block or in the whole transformer."""
    head = within_block(module).split(".")[0]
    if head in CROSS_MODAL:
        return "cross"
    return "audio" if head.startswith("audio_") else "video"


def family(module: str) -> str:
    """`attention`, `text attention`, `cross-modal attention` or `feed-forward`."""
    head = within_block(module).split(".")[0]
    if head in CROSS_MODAL:
        return "cross-modal attention"
    if head in FEED_FORWARDS:
        return "feed-forward"
    return "text attention" if head.endswith("attn2") else "attention"


def _own(values: Mapping[str, float], module: str, default: float) -> float:
    """The value of the longest name that means this module."""
    names = [name for name in values if module in expand(name)]
    return values[max(names, key=len)] if names else default
