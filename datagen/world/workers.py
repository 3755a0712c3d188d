"""Work spread over processes that each keep to one core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

from justdub.errors import UsageError

Task = TypeVar("Task")


def spread(work: Callable[[Task], int], tasks: Sequence[Task], workers: int) -> Iterator[int]:
    """What `work` answers to every task, in any order; one worker works here, several in processes of their own.

    Raises:
        UsageError: fewer than one worker. And whatever `work` raises: no new task is then begun.
    """
    if workers < 1:
        raise UsageError(f"{workers} workers", expected="1 or more")
    if min(workers, len(tasks)) <= 1:
        for task in tasks:
            yield work(task)
        return
    with ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn"), _settle) as pool:
        jobs = [pool.submit(work, task) for task in tasks]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _settle() -> None:
    """Start a worker: one core, and an end with its parent; Ctrl-C is the parent's to answer."""
    import multiprocessing
    import os
    import signal
    import threading

    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
