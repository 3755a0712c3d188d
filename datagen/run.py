"""All stages, one after the other, over all clips: here, in several processes, or on a Ray cluster.

What is there already is not made again, so the same command goes on after any interruption. A clip that cannot be used
is noted with its reason and the run goes on; what concerns all clips (a model that cannot be read, a full disk) ends
it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from itertools import islice
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

# Of a clip whose worker dies: machines go, but a clip that exhausts the memory does so every time.
_RETRIES = 10
_IN_FLIGHT = 1000  # tasks that Ray knows of at a time: to wait for one of a million takes long

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
    with _opened(engine, workers, job) as through:
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
                report(stage, 0, len(missing))
                for done, _ in enumerate(through(stage, missing), 1):
                    report(stage, done, len(missing))
            _list(tools, stage)
    return made


def _list(tools: Tools, stage: str) -> None:
    store = tools.store(stage)
    try:
        store.write_manifest()
    except OSError as error:
        raise BadInputError(
            f"{store.folder} cannot be written: {error.strerror}", remedy="free space, then the same command again"
        ) from error


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


Through = Callable[[str, list[int]], Iterator[int]]


@contextmanager
def _opened(engine: str, workers: int, job: DatagenJob) -> Iterator[Through]:
    """What does clips of a stage, yielding the number of each when it is done; its processes live as long as the run,
    so that each loads its models once.
    """
    if engine == "ray":
        yield partial(_on_ray, job)
    elif workers == 1:
        yield partial(_here, job)
    else:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        context = get_context("spawn")
        turn = context.Value("i", 0)
        with ProcessPoolExecutor(workers, context, _settle, (turn, workers)) as pool:
            yield partial(_in_processes, pool, job)


def _here(job: DatagenJob, stage: str, numbers: list[int]) -> Iterator[int]:
    for number in numbers:
        yield work(_key(job), stage, number)


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


def _in_processes(pool: Any, job: DatagenJob, stage: str, numbers: list[int]) -> Iterator[int]:
    from concurrent.futures import as_completed
    from concurrent.futures.process import BrokenProcessPool

    try:
        waiting = [pool.submit(work, _key(job), stage, number) for number in numbers]
        for done in as_completed(waiting):
            yield done.result()
    except BrokenProcessPool as error:
        raise BadInputError(
            f"a worker process died in {stage}", remedy="fewer --workers if memory ran out, then the same command again"
        ) from error
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise


def _settle(turn: Any, workers: int) -> None:
    """Start a worker: its accelerator, its share of the cores, and an end with its parent, however that ends."""
    import signal
    from threading import Thread

    import torch

    Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    if torch.cuda.is_available():
        with turn.get_lock():
            place, turn.value = turn.value, turn.value + 1
        torch.cuda.set_device(place % torch.cuda.device_count())


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its workers, which would wait for work, and keep their models, for ever."""
    from multiprocessing import parent_process

    parent_process().join()
    os._exit(1)


def _on_ray(job: DatagenJob, stage: str, numbers: list[int]) -> Iterator[int]:
    """As tasks of a Ray cluster; a clip whose machine dies is given to another one."""
    ray = _ray()
    gpus = 1 if any(node["Resources"].get("GPU") for node in ray.nodes() if node["Alive"]) else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=_RETRIES)(work_from)
    folder, key = str(Path.cwd()), _key(replace(job, out=str(Path(job.out).resolve())))
    left, waiting = iter(numbers), {}
    try:
        while True:
            for number in islice(left, _IN_FLIGHT - len(waiting)):
                waiting[task.remote(folder, key, stage, number)] = number
            if not waiting:
                return
            done = ray.wait(list(waiting), num_returns=1)[0][0]
            number = waiting.pop(done)
            try:
                ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                raise BadInputError(
                    f"{stage} of clip {number} was given up by Ray: {str(error).strip().splitlines()[0]}",
                    remedy="see Ray's logs, then the same command again",
                ) from error
            yield number
    finally:
        for one_more in waiting:
            ray.cancel(one_more)


def work_from(folder: str, key: str, stage: str, number: int) -> int:
    """One clip in a worker elsewhere; relative paths of the job are of the folder in which the command was given."""
    if Path(folder).is_dir():
        os.chdir(folder)
    return work(key, stage, number)


def _ray() -> Any:
    """Ray, connected: to the cluster of its own environment, or to one of this machine alone that ends with us."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is started: nothing is reported to anybody
    try:
        import ray
    except ImportError as error:
        raise MissingError("--engine ray needs Ray", remedy="pip install 'justdub[ray]'") from error
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "")
        try:
            _reach(address)
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise MissingError(
                f"no Ray cluster at {address or 'this machine'} ({reason})", remedy="RAY_ADDRESS=HOST:PORT of its head"
            ) from error
    return ray


def _reach(address: str) -> None:
    """Ray itself tries an address at which nobody answers for many minutes."""
    import socket

    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
