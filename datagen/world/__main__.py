"""`python -m datagen.world`: a contact sheet with sounds and truth, or a benchmark."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from datagen.world.clip import World
from datagen.world.splits import SPLITS


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
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


if __name__ == "__main__":
    sys.exit(main())
