"""The whole pipeline on clips of the drawn world, with a backbone of random weights: resumable at every file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from datagen import dataset, film, lips, mask, report, run, store
from datagen.__main__ import main
from datagen.job import DatagenJob
from datagen.tools import Tools, read_film
from justdub import jobs
from justdub.errors import BadInputError
from justdub.training.dataset import read_pairs


def build(tree: dict[str, Any], **changes: Any) -> DatagenJob:
    return jobs.build(DatagenJob, tree | changes)


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[DatagenJob, dataset.Dataset]:
    out = tmp_path_factory.mktemp("datagen") / "out"
    tree = {
        "out": str(out), "clips": 2, "backbone": str(tiny_folder), "script": {"people": "world"},
        "generate": {"frames": 97, "by": "world"}, "split": {"shortest": 0.8},
        "mask": {"finder": "world"}, "filter": {"judge": "world", "limits": {"target_words": [0.0, 1.0]}},
        "inpaint": {"sampling": {"steps": 1, "guidance": 1.0, "audio_guidance": 1.0}},
    }  # fmt: skip
    job = jobs.build(DatagenJob, tree)
    return job, run.run(job)


def test_pairs_come_out_that_the_trainer_reads(made: tuple[DatagenJob, dataset.Dataset]) -> None:
    job, found = made
    listed = read_pairs(found.folder / "dataset.json")
    assert len(listed.pairs) == len(found.entries) == 4 and not listed.faults
    pair = listed.pairs[0]
    target, reference, white = (read_film(path) for path in (pair.target, pair.reference, pair.mask))
    assert target.frames.shape == reference.frames.shape == white.frames.shape
    assert (len(target.frames) - 1) % 8 == 0 and len(target.samples) == len(reference.samples)
    stays = white.frames[..., 0] < 128
    assert np.array_equal(target.frames[stays], reference.frames[stays]), "outside of the mask nothing changes"
    assert not np.array_equal(target.frames, reference.frames) and not np.array_equal(target.samples, reference.samples)
    whole = read_film(Path(job.out) / "generate" / "000000.mp4")
    assert np.array_equal(target.frames, whole.frames[: len(target.frames)]), "the target is the clip itself"
    card = (found.folder / "README.md").read_text()
    assert found.digest in card and "licence" in card


def test_each_half_reads_a_prompt_of_its_own_when_asked(tree: dict[str, Any]) -> None:
    """The generated clip changes prompts in its middle, the inpainted one in the pause that was found."""
    apart = {"script": {"people": "world", "prompts": "halves"}, "clips": 1}
    sampling = {"steps": 1, "guidance": 1.0, "audio_guidance": 1.0}
    drawn = run.run(build(tree, **apart))
    facts = Tools(build(tree, **apart))
    found = facts.store("inpaint").usable(0)["halves"]
    spans = facts.store("split").usable(0)["spans"]
    pause = (spans[0]["speech"][1] + spans[1]["speech"][0]) / 2
    assert all(half["prompt"]["until"] == [pytest.approx(pause)] for half in found) and drawn.entries
    one, other = (half["prompt"]["prompts"] for half in found)
    assert one[0] != other[0] and one[1] != other[1] and all("Then" not in text for text in (*one, *other))
    tree["out"] += "-generated"
    job = build(tree, **apart, generate={"frames": 97, "sampling": sampling})
    run.run(job, only=("script", "generate"))
    assert Tools(job).store("generate").usable(0)["prompt"]["until"] == [97 / 25 / 2]


def test_lip_augmentation_changes_pictures_and_keeps_the_sound(made: tuple[DatagenJob, dataset.Dataset]) -> None:
    tools = Tools(made[0])
    facts = [(n, place, half) for n in (0, 1) for place, half in enumerate(tools.store("lips").usable(n)["halves"])]
    augmented = [(n, place) for n, place, half in facts if half["augmented"]]
    assert 0 < len(augmented) < 4 and all("manner" in str(tools.job.lips) for _ in augmented)
    for number, place in augmented:
        before = read_film(tools.store("inpaint").path(number, f"_{place}.mp4"))
        after = read_film(lips.reference(tools, number, place))
        assert not np.array_equal(before.frames, after.frames)
        assert np.abs(before.samples - after.samples).max() < 1e-4
    assert all(half["spread_before"] > 0 for _, _, half in facts)


def test_running_again_makes_nothing_new(made: tuple[DatagenJob, dataset.Dataset]) -> None:
    job, found = made
    times = {path: path.stat().st_mtime_ns for path in Path(job.out).rglob("0*")}
    assert run.run(job).digest == found.digest
    assert {path: path.stat().st_mtime_ns for path in Path(job.out).rglob("0*")} == times


def test_the_report_is_one_page(made: tuple[DatagenJob, dataset.Dataset], tmp_path: Path) -> None:
    path = report.write(made[0], tmp_path / "page.html", progress=lambda *_: None)
    page = path.read_text()
    assert (
        page.count("<video") == 8
        and page.count("<img") == 4
        and "Yield" in page
        and '="http' not in page.replace('xmlns="http', "")
    )


class Killed(BaseException):
    """As if the process were gone."""


def test_cut_off_at_any_file_it_goes_on_to_the_same_dataset(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write is cut off once, before the file has its name; the next run must not take it for done."""
    tree["clips"] = 1
    whole = run.run(build(tree, out=str(tmp_path / "whole"))).digest
    put, cuts = film.put, 0

    def broken(path: Path, content: bytes) -> None:
        key = str(path)
        if key not in seen:
            seen.add(key)
            path.with_name(f".{path.name}.part").write_bytes(content[: len(content) // 2])
            raise Killed
        put(path, content)

    seen: set[str] = set()
    monkeypatch.setattr(store, "put", broken)
    monkeypatch.setattr(dataset, "put", broken)
    job = build(tree, out=str(tmp_path / "cut"))
    while True:
        try:
            found = run.run(job)
            break
        except Killed:
            cuts += 1
    assert found.digest == whole and cuts > 20


def test_killed_processes_go_on(tree: dict[str, Any], tmp_path: Path) -> None:
    """Workers whose parent is killed end, too: they would keep their models for ever."""
    config, out = tmp_path / "job.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "datagen", "run", str(config), "-q", "--workers", "2"]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    waited = time.monotonic()
    while not list((out / "mask").glob("*.json")) and time.monotonic() - waited < 300:
        time.sleep(0.02)
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and workers
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert not (out / "dataset").exists()
    cut = run.run(jobs.build(DatagenJob, tree))
    assert cut.digest == run.run(build(tree, out=str(tmp_path / "whole"))).digest


def test_two_processes_make_what_one_does_even_if_they_die(
    made: tuple[DatagenJob, dataset.Dataset], tmp_path: Path
) -> None:
    job = replace(made[0], out=str(tmp_path / "two"))

    def kill(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("inpaint", 0):
            for child in psutil.Process().children():
                child.kill()

    with pytest.raises(BadInputError, match="a worker process died in inpaint"):
        run.run(job, workers=2, report=kill)
    assert run.run(job, workers=2).digest == made[1].digest


def test_a_rejected_clip_has_its_reason_and_the_rest_goes_on(made: tuple[DatagenJob, dataset.Dataset]) -> None:
    job = made[0]
    tools = Tools(job)
    folder = Path(job.out).parent / "rejected"
    other = replace(job, out=str(folder))
    run.run(other, only=("script", "generate"))
    path = Tools(other).store("generate").path(0, ".mp4")
    quiet = read_film(path)._replace(samples=np.zeros(97 * 640, np.float32))
    content = tools.encode(quiet)
    Tools(other).store("generate").add(0, {}, {".mp4": content})
    found = run.run(other)
    assert {entry["media_path"][6:12] for entry in found.entries} == {"000001"}
    assert Tools(other).store("split").facts(0)["reason"] == "the clip is silent"
    yields = {stage: (done, lost) for stage, done, lost, _ in dataset.yields(Tools(other))}
    assert yields["split"] == (1, 1) and yields["mask"] == (1, 0)


def test_pairs_outside_of_the_limits_are_left_out(tree: dict[str, Any]) -> None:
    tree |= {"clips": 1, "filter": {"judge": "world", "limits": {"reference_words": [0.9, 1.0], "loudness": [0, 90]}}}
    with pytest.raises(BadInputError, match="no pair was accepted"):
        run.run(build(tree))
    pairs = dataset.pairs(Tools(build(tree)))
    assert len(pairs) == 2 and all("reference_words" in pair["reasons"][0] for pair in pairs)
    assert all(pair["measures"]["target_words"] > 0.5 for pair in pairs), "the drawn half is understood"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "nowhere.yaml"], 2, "no file nowhere.yaml"),
        (["run", "CONFIG", "--set", "clips=0"], 2, "clips is 0"),
        (["run", "CONFIG", "--set", "mask.treshold=1"], 2, "unknown key mask.treshold"),
        (["inpaint", "CONFIG"], 3, "run mask first"),
        (["report", "CONFIG"], 3, "holds no run"),
        (["from-clips", "nowhere", "--out", "OUT"], 4, "no folder nowhere"),
    ],
)
def test_bad_calls_get_one_line(
    tree: dict, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], code: int, words: str
) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(yaml.safe_dump(tree))
    given = [{"CONFIG": str(config), "OUT": str(tmp_path / "o")}.get(text, text) for text in arguments]
    assert main([*given, "-q"]) == code
    told = capsys.readouterr().err.strip()
    assert words in told and "\n" not in told


def test_the_same_latents_are_masked_wherever_it_runs(made: tuple[DatagenJob, dataset.Dataset]) -> None:
    tools = Tools(made[0])
    cells = mask.cells(tools.store("mask"), 0)
    assert cells.shape == (13, 3, 3) and 0 < cells.float().mean() < 1
    assert json.loads((Path(made[0].out) / "mask" / "stage.json").read_text())["mask"]["threshold"] == 0.1
