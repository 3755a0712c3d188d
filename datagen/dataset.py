"""Stage 8: the accepted pairs as a training set in the layout of JUST-DUB-IT, with a card.

OUT/dataset/clips/000012_0_target.mp4 ..._reference.mp4   masks/000012_0.mp4   dataset.json   README.md
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datagen import filter, inpaint, lips
from datagen.film import encode, put
from datagen.mask import white
from datagen.script import Script
from datagen.store import REJECTED, Store, digest
from datagen.tools import STAGES, Tools
from justdub.dubbing.prompt import LANGUAGES, standard_prompt
from justdub.errors import BadInputError

_PLAIN_SHARE = 1 / 3  # of the captions: what `justdub dub --text --language` builds


@dataclass(frozen=True)
class Dataset:
    """folder; entries of `dataset.json`; digest over the list and every file that it names, hex."""

    folder: Path
    entries: tuple[dict[str, str], ...]
    digest: str


def write(tools: Tools) -> Dataset:
    """Write what is missing, then the list and the card.

    Raises:
        BadInputError: nothing was accepted, or the disk is full.
    """
    folder = Store(tools.root, "dataset", tools.origin("filter")).folder  # refuses clips of other settings
    entries, ways = [], Counter()
    try:
        for name in ("clips", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for number in tools.store("filter").numbers():
            facts = tools.store("filter").usable(number)
            for pair in facts["pairs"] if facts else ():
                if pair["accepted"]:
                    script = Script.of(tools.store("script").usable(number))
                    half = script.halves[pair["place"]]
                    ways[half.other.language, half.line.language] += 1
                    entries.append(_add(tools, folder, number, pair["place"], script))
        if not entries:
            raise BadInputError(f"{tools.root}: no pair was accepted", remedy=f"see {tools.root}/filter/manifest.jsonl")
        put(folder / "dataset.json", (json.dumps(entries, ensure_ascii=False, indent=1) + "\n").encode())
        files = {path: folder / path for entry in entries for key, path in entry.items() if key != "caption"}
        found = Dataset(folder, tuple(entries), digest(files | {"dataset.json": folder / "dataset.json"}))
        put(folder / "README.md", card(tools, found, ways).encode())
    except OSError as error:
        raise BadInputError(
            f"{folder} cannot be written: {error.strerror}", remedy="free space, then the same command again"
        ) from error
    return found


def _add(tools: Tools, folder: Path, number: int, place: int, script: Script) -> dict[str, str]:
    """The files and the entry of one pair."""
    name = f"{number:06d}_{place}"
    paths = {
        "media_path": f"clips/{name}_target.mp4", "reference_path": f"clips/{name}_reference.mp4",
        "mask_path": f"masks/{name}.mp4",
    }  # fmt: skip
    if not all((folder / path).is_file() for path in paths.values()):
        span = inpaint.spans(tools, number)[place]
        film = tools.read(tools.store("generate").path(number, ".mp4"))
        mask_FHW = filter.changing(tools, number, len(film.frames))[span.first : span.first + span.count]
        put(folder / paths["mask_path"], encode(white(mask_FHW), None, frame_rate=film.rate))
        put(folder / paths["reference_path"], lips.reference(tools, number, place).read_bytes())
        put(folder / paths["media_path"], tools.encode(inpaint.part(film, span)))
    caption = script.half_prompt(place)
    if np.random.default_rng([0xCA9, tools.job.seed, number, place]).uniform() < _PLAIN_SHARE:
        line = script.halves[place].line
        caption = standard_prompt(line.text, line.language).text
    return {"caption": caption} | paths


def yields(tools: Tools) -> list[tuple[str, int, int, Counter]]:
    """For every stage: its name, clips done, clips rejected, and the reasons (numbers in them left out)."""
    table = []
    for stage in STAGES:
        store = tools.store(stage)
        facts = [found for number in store.numbers() if (found := store.facts(number))]
        reasons = Counter(_kind(one["reason"]) for one in facts if one["state"] == REJECTED)
        table.append((stage, len(facts) - sum(reasons.values()), sum(reasons.values()), reasons))
    return table


def pairs(tools: Tools) -> list[dict[str, Any]]:
    """What the filter says of every pair, with its clip's number."""
    store = tools.store("filter")
    found = []
    for number in store.numbers():
        facts = store.usable(number)
        found += [pair | {"number": number} for pair in facts["pairs"]] if facts else []
    return found


def _kind(reason: str) -> str:
    """A reason without its numbers."""
    import re

    return re.sub(r"\d[\d.,%]*", "N", reason)


def card(tools: Tools, made: Dataset, ways: Counter) -> str:
    """README.md of the dataset."""
    from justdub.backbone import checkpoint

    job = tools.job
    backbone = checkpoint.Card.read(checkpoint.find(job.backbone))
    rows = "".join(f"| {LANGUAGES[a]} | {LANGUAGES[b]} | {n} |\n" for (a, b), n in sorted(ways.items()))
    stages = "".join(f"| {name} | {done} | {lost} |\n" for name, done, lost, _ in yields(tools))
    every = pairs(tools)
    limits = (
        "\n".join(f"- {name}: {least:g} to {most:g}" for name, (least, most) in job.filter.limits.items()) or "none"
    )
    return f"""# {len(made.entries)} training pairs made by {backbone.name}

A pair's target is a half of a generated clip in which one speaker switches the language; its reference is the same half
with lips and speech generated anew in the other language. Nobody in them exists. Made by `python -m datagen run`.

- backbone: {backbone.name}, fingerprint {tools.fingerprint}, licence of its weights: {backbone.licence}
- seed {job.seed}; {job.clips} scripts; mask {"fine" if job.mask.fine else "box"} (threshold {job.mask.threshold:g});
  lips augmented in {job.lips.share:.0%} of the pairs
- digest of all files: {made.digest}

| reference | target | pairs |
|---|---|---|
{rows}
| stage | clips done | rejected |
|---|---|---|
{stages}
{sum(pair["accepted"] for pair in every)} of {len(every)} pairs were accepted. Limits of the filter:

{limits}
"""
