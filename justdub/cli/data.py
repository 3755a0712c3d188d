"""`justdub data`: training data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from justdub.cli.progress import Bars
from justdub.errors import MissingError

HELP = "prepare training data"
DESCRIPTION = "Prepare training data: encode the clips of a list once, so that training reads latents."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    sub = verbs.add_parser(
        "precompute",
        help="encode a list of pairs into a cache",
        description=(
            "Encode a list of pairs into a cache. Interrupted, it goes on where it was; several processes "
            "(accelerate launch -m justdub data precompute ...) share the work."
        ),
        allow_abbrev=False,
    )
    sub.add_argument("list", metavar="LIST", help="dataset.json, .jsonl or .csv")
    sub.add_argument("--cache", metavar="DIR", help="where to (default: .justdub-cache beside the list)")
    sub.add_argument("--backbone", "-b", default="mini", metavar="PATH", help="checkpoint folder (default: mini)")
    sub.add_argument("--text-encoder", metavar="DIR", help="language model of an official single file")
    sub.add_argument(
        "--bucket", action="append", default=[], metavar="WxHxF", help="size and frames to cut to; repeatable"
    )
    sub.add_argument("--downscale", type=int, default=1, metavar="N", help="of the video reference (default: 1)")
    sub.add_argument("--allow-outside", action="store_true", help="the list may name files outside of its folder")
    sub.add_argument("--no-references", action="store_true", help="clips alone, for adapters that generate")
    sub.add_argument("--broken-limit", type=float, default=0.05, metavar="SHARE", help="of unusable pairs (0.05)")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    sub.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (default: auto)")
    sub.add_argument("--quiet", "-q", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> None:
    from justdub.cli.libraries import prepare

    path = Path(arguments.list)
    if not path.is_file():
        raise MissingError(f"no dataset at {path}", expected="a .json, .jsonl or .csv file")
    prepare()
    from accelerate import PartialState

    from justdub.backbone import checkpoint
    from justdub.sequence import SequenceRules
    from justdub.training.config import DataSettings, DropoutSettings, LoopSettings, TrainJob
    from justdub.training.run import Reports, encode

    job = TrainJob(
        out="",
        backbone=arguments.backbone,
        text_encoder=arguments.text_encoder or "",
        data=DataSettings(
            list=str(path),
            cache=arguments.cache or "",
            allow_outside=arguments.allow_outside,
            buckets=tuple(arguments.bucket),
            broken_limit=arguments.broken_limit,
        ),
        dropout=DropoutSettings(0, 0, 1) if arguments.no_references else DropoutSettings(),
        rules=SequenceRules(reference_downscale=arguments.downscale),
        train=LoopSettings(device=arguments.device, dtype=arguments.dtype),
    )
    device = checkpoint.choose_device(arguments.device)
    state = PartialState(cpu=device.type == "cpu")
    loaded: list[checkpoint.Backbone] = []

    def load() -> checkpoint.Backbone:
        if not loaded:
            dtype = checkpoint.choose_dtype(arguments.dtype, state.device)
            text = arguments.text_encoder
            loaded.append(checkpoint.load(arguments.backbone, device=state.device, dtype=dtype, text_encoder=text))
        return loaded[0]

    bars = Bars(quiet=arguments.quiet or not state.is_main_process)
    reports = Reports(stage=bars, say=lambda sentence: print(f"justdub: {sentence}", file=sys.stderr))
    try:
        encoded = encode(job, load, reports, state.process_index, state.num_processes)
    finally:
        bars.close()
    state.wait_for_everyone()
    if state.is_main_process:
        print(f"{encoded.cache.folder}: {len(encoded.pairs)} pairs, {len(encoded.faults)} left out")
