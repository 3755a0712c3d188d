"""Pairs on a Ray cluster of two nodes, one of which is killed at work: nothing is lost and nothing done twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from datagen import run
from datagen.job import DatagenJob
from datagen.tools import STAGES
from justdub import jobs

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
pytest.importorskip("ray", reason="Ray is not installed (extra ray)")

STAGE = "inpaint"  # the slowest: the node is killed while it has a clip in the works
# Ray asks a node every 3 s whether it lives; a test has less patience.
IMPATIENT = {
    "health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 4,
}  # fmt: skip


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, each with its own processes; nothing else of Ray."""
    from ray.cluster_utils import Cluster

    plain = {"num_cpus": 1, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=plain | {"_system_config": IMPATIENT})
    found.other = found.add_node(**plain)
    yield found
    found.shutdown()


def command(config: Path, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "datagen", "run", str(config), "-q", "--engine", "ray"],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def until(true: Callable[[], Any], process: subprocess.Popen, seconds: float = 400) -> Any:
    """What `true` answers when it is something."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)
    return found


def workers(node: Any) -> list[psutil.Process]:
    """The processes of a node that are at work on a clip; Ray names them after their task."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    children = raylet.children(recursive=True)
    return [one for one in children if one.is_running() and "ray::work_from" in " ".join(one.cmdline())]


def results(out: Path) -> dict[Path, int]:
    """All that is finished, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("[0-9]*.json")}


def kill(node: Any) -> int:
    """Every process of a node at once, as when its machine loses power; how many."""
    processes = [psutil.Process(kept.process.pid) for kind in node.all_processes.values() for kept in kind]
    processes += [child for one in processes for child in one.children(recursive=True)]
    for one in set(processes):
        one.kill()
    return len(set(processes))


def test_a_node_is_killed_and_nothing_is_lost_or_done_twice(tree: dict, tmp_path: Path, cluster: Any) -> None:
    tree["clips"] = 4
    whole = run.run(jobs.build(DatagenJob, tree | {"out": str(tmp_path / "whole")}))
    config, out = tmp_path / "job.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(tree))
    process = command(config, RAY_ADDRESS=cluster.address)
    until(lambda: list((out / STAGE).glob("[0-9]*.json")) and workers(cluster.other), process)
    before = results(out)
    kill(cluster.other)
    told, faults = process.communicate(timeout=400)
    assert process.returncode == 0, faults
    assert len(before) < 4 * len(STAGES), "it was killed on the way"
    after = results(out)
    assert {path: after[path] for path in before} == before, "what was done is not done again"
    assert len(after) == 4 * len(STAGES)
    again = run.run(jobs.build(DatagenJob, tree))
    assert again.digest == whole.digest and again.digest[:16] in told
    assert results(out) == after


def test_without_an_address_it_starts_a_cluster_of_its_own(tree: dict, tmp_path: Path) -> None:
    tree |= {"clips": 1, "mask": {"finder": "mediapipe", "models": "nowhere.task"}}
    config = tmp_path / "job.yaml"
    config.write_text(yaml.safe_dump(tree))
    process = command(config, RAY_ADDRESS="local")
    _, faults = process.communicate(timeout=400)
    assert list((tmp_path / "out" / "split").glob("[0-9]*.json"))
    assert process.returncode == 4 and "mediapipe" in faults.strip() and "\n" not in faults.strip()


def test_a_cluster_that_is_not_there_is_one_line(tree: dict, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(yaml.safe_dump(tree | {"clips": 1}))
    _, faults = (process := command(config, RAY_ADDRESS="127.0.0.1:9")).communicate(timeout=400)
    assert process.returncode == 4 and "no Ray cluster at 127.0.0.1:9" in faults and "\n" not in faults.strip()
