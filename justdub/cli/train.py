"""`justdub train` and `train_lora.py`: train an adapter."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from justdub.cli.progress import Bars

HELP = "train an adapter"
DESCRIPTION = (
    "Train an IC-LoRA adapter from paired clips. The job is a YAML file (configs/train has one per kind); clips are "
    "encoded once into a cache, and an interrupted run goes on with --resume auto."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", help="the job; JUST-DUB-IT's own training YAML is read too")
    parser.add_argument(
        "--set", action="append", default=[], metavar="a.b=VALUE", help="change a setting of the job; repeatable"
    )
    parser.add_argument(
        "--resume", default="", metavar="auto|PATH", help="go on from the newest state, or from this one"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan: clips, tokens, parameters, memory; stop"
    )
    parser.add_argument("--json", action="store_true", help="the last line of standard output is the outcome as JSON")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> None:
    from justdub.cli.libraries import prepare
    from justdub.training.foreign import load_job

    job, notes = load_job(Path(arguments.config), arguments.set)
    for note in notes:
        _say(note)
    prepare()
    from justdub.training.run import Reports
    from justdub.training.run import run as train

    bars = Bars(quiet=arguments.quiet)

    def line(figures: dict[str, Any]) -> None:
        bars.close()
        if not arguments.quiet:
            print(describe(figures), file=sys.stderr, flush=True)

    reports = Reports(line, bars, _say)
    if arguments.dry_run:
        from justdub.training.run import survey

        print(survey(job, reports).text())
        return
    try:
        outcome = train(job, resume=arguments.resume, reports=reports)
    finally:
        bars.close()
    if arguments.json:
        print(
            json.dumps({"adapter": str(outcome.adapter), "steps": outcome.steps, "seconds": round(outcome.seconds, 1)})
        )
    else:
        print(f"{outcome.adapter}: {outcome.steps} steps in {outcome.seconds / 60:.1f} min")


def describe(line: dict[str, Any]) -> str:
    """A line of the log for a reader."""
    minutes = line["eta_s"] / 60
    left = f"{minutes:.0f} min" if minutes >= 2 else f"{line['eta_s']:.0f} s"
    return (
        f"step {line['step']}/{line['of']}  loss {line['loss']:.4f}"
        f" (video {line['video']:.4f}, audio {line['audio']:.4f})"
        f"  norm {line['norm']:.3f}  {line['s_per_step']:.2f} s/step  {left} left"
    )


def _say(sentence: str) -> None:
    print(f"justdub: {sentence}", file=sys.stderr)
