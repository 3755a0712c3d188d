"""A user's own clips: read with their lines, cut to the grid, one language in and the other made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datagen import film, footage, run
from datagen.__main__ import main
from datagen.tools import Tools, read_film
from datagen.world import World
from justdub import jobs
from justdub.errors import BadInputError, MissingError

HEAD = "file,language,text,to,translation,speaker\n"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn clips as if they were footage, and one without sound."""
    folder, world, found, number = tmp_path_factory.mktemp("footage"), World(), [], 0
    while len(found) < 2:
        if world.plan(number, "test").scene_type == "dialogue":
            found.append(number)
        number += 1
    for name, clip in zip(("a", "b"), (world.batch(found, "test")[0], world.batch(found, "test")[1]), strict=True):
        film.put(folder / f"{name}.mp4", film.encode(clip.frames, clip.samples, frame_rate=25))
    film.put(folder / "mute.mp4", film.encode(world.batch(found[:1], "test")[0].frames, None, frame_rate=25))
    (folder / "lines.csv").write_text(
        HEAD + "a.mp4,en,Good morning.,fr,Bonjour.,The woman\nb.mp4,German,Ja.,en,Yes.,\nmute.mp4,en,Hm.,fr,Hm.,\n"
    )
    return folder


def test_each_clip_becomes_the_target_of_a_pair(clips: Path, tree: dict) -> None:
    tree |= {"footage": {"folder": str(clips), "lines": str(clips / "lines.csv")}, "clips": 1}
    tree["generate"] = {"size": [96, 96]}
    job = jobs.build(run.DatagenJob, tree)
    found = run.run(job)
    tools = Tools(job)
    assert [entry["media_path"][6:12] for entry in found.entries] == ["000000", "000001"]
    assert tools.store("generate").facts(2)["reason"] == "the clip has no sound"
    target, source = read_film(found.folder / found.entries[0]["media_path"]), read_film(clips / "a.mp4")
    assert np.array_equal(target.frames, source.frames[: len(target.frames)])
    captions = [entry["caption"] for entry in found.entries]
    assert all("speaking English" in c or "speaking German" in c for c in captions)
    prompt = tools.store("inpaint").usable(0)["halves"][0]["prompt"]
    assert prompt == 'The woman is speaking French, saying: "Bonjour."'


def test_without_lines_it_goes_as_far_as_the_masks(clips: Path, tree: dict, tmp_path: Path, capsys) -> None:
    given = [str(clips), "--out", str(tmp_path / "o"), "-q", "--set", f"backbone={tree['backbone']}"]
    given += ["--set", "mask.finder=world"]
    assert main(["from-clips", *given, "--until", "mask"]) == 0
    assert "mask           2 done" in capsys.readouterr().out
    assert main(["from-clips", *given]) == 2
    assert "clips without lines" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        (None, MissingError, "no table"),
        ("", BadInputError, "has no rows"),
        (HEAD + "a.mp4,en,,fr,Bonjour.,\n", BadInputError, "row 1 has no text"),
        (HEAD + "c.mp4,en,Hi.,fr,Salut.,\n", BadInputError, "no clip c.mp4"),
        (HEAD + "../x.mp4,en,Hi.,fr,Salut.,\n", BadInputError, "no clip"),
        (HEAD + "a.mp4,en,Hi.,xx,Salut.,\n", BadInputError, "unknown language 'xx'"),
    ],
)
def test_bad_tables_get_one_line(clips: Path, tmp_path: Path, table: str | None, error: type, words: str) -> None:
    path = tmp_path / "table.csv"
    if table is not None:
        path.write_text(table)
    with pytest.raises(error, match=words):
        footage.find(clips, path)


def test_folders_without_clips_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no folder"):
        footage.find(tmp_path / "none", None)
    with pytest.raises(BadInputError, match="holds no clips"):
        footage.find(tmp_path, None)
