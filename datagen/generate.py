"""Stage 2: clips in which one speaker switches the language in the middle, made from text by the backbone."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from datagen.prompt import told
from datagen.script import Script
from datagen.store import Rejected
from datagen.tools import RATE, Film, Tools, resample
from justdub.errors import BadInputError


def run(tools: Tools, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Make one clip: its facts, and its file."""
    script = Script.of(tools.store("script").usable(number))
    settings = tools.job.generate
    if settings.by == "world":
        return {"by": "world"}, {".mp4": tools.encode(_drawn(tools, script))}
    seed = tools.seed("generate", number)
    halves = tools.job.script.prompts == "halves"
    prompt = script.prompt(switch=settings.frames / settings.frame_rate / 2 if halves else None)
    made = tools.pipe.generate(
        prompt,
        frames=settings.frames,
        frame_rate=Fraction(settings.frame_rate),
        settings=tools.settings(settings.sampling, seed),
    )
    samples = resample(made.audio_CS.mean(0), made.audio_rate, RATE)
    if abs(samples).max() < 1e-4:
        raise Rejected("the clip has no sound")
    film = Film(made.frames_FHW3, samples, Fraction(settings.frame_rate))
    return {"by": "backbone", "seed": seed, "prompt": told(prompt)}, {".mp4": tools.encode(film)}


def _drawn(tools: Tools, script: Script) -> Film:
    """The clip as the drawn world has it."""
    from datagen.world import switching
    from datagen.world.clip import World
    from datagen.world.render import render

    settings = tools.job.generate
    if tools.job.script.people != "world" or tools.job.script.lines != "grammar":
        raise BadInputError(
            "generate.by is world with other people or lines", expected="script.people: world and lines: grammar"
        )
    world = World(frame_rate=settings.frame_rate, frames=settings.frames)
    person = world.plan(script.person, tools.job.script.split)
    take = switching.perform(world, person, tuple(half.line for half in script.halves))
    frames = render([take.drawing], size=world.size).frames[0].numpy()
    return Film(frames, take.samples, Fraction(settings.frame_rate))
