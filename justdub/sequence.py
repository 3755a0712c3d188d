"""THE builder of the joint token sequence. Training, validation and inference call nothing else.

A clip is two streams of tokens, and each stream is ``[ reference | target ]``::

                   reference                     target
                 ┌───────────────────────────┬───────────────────────────┐
    video tokens │ clean source, timestep 0  │ kept │  noisy, timestep σ │   kept: the first latent frame, given
                 ├───────────────────────────┼───────────────────────────┤   clean (timestep 0), still a target token
    audio tokens │ clean source, timestep 0  │        noisy, timestep σ  │
                 └───────────────────────────┴───────────────────────────┘

    positions    every token has a float32 interval [start, end) per axis: seconds, and pixels for video. A reference
                 token has the position of the target token that it describes (``shared``); audio references may lie
                 before time zero instead (``negative``); a reference of 1/n resolution covers n times the pixels.

    who reads whom (rows ask, columns answer; the two triangles of the cross-modal rule are in attention.py)

                       video reference   video target     audio reference   audio target
    video reference    self-attention    only if          never             never
                                         bidirectional
    video target       self-attention    self-attention   NEVER             cross-modal
    audio reference    never             never            self-attention    only if bidirectional
    audio target       NEVER             cross-modal      self-attention    self-attention

The plan (positions, roles, the clean tokens) of a clip does not change while it is denoised; `SequencePlan.at` fills
in the noisy tokens of one step. Source: JUST-DUB-IT section "IC-LoRA"; LTX-2 patchifiers.

Letters: B batch, C channels, F/H/W latent frames/height/width, T audio latent steps, M latent mel bins, R reference
tokens, N tokens, D position axes (3 video: time, y, x; 1 audio: time).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from justdub.errors import UsageError
from justdub.tokens import (
    Geometry,
    audio_positions,
    patchify_audio,
    patchify_video,
    token_grid,
    unpatchify_audio,
    unpatchify_video,
    video_positions,
)

CrossModal = Literal["target_only", "full"]
ReferenceMode = Literal["bidirectional", "isolated"]
AudioPositions = Literal["shared", "negative"]


@dataclass(frozen=True)
class SequenceRules:
    """How sequences are built and read; recorded in an adapter, so that training and inference cannot disagree.

    Attributes:
        cross_modal: ``target_only`` (JUST-DUB-IT: across modalities, target tokens read target tokens and nothing
            else happens) or ``full`` (no restriction: LTX-2's own Dub-It).
        reference: ``bidirectional`` (reference and target see each other in self-attention) or ``isolated``
            (reference tokens see only themselves, so that their keys and values can be cached).
        audio_positions: of the audio reference: ``shared`` with the target or ``negative`` (before time zero).
        reference_downscale: spatial factor by which the video reference is smaller than the target (1 = same size).
        keep_first_frame: give the target's first latent frame clean.
    """

    cross_modal: CrossModal = "target_only"
    reference: ReferenceMode = "bidirectional"
    audio_positions: AudioPositions = "shared"
    reference_downscale: int = 1
    keep_first_frame: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (
            ("cross_modal", ("target_only", "full")),
            ("reference", ("bidirectional", "isolated")),
            ("audio_positions", ("shared", "negative")),
        ):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} is {getattr(self, name)!r}", expected=" or ".join(allowed))
        if self.reference_downscale < 1:
            raise UsageError(f"reference_downscale is {self.reference_downscale}", expected="1 or more")
        if self.reference == "isolated" and self.cross_modal == "full":
            raise UsageError(
                "reference 'isolated' with cross_modal 'full'",
                expected="references that do not see the target in the other modality either",
                remedy="cross_modal: target_only, or reference: bidirectional",
            )


# -- layout: what attention needs to know -----------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamLayout:
    """Token counts of one stream, in order. Plain integers: hashable, and constant for a compiled graph."""

    reference: int
    target: int

    @property
    def length(self) -> int:
        return self.reference + self.target


@dataclass(frozen=True)
class Layout:
    video: StreamLayout
    audio: StreamLayout


@dataclass(frozen=True)
class StreamTokens:
    """One stream of one step, ready for the transformer."""

    tokens_BNC: Tensor
    timesteps_BN: Tensor  # float32 sigma per token, 0 where clean (before the x1000 of the checkpoint)
    positions_BDN2: Tensor  # float32
    sigma_B: Tensor  # float32 noise level of the stream


@dataclass(frozen=True)
class Sequence:
    """Both streams of one step."""

    video: StreamTokens
    audio: StreamTokens
    layout: Layout
    rules: SequenceRules


# -- the plan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamPlan:
    """What does not change in one stream while a clip is denoised.

    Attributes:
        reference_BRC: clean reference tokens; R may be 0.
        clean_BNC: values of the kept target tokens and of the known latents (elsewhere unused).
        kept_BN: bool, target tokens that are given clean.
        positions_BDN2: float32, of all tokens, reference first.
        known_BNC: bool, latents that are given although their token is noisy (inpainting), or None for none.
    """

    reference_BRC: Tensor
    clean_BNC: Tensor
    kept_BN: Tensor
    positions_BDN2: Tensor
    known_BNC: Tensor | None = None

    @property
    def layout(self) -> StreamLayout:
        return StreamLayout(self.reference_BRC.shape[1], self.clean_BNC.shape[1])

    def target_sigmas(self, sigma_B: Tensor) -> Tensor:
        """(B, N) noise level of every target token: sigma, or 0 where kept."""
        return torch.where(self.kept_BN, torch.zeros_like(sigma_B)[:, None], sigma_B[:, None])

    def at(self, target_BNC: Tensor, sigma_B: Tensor) -> StreamTokens:
        sigma_B = sigma_B.to(torch.float32)
        pinned_BNC = torch.where(self.kept_BN[..., None], self.clean_BNC.to(target_BNC.dtype), target_BNC)
        tokens_BNC = torch.cat([self.reference_BRC.to(target_BNC.dtype), pinned_BNC], dim=1)
        clean_BR = sigma_B.new_zeros(self.reference_BRC.shape[:2])
        timesteps_BN = torch.cat([clean_BR, self.target_sigmas(sigma_B)], dim=1)
        return StreamTokens(tokens_BNC, timesteps_BN, self.positions_BDN2, sigma_B)

    def pin(self, x0_BNC: Tensor) -> Tensor:
        """A prediction of the clean target tokens with what is known of them put in."""
        return x0_BNC if self.known_BNC is None else torch.where(self.known_BNC, self.clean_BNC, x0_BNC)

    def without_reference(self) -> StreamPlan:
        count = self.reference_BRC.shape[1]
        return replace(self, reference_BRC=self.reference_BRC[:, :0], positions_BDN2=self.positions_BDN2[:, :, count:])

    def reference_only(self) -> StreamPlan:
        count = self.reference_BRC.shape[1]
        return replace(
            self,
            clean_BNC=self.clean_BNC[:, :0],
            kept_BN=self.kept_BN[:, :0],
            positions_BDN2=self.positions_BDN2[:, :, :count],
            known_BNC=None,
        )


@dataclass(frozen=True)
class SequencePlan:
    """A clip's sequence without its noise. `at` adds the noisy tokens of one step.

    `video_grid` counts tokens of `patch` latents a side; `mel_bins` are the audio latents'.
    """

    video: StreamPlan
    audio: StreamPlan
    rules: SequenceRules
    video_grid: tuple[int, int, int]
    mel_bins: int
    patch: int = 1

    @property
    def layout(self) -> Layout:
        return Layout(self.video.layout, self.audio.layout)

    @property
    def has_reference(self) -> bool:
        return self.layout.video.reference + self.layout.audio.reference > 0

    def at(self, video_BNC: Tensor, audio_BNC: Tensor, video_sigma_B: Tensor, audio_sigma_B: Tensor) -> Sequence:
        """The sequence of one step.

        Args:
            video_BNC, audio_BNC: target tokens as they are now. Values at kept tokens are replaced by the clean ones.
            video_sigma_B, audio_sigma_B: noise level of each sample in each stream.
        """
        return Sequence(
            self.video.at(video_BNC, video_sigma_B), self.audio.at(audio_BNC, audio_sigma_B), self.layout, self.rules
        )

    def latents(self, video_BNC: Tensor, audio_BNC: Tensor) -> tuple[Tensor, Tensor]:
        """Target tokens as latents, (B, C, F, H, W) and (B, C, T, M)."""
        return unpatchify_video(video_BNC, self.video_grid, self.patch), unpatchify_audio(audio_BNC, self.mel_bins)

    def without_reference(self) -> SequencePlan:
        """The same target with no reference tokens at all (guidance, condition dropout)."""
        return replace(self, video=self.video.without_reference(), audio=self.audio.without_reference())

    def reference_only(self) -> Sequence:
        """The reference tokens alone, for filling a key/value cache."""
        plan = replace(self, video=self.video.reference_only(), audio=self.audio.reference_only())
        zero_B = plan.video.positions_BDN2.new_zeros(plan.video.reference_BRC.shape[0])
        return plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, zero_B, zero_B)


@dataclass(frozen=True)
class Known:
    """The part of a target that is given, so that only the rest is generated (JUST-DUB-IT, "counterfactual
    inpainting").

    Attributes:
        video_BFHW: bool, latents that are given. audio_BT: bool, audio latents that are given.
        clean: tokens of which everything is given are kept clean (timestep 0), as a kept first frame is; False: they
            are as noisy as the rest, on the path that ends in what is given, for models that never saw both together.
    """

    video_BFHW: Tensor
    audio_BT: Tensor
    clean: bool = True


def plan_sequence(
    *,
    video_target_BCFHW: Tensor,
    audio_target_BCTM: Tensor,
    video_reference_BCFHW: Tensor | None,
    audio_reference_BCTM: Tensor | None,
    frame_rate: Fraction | float,
    geometry: Geometry,
    rules: SequenceRules,
    keep_first_frame_B: Tensor | None = None,
    known: Known | None = None,
) -> SequencePlan:
    """Lay out a batch of clips of one shape.

    Args:
        video_target_BCFHW, audio_target_BCTM: clean target latents (training), or any latents of the target's shape
            whose first frame is the clean one when it is kept (inference).
        video_reference_BCFHW, audio_reference_BCTM: clean source latents, or None for a stream without reference.
        frame_rate: pixel frames per second.
        keep_first_frame_B: bool per sample; overrides `rules.keep_first_frame` (training draws it per sample).
        known: the part of the target that is given (inpainting).

    Raises:
        UsageError: batch sizes or channels of the parts differ.
    """
    for name, target, reference in (
        ("video", video_target_BCFHW, video_reference_BCFHW),
        ("audio", audio_target_BCTM, audio_reference_BCTM),
    ):
        if reference is not None and reference.shape[:2] != target.shape[:2]:
            raise UsageError(
                f"{name} reference of batch and channels {tuple(reference.shape[:2])}",
                expected=f"{tuple(target.shape[:2])} as the target has",
            )
    batch, device = video_target_BCFHW.shape[0], video_target_BCFHW.device
    grid = token_grid(video_target_BCFHW, geometry.patch)
    steps, mel_bins = audio_target_BCTM.shape[2:]

    if keep_first_frame_B is None:
        keep_first_frame_B = torch.full((batch,), rules.keep_first_frame)
    video_clean_BNC = patchify_video(video_target_BCFHW, geometry.patch)
    in_first_frame_N = torch.arange(video_clean_BNC.shape[1], device=device) < grid[1] * grid[2]
    kept_BN = keep_first_frame_B.to(device)[:, None] & in_first_frame_N[None]
    kept_BT = torch.zeros(batch, steps, dtype=torch.bool, device=device)
    video_known_BNC = audio_known_BNC = None
    if known is not None:
        whole_BCFHW = known.video_BFHW.to(device)[:, None].expand(video_target_BCFHW.shape)
        whole_BCTM = known.audio_BT.to(device)[:, None, :, None].expand(audio_target_BCTM.shape)
        video_known_BNC, audio_known_BNC = patchify_video(whole_BCFHW, geometry.patch), patchify_audio(whole_BCTM)
        if known.clean:
            kept_BN, kept_BT = kept_BN | video_known_BNC.all(-1), kept_BT | audio_known_BNC.all(-1)
    video_bounds = [video_positions(grid, frame_rate, geometry)]
    video_reference_BRC = video_clean_BNC[:, :0]
    if video_reference_BCFHW is not None:
        video_reference_BRC = patchify_video(video_reference_BCFHW, geometry.patch)
        reference_grid = token_grid(video_reference_BCFHW, geometry.patch)
        bounds = video_positions(reference_grid, frame_rate, geometry, downscale=rules.reference_downscale)
        video_bounds.insert(0, bounds)

    audio_clean_BTC = patchify_audio(audio_target_BCTM)
    audio_bounds = [audio_positions(steps, geometry)]
    audio_reference_BRC = audio_clean_BTC[:, :0]
    if audio_reference_BCTM is not None:
        audio_reference_BRC = patchify_audio(audio_reference_BCTM)
        negative = rules.audio_positions == "negative"
        audio_bounds.insert(0, audio_positions(audio_reference_BCTM.shape[2], geometry, negative=negative))

    def expand(bounds: list[Tensor]) -> Tensor:
        return torch.cat(bounds, dim=1).to(device)[None].expand(batch, -1, -1, -1)

    return SequencePlan(
        video=StreamPlan(video_reference_BRC, video_clean_BNC, kept_BN, expand(video_bounds), video_known_BNC),
        audio=StreamPlan(audio_reference_BRC, audio_clean_BTC, kept_BT, expand(audio_bounds), audio_known_BNC),
        rules=rules,
        video_grid=grid,
        mel_bins=mel_bins,
        patch=geometry.patch,
    )
