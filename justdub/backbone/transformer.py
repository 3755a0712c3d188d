"""One forward call of the dual-stream transformer: the only place that calls it.

Letters: B batch, N tokens (V video, A audio), C channels, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from torch import Tensor

from justdub.backbone.attention import CachePlace, JointAttention, Pass, ReferenceCache, checkpoint_block
from justdub.backbone.parallel import ContextParallel
from justdub.backbone.text import TextContext
from justdub.sequence import Layout, Sequence, StreamLayout, StreamTokens
from justdub.tokens import Geometry

# Timesteps are passed to the transformer as sigma * 1000 (the checkpoint's timestep_scale_multiplier), in float32.


@dataclass(frozen=True)
class Velocity:
    """Predicted velocities of all rows that were in the sequence, reference rows first."""

    video_BNC: Tensor
    audio_BNC: Tensor

    def target(self, sequence: Sequence) -> Velocity:
        """The rows of the target alone."""
        layout = sequence.layout
        return Velocity(self.video_BNC[:, layout.video.reference :], self.audio_BNC[:, layout.audio.reference :])


class JointTransformer:
    """An `LTX2VideoTransformer3DModel` with the rules of `attention.py` installed.

    Works on the plain model, on one with peft adapters injected, and compiled after construction:
    ``module.compile_repeated_blocks(fullgraph=True, dynamic=False)`` makes one graph per phase for all blocks
    (with automatic dynamic shapes it makes twice as many).
    """

    def __init__(self, module: LTX2VideoTransformer3DModel) -> None:
        self.module = module
        self.call: Callable[..., Any] = module  # what is called: training puts a wrapper here that shares gradients
        self.attention = JointAttention(module)
        self.parallel: ContextParallel | None = None  # set by `parallel.enable`
        self.geometry = Geometry.from_config(module.config)
        config = module.config
        # LTX-2.3 and later drive the cross-modal modulation by the other modality's sigma, one value for all rows;
        # LTX-2.0 by each token's own timestep (text modulation came with the same change).
        self.cross_timestep: bool = bool(config.cross_attn_mod or config.audio_cross_attn_mod)

    @property
    def device(self) -> torch.device:
        return self.module.device

    @property
    def dtype(self) -> torch.dtype:
        return self.module.dtype

    def enable_gradient_checkpointing(self) -> None:
        self.module.enable_gradient_checkpointing(gradient_checkpointing_func=partial(checkpoint_block, self.attention))

    def velocity(
        self,
        sequence: Sequence,
        text: TextContext,
        *,
        skip_self_attention_blocks: frozenset[int] = frozenset(),
        skip_cross_modal: bool = False,
        cache: ReferenceCache | None = None,
    ) -> Velocity:
        """Velocities of every row of `sequence`.

        From LTX-2.3 on, one noise level modulates text and cross-modal attention of all rows. References are clean:
        where they are isolated they run first, at level 0, and the target then reads their keys and values, just as it
        does from a cache. Bidirectional ones share the target's level, as the published adapters have it.

        Args:
            sequence: from a `SequencePlan`. With `cache` it must hold target tokens only.
            text: context of each stream; a batch of one is shared by all samples.
            skip_self_attention_blocks, skip_cross_modal: what guidance takes away (see `attention.Pass`).
            cache: keys and values of the reference tokens, from `prefill` with the same text.
        """
        if cache is None and self.cross_timestep and sequence.rules.reference == "isolated":
            reference, target = _split(sequence)
            if reference is not None:
                head, kept = self._prefill(reference, text)
                tail = self.velocity(
                    target,
                    text,
                    skip_self_attention_blocks=skip_self_attention_blocks,
                    skip_cross_modal=skip_cross_modal,
                    cache=kept,
                )
                streams = zip((head.video_BNC, head.audio_BNC), (tail.video_BNC, tail.audio_BNC), strict=True)
                return Velocity(*(torch.cat(parts, dim=1) for parts in streams))
        phase = "joint" if cache is None else "cached"
        here = sequence if self.parallel is None else self.parallel.arrange(sequence)
        current = Pass(here.layout, here.rules, phase, skip_self_attention_blocks, skip_cross_modal)
        with self.attention.running(current, cache):
            velocity = self._forward(here, text)
        return self._restore(velocity, sequence.layout)

    def prefill(self, reference: Sequence, text: TextContext, *, keep: CachePlace = "device") -> ReferenceCache:
        """Run the reference tokens alone (`SequencePlan.reference_only`) and keep their keys and values.

        Args:
            keep: where and how (`ReferenceCache`).
        """
        return self._prefill(reference, text, keep)[1]

    def _prefill(
        self, reference: Sequence, text: TextContext, keep: CachePlace = "device"
    ) -> tuple[Velocity, ReferenceCache]:
        here = reference if self.parallel is None else self.parallel.arrange(reference)
        with self.attention.running(Pass(here.layout, here.rules, "prefill"), keep=keep):
            velocity = self._forward(here, text)
            cache = self.attention.collect()
        return self._restore(velocity, reference.layout), cache

    def _restore(self, velocity: Velocity, layout: Layout) -> Velocity:
        """Rows in the order of the sequence, whatever a division over processes made of it."""
        if self.parallel is None:
            return velocity
        return Velocity(self.parallel.restore(velocity.video_BNC, layout), velocity.audio_BNC)

    def _forward(self, sequence: Sequence, text: TextContext) -> Velocity:
        video, audio = sequence.video, sequence.audio
        config, batch = self.module.config, video.tokens_BNC.shape[0]
        context = text.expand(batch)
        video_mask, audio_mask = (
            context.read_by(stream.positions_BDN2[:, 0].mean(-1), mask)
            for stream, mask in ((video, context.video_mask_BL), (audio, context.audio_mask_BL))
        )
        # A tuple: diffusers' context parallelism takes no other output.
        video_BNC, audio_BNC = self.call(
            hidden_states=video.tokens_BNC.to(self.dtype),
            audio_hidden_states=audio.tokens_BNC.to(self.dtype),
            encoder_hidden_states=context.video_BLD.to(self.dtype),
            audio_encoder_hidden_states=context.audio_BLD.to(self.dtype),
            timestep=video.timesteps_BN * config.timestep_scale_multiplier,
            audio_timestep=audio.timesteps_BN * config.timestep_scale_multiplier,
            sigma=video.sigma_B * config.timestep_scale_multiplier,
            audio_sigma=audio.sigma_B * config.timestep_scale_multiplier,
            encoder_attention_mask=video_mask,
            audio_encoder_attention_mask=audio_mask,
            video_coords=video.positions_BDN2,
            audio_coords=audio.positions_BDN2,
            use_cross_timestep=self.cross_timestep,
            return_dict=False,
        )
        return Velocity(video_BNC, audio_BNC)


def _split(sequence: Sequence) -> tuple[Sequence | None, Sequence]:
    """The reference rows at noise level 0 and the target rows, as sequences of their own.

    Without a reference in each stream there is nothing to split: no stream of the transformer can be empty.
    """
    layout = sequence.layout
    if layout.video.reference == 0 or layout.audio.reference == 0:
        return None, sequence

    def part(stream: StreamTokens, start: int, stop: int, sigma_B: Tensor) -> StreamTokens:
        rows = slice(start, stop)
        return StreamTokens(
            stream.tokens_BNC[:, rows], stream.timesteps_BN[:, rows], stream.positions_BDN2[:, :, rows], sigma_B
        )

    heads, tails = [], []
    for stream, counts in ((sequence.video, layout.video), (sequence.audio, layout.audio)):
        heads.append(part(stream, 0, counts.reference, torch.zeros_like(stream.sigma_B)))
        tails.append(part(stream, counts.reference, counts.length, stream.sigma_B))
    alone = Layout(StreamLayout(layout.video.reference, 0), StreamLayout(layout.audio.reference, 0))
    bare = Layout(StreamLayout(0, layout.video.target), StreamLayout(0, layout.audio.target))
    return Sequence(*heads, alone, sequence.rules), Sequence(*tails, bare, sequence.rules)
