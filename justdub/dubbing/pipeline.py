"""Dub a clip: read, encode, denoise sound and picture together in one pass, decode, write.

    >>> pipe = DubPipeline.from_pretrained("mini")
    >>> dub = pipe("clip.mp4", prompt='The woman is speaking French, saying: "Bonjour"', seed=0)
    >>> dub.save("dubbed.mp4")

Letters: B batch, C channels, F/H/W frames/height/width, S samples, T audio latents, M mel bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from justdub import flow
from justdub.backbone import checkpoint
from justdub.dubbing.guidance import Guidance
from justdub.dubbing.manifest import Manifest
from justdub.dubbing.prompt import DEFAULT_SPEAKER, Prompt, choose_prompt
from justdub.dubbing.sampler import Latents, SamplingReport, sample
from justdub.dubbing.settings import DubSettings, check_length
from justdub.dubbing.size import check_size, working_size
from justdub.errors import UsageError
from justdub.lora.files import AdapterFile
from justdub.lora.rack import AdapterRack, LoadedAdapter
from justdub.lora.reference import Strength
from justdub.media import ClipInfo, FrameReader, check_output, probe, read_audio, write_clip
from justdub.sequence import SequencePlan, SequenceRules, plan_sequence

# Called with (stage, done, in all); stages in order: read, encode, denoise, decode, write.
Progress = Callable[[str, int, int], None]


FOREIGN_DB = 2.5  # so far below its usual round trip a codec works outside of what it knows


@dataclass(frozen=True)
class Source:
    """A clip at working size, padded to the model's grid.

    Attributes:
        frames_FHW3: uint8, 8k + 1 frames, the last ones repeating the clip's last frame.
        audio_CS: float32 at the audio codec's rate, as long as the padded frames, silence at the end.
    """

    info: ClipInfo
    size: tuple[int, int]
    frames_FHW3: np.ndarray
    audio_CS: np.ndarray


@dataclass(frozen=True)
class Dub:
    """A dubbed clip, decoded, cut to the source's exact length.

    Attributes:
        frames_FHW3: uint8 RGB at working size.
        audio_CS: float32.
        audio_rate: Hz.
    """

    frames_FHW3: np.ndarray
    audio_CS: np.ndarray
    audio_rate: int
    source: Source
    prompt: Prompt
    manifest: Manifest

    def save(self, path: str | Path, *, progress: Progress | None = None) -> Manifest:
        """Write the clip at the source's size and rate, with its other streams, and the manifest ``PATH.json``."""
        path, info = Path(path), self.source.info
        check_output(path, inputs=[info.path])
        with self.manifest.timed("write"):
            report = write_clip(
                path,
                _in_windows(self.frames_FHW3, progress),
                frame_rate=info.video.frame_rate,
                size=(info.video.width, info.video.height),
                sample_aspect=info.video.sample_aspect,
                audio_CS=self.audio_CS,
                audio_rate=self.audio_rate,
                frames_total=len(self.frames_FHW3),
                source=info,
                language=self.prompt.language,
                # Of x264: on talking heads as small as "medium" at this quality, and 2.5 to 4 times as fast.
                preset="veryfast",
            )
        self.manifest.record_output(path, report)
        self.manifest.write(Path(f"{path}.json"))
        return self.manifest


@dataclass(frozen=True)
class Generated:
    """A clip made from a prompt alone: frames_FHW3 uint8, audio_CS float32 at audio_rate Hz."""

    frames_FHW3: np.ndarray
    audio_CS: np.ndarray
    audio_rate: int


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
    """

    def __init__(self, backbone: checkpoint.Backbone, *, rules: SequenceRules | None = None) -> None:
        self.backbone = backbone
        self.rack = AdapterRack(backbone)
        self._fixed_rules = rules

    @classmethod
    def from_pretrained(
        cls, name: str | Path = checkpoint.BUNDLED, *, device: str = "auto", dtype: str = "auto"
    ) -> DubPipeline:
        """Load a backbone: `mini`, or a folder in diffusers layout."""
        where = checkpoint.choose_device(device)
        return cls(checkpoint.load(name, device=where, dtype=checkpoint.choose_dtype(dtype, where)))

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
        self.rack.unload()

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
        rules = self._rules(settings)
        manifest = Manifest.start(self.backbone, self.adapters, info, prompt, settings, rules)
        for loaded in self.adapters.values():
            if loaded.notice:
                manifest.adjust(loaded.notice)

        with manifest.timed("read"):
            source = self._read(info, settings, rules, manifest, report)
        with manifest.timed("encode"):
            plan = self._encode(source, rules, manifest, report)
        with manifest.timed("denoise"):
            latents = self._denoise(plan, prompt, settings, manifest, report)
        with manifest.timed("decode"):
            frames, audio = self._decode(latents, source, report)
        dub = Dub(frames, audio, self.backbone.audio_codec.output_rate, source, prompt, manifest)
        if output is not None:
            dub.save(output, progress=progress)
        return dub

    def generate(
        self,
        prompt: str,
        *,
        frames: int,
        frame_rate: Fraction | int = Fraction(25),
        progress: Progress | None = None,
        settings: DubSettings | None = None,
        **overrides: Any,
    ) -> Generated:
        """A clip from a prompt alone, with no source: what the backbone itself knows, and material for data generation.

        Args:
            prompt: as for a dub.
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
                device=backbone.transformer.device,
            ),
            audio_target_BCTM=audio.encode(np.zeros((audio.channels, length), np.float32)),  # of its shape
            video_reference_BCFHW=None,
            audio_reference_BCTM=None,
            frame_rate=frame_rate,
            geometry=geometry,
            rules=self._rules(replace(settings, keep_first_frame=False)),
        )
        latents, _ = self._sample(plan, prompt, settings, report)
        picture = video.decode(latents.video_BCFHW)[:frames].numpy()
        sound = audio.decode(latents.audio_BCTM).numpy()
        return Generated(picture, _fit(sound, frames / frame_rate, audio.output_rate), audio.output_rate)

    def _rules(self, settings: DubSettings) -> SequenceRules:
        rules = self.rules
        if settings.reference is not None:
            rules = replace(rules, reference=settings.reference)
        if settings.keep_first_frame is not None:
            rules = replace(rules, keep_first_frame=settings.keep_first_frame)
        return rules

    def _read(
        self, info: ClipInfo, settings: DubSettings, rules: SequenceRules, manifest: Manifest, report: Progress
    ) -> Source:
        multiple = self.backbone.transformer.geometry.pixels_per_token * rules.reference_downscale
        if settings.size is not None:
            check_size(settings.size, multiple)
            size = settings.size
        else:
            width, height = self.backbone.card.size
            size = working_size(info.display_aspect, width * height, multiple)
        if size != (info.video.width, info.video.height):
            manifest.adjust(
                f"worked on at {size[0]}x{size[1]} and scaled back to {info.video.width}x{info.video.height}"
            )
        padded = self.backbone.transformer.geometry.padded_frames(info.video.frames)
        if padded != info.video.frames:
            manifest.adjust(f"padded from {info.video.frames} to {padded} frames for the model, cut back after it")
        reader = FrameReader(info, size=size)
        frames = np.empty((padded, size[1], size[0], 3), dtype=np.uint8)
        filled = 0
        for chunk in reader:
            frames[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
            report("read", filled, info.video.frames)
        frames[filled:] = frames[filled - 1]
        audio = self._read_audio(info, Fraction(padded) / info.video.frame_rate)
        if info.audio is None:
            manifest.adjust("the clip has no sound: dubbed with a silent reference")
        for note in (*info.notes, *reader.notes):
            manifest.adjust(note)
        return Source(info, size, frames, audio)

    def _read_audio(self, info: ClipInfo, padded: Fraction) -> np.ndarray:
        """The clip's sound up to its last frame, then silence up to `padded` seconds; all silence without sound."""
        codec = self.backbone.audio_codec
        audio_CS = np.zeros((codec.channels, round(padded * codec.sample_rate)), dtype=np.float32)
        if info.audio is not None:
            sound_CS = read_audio(info, rate=codec.sample_rate, channels=codec.channels)
            audio_CS[:, : sound_CS.shape[1]] = sound_CS
        return audio_CS

    def _encode(self, source: Source, rules: SequenceRules, manifest: Manifest, report: Progress) -> SequencePlan:
        report("encode", 0, 2)
        backbone, device = self.backbone, self.backbone.transformer.device
        video_BCFHW = reference_BCFHW = backbone.video_codec.encode(source.frames_FHW3)
        self._note_foreign(source, video_BCFHW, manifest)
        if rules.reference_downscale > 1:
            reference_BCFHW = backbone.video_codec.encode(source.frames_FHW3, rules.reference_downscale)
        report("encode", 1, 2)
        audio_BCTM = backbone.audio_codec.encode(source.audio_CS)
        report("encode", 2, 2)
        return plan_sequence(
            # The target has the source's shape; of its values only a kept first frame is ever used.
            video_target_BCFHW=video_BCFHW.to(device),
            audio_target_BCTM=audio_BCTM.to(device),
            video_reference_BCFHW=reference_BCFHW.to(device),
            audio_reference_BCTM=audio_BCTM.to(device),
            frame_rate=source.info.video.frame_rate,
            geometry=backbone.transformer.geometry,
            rules=rules,
        )

    def _note_foreign(self, source: Source, video_BCFHW: Tensor, manifest: Manifest) -> None:
        """Tell the user when the codec cannot even repeat the clip's beginning."""
        usual = self.backbone.card.round_trip_db
        if not usual:
            return
        copy = self.backbone.video_codec.decode(video_BCFHW[:, :, :2]).numpy().astype(np.float32)
        error = np.mean((copy - source.frames_FHW3[: len(copy)]) ** 2)
        found = 10 * np.log10(255**2 / max(float(error), 1e-3))
        if found < usual - FOREIGN_DB:
            manifest.adjust(
                f"the clip is far from what {self.backbone.card.name} was trained on (its codec keeps {found:.0f} dB "
                f"of it, usually {usual:.0f}): do not expect much; --backbone takes a model that knows such footage"
            )

    def _denoise(
        self, plan: SequencePlan, prompt: Prompt, settings: DubSettings, manifest: Manifest, report: Progress
    ) -> Latents:
        latents, run = self._sample(plan, prompt.text, settings, report)
        manifest.record_sampling(plan, run.guidance, run.sigmas, run.negative, asdict(run.cost))
        return latents

    def _sample(self, plan: SequencePlan, prompt: str, settings: DubSettings, report: Progress) -> tuple[Latents, _Run]:
        card = self.backbone.card
        steps = settings.steps or card.steps
        sigmas = flow.schedule(steps, tokens=card.schedule_tokens)
        if settings.schedule == "distilled":
            sigmas = flow.DISTILLED_STAGE_1
        guidance = Guidance(
            text=card.guidance if settings.guidance is None else settings.guidance,
            audio_text=card.audio_guidance if settings.audio_guidance is None else settings.audio_guidance,
            reference=settings.reference_guidance,
            audio_reference=settings.reference_guidance,
            modality=settings.modality_guidance,
            audio_modality=settings.modality_guidance,
            stg=settings.stg,
            audio_stg=settings.stg,
            stg_blocks=card.stg_blocks,
            rescale=settings.rescale,
        )
        layers = len(self._transformer.transformer_blocks)
        if settings.stg and not all(0 <= block < layers for block in card.stg_blocks):
            raise UsageError(
                f"--stg with blocks {card.stg_blocks}", expected=f"blocks of 0 to {layers - 1} in the card"
            )
        negative = card.negative_prompt if settings.negative_prompt is None else settings.negative_prompt
        latents, cost = sample(
            self.backbone.transformer,
            plan,
            text=self.backbone.text.encode(prompt),
            negative_text=self.backbone.text.encode(negative),
            table=guidance.table(),
            sigmas=sigmas,
            seed=settings.seed,
            stg_blocks=card.stg_blocks,
            rescale_share=settings.rescale,
            use_cache=settings.cache,
            on_step=lambda done, total: report("denoise", done, total),
        )
        return latents, _Run(guidance, sigmas, negative, cost)

    def _decode(self, latents: Latents, source: Source, report: Progress) -> tuple[np.ndarray, np.ndarray]:
        report("decode", 0, 2)
        info, codec = source.info, self.backbone.audio_codec
        frames = self.backbone.video_codec.decode(latents.video_BCFHW)[: info.video.frames].numpy()
        report("decode", 1, 2)
        audio = codec.decode(latents.audio_BCTM).numpy()
        report("decode", 2, 2)
        return frames, _fit(audio, info.duration, codec.output_rate)


def _fit(audio_CS: np.ndarray, seconds: Fraction | float, rate: int) -> np.ndarray:
    """Exactly so many seconds: cut, or filled up with silence (audio latents end up to 30 ms before the last frame)."""
    samples = round(seconds * rate)
    return np.pad(audio_CS[:, :samples], ((0, 0), (0, max(0, samples - audio_CS.shape[1]))))


def _in_windows(frames_FHW3: np.ndarray, progress: Progress | None, window: int = 32) -> Any:
    for start in range(0, len(frames_FHW3), window):
        chunk = frames_FHW3[start : start + window]
        yield chunk
        if progress:
            progress("write", start + len(chunk), len(frames_FHW3))
