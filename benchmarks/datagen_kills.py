"""Pair generation killed with SIGKILL at random moments of every stage, then run again: the dataset must be the same.

    python benchmarks/datagen_kills.py --kills 5 --out /tmp/kills

Every kill has a folder of its own in which the stages before are done and the killed one has not begun. The process is
a fork of this one, which has imported everything and computed nothing: what is killed is the stage, not the start of
Python. A moment is uniform over the time that the stage took undisturbed; one by which it was over is drawn again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from datagen import run
from datagen.job import DatagenJob
from datagen.store import digest
from justdub import jobs
from justdub.backbone import untrained
from justdub.backbone.checkpoint import Card

_TRIES = 50  # to hit a stage before it is over


@dataclass(frozen=True)
class Kill:
    """stage; seconds from its start; clips done by then; halves: files that were being written; same: as undisturbed,
    with nothing that was done written again."""

    stage: str
    seconds: float
    clips: int
    halves: int
    same: bool


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=5, help="of each stage (default %(default)s)")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    untrained.write(options.out / "backbone", Card(name="tiny", size=(96, 96), steps=1, guidance=1, audio_guidance=1))
    whole = job(options.out / "whole", options.out / "backbone", options.clips)
    seconds = {stage: undisturbed(whole, stage) for stage in run.ORDER}
    rng, kills = np.random.default_rng(options.seed), []
    for stage in run.ORDER:
        for _ in range(options.kills):
            kills.append(once(whole, stage, seconds[stage], rng, options.out / "killed"))
            sys.stderr.write(f"{kills[-1]}\n")
    sys.stdout.write(table(kills, seconds))
    sys.exit(0 if all(kill.same for kill in kills) else 1)


def job(out: Path, backbone: Path, clips: int) -> DatagenJob:
    """All stages on drawn clips, in seconds."""
    once = {"steps": 1, "guidance": 1.0, "audio_guidance": 1.0}
    return jobs.build(DatagenJob, {
        "out": str(out), "clips": clips, "backbone": str(backbone), "script": {"people": "world"},
        "generate": {"frames": 97, "by": "world"}, "split": {"shortest": 0.8, "recognise": False},
        "mask": {"finder": "world"}, "inpaint": {"sampling": once}, "filter": {"judge": "world"},
    })  # fmt: skip


def start(one: DatagenJob, *stages: str):
    """A process that runs stages."""

    def body() -> None:
        torch.set_num_threads(1)
        run.run(one, only=stages)

    process = get_context("fork").Process(target=body)
    process.start()
    return process


def undisturbed(one: DatagenJob, stage: str) -> float:
    """Run a stage; seconds."""
    begin = time.perf_counter()
    process = start(one, stage)
    process.join()
    if process.exitcode:
        raise SystemExit(f"{stage} ends with {process.exitcode}")
    return time.perf_counter() - begin


def once(whole: DatagenJob, stage: str, seconds: float, rng: np.random.Generator, folder: Path) -> Kill:
    """One kill in a stage, and the run after it."""
    one, after = replace(whole, out=str(folder)), run.ORDER[run.ORDER.index(stage) :]
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole.out, folder, ignore=shutil.ignore_patterns(*after))
        moment = rng.uniform(0, seconds)
        process = start(one, *after)
        time.sleep(moment)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        over = folder / stage / ("dataset.json" if stage == "dataset" else "manifest.jsonl")
        if process.exitcode == -signal.SIGKILL and not over.exists():
            break
    else:
        raise SystemExit(f"{stage} was over before each of {_TRIES} moments")
    before, halves = finished(folder), len(list(folder.rglob("*.part")))
    done = sum(path.is_relative_to(folder / stage) for path in before)
    again = start(one, *run.ORDER)
    again.join()
    now = finished(folder)
    same = again.exitcode == 0 and made(folder) == made(Path(whole.out)) and before == {p: now.get(p) for p in before}
    return Kill(stage, round(moment, 3), done, halves, same)


def finished(folder: Path) -> dict[Path, int]:
    """Every result, and when it was written; of a pair of the dataset, its last file."""
    found = [path for path in folder.rglob("[0-9]*") if path.suffix == ".json" or path.stem.endswith("_target")]
    return {path: path.stat().st_mtime_ns for path in found}


def made(folder: Path) -> str:
    """Digest of a dataset."""
    entries = json.loads((folder / "dataset" / "dataset.json").read_text())
    paths = {path for entry in entries for key, path in entry.items() if key != "caption"} | {"dataset.json"}
    return digest({path: folder / "dataset" / path for path in paths})


def table(kills: list[Kill], seconds: dict[str, float]) -> str:
    """The result, a row per stage."""
    rows = ["| stage | seconds | killed at | clips done | half files | same dataset |", "|---|---|---|---|---|---|"]
    for stage in run.ORDER:
        of = [kill for kill in kills if kill.stage == stage]
        pairs = [(kill.seconds, kill.clips) for kill in of]
        at, done = (", ".join(str(value) for value in values) for values in zip(*pairs, strict=True))
        same, halves = sum(kill.same for kill in of), sum(kill.halves for kill in of)
        rows.append(f"| {stage} | {seconds[stage]:.2f} | {at} | {done} | {halves} | {same} of {len(of)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
