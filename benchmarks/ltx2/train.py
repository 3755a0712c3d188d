"""Part `train`: one update of an adapter, as the program makes it and as stock diffusers with peft and masks would."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import torch

from benchmarks.ltx2 import clip, estimate, models, processors
from benchmarks.ltx2.clock import Way
from benchmarks.ltx2.report import Row
from benchmarks.ltx2.run import SPENT, Run
from benchmarks.ltx2.scale import FRAME_RATE
from benchmarks.ltx2.work import Mode, TransformerWork
from justdub.backbone.transformer import JointTransformer
from justdub.lora import inject
from justdub.lora.config import LoraSettings
from justdub.sequence import SequenceRules
from justdub.training import optimizer as optimizers
from justdub.training.batches import Draw
from justdub.training.cache import Sample
from justdub.training.config import OptimizerSettings
from justdub.training.loss import LossWeights, Totals
from justdub.training.step import Example, Part, fast_attention, losses, parts

PART, NAME = "train", "measured"
MODES = {"checkpointing": True, "no checkpointing": False}


def rows(run: Run) -> Iterator[Row]:
    for dtype in run.dtypes:
        yield from run.guarded(PART, "all ways", partial(_precision, run, dtype), dtype=dtype)


def _precision(run: Run, dtype: str) -> Iterator[Row]:
    module = models.transformer(run.scale, run.device)
    inject.inject(module, LoraSettings(rank=run.rank), NAME)
    with torch.no_grad():  # B begins at zero, which would be an unfair input
        for name, parameter in inject.trained(module, NAME):
            if ".lora_B." in name:
                parameter.normal_(std=1e-3)
    if dtype == "fp8":
        models.store_in_fp8(module)
    module.train()
    named = dict(inject.trained(module, NAME))
    optimizer = optimizers.build(named.items(), OptimizerSettings())
    for mode, checkpointing in MODES.items():
        if run.late:
            yield Row(PART, "all ways", dtype, mode, failed=SPENT)
            continue
        ways = _ways(run, module, dtype, checkpointing, list(named.values()), optimizer)
        yield from run.measure(PART, *ways, dtype=dtype, mode=mode)


def _ways(
    run: Run, module: Any, dtype: str, checkpointing: bool, parameters: list[Any], optimizer: torch.optim.Optimizer
) -> list[Way]:
    """Stock first. All of them train one adapter with one optimizer, so that they hold the same memory."""
    mine, in_mine = processors.ours(module)
    masked_part = part(run, mine, "bidirectional")
    masked, in_masked = processors.stock(module, masked_part.plan.layout, run.device)

    def way(name: str, mode: Mode, joint: JointTransformer, place: Any, laid_out: Part) -> Way:
        def prepare() -> None:
            place.install()
            module.disable_gradient_checkpointing()
            if checkpointing and joint is mine:
                joint.enable_gradient_checkpointing()
            elif checkpointing:
                module.enable_gradient_checkpointing()
            optimizer.zero_grad(set_to_none=True)

        work = TransformerWork(
            module.config, laid_out.plan.layout, laid_out.text.video_BLD.shape[1], mode, models.weight_bytes(dtype)
        ).update(run.rank, checkpointing=checkpointing)
        foretold = None
        if joint is mine:
            foretold = estimate.update_bytes(module, NAME, laid_out.plan.layout, checkpointing=checkpointing)
        call = partial(update, joint, laid_out, parameters, optimizer)
        return Way(name, call, work, prepare, estimate_bytes=foretold)

    return [
        way("stock diffusers + peft, masked", "masked", masked, in_masked, masked_part),
        way("sliced", "sliced", mine, in_mine, masked_part),
        way("isolated", "isolated", mine, in_mine, part(run, mine, "isolated")),
    ]


def part(run: Run, joint: JointTransformer, reference: Any) -> Part:
    """One sample with a reference and a face mask."""
    (video, audio), (video_reference, audio_reference) = (
        clip.latents(run.train_resolution, torch.device("cpu"), seed) for seed in (1, 2)
    )
    sample = Sample(
        video_target_Cfhw=video[0],
        video_reference_Cfhw=video_reference[0],
        audio_target_CTM=audio[0],
        audio_reference_CTM=audio_reference[0],
        mask_fhw=torch.rand(run.train_resolution.grid),
        frame_rate=Fraction(FRAME_RATE),
    )
    text = clip.prompt(run.scale, torch.device("cpu"))
    example = Example(sample, text, Draw(0, 5, "full", False, clip.SIGMA, clip.SIGMA))
    return parts([example], joint, SequenceRules(reference=reference), run.device)[0]


def update(joint: JointTransformer, laid_out: Part, parameters: list[Any], optimizer: torch.optim.Optimizer) -> None:
    """What the training loop does with one sample: forward, backward, clip, step."""
    weights, device = LossWeights(), parameters[0].device
    totals = Totals(float(laid_out.weights(weights).sum()), float(laid_out.plan.audio.clean_BNC.shape[1]))
    with fast_attention(device):  # the backward pass too: checkpointing computes attention again in it
        with torch.autocast(device.type, torch.bfloat16):
            found = losses(joint, laid_out, weights, totals)
        found.total.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
