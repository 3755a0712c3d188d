"""A blind A/B test of systems by people: a folder with one local page, and the sum of the votes.

    build([Path("ours"), Path("theirs")], Path("test"))   # test/index.html, test/clips/*.mp4, test/key.json
    tally(Path("test/key.json"), [Path("anna.json"), Path("ben.json")])

Each question shows two systems' dubs of one source, left and right by chance and under names that do not tell
which, and asks for lip sync, prompt adherence and overall quality. The key lies in a file of its own that whoever runs
the test keeps. Answers are a file that the page offers for download; nothing is sent anywhere.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from justdub.errors import BadInputError, UsageError
from justdub.evaluation.pairing import VIDEO
from justdub.evaluation.results import write_text

QUESTIONS = ("lip sync", "prompt adherence", "overall quality")
CHOICES = ("left", "same", "right")


@dataclass(frozen=True)
class Votes:
    """Of one pair of systems and one question: counts, and the two-sided sign test over votes that chose a side."""

    first: str
    second: str
    question: str
    for_first: int
    same: int
    for_second: int
    p: float


def build(
    systems: Sequence[Path], output: Path, *, texts: dict[str, str] | None = None, questions: int = 30, seed: int = 0
) -> tuple[Path, Path]:
    """Write the test; returns (page, key).

    Args:
        systems: folders of dubs under the same names; the folder's name is the system's.
        texts: what should be said, by clip, shown above the question.
        questions: at most so many for each pair of systems.

    Raises:
        UsageError: fewer than two folders, or two of one name. BadInputError: no clip in all folders.
    """
    names = [folder.resolve().name for folder in systems]
    if len(systems) < 2 or len(set(names)) != len(names):
        raise UsageError(f"the folders {', '.join(names) or 'none'}", expected="two or more, of different names")
    files = [
        {f.stem: f for f in sorted(folder.iterdir()) if f.suffix.lower() in VIDEO} for folder in map(_checked, systems)
    ]
    shared = sorted(set.intersection(*(set(found) for found in files)))
    if not shared:
        raise BadInputError("no clip is in all folders", expected="dubs of the same sources under the same names")
    chance, asked, key = random.Random(seed), [], {}
    clips = output / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    for one, other in itertools.combinations(range(len(systems)), 2):
        for name in chance.sample(shared, min(questions, len(shared))):
            sides = [one, other]
            chance.shuffle(sides)
            number = hashlib.sha256(f"{seed} {one} {other} {name}".encode()).hexdigest()[:10]
            shown = []
            for side, system in zip(("left", "right"), sides, strict=True):
                code = hashlib.sha256(f"{number} {side}".encode()).hexdigest()[:12]
                shown.append(f"clips/{code}{files[system][name].suffix}")
                shutil.copyfile(files[system][name], output / shown[-1])
            asked.append({"id": number, "text": (texts or {}).get(name, ""), "left": shown[0], "right": shown[1]})
            key[number] = {"clip": name, "left": names[sides[0]], "right": names[sides[1]]}
    chance.shuffle(asked)
    page = write_text(output / "index.html", _page(asked))
    return page, write_text(output / "key.json", json.dumps({"key": key}, indent=1) + "\n")


def _checked(folder: Path) -> Path:
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}")
    return folder


def tally(key: Path, answers: Sequence[Path]) -> list[Votes]:
    """Sum up; each file counts once per question.

    Raises:
        BadInputError: a file is no key or no answers, or answers another test.
    """
    from scipy.stats import binomtest

    known = _json(key, "key")
    counts: dict[tuple[str, str, str], list[int]] = {}
    for path in answers:
        for number, said in _json(path, "answers").items():
            if number not in known:
                raise BadInputError(f"{path} answers another test than {key}")
            sides = known[number]
            first, second = sorted((sides["left"], sides["right"]))
            for question, choice in said.items():
                if question not in QUESTIONS or choice not in CHOICES:
                    raise BadInputError(
                        f"{path}: {question!r} answered by {choice!r}", expected="the page's own answers"
                    )
                place = 1 if choice == "same" else 0 if sides[choice] == first else 2
                counts.setdefault((first, second, question), [0, 0, 0])[place] += 1
    found = []
    for (first, second, question), (one, same, other) in sorted(counts.items()):
        p = float(binomtest(one, one + other).pvalue) if one + other else 1.0
        found.append(Votes(first, second, question, one, same, other, p))
    return found


def _json(path: Path, part: str) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[part]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{path} is no {part} file of a blind test") from error
    if not isinstance(found, dict):
        raise BadInputError(f"{path} is no {part} file of a blind test")
    return found


def text(votes: Sequence[Votes]) -> str:
    """Markdown."""
    lines = ["| question | for | no difference | for | p |", "|---|---|---|---|---|"]
    lines += [
        f"| {v.question} | {v.first}: {v.for_first} | {v.same} | {v.second}: {v.for_second} | {v.p:.3g} |"
        for v in votes
    ]
    return "\n".join(lines) + "\n"


def _page(asked: list[dict]) -> str:
    content = json.dumps({"asked": asked, "questions": QUESTIONS, "choices": CHOICES}).replace("</", "<\\/")
    return _TEMPLATE.replace("CONTENT", content)


_TEMPLATE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Which is better?</title><style>
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem}
.pair{display:flex;gap:1rem}.pair>div{flex:1}video{width:100%}fieldset{border:1px solid #8886;margin:.5rem 0}
label{margin-right:2rem}button{font:inherit;padding:.4rem 1.2rem}
</style></head><body><h1>Which is better?</h1><p id="place"></p><p id="text"></p><div class="pair">
<div>left<video id="left" controls></video></div><div>right<video id="right" controls></video></div></div>
<form id="form"></form><button id="next">Next</button>
<script>
const test = CONTENT, answers = {}; let at = 0;
const by = id => document.getElementById(id);
function show() {
  if (at >= test.asked.length) return finish();
  const one = test.asked[at];
  by("place").textContent = `${at + 1} of ${test.asked.length}`;
  by("text").textContent = one.text;
  for (const side of ["left", "right"]) by(side).src = one[side];
  by("form").replaceChildren(...test.questions.map(question => {
    const box = document.createElement("fieldset"), legend = document.createElement("legend");
    legend.textContent = question; box.append(legend);
    for (const choice of test.choices) {
      const label = document.createElement("label"), input = document.createElement("input");
      input.type = "radio"; input.name = question; input.value = choice; input.required = true;
      label.append(input, " " + (choice === "same" ? "no difference" : choice)); box.append(label);
    }
    return box;
  }));
}
by("next").onclick = () => {
  if (!by("form").reportValidity()) return;
  answers[test.asked[at].id] = Object.fromEntries(new FormData(by("form"))); at += 1; show();
};
function finish() {
  const file = new Blob([JSON.stringify({answers}, null, 1)], {type: "application/json"});
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file); link.download = "answers.json"; link.textContent = "Save your answers";
  document.body.replaceChildren(document.createElement("h1"), link);
  document.querySelector("h1").textContent = "Thank you";
}
show();
</script></body></html>
"""
