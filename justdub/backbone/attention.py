"""How the frozen transformer's attention treats reference tokens: by slicing, never by a mask.

The cross-modal rule (JUST-DUB-IT, "modality-specific masking") says that across modalities target tokens read target
tokens, and nothing else happens. The reference code adds a mask of -inf; a reference row is then fully masked, its
attention is zero, and what remains of the sublayer is the bias of its output projection. So::

    rows            columns
                    reference   target             a2v and v2a run on the target slice of both streams;
    reference       -inf        -inf    == 0       reference rows get to_out(0), which is that bias
    target          -inf        open               (equal to the masked code to 1e-6, tests/test_golden.py)

There is no mask tensor, no row without a key, every kernel can run it, and it costs less. In ``isolated`` mode the
same is done in self-attention: reference rows attend to reference keys only. Their keys and values then do not depend
on the noise, so `prefill` computes them once and every later step runs the target tokens alone.

Guidance perturbs target rows only (`Pass.skip_self_attention_blocks`, `Pass.skip_cross_modal`): reference rows are the
same in every pass over the same text, so one cache serves them all.

Letters: B batch, N tokens, R reference tokens, D width, h heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_ltx2 import (
    LTX2Attention,
    LTX2VideoTransformer3DModel,
    apply_interleaved_rotary_emb,
    apply_split_rotary_emb,
)
from torch import Tensor

from justdub.sequence import Layout, SequenceRules, StreamLayout

Rotary = tuple[Tensor, Tensor] | None

# Which cross-modal module asks from which stream and reads which: (queries, keys).
CROSS_MODAL_MODULES = {"audio_to_video_attn": ("video", "audio"), "video_to_audio_attn": ("audio", "video")}
SELF_ATTENTION_MODULES = {"attn1": "video", "audio_attn1": "audio"}


@dataclass(frozen=True)
class Pass:
    """One forward pass: its layout, its rules and what guidance takes away from it. Immutable, so that gradient
    checkpointing can put it back when it runs a block again.

    Attributes:
        phase: ``joint`` (all tokens in one sequence), ``prefill`` (reference tokens alone, keys and values are kept)
            or ``cached`` (target tokens alone, the kept keys and values are read).
        skip_self_attention_blocks: blocks in which target rows keep their own value instead of attending
            (spatio-temporal guidance).
        skip_cross_modal: target rows get nothing from the other modality (modality guidance).
    """

    layout: Layout
    rules: SequenceRules
    phase: Literal["joint", "prefill", "cached"] = "joint"
    skip_self_attention_blocks: frozenset[int] = frozenset()
    skip_cross_modal: bool = False


CachePlace = Literal["device", "fp8", "host"]
FP8, FP8_MAX = torch.float8_e4m3fn, 448.0


@dataclass(frozen=True)
class Kept:
    """One tensor of a cache as it is stored.

    Attributes:
        stored_BNhd: in the model's dtype, or in eight bits after division by `scale`.
        scale: one number, or None.
    """

    stored_BNhd: Tensor
    scale: Tensor | None = None

    @classmethod
    def of(cls, x_BNhd: Tensor, place: CachePlace) -> Kept:
        if place == "host":
            return cls(x_BNhd.cpu() if x_BNhd.device.type != "cuda" else x_BNhd.to("cpu").pin_memory())
        if place == "fp8":
            # Scaled to the type's range: beyond it a number would become NaN, far below it zero.
            scale = (x_BNhd.abs().amax().float() / FP8_MAX).clamp(min=1e-12)
            return cls((x_BNhd / scale).to(FP8), scale)
        return cls(x_BNhd)

    def restore(self, like: Tensor) -> Tensor:
        x_BNhd = self.stored_BNhd.to(like.device, like.dtype, non_blocking=True)
        return x_BNhd if self.scale is None else x_BNhd * self.scale.to(like.dtype)


@dataclass
class ReferenceCache:
    """Keys and values of the reference tokens in every self-attention layer, in block order, video before audio.

    They are kept in the model's dtype on its ``device``, there in eight bits (``fp8``: half of it, no longer exact), or
    on the ``host`` (exact, copied to the device layer by layer in every pass).
    """

    keys_values: list[tuple[Kept, Kept]] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return sum(one.stored_BNhd.nbytes for pair in self.keys_values for one in pair)


def _rows(rotary: Rotary, start: int, stop: int) -> Rotary:
    """Cut the token axis of a rotary embedding; it is second to last in both layouts, (B, h, N, r) and (B, N, D)."""
    return None if rotary is None else tuple(r[..., start:stop, :] for r in rotary)  # type: ignore[return-value]


class SlicedAttention:
    """What the processors share: the projections, the kernel and the output of an `LTX2Attention`.

    diffusers looks for the two class attributes (`set_attention_backend`, `enable_parallelism`).
    """

    _attention_backend = None
    _parallel_config = None

    def _queries(self, attn: LTX2Attention, x_BND: Tensor, rotary: Rotary) -> Tensor:
        return self._heads(attn, attn.norm_q(attn.to_q(x_BND)), rotary)

    def _keys(self, attn: LTX2Attention, x_BND: Tensor, rotary: Rotary) -> Tensor:
        return self._heads(attn, attn.norm_k(attn.to_k(x_BND)), rotary)

    @staticmethod
    def _heads(attn: LTX2Attention, x_BND: Tensor, rotary: Rotary) -> Tensor:
        if rotary is not None:
            rotate = apply_split_rotary_emb if attn.rope_type == "split" else apply_interleaved_rotary_emb
            x_BND = rotate(x_BND, rotary)
        return x_BND.unflatten(2, (attn.heads, -1))

    def _attend(self, q_BNhd: Tensor, k_BNhd: Tensor, v_BNhd: Tensor) -> Tensor:
        out_BNhd = dispatch_attention_fn(
            q_BNhd, k_BNhd, v_BNhd, backend=self._attention_backend, parallel_config=self._parallel_config
        )
        return out_BNhd.flatten(2, 3).to(q_BNhd.dtype)

    @staticmethod
    def _project_out(attn: LTX2Attention, x_BND: Tensor, asking_BND: Tensor) -> Tensor:
        """Per-head output gates (LTX-2.3 and later; they read the asking rows), then the output projection."""
        if attn.to_gate_logits is not None:
            gates_BNh = 2.0 * torch.sigmoid(attn.to_gate_logits(asking_BND))
            x_BND = (x_BND.unflatten(2, (attn.heads, -1)) * gates_BNh.unsqueeze(-1)).flatten(2, 3)
        return attn.to_out[1](attn.to_out[0](x_BND))

    @staticmethod
    def _refuse(*given: object) -> None:
        """The rules here are slices: a mask or perturbation from outside would be lost, so it is refused."""
        if any(one is not None and one is not False for one in given):
            raise ValueError("attention masks and perturbations are set by the pass, not passed to the transformer")

    @staticmethod
    def _zero_attention(attn: LTX2Attention, like_BND: Tensor, rows: int) -> Tensor:
        """The output of `rows` rows whose attention is zero: the projection's bias (and nothing else, LoRA or not)."""
        zeros_B1D = like_BND.new_zeros(like_BND.shape[0], 1, attn.inner_dim)
        return attn.to_out[0](zeros_B1D).expand(-1, rows, -1)


class SelfAttention(SlicedAttention):
    """Self-attention of one stream, in both reference modes, with the key/value cache."""

    def __init__(self, joint: JointAttention, stream: str) -> None:
        self.joint, self.stream = joint, stream
        self.perturbed = False  # set per pass: target rows keep their own value
        # Of the reference rows: written by a prefill pass, read by a cached one. Attributes, not a dictionary, so that
        # all layers share one compiled graph.
        self.keys: Kept | None = None
        self.values: Kept | None = None
        self.keep: CachePlace = "device"

    def __call__(
        self,
        attn: LTX2Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_rotary_emb: Rotary = None,
        key_rotary_emb: Rotary = None,
        perturbation_mask: Tensor | None = None,
        all_perturbed: bool | None = None,
    ) -> Tensor:
        self._refuse(attention_mask, perturbation_mask, all_perturbed)
        x_BND, current = hidden_states, self.joint.current
        refs = getattr(current.layout, self.stream).reference
        q, k = self._queries(attn, x_BND, query_rotary_emb), self._keys(attn, x_BND, query_rotary_emb)
        flat_v_BND = attn.to_v(x_BND)
        v = flat_v_BND.unflatten(2, (attn.heads, -1))

        if current.phase == "prefill":
            self.keys, self.values = Kept.of(k, self.keep), Kept.of(v, self.keep)
            out_BND = self._attend(q, k, v)
        elif current.phase == "cached":
            if self.perturbed:
                out_BND = flat_v_BND
            else:
                keys, values = self._cached(x_BND)
                out_BND = self._attend(q, torch.cat([keys, k], 1), torch.cat([values, v], 1))
        elif refs == 0:
            out_BND = flat_v_BND if self.perturbed else self._attend(q, k, v)
        elif current.rules.reference == "isolated" or self.perturbed:
            seen = refs if current.rules.reference == "isolated" else None  # keys that a reference row may read
            rows = [self._attend(q[:, :refs], k[:, :seen], v[:, :seen])]
            rows.append(flat_v_BND[:, refs:] if self.perturbed else self._attend(q[:, refs:], k, v))
            out_BND = torch.cat(rows, dim=1)
        else:
            out_BND = self._attend(q, k, v)
        return self._project_out(attn, out_BND, x_BND)

    def _cached(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            raise RuntimeError("a cached pass without a prefill")
        return self.keys.restore(x_BND), self.values.restore(x_BND)


class CrossModalAttention(SlicedAttention):
    """Attention from one stream to the other, on the target slices when the rule says so."""

    def __init__(self, joint: JointAttention, asking: str, answering: str) -> None:
        self.joint, self.asking, self.answering = joint, asking, answering

    def __call__(
        self,
        attn: LTX2Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_rotary_emb: Rotary = None,
        key_rotary_emb: Rotary = None,
    ) -> Tensor:
        self._refuse(attention_mask)
        current = self.joint.current
        asking: StreamLayout = getattr(current.layout, self.asking)
        answering: StreamLayout = getattr(current.layout, self.answering)
        x_BND, y_BND = hidden_states, encoder_hidden_states
        if current.phase == "prefill":
            return self._zero_attention(attn, x_BND, x_BND.shape[1])
        if current.phase == "cached":
            q_from, k_from = 0, 0  # only target tokens are here
        elif current.rules.cross_modal == "target_only":
            q_from, k_from = asking.reference, answering.reference
        elif current.skip_cross_modal:
            q_from, k_from = asking.reference, 0  # the rows below the cut are the perturbed ones
        else:
            q_from, k_from = 0, 0

        q_rotary = _rows(query_rotary_emb, q_from, x_BND.shape[1])
        k_rotary = _rows(key_rotary_emb, k_from, y_BND.shape[1])
        if current.skip_cross_modal:
            target_BND = x_BND.new_zeros(x_BND.shape[0], x_BND.shape[1] - q_from, attn.out_dim)
        else:
            target_BND = self._read(attn, x_BND[:, q_from:], y_BND[:, k_from:], q_rotary, k_rotary)
        if q_from == 0:
            return target_BND
        if current.rules.cross_modal == "target_only":
            reference_BRD = self._zero_attention(attn, target_BND, q_from)
        else:
            head = _rows(query_rotary_emb, 0, q_from)
            reference_BRD = self._read(attn, x_BND[:, :q_from], y_BND, head, key_rotary_emb)
        return torch.cat([reference_BRD, target_BND], dim=1)

    def _read(self, attn: LTX2Attention, x_BND: Tensor, y_BND: Tensor, q_rotary: Rotary, k_rotary: Rotary) -> Tensor:
        q, k = self._queries(attn, x_BND, q_rotary), self._keys(attn, y_BND, k_rotary)
        v = attn.to_v(y_BND).unflatten(2, (attn.heads, -1))
        return self._project_out(attn, self._attend(q, k, v), x_BND)


class JointAttention:
    """The processors of one transformer and the pass that they are in.

    `install` replaces the processors of self-attention and of cross-modal attention in every block; text
    cross-attention stays as it is. `running` sets the pass for the length of a forward call.
    """

    def __init__(self, transformer: LTX2VideoTransformer3DModel) -> None:
        self._pass: Pass | None = None
        self.cache: ReferenceCache | None = None  # that the running pass reads
        self.self_attention: list[list[SelfAttention]] = []  # per block: video, audio
        for block in transformer.transformer_blocks:
            layers = []
            for name, stream in SELF_ATTENTION_MODULES.items():
                layers.append(SelfAttention(self, stream))
                getattr(block, name).set_processor(layers[-1])
            for name, (asking, answering) in CROSS_MODAL_MODULES.items():
                getattr(block, name).set_processor(CrossModalAttention(self, asking, answering))
            self.self_attention.append(layers)

    @property
    def current(self) -> Pass:
        if self._pass is None:
            raise RuntimeError("the transformer runs through JointTransformer, which sets the pass")
        return self._pass

    def is_in(self, one: Pass) -> bool:
        """Whether this very pass is running."""
        return self._pass is one

    @contextmanager
    def running(self, new: Pass, cache: ReferenceCache | None = None, keep: CachePlace = "device") -> Iterator[None]:
        """Set the pass, the cache that a ``cached`` one reads, and how a ``prefill`` one keeps; put the previous ones
        back afterwards."""
        previous = self._pass
        self._set(new, cache, keep)
        try:
            yield
        finally:
            self._set(previous, None)

    def collect(self) -> ReferenceCache:
        """The keys and values of the prefill pass that has just run (call it inside `running`)."""
        return ReferenceCache([(p.keys, p.values) for layers in self.self_attention for p in layers])

    def _set(self, new: Pass | None, cache: ReferenceCache | None, keep: CachePlace = "device") -> None:
        self._pass, self.cache = new, cache
        pairs = iter(cache.keys_values) if cache is not None else None
        for index, layers in enumerate(self.self_attention):
            for processor in layers:
                processor.perturbed = new is not None and index in new.skip_self_attention_blocks
                processor.keys, processor.values = next(pairs) if pairs is not None else (None, None)
                processor.keep = keep


def checkpoint_block(joint: JointAttention, block: torch.nn.Module, *args: object) -> object:
    """Gradient checkpointing of one block that runs it again in the pass of its first run, whatever came since."""
    snapshot, cache = joint.current, joint.cache

    def run(*inputs: object) -> object:
        if joint.is_in(snapshot):  # the first run; what a prefill keeps must outlast the block
            return block(*inputs)
        with joint.running(snapshot, cache):
            return block(*inputs)

    return torch.utils.checkpoint.checkpoint(run, *args, use_reentrant=False)
