"""All stages, one after the other, over all clips: here, in several processes, or on a Ray cluster.

What is there already is not made again, so the same command goes on after any interruption. A clip that cannot be used
is noted with its reason and the run goes on; what concerns all clips (a model that cannot be read, a full disk) ends
it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from datagen import dataset, filter, footage, generate, inpaint, lips, mask, script, split
from datagen.job import DatagenJob, plain
from datagen.store import Rejected
from datagen.tools import STAGES, Tools
from justdub import jobs
from justdub.dubbing.sampler import NonFiniteError
from justdub.errors import BadInputError, MissingError, UsageError

RUN = {
    "generate": generate.run, "split": split.run, "mask": mask.run, "inpaint": inpaint.run, "lips": lips.run,
    "filter": filter.run,
}  # fmt: skip
FROM_CLIPS = {"generate": footage.generate, "split": footage.split}
ORDER = (*STAGES, "dataset")
_OPENS = {
    "generate": ("pipe",), "split": ("pipe", "judge"), "mask": ("pipe", "finder"), "inpaint": ("pipe",),
    "lips": ("pipe", "finder"), "filter": ("pipe", "judge"),
}  # fmt: skip

Report = Callable[[str, int, int], None]


def run(
    job: DatagenJob,
    *,
    only: tuple[str, ...] = ORDER,
    engine: str = "local",
    workers: int = 1,
    report: Report | None = None,
) -> dataset.Dataset | None:
    """Run stages.

    Args:
        only: which ones, of `ORDER`; the others' results are read if there are any.
        engine: "local" (`workers` processes, one per accelerator where there are several), or "ray" (the cluster of
            Ray's own environment, all machines seeing `job.out` under one path).
        report: called as report(stage, clips done, clips to do).

    Returns:
        The dataset if its stage was run.
    """
    if unknown := [stage for stage in only if stage not in ORDER]:
        raise UsageError(f"stage {unknown[0]!r}", expected=", ".join(ORDER))
    if engine not in ("local", "ray"):
        raise UsageError(f"engine {engine!r}", expected="local or ray")
    if workers < 1:
        raise UsageError(f"{workers} workers", expected="1 or more")
    report = report or (lambda stage, done, total: None)
    tools = Tools(job)
    made = None
    for stage in (stage for stage in ORDER if stage in only):
        if stage == "inpaint" and job.footage.folder and not job.footage.lines:
            raise UsageError("clips without lines", expected="--lines FILE, or --until mask")
        if stage == "dataset":
            made = dataset.write(tools)
            report(stage, len(made.entries), len(made.entries))
            continue
        missing = _missing(tools, stage)
        if stage == "script":
            _scripts(tools, set(missing), report)
        else:
            work = _through(engine, workers, job, stage, missing)
            report(stage, 0, len(missing))
            for done, _ in enumerate(work, 1):
                report(stage, done, len(missing))
        tools.store(stage).write_manifest()
    return made


def _missing(tools: Tools, stage: str) -> list[int]:
    """Numbers of the clips that a stage has still to do."""
    store, needs = tools.store(stage), STAGES[stage][0]
    if not needs:
        return [number for number in range(tools.count) if store.facts(number) is None]
    before = tools.store(needs[0])
    usable = [number for number in before.numbers() if before.usable(number)]
    if not usable:
        lost = sum(1 for number in before.numbers() if before.facts(number))
        raise BadInputError(
            f"nothing to {stage}: of {lost} clips none came through {needs[0]}", expected="clips that stage can use",
            remedy=f"see {before.folder}/manifest.jsonl" if lost else f"run {needs[0]} first",
        )  # fmt: skip
    return [number for number in usable if store.facts(number) is None]


def _scripts(tools: Tools, missing: set[int], report: Report) -> None:
    store = tools.store("script")
    made = (clip.script for clip in tools.footage) if tools.footage else script.write(tools.job)
    report("script", 0, len(missing))
    if not missing:
        return
    done = 0
    for one in made:
        if one.number in missing:
            store.add(one.number, one.plain(), {})
            done += 1
            report("script", done, len(missing))


def one(tools: Tools, stage: str, number: int) -> None:
    """Run one stage of one clip and keep its result."""
    for name in _OPENS[stage]:
        getattr(tools, name)  # what cannot be opened ends the run, not the clip
    store = tools.store(stage)
    if store.facts(number) is not None:
        return
    function = (FROM_CLIPS if tools.footage else {}).get(stage, RUN[stage])
    try:
        facts, media = function(tools, number)
    except (Rejected, BadInputError, NonFiniteError) as error:
        return store.reject(number, str(error))
    store.add(number, facts, media)


# -- engines ----------------------------------------------------------------------------------------------------------


def _through(engine: str, workers: int, job: DatagenJob, stage: str, numbers: list[int]) -> Iterator[int]:
    """Do the numbers, yielding each when it is done."""
    if engine == "ray":
        yield from _on_ray(job, stage, numbers)
    elif min(workers, len(numbers)) <= 1:
        tools = _tools(_key(job))
        for number in numbers:
            one(tools, stage, number)
            yield number
    else:
        yield from _in_processes(workers, job, stage, numbers)


@lru_cache(maxsize=1)
def _tools(key: str) -> Tools:
    """Of this process, for a job as text."""
    import json

    return Tools(jobs.build(DatagenJob, json.loads(key)))


def _key(job: DatagenJob) -> str:
    import json

    return json.dumps(plain(job))


def work(key: str, stage: str, number: int) -> int:
    """One clip in a worker."""
    one(_tools(key), stage, number)
    return number


def _in_processes(workers: int, job: DatagenJob, stage: str, numbers: list[int]) -> Iterator[int]:
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    context = get_context("spawn")
    turn = context.Value("i", 0)
    with ProcessPoolExecutor(min(workers, len(numbers)), context, _settle, (turn, workers)) as pool:
        waiting = [pool.submit(work, _key(job), stage, number) for number in numbers]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _settle(turn: Any, workers: int) -> None:
    """Start a worker: its accelerator, its share of the cores, and an end with its parent."""
    import signal

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    if torch.cuda.is_available():
        with turn.get_lock():
            place, turn.value = turn.value, turn.value + 1
        torch.cuda.set_device(place % torch.cuda.device_count())


def _on_ray(job: DatagenJob, stage: str, numbers: list[int]) -> Iterator[int]:
    """As tasks of a Ray cluster; a task whose machine dies is run again elsewhere."""
    try:
        import ray
    except ImportError as error:
        raise MissingError("--engine ray needs Ray", remedy="pip install 'justdub[ray]'") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    where = str(Path(job.out).resolve())
    from dataclasses import replace

    gpus = 1 if any(node["Resources"].get("GPU") for node in ray.nodes() if node["Alive"]) else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=-1)(work)
    key = _key(replace(job, out=where))
    waiting = [task.remote(key, stage, number) for number in numbers]
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        try:
            yield from ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
