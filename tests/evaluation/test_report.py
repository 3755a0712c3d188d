"""The page, the comparison of two systems, and the blind test, from results made by hand."""

from __future__ import annotations

import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path

import clips
import pytest

from justdub.cli.main import run as command
from justdub.errors import EXIT_DONE, BadInputError, UsageError
from justdub.evaluation import blind, compare, literature, results
from justdub.evaluation.metric import NotComputed
from justdub.evaluation.registry import chosen, every
from justdub.evaluation.report import page, svg, worst
from justdub.evaluation.results import ClipResult, Results, Row
from justdub.evaluation.settings import EvalSettings

KEYS = ("success", "sound_delay", "psnr_frame", "int_corr", "wer")


def made(name: str, gain: float = 0.0, clips: int = 8) -> Results:
    """A system whose PSNR is `gain` above 30 dB and a little more with every clip."""
    found = []
    for number in range(clips):
        values = {"success": 100.0, "sound_delay": 40.0 * (number % 2), "psnr_frame": 30.0 + number + gain}
        values |= {
            "int_corr": 0.5 + 0.01 * ((number * 7) % 5),
            "wer": NotComputed("needs whisper weights", "do <that>"),
        }
        digests = {"source": f"{number:064d}", "dub": "0" * 64}
        found.append(ClipResult(f"clip{number}", values, language="fr" if number % 2 else "de", digests=digests))
    control = [ClipResult(clip.name, clip.outcomes | {"psnr_frame": 10.0, "int_corr": 0.1}) for clip in found]
    rows = (Row(name, tuple(found), {}), Row("other dub", tuple(control), {}))
    settings = EvalSettings(source="s", dubbed="d", output="o", name=name).plain()
    return Results(rows, chosen(KEYS), settings, {"justdub": "0"}, ("d: x.mp4 has no source",))


def test_the_worst_clips_come_first() -> None:
    order = [clip.name for clip in worst.ranked(made("ours"))]
    assert order[:2] == ["clip0", "clip1"]  # the worst pictures, and the worst sound or late
    assert set(order[-2:]) == {"clip6", "clip7"}  # the best pictures
    broken = made("ours")
    clip = replace(broken.rows[0].clips[7], fault="no dub")
    rows = (replace(broken.rows[0], clips=(*broken.rows[0].clips[:7], clip)),)
    faulty = replace(broken, rows=rows)
    assert worst.ranked(faulty)[0].name == "clip7"
    listed = worst.listed(faulty, 1)
    assert listed.index("clip7") < listed.index("clip0") < listed.index("clip6")
    assert '<a href="#worst-1">clip7</a>' in listed and "no dub" in listed and "#worst-2" not in listed


def test_a_clip_is_told_what_it_is_bad_in() -> None:
    found = made("ours")
    places = worst.standing(found)
    assert places["clip0"]["psnr_frame"] == 1 and places["clip7"]["psnr_frame"] == 0
    assert "success" not in places["clip0"]  # tells no clips apart
    metric, value = worst.bad_in(found, found.system.clips[0], places["clip0"])[0]
    assert metric.key == "psnr_frame" and value == 30
    assert [metric.key for metric, _ in worst.bad_in(found, found.system.clips[7], places["clip7"])] == ["sound_delay"]


def test_a_radar_shows_what_tells_rows_apart() -> None:
    axes, rows = page.radar_values(made("ours"))
    assert axes == ["PSNR, whole frame", "Int-Corr"]
    assert rows == {"ours": [1.0, 1.0], "other dub": [0.0, 0.0]}


@pytest.mark.parametrize(
    "drawing",
    [
        svg.histogram("a <b>", [0.0, 40, 40, -80], "ms"),
        svg.histogram("one", [0.0], "ms"),
        svg.curves("c & d", {"x": ([0.0, 0.5, 1.0], [1.0, 1.0, 1.0]), "y": ([0.0, 1.0], [3.0, -2.0])}),
        svg.curves("empty", {"x": ([], [])}),
        svg.radar("r", ["a", "b", "c"], {"one": [0, 0.5, 1], "two": [1, 1, 1]}),
    ],
)
def test_drawings_are_well_formed(drawing: str) -> None:
    from xml.etree import ElementTree

    ElementTree.fromstring(drawing)
    assert "nan" not in drawing


def test_a_histogram_counts_every_value_once() -> None:
    drawn = svg.histogram("h", [0, 0, 40, 200, -80], "ms")
    assert re.findall(r"<title>(-?\d+ ms: \d)</title>", drawn) == ["-80 ms: 1", "0 ms: 2", "40 ms: 1", "200 ms: 1"]


@pytest.mark.parametrize(("span", "most", "step"), [(280, 14, 20), (10, 8, 2), (2.4, 8, 0.5), (7, 7, 1), (0, 5, 1)])
def test_steps_are_round_numbers(span: float, most: int, step: float) -> None:
    assert svg.nice_step(span, most) == pytest.approx(step)


def test_nothing_is_drawn_beyond_the_edge() -> None:
    """Labels of 11 pixels are taken as 6.5 pixels a letter."""
    wide = svg.histogram("h", [-1234.5, 0, 987.6], "ms")
    tracks = {name: ([0.0, 9.96], [0.0, -62.35]) for name in ("source, dB", "dub, dB", "dub's mouth, MAR")}
    names = ["WER, small English recogniser", "SSIM outside the face", "Louder than the source by", "MCD", "Success"]
    for drawn in (wide, svg.curves("c", tracks), svg.radar("r", names, {"one": [1.0] * 5})):
        width = int(re.search(r'viewBox="0 0 (\d+)', drawn)[1])
        for x, anchor, words in re.findall(r'<text x="([-.\d]+)" y="[-.\d]+" text-anchor="(\w+)"[^>]*>([^<]*)', drawn):
            length = 6.5 * len(words)
            left = float(x) - {"start": 0, "middle": length / 2, "end": length}[anchor]
            assert left >= -1 and left + length <= width + 1, words


class Addresses(html.parser.HTMLParser):
    """Everything that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.found += [value for name, value in attributes if name in ("src", "href", "data", "poster")]


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    for folder in ("s", "d"):
        (tmp_path / folder).mkdir()
        clips.make_clip(tmp_path / folder / "a.mp4", seconds=0.6)
        clips.make_clip(tmp_path / folder / "b.mp4", seconds=0.6, rate="30")
    (tmp_path / "texts.csv").write_text('name,text,language\na,"<script>alert(1)</script>",fr\nb,Hallo,de\n')
    words = ["eval", "--source", tmp_path / "s", "--dubbed", tmp_path / "d", "-o", tmp_path / "out", "--texts",
             tmp_path / "texts.csv", "--metrics", "success,sound_delay,psnr_frame,wer", "-q"]  # fmt: skip
    assert command([str(word) for word in words]) == EXIT_DONE
    content = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    addresses = Addresses()
    addresses.feed(content)
    assert sum(one.startswith("data:video/mp4;base64,") for one in addresses.found) == 4
    assert sum(one.startswith("data:image/jpeg;base64,") for one in addresses.found) == 8
    assert all(one.startswith(("data:", "#")) for one in addresses.found)
    assert "<script" not in content and "&lt;script&gt;alert(1)" in content
    for words in (
        "Not computed",
        "needs whisper weights",
        "--weights whisper=PATH",
        "By language",
        "The 2 worst clips",
    ):
        assert words in content


def test_published_numbers_stand_beside_ours_with_their_owner() -> None:
    settings = EvalSettings(source="s", dubbed="d", output="o", literature=("dubbing_challenging",), worst=0)
    content = page.build(made("ours"), {}, settings)
    assert "LatentSync" in content and "0.707" in content
    assert content.count("third party") == 3
    with pytest.raises(UsageError, match="no table"):
        literature.load("dreams")


def test_published_numbers_have_known_keys_and_sources() -> None:
    keys = {metric.key for metric in every()}
    for table in literature.tables().values():
        for row in table.rows:
            assert row.values.keys() <= keys and row.source


def test_a_better_system_is_found_and_an_equal_one_is_not(tmp_path: Path) -> None:
    for name, gain in (("old", 0.0), ("new", 0.8)):
        results.write(made(name, gain), tmp_path / name)
    names, found, notes = compare.compare(tmp_path / "old" / "results.json", tmp_path / "new" / "results.json")
    verdicts = {one.key: one.verdict for one in found}
    assert names == ("old", "new")
    assert verdicts == {"success": "", "sound_delay": "", "psnr_frame": "second", "int_corr": ""}
    psnr = next(one for one in found if one.key == "psnr_frame")
    assert psnr.change.mean == pytest.approx(0.8)
    assert psnr.change.p == pytest.approx(2 / 2**8) and psnr.change.adjusted == pytest.approx(8 / 2**8)
    assert "8 clips are in both" in notes[0]
    assert "| PSNR, whole frame (dB) ↑ |" in compare.text(names, found, notes)


def test_runs_that_do_not_compare_say_so(tmp_path: Path) -> None:
    for name, longest in (("old", 640), ("new", 320)):
        made_one = made(name)
        made_one.settings["longest"] = longest
        results.write(made_one, tmp_path / name)
    _, _, notes = compare.compare(tmp_path / "old" / "results.json", tmp_path / "new" / "results.json")
    assert any("differ in longest" in note for note in notes)
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(BadInputError, match=r"no results\.json"):
        compare.compare(tmp_path / "x.json", tmp_path / "old" / "results.json")


def test_a_blind_test_hides_the_systems_and_sums_votes_up(tmp_path: Path) -> None:
    for system in ("ours", "theirs"):
        (tmp_path / system).mkdir()
        for name in "abcdef":
            (tmp_path / system / f"{name}.mp4").write_bytes(f"{system} {name}".encode())
    page_path, key_path = blind.build([tmp_path / "ours", tmp_path / "theirs"], tmp_path / "test", texts={"a": "Salut"})
    content = page_path.read_text()
    assert "ours" not in content and "theirs" not in content and "Salut" in content
    key = json.loads(key_path.read_text())["key"]
    asked = json.loads(re.search(r"const test = (\{.*?\}), answers", content)[1])["asked"]
    assert len(key) == len(asked) == 6
    assert {sides["left"] for sides in key.values()} == {"ours", "theirs"}  # both sides
    for one in asked:
        sides = key[one["id"]]
        for side in ("left", "right"):
            assert (tmp_path / "test" / one[side]).read_text() == f"{sides[side]} {sides['clip']}"
    answers = {
        number: {"lip sync": "left" if sides["left"] == "ours" else "right", "overall quality": "same"}
        for number, sides in key.items()
    }
    (tmp_path / "anna.json").write_text(json.dumps({"answers": answers}))
    votes = {vote.question: vote for vote in blind.tally(key_path, [tmp_path / "anna.json"] * 2)}
    assert (votes["lip sync"].for_first, votes["lip sync"].for_second) == (12, 0)
    assert votes["lip sync"].p == pytest.approx(2 / 2**12)
    assert (votes["overall quality"].same, votes["overall quality"].p) == (12, 1)
    (tmp_path / "bad.json").write_text(json.dumps({"answers": {"0": {}}}))
    with pytest.raises(BadInputError, match="another test"):
        blind.tally(key_path, [tmp_path / "bad.json"])


def test_a_blind_test_needs_two_systems(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    with pytest.raises(UsageError, match="two or more"):
        blind.build([tmp_path / "ours"], tmp_path / "test")
