"""What the reference tokens cost: one denoising step in four ways, in one run.

    python benchmarks/attention.py [--tokens 1024] [--width 512] [--layers 4] [--repeats 9] [--json FILE]

- masked: joint sequence, the cross-modal rule as an explicit -inf mask (what the reference implementation runs)
- sliced: joint sequence, the rule by slicing
- isolated: sliced, and reference rows attend to reference rows only
- isolated + cached: the reference's keys and values come from a prefill; only target tokens run
- no reference: the floor

Video reference = video target = TOKENS tokens; audio as many as 1/16 of it. Times are process times of one forward
pass on one thread. The ways are interleaved; a ratio is the median over the rounds of (way / masked in the same round),
so that a slow moment of a shared machine hits both. The ratios are what counts.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel

from benchmarks.masked import install_masks
from justdub.backbone.text import TextContext
from justdub.backbone.transformer import JointTransformer
from justdub.sequence import SequencePlan, SequenceRules, plan_sequence


def build(width: int, layers: int) -> LTX2VideoTransformer3DModel:
    """A transformer of LTX-2's proportions: audio half as wide as video, text context as wide as the stream."""
    torch.manual_seed(0)
    return LTX2VideoTransformer3DModel(
        in_channels=128,
        out_channels=128,
        num_attention_heads=8,
        attention_head_dim=width // 8,
        cross_attention_dim=width,
        audio_in_channels=128,
        audio_out_channels=128,
        audio_num_attention_heads=8,
        audio_attention_head_dim=width // 16,
        audio_cross_attention_dim=width // 2,
        num_layers=layers,
        caption_channels=width,
        rope_type="split",
    ).eval()


def make_plan(model: JointTransformer, tokens: int, reference: str) -> SequencePlan:
    side = 8
    grid = (max(tokens // side**2, 1), side, side)
    latents = {"video": torch.randn(1, 128, *grid), "audio": torch.randn(1, 8, max(tokens // 16, 1), 16)}
    return plan_sequence(
        video_target_BCFHW=latents["video"],
        audio_target_BCTM=latents["audio"],
        video_reference_BCFHW=latents["video"].clone(),
        audio_reference_BCTM=latents["audio"].clone(),
        frame_rate=25,
        geometry=model.geometry,
        rules=SequenceRules(reference=reference),
    )


def measure(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of process time of every repeat of every way, interleaved so that a noisy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, call in ways.items():
            begin = time.process_time()
            call()
            if repeat:  # the first round warms up
                times[name].append(1000 * (time.process_time() - begin))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--text-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)

    ours = JointTransformer(build(args.width, args.layers))
    stock = JointTransformer(copy.deepcopy(ours.module))
    context = torch.randn(1, args.text_tokens, args.width)
    text = TextContext(context, context)
    sigma_B = torch.full((1,), 0.7)
    plans = {mode: make_plan(ours, args.tokens, mode) for mode in ("bidirectional", "isolated")}
    install_masks(stock.module, plans["bidirectional"].layout)

    def step(plan: SequencePlan):
        return plan.at(torch.randn_like(plan.video.clean_BNC), torch.randn_like(plan.audio.clean_BNC), sigma_B, sigma_B)

    with torch.inference_mode():
        joint, isolated = (step(plans[mode]) for mode in ("bidirectional", "isolated"))
        bare = step(plans["isolated"].without_reference())
        begin = time.process_time()
        cache = ours.prefill(plans["isolated"].reference_only(), text)
        prefill = 1000 * (time.process_time() - begin)
        gap = (ours.velocity(joint, text).video_BNC - stock._forward(joint, text).video_BNC).abs().max().item()
        times = measure(
            {
                "masked": lambda: stock._forward(joint, text),
                "sliced": lambda: ours.velocity(joint, text),
                "isolated": lambda: ours.velocity(isolated, text),
                "isolated + cached": lambda: ours.velocity(bare, text, cache=cache),
                "no reference": lambda: ours.velocity(bare, text),
            },
            args.repeats,
        )

    layout = joint.layout
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, 1 thread, float32")
    print(f"video {layout.video.target} + {layout.video.reference} tokens, audio {layout.audio.target} + "
          f"{layout.audio.reference}, text {args.text_tokens}, width {args.width}/{args.width // 2}, "
          f"{args.layers} layers, {args.repeats} repeats")  # fmt: skip
    print(f"{'':20s}{'median ms':>10s}{'min':>9s}{'max':>9s}{'ratio':>8s}")
    rows = {}
    for name, values in times.items():
        median = statistics.median(values)
        ratio = statistics.median(way / masked for way, masked in zip(values, times["masked"], strict=True))
        rows[name] = {"median_ms": median, "min_ms": min(values), "max_ms": max(values), "ratio": ratio}
        print(f"{name:20s}{median:10.1f}{min(values):9.1f}{max(values):9.1f}{ratio:8.2f}")
    print(f"prefill, once per clip and text: {prefill:.0f} ms; cache {cache.nbytes / 2**20:.1f} MiB; "
          f"sliced against masked: largest difference {gap:.1e}")  # fmt: skip
    if args.json:
        args.json.write_text(
            json.dumps({"settings": {k: str(v) for k, v in vars(args).items()}, "rows": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
