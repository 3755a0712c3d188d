"""The small joint transformer of the drawn world and its text side, trained together by rectified flow.

The sequence, the forward call, the path, the sigmas and the loss are the program's own (`justdub.sequence`,
`backbone.transformer`, `flow`, `training.loss`); here is only what pretraining adds: batches of whole clips, text that
is dropped now and then (so that guidance has something to guide away from), streams at noise levels of their own,
batches of sound alone, which cost a fifth and teach the speaking, and a reader: a linear layer that must tell from the
audio tokens' last states which phoneme is heard when, so that the tokens learn early which part of the text they say.
It is thrown away afterwards. (AlignDiT, arXiv 2504.20629, learns to align by a CTC term. Here CTC was soon satisfied
without any alignment: the line was spelled from the text alone, whatever was heard.)

Legend: B batch, N tokens, C channels, T audio latent steps, M latent mel bins, f/h/w the video latents' grid.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from datagen.world.pretrain.latents import SLOTS, LatentSet, LatentSpec, open_or_encode
from datagen.world.pretrain.phonemes import CLASSES
from datagen.world.pretrain.training import DTYPES, Figures, TrainSettings, restore, train
from justdub import flow
from justdub.backbone import untrained
from justdub.backbone.codecs import AudioCodec, VideoCodec
from justdub.backbone.text import TextContext, TextEncoder
from justdub.backbone.transformer import JointTransformer
from justdub.errors import BadInputError
from justdub.sequence import SequenceRules, plan_sequence
from justdub.tokens import patchify_video
from justdub.training.loss import LossWeights, dubbing_loss

_FRAME_RATE = 25
_PARTS = ("transformer", "connectors", "text_encoder")
_LENGTHS = (96, 128, 176, 256, 384)  # to which prompts are padded: few, because every length is compiled anew
_POOL = 4  # batches' worth of clips that are sorted by the length of their captions, so that little is padding


@dataclass(frozen=True)
class NoiseSettings:
    """sampler, tokens: of `flow.sample_sigmas` (more tokens, more noise). apart: share of the clips whose two streams
    have noise levels of their own."""

    sampler: str = "stretched_logit_normal"
    tokens: int = 256
    apart: float = 0.5


@dataclass(frozen=True)
class PartSettings:
    """One kind of step: `batch` clips, drawn with probability proportional to `share`. streams: "both", "sound" (clips
    without pictures) or "separate" (both, but nothing crosses between them)."""

    streams: str = "both"
    batch: int = 32
    share: float = 1.0


@dataclass(frozen=True)
class TransformerJob:
    """`out`: folder of the run. `latents`, `shards`: where clips are kept, encoded and drawn. `audio_codec`,
    `video_codec`: trained codecs ("" for the second: sound alone). `train_on`, `sound_on`: the clips of steps with and
    without pictures; `check_on`: of the validation. `size`: see `untrained.Size`; its `ratios` are the video codec's.
    `mouth`: how much more a latent with lips in it counts. `reading`: weight of the reader's loss. `no_text`: share of
    the clips whose prompt is dropped. `start_from`: a run of the same size, or a backbone's folder, to start with its
    weights. `compile`: the blocks.
    """

    out: str
    latents: str
    shards: str
    audio_codec: str
    video_codec: str = ""
    train_on: tuple[LatentSpec, ...] = ()
    sound_on: tuple[LatentSpec, ...] = ()
    check_on: LatentSpec = field(default_factory=lambda: LatentSpec(clips=128, split="library"))
    size: untrained.Size = field(default_factory=untrained.Size)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    parts: tuple[PartSettings, ...] = (PartSettings(),)
    mouth: float = 3.0
    audio_weight: float = 1.0
    reading: float = 0.0
    no_text: float = 0.1
    start_from: str = ""
    compile: bool = True
    train: TrainSettings = field(default_factory=TrainSettings)


class Learner(nn.Module):
    """All that is trained: the transformer, the connectors and the text encoder."""

    def __init__(self, size: untrained.Size, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        from diffusers import FlowMatchEulerDiscreteScheduler, LTX2Pipeline

        super().__init__()
        torch.manual_seed(seed)
        self.text_encoder = untrained.text_encoder(size)
        self.connectors = untrained.connectors(size)
        self.transformer = untrained.transformer(size)
        pipeline = LTX2Pipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=None,
            audio_vae=None,
            text_encoder=self.text_encoder,
            tokenizer=untrained.byte_tokenizer(size.text_tokens),
            connectors=self.connectors,
            transformer=self.transformer,
            vocoder=None,
        )
        for name, parameter in self.text_encoder.named_parameters():
            parameter.requires_grad_("vision" not in name and "multi_modal" not in name)
        for parameter in self.parameters():  # parameters alone: rotary frequencies stay float32
            parameter.data = parameter.data.to(dtype)
        self.joint, self.text = JointTransformer(self.transformer), TextEncoder(pipeline)
        width = size.audio_heads * size.audio_head_dim
        self.reader = nn.Linear(width, SLOTS * CLASSES, dtype=dtype)
        states = self._states = {}  # of the last forward pass

        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            states["audio_BTD"] = inputs[0]

        self.transformer.audio_norm_out.register_forward_pre_hook(keep)

    def reading_loss(self, phonemes_BU: Tensor) -> Tensor:
        """Cross-entropy of the phonemes (`SLOTS` classes per audio token), nat, from the last forward pass's states."""
        logits_BTUP = self.reader(self._states["audio_BTD"]).float().unflatten(2, (SLOTS, -1))
        return nn.functional.cross_entropy(logits_BTUP.flatten(0, 2), phonemes_BU.flatten().long())

    def compile(self) -> None:
        """Compile the repeated blocks: on a CPU half of the time goes into element-wise work that this fuses.

        Every shape is compiled once (minutes for all of them); inductor's cache on disk keeps them for the next start.
        """
        torch._dynamo.config.recompile_limit = 64
        self.transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
        connectors = (self.connectors.video_connector, self.connectors.audio_connector)
        for block in (*(block for part in connectors for block in part.transformer_blocks), *self._layers):
            block.compile(dynamic=False)

    @property
    def _layers(self) -> nn.ModuleList:
        return self.text_encoder.model.language_model.layers

    def save(self, folder: Path) -> None:
        """Each part as a folder of its own, in half precision."""
        for name in _PARTS:
            part = copy.deepcopy(getattr(self, name))
            nn.Module.to(part, torch.bfloat16).save_pretrained(folder / name)
        self.text.pipeline.tokenizer.save_pretrained(folder / "tokenizer")

    def load(self, folder: Path) -> None:
        """Weights of a checkpoint folder (`save`, or a whole backbone)."""
        for name in _PARTS:
            part = getattr(self, name)
            try:
                part.load_state_dict(type(part).from_pretrained(folder / name).state_dict())
            except RuntimeError as error:
                reason = str(error).splitlines()[1].strip()
                raise BadInputError(f"{folder / name} does not fit the job's size: {reason}") from error

    def context(self, captions: list[str]) -> TextContext:
        """Text of a batch, padded to one of few lengths."""
        longest = max(map(self.text.count_tokens, captions))
        return self.text.encode_batch(captions, next((n for n in _LENGTHS if n >= longest), longest))


@dataclass(frozen=True)
class Batch:
    """audio_BCTM and video_BCfhw clean latents, float32 (video None: sound alone); lips_Bfhw bool; phonemes_BU."""

    audio_BCTM: Tensor
    video_BCfhw: Tensor | None
    lips_Bfhw: Tensor | None
    captions: list[str]
    phonemes_BU: Tensor


def draw_batch(sets: list[LatentSet], size: int, no_text: float, rng: np.random.Generator) -> Batch:
    """Clips with captions of similar length from several sets."""
    bounds = np.cumsum([0, *map(len, sets)])
    picks = []
    for number in rng.integers(bounds[-1], size=_POOL * size):
        of = int(np.searchsorted(bounds, number, side="right")) - 1
        picks.append((sets[of], int(number - bounds[of])))
    picks.sort(key=lambda pick: len(pick[0].captions[pick[1]].encode()))
    start = int(rng.integers(_POOL)) * size
    chosen = picks[start : start + size]
    captions = ["" if rng.uniform() < no_text else clips.captions[i] for clips, i in chosen]
    audio_BCTM = torch.stack([clips.audio[i].float() for clips, i in chosen])
    phonemes_BU = torch.stack([clips.phonemes[i] for clips, i in chosen])
    if chosen[0][0].video is None:
        return Batch(audio_BCTM, None, None, captions, phonemes_BU)
    video_BCfhw = torch.stack([clips.video[i].float() for clips, i in chosen])
    lips_Bfhw = torch.stack([clips.lips[i] for clips, i in chosen])
    return Batch(audio_BCTM, video_BCfhw, lips_Bfhw, captions, phonemes_BU)


def draw_sigmas(count: int, settings: NoiseSettings, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise levels (B,) of the video and of the audio stream; equal in the share `1 - apart` of the clips."""
    video_B, own_B = (
        flow.sample_sigmas(count, settings.tokens, sampler=settings.sampler, generator=noise) for _ in range(2)
    )
    return video_B, torch.where(torch.rand(count, generator=noise) < settings.apart, own_B, video_B)


def flow_loss(
    learner: Learner,
    batch: Batch,
    job: TransformerJob,
    noise: torch.Generator,
    *,
    separate: bool = False,
) -> tuple[Tensor, Figures]:
    """Velocity error of a batch, and that of each stream as a number."""
    audio_BCTM, sound_alone = batch.audio_BCTM, batch.video_BCfhw is None
    count, size = len(audio_BCTM), job.size
    video_BCfhw = (
        audio_BCTM.new_zeros(count, size.video_channels, 1, size.patch, size.patch)
        if sound_alone
        else batch.video_BCfhw
    )
    plan = plan_sequence(
        video_target_BCFHW=video_BCfhw,
        audio_target_BCTM=audio_BCTM,
        video_reference_BCFHW=None,
        audio_reference_BCTM=None,
        frame_rate=_FRAME_RATE,
        geometry=learner.joint.geometry,
        rules=SequenceRules(),
    )
    sigmas = draw_sigmas(count, job.noise, noise)
    clean, noises, noisy = [], [], []
    for stream, sigma_B in zip((plan.video, plan.audio), sigmas, strict=True):
        clean.append(stream.clean_BNC)
        noises.append(torch.randn(stream.clean_BNC.shape, generator=noise))
        noisy.append(flow.mix(clean[-1], noises[-1], stream.target_sigmas(sigma_B)))
    context = learner.context(batch.captions)
    if sound_alone:
        context = replace(context, video_BLD=context.video_BLD[:, -1:], video_mask_BL=None)
    found = learner.joint.velocity(plan.at(*noisy, *sigmas), context, skip_cross_modal=separate or sound_alone)
    true = [flow.velocity(x0, extra) for x0, extra in zip(clean, noises, strict=True)]
    audio = (found.audio_BNC.float() - true[1]).square().mean()
    reading = learner.reading_loss(batch.phonemes_BU)
    figures = {"audio": float(audio.detach()), "reading": float(reading.detach())}
    if sound_alone:
        return audio + job.reading * reading, figures
    loss = dubbing_loss(
        video_predicted_BNC=found.video_BNC,
        video_true_BNC=true[0],
        audio_predicted_BNC=found.audio_BNC,
        audio_true_BNC=true[1],
        kept_BN=plan.video.kept_BN,
        face_mask_BFHW=patchify_video(batch.lips_Bfhw[:, None].float(), size.patch).amax(2),
        weights=LossWeights(foreground=1.0, background=1 / job.mouth, audio=job.audio_weight),
    )
    video = (found.video_BNC.float() - true[0]).square().mean()
    return loss + job.reading * reading, {"video": float(video.detach()), **figures}


def run(
    job: TransformerJob,
    *,
    resume: bool = False,
    finish_only: bool = False,
    report: Callable[[dict], None] | None = None,
) -> dict[str, float]:
    """Encode what is missing, train, save the averaged weights to `out`; returns the last validation's figures."""
    torch.set_num_threads(job.train.threads)
    folder = Path(job.out)
    codecs = _codecs(job)

    def opened(spec: LatentSpec) -> LatentSet:
        return open_or_encode(Path(job.latents), Path(job.shards), spec, *codecs, report)

    pictures, sounds = ([opened(spec) for spec in specs] for specs in (job.train_on, job.sound_on))
    check = opened(job.check_on)
    learner = Learner(job.size, DTYPES[job.train.dtype], job.train.seed)
    if job.compile:
        learner.compile()
    if job.start_from and not (resume or finish_only):
        start = Path(job.start_from)
        if (start / "transformer").is_dir():
            learner.load(start)
        else:
            restore(learner, start / "last.pt", mean=False)
    shares = np.array([part.share for part in job.parts])

    def loss_at(step: int) -> tuple[Tensor, Figures]:
        rng = np.random.default_rng([job.train.seed, step])
        noise = torch.Generator().manual_seed(1_000_003 * job.train.seed + step)
        part = job.parts[int(rng.choice(len(shares), p=shares / shares.sum()))]
        batch = draw_batch(sounds if part.streams == "sound" else pictures, part.batch, job.no_text, rng)
        with sdpa_kernel(SDPBackend.MATH):  # on a CPU the fused kernel's backward pass is seven times slower
            return flow_loss(learner, batch, job, noise, separate=part.streams == "separate")

    @torch.no_grad()
    @torch.compiler.set_stance("force_eager")  # a few batches: compiling for them would take longer
    def validate() -> Figures:
        totals: Figures = {}
        for start in range(0, len(check), 32):
            batch = draw_batch([check], 32, 0.0, np.random.default_rng(start))
            _, figures = flow_loss(learner, batch, job, torch.Generator().manual_seed(start))
            for name, value in figures.items():
                totals[name] = totals.get(name, 0.0) + value * 32 / len(check)
        return totals | {"score": -sum(totals.get(name, 0.0) for name in ("video", "audio"))}

    if finish_only:
        restore(learner, folder / "last.pt")
    else:
        plain = json.loads(json.dumps(asdict(job)))
        train(learner, loss_at, job.train, folder, job=plain, resume=resume, validate=validate, report=report)
    learner.save(folder / "checkpoint")
    figures = validate()
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _codecs(job: TransformerJob) -> tuple[AudioCodec, VideoCodec | None]:
    from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video

    audio = AutoencoderKLLTX2Audio.from_pretrained(job.audio_codec, torch_dtype=torch.float32).eval()
    if not job.video_codec:
        return AudioCodec(audio, None), None
    video: Any = AutoencoderKLLTX2Video.from_pretrained(job.video_codec, torch_dtype=DTYPES[job.train.dtype]).eval()
    return AudioCodec(audio, None), VideoCodec(video)
