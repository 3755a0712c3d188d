"""`justdub doctor`: what works on this machine, and whether a dub would fit."""

from __future__ import annotations

import argparse
import json
import sys

from justdub.errors import MissingError

HELP = "what works on this machine, and whether a dub would fit"
DESCRIPTION = (
    "Show versions, devices, free memory and disk, optional packages, attention kernels (tried), backbone, adapters, "
    "and what a dub of --size and --frames would need. Exit code 4 when something that it needs is missing."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the estimate."""
    parser.add_argument("--backbone", "-b", default="mini", metavar="PATH", help="checkpoint (default: %(default)s)")
    parser.add_argument("--text-encoder", metavar="DIR", help="folder of the Gemma that an official file needs")
    parser.add_argument(
        "--adapter", "-a", action="append", default=[], metavar="NAME", help="an adapter that counts too; repeatable"
    )
    parser.add_argument("--size", metavar="WxH", help="working size (default: the backbone's)")
    parser.add_argument("--frames", type=int, default=121, metavar="N", help="of the clip (default: %(default)s)")
    parser.add_argument("--two-stage", action="store_true", help="as of `justdub dub`; --size is that of the result")
    parser.add_argument("--reference", choices=("bidirectional", "isolated"), help="reference mode")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Look, print, and fail when the dub would."""
    from justdub.cli.libraries import prepare

    prepare()
    from justdub.dubbing import machine

    found = machine.examine(
        arguments.backbone,
        size=arguments.size,
        frames=arguments.frames,
        two_stage=arguments.two_stage,
        reference=arguments.reference,
        device=arguments.device,
        dtype=arguments.dtype,
        text_encoder=arguments.text_encoder,
        adapters=arguments.adapter,
    )
    if arguments.json:
        print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    else:
        print(found.text())
    sys.stdout.flush()
    if found.faults:
        raise MissingError(found.faults[0], remedy=found.remedy)
