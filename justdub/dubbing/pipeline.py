"""Dub a clip: read, encode, denoise sound and picture together in one pass, decode, write.

    >>> pipe = DubPipeline.from_pretrained("mini")
    >>> dub = pipe("clip.mp4", prompt='The woman is speaking French, saying: "Bonjour"', seed=0)
    >>> dub.save("dubbed.mp4")

Letters: B batch, C channels, F/H/W frames/height/width, S samples, T audio latents, M mel bins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from justdub import flow
from justdub.backbone import checkpoint, memory
from justdub.backbone.residency import Residency
from justdub.backbone.text import joined
from justdub.dubbing.clip import Dub, Generated, Progress, Source, fit
from justdub.dubbing.guidance import Guidance
from justdub.dubbing.manifest import Manifest
from justdub.dubbing.prompt import DEFAULT_SPEAKER, Prompt, Timeline, choose_prompt
from justdub.dubbing.refine import FACTOR, Refiner, refine
from justdub.dubbing.sampler import Latents, SamplingReport, sample
from justdub.dubbing.settings import DubSettings, check_length
from justdub.dubbing.size import check_size
from justdub.dubbing.source import note_foreign, read_source
from justdub.dubbing.upsampler import LatentUpsampler
from justdub.errors import UsageError
from justdub.lora.files import AdapterFile, read
from justdub.lora.rack import AdapterRack, LoadedAdapter
from justdub.lora.reference import Strength
from justdub.lora.shelf import find as find_adapter
from justdub.media import ClipInfo, check_output, probe
from justdub.sequence import SequencePlan, SequenceRules, plan_sequence


@dataclass(frozen=True)
class _Run:
    """What sampling was done with."""

    guidance: Guidance
    sigmas: tuple[float, ...]
    negative: str
    cost: SamplingReport


class DubPipeline:
    """A backbone with its adapters, ready to dub.

    Args:
        rules: how sequences are built, whatever the adapters say (an adapter in training has no file to say it).
        use: how memory is used, for a backbone that was loaded on the CPU; None: it stays where it is.
        device: where it works then.
    """

    def __init__(
        self,
        backbone: checkpoint.Backbone,
        *,
        rules: SequenceRules | None = None,
        use: memory.Use | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.backbone = backbone
        self.rack = AdapterRack(backbone)
        self.refiner: Refiner | None = None
        self.residency = Residency(backbone, use, device or backbone.transformer.device)
        self._fixed_rules = rules

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = checkpoint.BUNDLED,
        *,
        device: str = "auto",
        dtype: str = "auto",
        text_encoder: str | Path | None = None,
        use: memory.Use | None = None,
    ) -> DubPipeline:
        """Load a backbone: `mini`, a folder in diffusers layout, or an official single file.

        Args:
            text_encoder: folder of the language model, for a single file.
            use: how memory is used (`memory.choose`); None: everything on the device at once.
        """
        where = checkpoint.choose_device(device)
        home = where if use is None else torch.device("cpu")
        kind = checkpoint.choose_dtype(dtype, where)
        backbone = checkpoint.load(name, device=home, dtype=kind, text_encoder=text_encoder)
        return cls(backbone, use=use, device=where)

    @property
    def _transformer(self) -> Any:
        return self.backbone.transformer.module

    # -- adapters -----------------------------------------------------------------------------------------------------

    @property
    def adapters(self) -> dict[str, LoadedAdapter]:
        """Those that are loaded, by name."""
        return self.rack.adapters

    def load_adapter(
        self, adapter: str | Path | AdapterFile, strength: float | Strength = 1.0, *, any_base: bool = False
    ) -> str:
        """Put an adapter (a path, or a name of the shelf) beside those that are loaded; see `AdapterRack.load`."""
        return self.rack.load(adapter, strength, any_base=any_base)

    def prepare_swaps(self, rank: int) -> None:
        """Before the first adapter is loaded: make room for swaps of up to `rank`; see `AdapterRack.prepare_swaps`."""
        self.rack.prepare_swaps(rank)

    def swap_adapter(
        self, old: str, new: str | Path | AdapterFile, strength: float | Strength = 1.0, *, any_base: bool = False
    ) -> str:
        """Another adapter in a loaded one's place, without reloading or compiling again; see `AdapterRack.swap`."""
        return self.rack.swap(old, new, strength, any_base=any_base)

    def unload_adapters(self) -> None:
        """Take all adapters off; the backbone is what it was."""
        if self.refiner is not None:
            self.refiner.unload()
        self.rack.unload()

    def load_refiner(
        self,
        upsampler: str | Path | LatentUpsampler,
        adapter: str | Path | AdapterFile | None = None,
        strength: float | Strength = 1.0,
        *,
        any_base: bool = False,
    ) -> None:
        """Get ready for dubs in two stages (`two_stage=` of the settings).

        Args:
            upsampler: the latent x2 upsampler, a file or a folder.
            adapter: the distilled LoRA of the second stage; None when the backbone is distilled itself.
        """
        if not isinstance(upsampler, LatentUpsampler):
            upsampler = LatentUpsampler.load(upsampler, dtype=self.backbone.pipeline.vae.dtype)
        if adapter is not None and not isinstance(adapter, AdapterFile):
            adapter = read(find_adapter(adapter))
        if self.refiner is not None:
            self.refiner.unload()
        self.refiner = Refiner(self.backbone, upsampler, adapter, strength, any_base=any_base)
        self.refiner.rest(self.adapters)

    @property
    def rules(self) -> SequenceRules:
        """How sequences are built: as the adapters say, else as JUST-DUB-IT does."""
        return self._fixed_rules or self.rack.rules

    # -- a dub --------------------------------------------------------------------------------------------------------

    def __call__(
        self,
        clip: str | Path | ClipInfo,
        *,
        prompt: str | Prompt | None = None,
        text: str | None = None,
        language: str | None = None,
        speaker: str = DEFAULT_SPEAKER,
        output: str | Path | None = None,
        progress: Progress | None = None,
        settings: DubSettings | None = None,
        **overrides: Any,
    ) -> Dub:
        """Dub one clip.

        Args:
            clip: a video file of at most 20 s.
            prompt: the whole prompt; or `text` and `language` (and `speaker`), from which it is built.
            output: written there at once when given (otherwise `Dub.save`).
            settings: all settings, or single ones as keyword arguments (seed=7, steps=20, ...).

        Raises:
            UsageError, BadInputError: found before anything heavy is done.
        """
        settings = replace(settings or DubSettings(), **overrides)
        info = clip if isinstance(clip, ClipInfo) else probe(clip)
        check_length(info)
        prompt = choose_prompt(prompt, text, language, speaker)
        if output is not None:
            check_output(Path(output), inputs=[info.path])
        report = progress or (lambda stage, done, total: None)
        two_stage = settings.two_stage is not None
        if two_stage and self.refiner is None:
            raise UsageError("two_stage without an upsampler", remedy="load_refiner(...), or --upsampler PATH")
        rules = self._rules(settings)
        manifest = Manifest.start(self.backbone, self.adapters, info, prompt, settings, rules)
        if self.residency.use is not None:
            manifest.content["memory"] = asdict(self.residency.use)
        for one in (*self.adapters.values(), *([self.refiner] if two_stage else [])):
            if one.notice:
                manifest.adjust(one.notice)

        with self._stage(manifest, "read"):
            source = read_source(self.backbone, info, settings, rules, manifest, report)
        with self._stage(manifest, "encode"):
            self._read_prompts(prompt.text, settings)
            plan = self._encode(source, rules, manifest, report, shrink=FACTOR if two_stage else 1)
        with self._stage(manifest, "denoise"):
            latents = self._denoise(plan, prompt, settings, manifest, report)
        if two_stage:
            with self._stage(manifest, "refine"):
                latents = refine(self, latents, source, prompt.text, rules, settings, manifest)
        with self._stage(manifest, "decode"):
            frames, audio = self._decode(latents, source, report)
        dub = Dub(frames, audio, self.backbone.audio_codec.output_rate, source, prompt, manifest)
        if output is not None:
            dub.save(output, progress=progress)
        return dub

    def generate(
        self,
        prompt: str | Timeline,
        *,
        frames: int,
        frame_rate: Fraction | int = Fraction(25),
        progress: Progress | None = None,
        settings: DubSettings | None = None,
        **overrides: Any,
    ) -> Generated:
        """A clip from a prompt alone, with no source: what the backbone itself knows, and material for data generation.

        Args:
            prompt: as for a dub, or several, one after the other.
            frames: at least this many are made, on the checkpoint's grid, and the rest cut off.
        """
        settings = replace(settings or DubSettings(), **overrides)
        report = progress or (lambda stage, done, total: None)
        backbone, geometry = self.backbone, self.backbone.transformer.geometry
        width, height = settings.size or backbone.card.size
        check_size((width, height), geometry.pixels_per_token)
        video, audio = backbone.video_codec, backbone.audio_codec
        length = round(Fraction(geometry.padded_frames(frames)) / frame_rate * audio.sample_rate)
        plan = plan_sequence(
            video_target_BCFHW=torch.zeros(
                1,
                video.latent_channels,
                geometry.latent_frames(frames),
                height // video.spatial_ratio,
                width // video.spatial_ratio,
                device=self.residency.device,
            ),
            audio_target_BCTM=self.encode_audio(np.zeros((audio.channels, length), np.float32)),  # of its shape
            video_reference_BCFHW=None,
            audio_reference_BCTM=None,
            frame_rate=frame_rate,
            geometry=geometry,
            rules=self._rules(replace(settings, keep_first_frame=False)),
        )
        latents, _ = self._sample(plan, prompt, settings, report)
        with self.residency.using("video"):
            picture = video.decode(latents.video_BCFHW)[:frames].numpy()
        with self.residency.using("audio"):
            sound = audio.decode(latents.audio_BCTM).numpy()
        return Generated(picture, fit(sound, frames / frame_rate, audio.output_rate), audio.output_rate)

    def denoise(
        self, plan: SequencePlan, prompt: str | Timeline, settings: DubSettings, progress: Progress | None = None
    ) -> Latents:
        """The target latents of any plan from noise: what `__call__` and `generate` do with theirs."""
        return self._sample(plan, prompt, settings, progress or (lambda stage, done, total: None))[0]

    @staticmethod
    @contextmanager
    def _stage(manifest: Manifest, name: str) -> Iterator[None]:
        """Time a stage; in it, too little memory becomes one line that names what to change."""
        with manifest.timed(name), memory.guard(name):
            yield

    def _rules(self, settings: DubSettings) -> SequenceRules:
        rules = self.rules
        if settings.reference is not None:
            rules = replace(rules, reference=settings.reference)
        if settings.keep_first_frame is not None:
            rules = replace(rules, keep_first_frame=settings.keep_first_frame)
        return rules

    def _encode(
        self, source: Source, rules: SequenceRules, manifest: Manifest, report: Progress, shrink: int = 1
    ) -> SequencePlan:
        """The clip's sequence, of the source at 1/`shrink` of its size."""
        report("encode", 0, 2)
        video_BCFHW, reference_BCFHW = self.encode_video(source, rules, shrink)
        if shrink == 1:
            with self.residency.using("video"):
                note_foreign(self.backbone, source, video_BCFHW, manifest)
        report("encode", 1, 2)
        audio_BCTM = self.encode_audio(source.audio_CS)
        report("encode", 2, 2)
        return plan_sequence(
            # The target has the source's shape; of its values only a kept first frame is ever used.
            video_target_BCFHW=video_BCFHW,
            audio_target_BCTM=audio_BCTM,
            video_reference_BCFHW=reference_BCFHW,
            audio_reference_BCTM=audio_BCTM,
            frame_rate=source.info.video.frame_rate,
            geometry=self.backbone.transformer.geometry,
            rules=rules,
        )

    def encode_video(self, source: Source, rules: SequenceRules, shrink: int = 1) -> tuple[Tensor, Tensor]:
        """Latents of the source at 1/`shrink` of its size, and of the reference, smaller by the rules' factor."""
        codec, device = self.backbone.video_codec, self.residency.device
        with self.residency.using("video"):
            video_BCFHW = reference_BCFHW = codec.encode(source.frames_FHW3, shrink).to(device)
            if rules.reference_downscale > 1:
                reference_BCFHW = codec.encode(source.frames_FHW3, shrink * rules.reference_downscale).to(device)
        return video_BCFHW, reference_BCFHW

    def encode_audio(self, audio_CS: np.ndarray) -> Tensor:
        with self.residency.using("audio"):
            return self.backbone.audio_codec.encode(audio_CS).to(self.residency.device)

    def _denoise(
        self, plan: SequencePlan, prompt: Prompt, settings: DubSettings, manifest: Manifest, report: Progress
    ) -> Latents:
        latents, run = self._sample(plan, prompt.text, settings, report)
        manifest.record_sampling(plan, run.guidance, run.sigmas, run.negative, asdict(run.cost))
        return latents

    def _read_prompts(self, prompt: str | Timeline, settings: DubSettings) -> None:
        """Read the prompts of a dub while the text encoder is there; `_sample` finds them read."""
        text = self.backbone.text
        wanted = (*Timeline.of(prompt).prompts, self._negative(settings))
        if not all(text.knows(one) for one in wanted):
            with self.residency.using("text"):
                for one in wanted:
                    text.encode(one)

    def _negative(self, settings: DubSettings) -> str:
        return self.backbone.card.negative_prompt if settings.negative_prompt is None else settings.negative_prompt

    def filled(self, settings: DubSettings) -> DubSettings:
        """Settings with the sampling that the loaded adapters, or else the checkpoint, recommend."""
        return settings.filled(*self.rack.sampling, self.backbone.card.sampling)

    def _guidance(self, settings: DubSettings) -> Guidance:
        """settings: filled."""
        card, layers = self.backbone.card, len(self._transformer.transformer_blocks)
        if settings.stg and not all(0 <= block < layers for block in card.stg_blocks):
            raise UsageError(
                f"--stg with blocks {card.stg_blocks}", expected=f"blocks of 0 to {layers - 1} in the card"
            )
        return Guidance(
            text=settings.guidance,
            audio_text=settings.audio_guidance,
            reference=settings.reference_guidance,
            audio_reference=settings.audio_reference_guidance,
            joint=settings.joint_guidance,
            audio_joint=settings.audio_joint_guidance,
            modality=settings.modality_guidance,
            audio_modality=settings.modality_guidance,
            stg=settings.stg,
            audio_stg=settings.stg,
            stg_blocks=card.stg_blocks,
            rescale=settings.rescale,
        )

    def _sample(
        self, plan: SequencePlan, prompt: str | Timeline, settings: DubSettings, report: Progress
    ) -> tuple[Latents, _Run]:
        card, prompts = self.backbone.card, Timeline.of(prompt)
        settings = self.filled(settings)
        sigmas = flow.schedule(settings.steps or card.steps, tokens=card.schedule_tokens)
        if settings.schedule == "distilled":
            sigmas = flow.DISTILLED_STAGE_1
        guidance = self._guidance(settings)
        self._read_prompts(prompt, settings)
        with self.residency.using("transformer"):
            latents, cost = sample(
                self.backbone.transformer,
                plan,
                text=joined([self.backbone.text.encode(one) for one in prompts.prompts], prompts.until),
                negative_text=self.backbone.text.encode(self._negative(settings)),
                table=guidance.table(),
                sigmas=sigmas,
                seed=settings.seed,
                stg_blocks=card.stg_blocks,
                rescale_share=settings.rescale,
                use_cache=settings.cache,
                keep_cache=settings.cache_place,
                on_step=lambda done, total: report("denoise", done, total),
            )
        return latents, _Run(guidance, sigmas, self._negative(settings), cost)

    def _decode(self, latents: Latents, source: Source, report: Progress) -> tuple[np.ndarray, np.ndarray]:
        report("decode", 0, 2)
        info, codec = source.info, self.backbone.audio_codec
        with self.residency.using("video"):
            frames = self.backbone.video_codec.decode(latents.video_BCFHW)[: info.video.frames].numpy()
        report("decode", 1, 2)
        with self.residency.using("audio"):
            audio = codec.decode(latents.audio_BCTM).numpy()
        report("decode", 2, 2)
        return frames, fit(audio, info.duration, codec.output_rate)
