"""The settings of a training job, one section of the YAML file each.

job = jobs.load(TrainJob, Path("configs/train/mini_dub.yaml"), ["train.steps=300"])
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from justdub.dubbing.settings import check_sampling
from justdub.errors import UsageError
from justdub.lora.config import GROUPS, LoraSettings, expand, group
from justdub.sequence import SequenceRules
from justdub.training.loss import LossWeights

LOGGERS = ("tensorboard", "wandb", "trackio")


@dataclass(frozen=True)
class DataSettings:
    """Attributes:
    list: dataset.json, .jsonl or .csv. cache: folder of its encoded clips, filled where something is missing.
    precomputed: a `.precomputed` folder of the reference or the official trainer, instead of both.
    allow_outside: let the list name files outside of its folder.
    buckets: sizes as WxHxF; none: the backbone's area in each clip's shape, as many frames as there are.
    broken_limit: share of the list that may be unusable before the job stops.
    """

    list: str = ""
    cache: str = ""
    precomputed: str = ""
    allow_outside: bool = False
    buckets: tuple[str, ...] = ()
    broken_limit: float = 0.05

    def __post_init__(self) -> None:
        if bool(self.list) == bool(self.precomputed):
            raise UsageError(
                "data.list and data.precomputed", expected="one of them", remedy="data.list: PATH/dataset.json"
            )
        if not 0 <= self.broken_limit <= 1:
            raise UsageError(f"data.broken_limit is {self.broken_limit}", expected="0 to 1")


@dataclass(frozen=True)
class NoiseSettings:
    """Attributes:
    sampler: of `flow.sample_sigmas`. tokens: that set its shift (0: the target's own video tokens, as JUST-DUB-IT).
    apart: share of the samples whose two streams have noise levels of their own.
    first_frame: share of the samples whose first video frame is given clean.
    """

    sampler: Literal["shifted_logit_normal", "stretched_logit_normal", "uniform"] = "stretched_logit_normal"
    tokens: int = 0
    apart: float = 0.0
    first_frame: float = 0.1

    def __post_init__(self) -> None:
        for name in ("apart", "first_frame"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"noise.{name} is {getattr(self, name)}", expected="0 to 1")


@dataclass(frozen=True)
class DropoutSettings:
    """Shares of the samples that lose a condition: one exclusive draw each, so that every state is really trained and
    guidance has something to guide away from. The rest keeps everything."""

    no_text: float = 0.1
    no_reference: float = 0.05
    nothing: float = 0.05

    def __post_init__(self) -> None:
        shares = (self.no_text, self.no_reference, self.nothing)
        if min(shares) < 0 or sum(shares) > 1:
            raise UsageError(
                f"condition dropout of {', '.join(map(str, shares))}", expected="shares of at most 1 in all"
            )

    @property
    def references(self) -> bool:
        """Whether any sample keeps its reference; without, the list needs none."""
        return self.no_reference + self.nothing < 1


@dataclass(frozen=True)
class InpaintSettings:
    """Samples of which only a part is generated and the rest is given clean: the face mask and the sound of the clip's
    first or second half. So a backbone learns to make training pairs (`python -m datagen`).

    Attributes: share: of the samples. lips: share of these that are given all of the sound.
    """

    share: float = 0.0
    lips: float = 0.25

    def __post_init__(self) -> None:
        for name in ("share", "lips"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"inpaint.{name} is {getattr(self, name)}", expected="0 to 1")


@dataclass(frozen=True)
class OptimizerSettings:
    """Attributes:
    name: `adamw`, or `adamw8bit` (bitsandbytes, on CUDA).
    rate: learning rate. rates: those that differ, by group (`video`, `audio`, `cross`) or by the names of
        `lora.targets`, the longest name first; 0 leaves modules out.
    schedule: `constant`, `linear` (to `floor` of itself) or `cosine`, after `warmup` steps.
    clip: largest norm of the gradient (0: no limit).
    average: decay of a running mean of the adapter, which is then what is shown and exported (0: none).
    """

    name: Literal["adamw", "adamw8bit"] = "adamw"
    rate: float = 2e-4
    rates: dict[str, float] = field(default_factory=dict)
    decay: float = 0.01
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: int = 0
    floor: float = 0.1
    clip: float = 1.0
    average: float = 0.0

    def __post_init__(self) -> None:
        for name, rate in (("rate", self.rate), *((f"rates.{name}", rate) for name, rate in self.rates.items())):
            if rate < 0:
                raise UsageError(f"optimizer.{name} is {rate}", expected="0 or more")
        for name in self.rates:
            if name not in GROUPS:
                expand(name)
        if len(self.betas) != 2:
            raise UsageError(f"optimizer.betas are {self.betas}", expected="two numbers")

    def rate_of(self, module: str) -> float:
        """The learning rate of a module, by its name within a block."""
        names = [name for name in self.rates if name not in GROUPS and module in expand(name)]
        if names:
            return self.rates[max(names, key=len)]
        return self.rates.get(group(module), self.rate)


@dataclass(frozen=True)
class LoopSettings:
    """Attributes:
    steps: updates of the weights. batch: samples of a process at once. accumulate: such batches in an update.
    dtype: of the base's weights and the arithmetic (auto: bfloat16 on an accelerator, float32 on the CPU).
    quantization: how the base's linear layers are stored: as they are (`none`) or in eight bits (`fp8`).
    checkpointing: forget activations and compute them again, for memory.
    threads: of torch on the CPU (0: its own choice).
    """

    steps: int = 2000
    batch: int = 1
    accumulate: int = 1
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    quantization: Literal["none", "fp8"] = "none"
    checkpointing: bool = False
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise UsageError(f"train.{name} is {getattr(self, name)}", expected="1 or more")


@dataclass(frozen=True)
class KeepSettings:
    """Attributes: every: steps between full states of the run. last: how many are kept."""

    every: int = 250
    last: int = 2

    def __post_init__(self) -> None:
        if self.every < 1 or self.last < 1:
            raise UsageError("checkpoint.every or checkpoint.last below 1", expected="1 or more")


@dataclass(frozen=True)
class PreviewClip:
    """A clip that is dubbed now and then, to see what is learned. target: how it should come out, if that is known."""

    input: str
    prompt: str
    target: str = ""


@dataclass(frozen=True)
class PreviewSettings:
    """Attributes:
    every: steps between previews (0: none); the untrained state is always shown first.
    from_data: so many clips of the training list, where no `clips` are named.
    steps, guidance, audio_guidance: as of `justdub dub`, None for the backbone's own.
    """

    every: int = 0
    clips: tuple[PreviewClip, ...] = ()
    from_data: int = 2
    steps: int | None = None
    guidance: float | None = None
    audio_guidance: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class LogSettings:
    """Attributes: every: steps of a line in log.jsonl. to: trackers besides, of accelerate's."""

    every: int = 10
    to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.to:
            if name not in LOGGERS:
                raise UsageError(f"log.to has {name!r}", expected=", ".join(LOGGERS))


@dataclass(frozen=True)
class AdapterSettings:
    """What is written into the adapter file, beside what follows from the job.

    Attributes:
        name: of the file. languages: ISO 639-1 codes it was trained for. prompt: the template of its prompts.
        sampling: how it is best run (`dubbing.settings.SAMPLING`); the dubbing command takes it as its defaults.
    """

    name: str = "adapter"
    title: str = ""
    languages: tuple[str, ...] = ()
    prompt: str = '{speaker} is speaking {language}, saying: "{text}"'
    licence: str = ""
    sampling: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_sampling(self.sampling, "adapter.sampling")


@dataclass(frozen=True)
class TrainJob:
    """out: folder of the run. backbone: `mini`, a checkpoint's folder or an official single file, which needs
    `text_encoder`, the folder of its language model. start: an adapter file to go on from."""

    out: str
    data: DataSettings
    backbone: str = "mini"
    text_encoder: str = ""
    start: str = ""
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    rules: SequenceRules = field(default_factory=SequenceRules)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    dropout: DropoutSettings = field(default_factory=DropoutSettings)
    inpaint: InpaintSettings = field(default_factory=InpaintSettings)
    loss: LossWeights = field(default_factory=LossWeights)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    train: LoopSettings = field(default_factory=LoopSettings)
    checkpoint: KeepSettings = field(default_factory=KeepSettings)
    preview: PreviewSettings = field(default_factory=PreviewSettings)
    log: LogSettings = field(default_factory=LogSettings)

    def plain(self) -> dict[str, Any]:
        """As nested dicts and lists, the shape of the YAML file."""
        return json.loads(json.dumps(asdict(self)))

    def recipe(self) -> dict[str, Any]:
        """What decides the weights: everything but where files lie, how often is logged and how long is trained."""
        plain = self.plain()
        for section in ("out", "checkpoint", "preview", "log", "adapter"):
            del plain[section]
        for section, names in (("data", ("list", "cache", "precomputed", "allow_outside")), ("train", ("threads",))):
            for name in names:
                del plain[section][name]
        return plain

    def digest(self) -> str:
        """sha256 of the recipe, hex."""
        return hashlib.sha256(json.dumps(self.recipe(), sort_keys=True).encode()).hexdigest()
