"""Pair generation killed with SIGKILL at random moments of every stage, then run again: the dataset must be the same.

    python benchmarks/datagen_kills.py --kills 5 --out /tmp/kills

For every stage a folder in which the stages before are done and it has not begun; there it is killed, started again,
killed again, and in the end run to the last stage. The process is a fork of this one, which has imported everything
and computed nothing: what is killed is the stage, not the start of Python. A moment is uniform over the time that the
stage took undisturbed. When it was over by then, the run is ended and compared, and the stage begins anew.
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
from importlib import import_module
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
_HEAVY = (
    "justdub.dubbing.pipeline", "justdub.dubbing.inpaint", "justdub.evaluation.world.judges",
    "justdub.evaluation.world.table", "datagen.world.clip", "datagen.world.render", "datagen.world.switching",
)  # fmt: skip


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
    for name in _HEAVY:
        import_module(name)
    untrained.write(options.out / "backbone", Card(name="tiny", size=(96, 96), steps=1, guidance=1, audio_guidance=1))
    whole = job(options.out / "whole", options.out / "backbone", options.clips)
    seconds = {stage: undisturbed(whole, stage) for stage in run.ORDER}
    rng, kills = np.random.default_rng(options.seed), []
    for stage in run.ORDER:
        kills += killed(whole, stage, seconds[stage], rng, options.kills)
        sys.stderr.write("".join(f"{kill}\n" for kill in kills[-options.kills :]))
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


def killed(whole: DatagenJob, stage: str, seconds: float, rng: np.random.Generator, wanted: int) -> list[Kill]:
    """Kills of one stage, each in what the one before has left."""
    folder = Path(whole.out).parent / "killed"
    one, after = replace(whole, out=str(folder)), run.ORDER[run.ORDER.index(stage) :]
    kills, kept = [], None  # kept: what was done at the kills so far of this folder
    for _ in range(_TRIES):
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole.out, folder, ignore=shutil.ignore_patterns(*after))
            kept, since = {}, len(kills)
        moment = rng.uniform(0, seconds)
        process = start(one, *after)
        time.sleep(moment)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        last = folder / stage / ("dataset.json" if stage == "dataset" else "manifest.jsonl")
        if process.exitcode == -signal.SIGKILL and not last.exists():
            found = finished(folder)
            kept |= {path: when for path, when in found.items() if path not in kept}
            done = sum(path.is_relative_to(folder / stage) for path in found)
            kills.append(Kill(stage, round(moment, 3), done, len(list(folder.rglob("*.part"))), False))
            if len(kills) < wanted:
                continue
        else:
            seconds = moment  # it is faster now than it was undisturbed
        if len(kills) > since:
            same = ends_the_same(one, whole, kept)
            kills[since:] = [replace(kill, same=same) for kill in kills[since:]]
        if len(kills) == wanted:
            return kills
        kept = None
    raise SystemExit(f"{stage} was over before {_TRIES - len(kills)} of {_TRIES} moments")


def ends_the_same(one: DatagenJob, whole: DatagenJob, kept: dict[Path, int]) -> bool:
    """Run to the end: the same dataset, and what was done is not written again."""
    process = start(one, *run.ORDER)
    process.join()
    now = finished(Path(one.out))
    return process.exitcode == 0 and made(Path(one.out)) == made(Path(whole.out)) and kept.items() <= now.items()


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
