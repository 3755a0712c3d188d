"""`python -m datagen.world`: a contact sheet with sounds and truth, or a benchmark.

`python -m datagen.world pairs`: a training set for dubbing adapters; see `... pairs --help`.
`python -m datagen.world switching`: one for adapters that generate clips in which the language changes.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from datagen.world.clip import World
from datagen.world.splits import SPLITS
from justdub.errors import EXIT_INTERRUPTED, JustDubError

_EVERY = 10.0  # seconds between two lines of progress


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["pairs"]:
        return _told(pairs_main, arguments[1:])
    if arguments[:1] == ["switching"]:
        return _told(switching_main, arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m datagen.world", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for sheet.png, clipNNN.wav and clipNNN.json")
    parser.add_argument("--n", type=int, default=16, help="number of clips (default %(default)s)")
    parser.add_argument("--split", choices=SPLITS, default="base")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=96, help="side of the frames in pixels (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="where to draw (default %(default)s)")
    parser.add_argument("--pairs", action="store_true", help="two rows per person: the same line in two languages")
    parser.add_argument("--benchmark", action="store_true", help="print clips/s and milliseconds per stage as JSON")
    options = parser.parse_args(arguments)
    world = World(seed=options.seed, size=options.size)
    if options.benchmark:
        from datagen.world.benchmark import measure

        figures = measure(world, max(16, options.n), options.device)
        sys.stdout.write(json.dumps({name: round(value, 2) for name, value in figures.items()}) + "\n")
        return 0
    if options.out is None:
        parser.error("give --out FOLDER or --benchmark")
    from datagen.world.sheet import write_batch

    if options.pairs:
        batch = world.pairs(range((options.n + 1) // 2), options.split, device=options.device)
    else:
        batch = world.batch(range(options.n), options.split, device=options.device)
    written = write_batch(options.out, batch, world.sample_rate)
    for take in batch.takes:
        sys.stdout.write(take.caption + "\n")
    sys.stdout.write(f"{len(written)} files in {options.out}\n")
    return 0


def pairs_main(arguments: list[str]) -> None:
    """`python -m datagen.world pairs`."""
    parser = argparse.ArgumentParser(
        prog="python -m datagen.world pairs",
        description="Write paired clips with face masks and dataset.json. What is there already is not drawn again.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for clips, masks, dataset.json and README.md")
    parser.add_argument("--n", type=int, default=2000, help="number of pairs (default %(default)s)")
    parser.add_argument("--split", choices=SPLITS, default="adapters", help="of the world (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first pair looked at (default %(default)s)")
    parser.add_argument("--to", metavar="LANGUAGES", help="of the targets, such as fr,de (default: all five)")
    parser.add_argument("--list", default="dataset.json", metavar="NAME", help="of the list (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the world (default %(default)s)")
    parser.add_argument("--all", action="store_true", help="also pairs with a silent face or laughter")
    parser.add_argument("--workers", type=int, default=2, help="processes, a core each (default %(default)s)")
    options = parser.parse_args(arguments)

    import torch

    from datagen.world import pairs

    torch.set_num_threads(1)
    command = shlex.join(["python", "-m", "datagen.world", "pairs", *arguments])
    request = pairs.Request(
        count=options.n,
        split=options.split,
        first=options.first,
        languages=pairs.parse_languages(options.to),
        seed=options.seed,
        everything=options.all,
    )
    examples = pairs.write(
        options.out,
        request,
        name=options.list,
        workers=options.workers,
        command=command,
        progress=_Progress("pairs"),
    )
    sys.stdout.write(f"{options.n} pairs, {examples} examples in {options.out / options.list}\n")


def switching_main(arguments: list[str]) -> None:
    """`python -m datagen.world switching`."""
    parser = argparse.ArgumentParser(
        prog="python -m datagen.world switching",
        description="Write clips in which the speaker changes the language, with face masks and dataset.json. "
        "What is there already is not drawn again.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for clips, masks, dataset.json and README.md")
    parser.add_argument("--n", type=int, default=2000, help="number of clips (default %(default)s)")
    parser.add_argument("--split", choices=SPLITS, default="base", help="of the world (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first clip (default %(default)s)")
    parser.add_argument("--frames", type=int, default=97, help="of a clip (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the world (default %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes, a core each (default %(default)s)")
    options = parser.parse_args(arguments)

    import torch

    from datagen.world import switching_set

    torch.set_num_threads(1)
    command = shlex.join(["python", "-m", "datagen.world", "switching", *arguments])
    request = switching_set.Request(
        count=options.n, split=options.split, first=options.first, frames=options.frames, seed=options.seed
    )
    clips = switching_set.write(
        options.out, request, workers=options.workers, command=command, progress=_Progress("clips")
    )
    sys.stdout.write(f"{clips} clips in {options.out / 'dataset.json'}\n")


def _told(verb: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Run a verb; returns the exit code. A fault is one line on standard error."""
    try:
        verb(arguments)
    except JustDubError as error:
        sys.stderr.write(f"{verb.__name__.removesuffix('_main')}: error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"{verb.__name__.removesuffix('_main')}: interrupted; the same command goes on from here\n")
        return EXIT_INTERRUPTED
    return 0


class _Progress:
    """A line on standard error every ten seconds and at the end: how far, how fast, how long still."""

    def __init__(self, unit: str) -> None:
        self.unit, self.began, self.told = unit, time.monotonic(), time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self.told < _EVERY:
            return
        self.told, rate = now, done / max(now - self.began, 1e-6)
        left = f", {(total - done) / rate:.0f} s left" if done < total else ""
        sys.stderr.write(f"{self.unit}: {done} of {total}, {rate:.1f}/s{left}\n")


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)  # a polite request to end cleans up like Ctrl-C
    sys.exit(main())
