"""`justdub eval world`: measure a backbone on the drawn world."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from justdub.cli.progress import Bars
from justdub.errors import MissingError, UsageError

HELP = "measure a backbone on the drawn world that the bundled one knows"
DESCRIPTION = (
    "Generate clips from held-out prompts of the drawn world, judge them beside true clips, and print one table: "
    "words, language, lips against sound, sync."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=int, default=200, metavar="N", help="clips (default: %(default)s)")
    parser.add_argument(
        "--backbone", default="mini", metavar="NAME", help="mini, or a checkpoint folder (default: mini)"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="model evaluations (default: the checkpoint's)")
    parser.add_argument("--guidance", type=float, metavar="S", help="of the picture (default: the checkpoint's)")
    parser.add_argument("--audio-guidance", type=float, metavar="S", help="of the sound (default: the checkpoint's)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first clip (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (default: auto)")
    parser.add_argument("--output", "-o", metavar="DIR", help="also write table.md, scores.json and sheet.png there")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bars")


def run(arguments: argparse.Namespace) -> None:
    from justdub.cli.libraries import prepare
    from justdub.dubbing.settings import DubSettings

    if arguments.n < 2:
        raise UsageError(f"--n {arguments.n}", expected="2 or more: the row of chance swaps the clips' sound")
    if find_spec("espeakng_loader") is None:
        raise MissingError("the package espeakng-loader is not installed", remedy="pip install 'justdub[world]'")
    settings = DubSettings(
        seed=arguments.seed, steps=arguments.steps, guidance=arguments.guidance, audio_guidance=arguments.audio_guidance
    )
    prepare()
    from justdub.dubbing.pipeline import DubPipeline
    from justdub.evaluation.world import judges, suite

    bars = Bars(quiet=arguments.quiet)
    pipe = DubPipeline.from_pretrained(arguments.backbone, device=arguments.device, dtype=arguments.dtype)
    try:
        outcome = suite.run(pipe, judges.load(), clips=arguments.n, settings=settings, progress=bars)
    finally:
        bars.close()
    print(outcome.markdown(), end="")
    if arguments.output:
        print(*suite.write(outcome, Path(arguments.output)), sep="\n")
