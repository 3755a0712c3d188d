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
from justdub.backbone.text import TextContext
from justdub.sequence import Geometry, Sequence

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

    @property
    def cache_is_exact(self) -> bool:
        """Whether reference rows are the same at every noise level, so that caching them changes nothing.

        True for LTX-2.0. From 2.3 on, one noise level modulates the rows of text and cross-modal attention of all
        tokens, the reference's included.
        """
        return not self.cross_timestep

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

        Args:
            sequence: from a `SequencePlan`. With `cache` it must hold target tokens only.
            text: context of each stream; a batch of one is shared by all samples.
            skip_self_attention_blocks, skip_cross_modal: what guidance takes away (see `attention.Pass`).
            cache: keys and values of the reference tokens, from `prefill` with the same text.
        """
        phase = "joint" if cache is None else "cached"
        current = Pass(sequence.layout, sequence.rules, phase, skip_self_attention_blocks, skip_cross_modal)
        with self.attention.running(current, cache):
            return self._forward(sequence, text)

    def prefill(self, reference: Sequence, text: TextContext, *, keep: CachePlace = "device") -> ReferenceCache:
        """Run the reference tokens alone (`SequencePlan.reference_only`) and keep their keys and values.

        Args:
            keep: where and how (`ReferenceCache`).
        """
        with self.attention.running(Pass(reference.layout, reference.rules, "prefill"), keep=keep):
            self._forward(reference, text)
            return self.attention.collect()

    def _forward(self, sequence: Sequence, text: TextContext) -> Velocity:
        video, audio = sequence.video, sequence.audio
        config, batch = self.module.config, video.tokens_BNC.shape[0]
        context = text.expand(batch)
        output = self.call(
            hidden_states=video.tokens_BNC.to(self.dtype),
            audio_hidden_states=audio.tokens_BNC.to(self.dtype),
            encoder_hidden_states=context.video_BLD.to(self.dtype),
            audio_encoder_hidden_states=context.audio_BLD.to(self.dtype),
            timestep=video.timesteps_BN * config.timestep_scale_multiplier,
            audio_timestep=audio.timesteps_BN * config.timestep_scale_multiplier,
            sigma=video.sigma_B * config.timestep_scale_multiplier,
            audio_sigma=audio.sigma_B * config.timestep_scale_multiplier,
            encoder_attention_mask=context.video_mask_BL,
            audio_encoder_attention_mask=context.audio_mask_BL,
            video_coords=video.positions_BDN2,
            audio_coords=audio.positions_BDN2,
            use_cross_timestep=self.cross_timestep,
            return_dict=True,
        )
        return Velocity(output.sample, output.audio_sample)
