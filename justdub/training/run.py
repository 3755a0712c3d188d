"""A training job from its settings to its adapter: encode what is missing, load the backbone, train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from justdub.backbone import checkpoint as backbones
from justdub.backbone import eight_bits
from justdub.backbone.checkpoint import Backbone
from justdub.errors import JustDubError, UsageError
from justdub.media import probe
from justdub.tokens import Geometry
from justdub.training import checkpoint, preview
from justdub.training.cache import Cache
from justdub.training.config import TrainJob
from justdub.training.dataset import Fault, PairList, read_pairs
from justdub.training.loop import Outcome, Trainer
from justdub.training.plan import Plan, meta_transformer, plan, tokens_of
from justdub.training.precompute import Encoded, Encoder
from justdub.training.precomputed import count_files, take_over

CACHE = ".justdub-cache"  # beside the list, unless the job names another folder


@dataclass(frozen=True)
class Reports:
    """Where news of a run go: line (of the log), stage (name, done, all), say (a sentence)."""

    line: Callable[[dict[str, Any]], None] = lambda line: None
    stage: Callable[[str, int, int], None] = lambda stage, done, total: None
    say: Callable[[str], None] = lambda sentence: None


def geometry_of(path: Path) -> Geometry:
    """What one latent of a backbone covers, from its config alone."""
    return Geometry.from_config(meta_transformer(path).config)


def encode(job: TrainJob, load: Callable[[], Backbone], reports: Reports, part: int = 0, parts: int = 1) -> Encoded:
    """Everything that is trained on: what the cache lacks is encoded, or taken over from another trainer's folder."""
    data = job.data
    if data.precomputed:
        source = Path(data.precomputed)
        cache = Cache(Path(data.cache) if data.cache else source / CACHE)
        encoded = take_over(
            source,
            cache,
            load,
            broken_limit=data.broken_limit,
            downscale=job.rules.reference_downscale,
            text_encoder=Path(job.text_encoder) if job.text_encoder else None,
            report=reports.stage,
        )
    else:
        pairs = _pairs(job, reports)
        cache = Cache(Path(data.cache) if data.cache else pairs.path.parent / CACHE)
        encoded = _encoder(job, load).run(
            pairs, cache, broken_limit=data.broken_limit, part=part, parts=parts, report=reports.stage
        )
    for fault in encoded.faults:
        reports.say(f"left out: {fault}")
    return encoded


def _pairs(job: TrainJob, reports: Reports) -> PairList:
    pairs = read_pairs(job.data.list, outside=job.data.allow_outside, references=job.dropout.references)
    for name in pairs.ignored:
        reports.say(f"{pairs.path}: the column {name} is not used")
    return pairs


def _encoder(job: TrainJob, load: Callable[[], Backbone]) -> Encoder:
    folder = backbones.find(job.backbone)
    downscale = job.rules.reference_downscale
    return Encoder(
        load, folder, geometry_of(folder), buckets=job.data.buckets, downscale=downscale,
        text_encoder=Path(job.text_encoder) if job.text_encoder else None,
    )  # fmt: skip


def survey(job: TrainJob, reports: Reports = Reports()) -> Plan:
    """What the job would do. Clips are looked at, but nothing is encoded and no weights are read."""

    def never() -> Backbone:
        raise RuntimeError("a survey loads no backbone")

    shapes: Counter = Counter()
    if job.data.precomputed:
        clips, faults = count_files(Path(job.data.precomputed)), 0
    else:
        pairs, encoder = _pairs(job, reports), _encoder(job, never)
        rejected = list(pairs.faults)
        for number, pair in enumerate(pairs.pairs, 1):
            try:
                target = probe(pair.target)
                cut = encoder.cut(target, probe(pair.reference) if pair.reference else None)
                shapes[tokens_of(cut, target.video.frame_rate, encoder.geometry)] += 1
            except JustDubError as error:
                rejected.append(Fault(pair.entry, str(error)))
            reports.stage("probe", number, len(pairs.pairs))
        for fault in rejected:
            reports.say(f"left out: {fault}")
        clips, faults = sum(shapes.values()), len(rejected)
    return plan(job, clips, faults, shapes)


def run(job: TrainJob, *, resume: str = "", reports: Reports = Reports(), stop_at: int | None = None) -> Outcome:
    """Train an adapter.

    Args:
        resume: `auto`, or the folder of a state; empty to begin (an `out` that holds a run is then refused).
        stop_at: end after so many updates, as if interrupted.

    Raises:
        JustDubError: with what is wrong and what to try.
    """
    import torch
    from accelerate import Accelerator

    out = Path(job.out)
    state = checkpoint.choose(out, resume) if resume else None
    if not resume and (checkpoint.found(out) or (out / "log.jsonl").exists()):
        raise UsageError(f"{out} holds a run already", remedy="--resume auto, or another out")
    if job.train.threads:
        torch.set_num_threads(job.train.threads)
    device = backbones.choose_device(job.train.device)
    accelerator = Accelerator(cpu=device.type == "cpu", log_with=list(job.log.to) or None, project_dir=str(out))
    if job.train.quantization != "none" and accelerator.distributed_type.value == "FSDP":
        raise UsageError(
            "train.quantization with FSDP", expected="a base in eight bits, or one that is shared between devices"
        )
    loaded: list[Backbone] = []

    def load() -> Backbone:
        if not loaded:
            dtype = backbones.choose_dtype(job.train.dtype, accelerator.device)
            text = job.text_encoder or None
            loaded.append(backbones.load(job.backbone, device=accelerator.device, dtype=dtype, text_encoder=text))
            if job.train.quantization == "fp8":
                eight_bits.store(loaded[0].transformer.module)
        return loaded[0]

    encoded = encode(job, load, reports, accelerator.process_index, accelerator.num_processes)
    accelerator.wait_for_everyone()
    trainer = Trainer(job, load(), encoded, accelerator, reports.line)
    shown = None
    if job.preview.every and accelerator.is_main_process:
        clips = preview.choose(job, [pair.pair for pair in encoded.pairs])
        shown = preview.Preview(job, load(), clips, lambda step, path: reports.say(f"preview of step {step}: {path}"))
    if accelerator.is_main_process:
        write_settings(job, out)
        if job.log.to:
            accelerator.init_trackers("justdub", config={"recipe": job.digest()})
    try:
        return trainer.run(resume=state, preview=shown, stop_at=stop_at)
    finally:
        if job.log.to:
            accelerator.end_training()


def write_settings(job: TrainJob, out: Path) -> None:
    """``OUT/recipe.yaml``: the whole job, defaults included."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / ".recipe.yaml.part"
    partial.write_text(yaml.safe_dump(job.plain(), sort_keys=False, allow_unicode=True), encoding="utf-8")
    partial.replace(out / "recipe.yaml")
