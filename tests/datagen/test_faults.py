"""What can be wrong with a run: a clip's fault is a line in the manifest, the rest goes on; any other is one line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datagen import dataset, run
from datagen.__main__ import main
from datagen.job import DatagenJob
from datagen.tools import Tools
from datagen.world.finder import WorldFinder
from justdub import jobs
from justdub.errors import BadInputError
from justdub.faces.finders import Face

BLACK, WHITE = 0, 255
MEDIAPIPE = find_spec("mediapipe") is not None


class BlackAndWhite:
    """Finds nobody in black frames, two faces in white ones, and drawn faces elsewhere."""

    def find(self, frames_FHW3: np.ndarray) -> Face:
        found = WorldFinder().find(frames_FHW3)
        if (frames_FHW3 == BLACK).all():
            return Face(np.full_like(found.lips_FK2, np.nan), np.full_like(found.lower_FK2, np.nan), 0)
        return Face(found.lips_FK2, found.lower_FK2, 2 if (frames_FHW3 == WHITE).all() else 1)


def test_clips_that_cannot_be_used_are_named_and_the_rest_goes_on(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tools, "finder", BlackAndWhite())
    job = jobs.build(DatagenJob, tree | {"clips": 5})
    run.run(job, only=("script", "generate"))
    tools = Tools(job)
    store = tools.store("generate")
    films = [tools.read(store.path(number, ".mp4")) for number in range(5)]
    early_S = np.zeros_like(films[2].samples)
    for start, end in ((0.1, 0.5), (0.8, 3.8)):
        span = slice(round(start * 16000), round(end * 16000))
        early_S[span] = 0.2 * np.random.default_rng(0).standard_normal(len(early_S))[span]
    faulty = (
        films[0]._replace(frames=np.full_like(films[0].frames, BLACK)),
        films[1]._replace(frames=np.full_like(films[1].frames, WHITE)),
        films[2]._replace(samples=early_S),
        films[3]._replace(samples=np.zeros_like(films[3].samples)),
    )
    for number, film in enumerate(faulty):
        store.add(number, {}, {".mp4": tools.encode(film)})
    found = run.run(job)
    assert {entry["media_path"][6:12] for entry in found.entries} == {"000004"} and len(found.entries) == 2
    reasons = {
        (stage, number): tools.store(stage).facts(number)["reason"]
        for stage, numbers in (("split", (2, 3)), ("mask", (0, 1)))
        for number in numbers
    }
    assert reasons["mask", 0] == "no face in 100% of the frames" and reasons["mask", 1] == "2 faces at once"
    assert reasons["split", 2].startswith("the switch is too early") and reasons["split", 3] == "the clip is silent"
    lost = {stage: count for stage, _, count, _ in dataset.yields(tools)}
    assert lost["split"] == lost["mask"] == 2 and not any(lost[stage] for stage in ("inpaint", "lips", "filter"))
    card = (found.folder / "README.md").read_text()
    assert "| split | 3 | 2 |" in card and "| mask | 1 | 2 |" in card


@pytest.mark.skipif(not MEDIAPIPE, reason="mediapipe is not installed (extra face)")
def test_a_real_finder_sees_nobody_in_drawn_clips_and_refuses_a_broken_model(tree: dict[str, Any]) -> None:
    tree |= {"clips": 1, "mask": {"finder": "mediapipe"}}
    with pytest.raises(BadInputError, match="nothing to inpaint: of 1 clips none came through mask"):
        run.run(jobs.build(DatagenJob, tree))
    assert "no face in" in (Path(tree["out"]) / "mask" / "manifest.jsonl").read_text()
    model = Path(tree["out"]).parent / "broken.task"
    model.write_bytes(b"no model")
    tree |= {"out": f"{tree['out']}2", "mask": {"finder": "mediapipe", "models": str(model)}}
    with pytest.raises(BadInputError, match=r"broken\.task is no face landmarker"):
        run.run(jobs.build(DatagenJob, tree))


@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [
        ("script.lines=EMPTY.csv", 3, "holds no lines"),
        ("script.lines=nowhere.csv", 4, "no lines at nowhere.csv"),
        ("script.lines=FOLDER", 3, "is no text model"),
        ("script.languages=[en, xx]", 2, "unknown language 'xx'"),
        ("script.languages=[en, it]", 2, "the grammar has no Italian"),
        ("backbone=nowhere", 4, "no backbone at nowhere"),
        ("backbone=FOLDER", 3, "FOLDER"),
        ("backbone=TORN", 3, "TORN"),
        ("text_encoder=nowhere", 2, "which has its own"),
        ("adapters=[nowhere]", 4, "nowhere"),
        ("mask.finder=insightface", 4, "no insightface models"),
        ("mask={finder: mediapipe, models: nowhere.task}", 4, "no model at" if MEDIAPIPE else "needs mediapipe"),
        ("filter={judge: world, limits: {beauty: [0, 1]}}", 2, "does not measure it"),
        ("filter={judge: metrics, weights: {whisper: nowhere}}", 4, "no whisper weights at nowhere"),
        ("out=EMPTY.csv/out", 3, "nothing can be written in"),
        ("out=/proc/justdub", 3, "nothing can be written in /proc/justdub"),
    ],
)
def test_what_concerns_all_clips_is_one_line(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture, setting: str, code: int, words: str
) -> None:
    places = {
        "EMPTY.csv": str(tmp_path / "empty.csv"),
        "FOLDER": str(tmp_path / "folder"),
        "TORN": str(tmp_path / "torn"),
    }
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "folder").mkdir()
    if "TORN" in setting:
        torn(Path(tree["backbone"]), tmp_path / "torn")
    config = tmp_path / "job.yaml"
    config.write_text(yaml.safe_dump(tree | {"clips": 1}))
    for name, place in places.items():
        setting, words = setting.replace(name, place), words.replace(name, place)
    assert main(["run", str(config), "-q", "--set", setting, "--until", "mask"]) == code
    told = capsys.readouterr().err.strip()
    assert words in told and "\n" not in told


def torn(backbone: Path, copy: Path) -> None:
    """A backbone of whose transformer half is there."""
    import shutil

    shutil.copytree(backbone, copy)
    weights = next((copy / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tree: dict[str, Any]) -> None:
    """No file may be longer than a clip: the system's own refusal, in the middle of the file."""
    resource = pytest.importorskip("resource", reason="no limits on this system")
    job = jobs.build(DatagenJob, tree | {"clips": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(BadInputError, match="generate cannot be written: File too large; try: free space"):
            run.run(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    out = Path(job.out)
    assert [path.name for path in (out / "generate").iterdir()] == ["stage.json"], "no half clip"
    run.run(job, only=("generate",))
    assert Tools(job).store("generate").usable(0)


def test_a_manifest_that_cannot_be_written_is_one_line(tree: dict[str, Any]) -> None:
    job = jobs.build(DatagenJob, tree | {"clips": 1})
    (Path(job.out) / "script" / "manifest.jsonl").mkdir(parents=True)
    with pytest.raises(BadInputError, match="script cannot be written"):
        run.run(job, only=("script",))
