"""What a run of pair generation is asked to do: one YAML, one frozen tree of settings, a section per stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from justdub.dubbing.prompt import find_language
from justdub.errors import UsageError


@dataclass(frozen=True)
class ScriptSettings:
    """Who says what.

    Attributes:
        languages: codes; every ordered pair of them gets equally many clips.
        lines: "grammar" (`datagen.world.phrases`), or a CSV or JSONL file with a column per language, a row per line;
            a folder is a local text model that is asked for them.
        people: "world" (people as the drawn world's captions describe them) or "everyday" (`datagen.people`).
        split: of the drawn world, whose words and people are used (`datagen.world.splits`).
        prompts: "whole" (one prompt says both lines) or "halves" (each half reads a prompt of its own, for a backbone
            that cannot keep two lines apart).
    """

    languages: tuple[str, ...] = ("en", "fr", "es", "de", "ru")
    lines: str = "grammar"
    people: Literal["world", "everyday"] = "everyday"
    split: str = "adapters"
    prompts: Literal["whole", "halves"] = "whole"

    def __post_init__(self) -> None:
        codes = [find_language(name) for name in self.languages]
        if len(set(codes)) < 2:
            raise UsageError(f"script.languages is {list(self.languages)}", expected="two languages or more")
        object.__setattr__(self, "languages", tuple(dict.fromkeys(codes)))


@dataclass(frozen=True)
class SamplingSettings:
    """As of a dub; None: the backbone's own."""

    steps: int | None = None
    guidance: float | None = None
    audio_guidance: float | None = None


@dataclass(frozen=True)
class GenerateSettings:
    """The clips that switch. by: the backbone, or the drawn world (true clips, for trying the other stages). size:
    width and height, none for the backbone's own.
    """

    frames: int = 241
    frame_rate: int = 25
    size: tuple[int, ...] = ()
    by: Literal["backbone", "world"] = "backbone"
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    def __post_init__(self) -> None:
        if self.frames < 18:
            raise UsageError(f"generate.frames is {self.frames}", expected="18 or more: two halves")
        if self.size and len(self.size) != 2:
            raise UsageError(f"generate.size is {list(self.size)}", expected="width and height")


@dataclass(frozen=True)
class SplitSettings:
    """Where a clip switches. pause: shortest silence that can be the switch, seconds. shortest: of a half, seconds.
    recognise: both halves must be heard to be in their language, where something can tell."""

    pause: float = 0.1
    shortest: float = 1.0
    recognise: bool = True


@dataclass(frozen=True)
class MaskSettings:
    """What may change.

    Attributes:
        finder: who finds faces: "world" (drawn ones), "mediapipe", "insightface" (models in `models`).
        models: a mediapipe .task file or insightface's folder.
        grow: by how much the lips' outline is enlarged, as a share of the mouth's width.
        hold: seconds that a place stays masked before and after lips are there.
        fine: cells by what they know of the lips (JUST-DUB-IT, "latent-aware fine masking"); else those under the box.
        threshold: mean change of a normalised latent, when the lips are painted over, from which a cell knows of them.
    """

    finder: Literal["world", "mediapipe", "insightface"] = "mediapipe"
    models: str = ""
    grow: float = 0.25
    hold: float = 0.08
    fine: bool = True
    threshold: float = 0.1


@dataclass(frozen=True)
class InpaintSettings:
    """Saying a half again in the other language.

    Attributes:
        given: how what stays is given: "clean" (timestep 0) or "noised" (on its own noisy path, for backbones that
            never saw clean and noisy tokens together).
        margin: seconds around speech in which sound is made anew; beyond them the sound stays.
        paste: keep the pixels outside of the regenerated cells as they were.
    """

    given: Literal["clean", "noised"] = "clean"
    margin: float = 0.2
    paste: bool = True
    sampling: SamplingSettings = field(default_factory=SamplingSettings)


@dataclass(frozen=True)
class LipsSettings:
    """Lip augmentation. share: of the pairs whose reference gets over-articulated lips. manner: how the prompt says
    so.
    """

    share: float = 0.5
    manner: str = "over-articulating every syllable with a wide open mouth"

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UsageError(f"lips.share is {self.share}", expected="0 to 1")


@dataclass(frozen=True)
class FilterSettings:
    """What a pair must reach. judge: "world" (the drawn world's judges), "metrics" (`justdub eval`'s, with `weights`)
    or "none". limits: measure -> [least, most]; see `datagen.judging` for the measures.
    """

    judge: Literal["world", "metrics", "none"] = "none"
    weights: dict[str, str] = field(default_factory=dict)
    limits: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, limits in self.limits.items():
            if len(limits) != 2 or limits[0] > limits[1]:
                raise UsageError(f"filter.limits.{name} is {list(limits)}", expected="[least, most]")


@dataclass(frozen=True)
class FootageSettings:
    """A user's own clips instead of generated ones. folder: where they lie, "" for none. lines: a table of what is said
    in them (`datagen.footage`); without it only masks can be made."""

    folder: str = ""
    lines: str = ""


@dataclass(frozen=True)
class DatagenJob:
    """A run.

    Attributes:
        out: folder of everything it makes; `out/dataset` is the result.
        clips: clips with a switch; each gives up to two pairs.
        backbone, text_encoder: as of `justdub dub`. adapters: put on it, NAME[:STRENGTH].
        quantiser: of the clips' pictures (x264): 0 loses nothing.
    """

    out: str
    clips: int
    backbone: str = "mini"
    text_encoder: str = ""
    adapters: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    seed: int = 0
    quantiser: int = 0
    footage: FootageSettings = field(default_factory=FootageSettings)
    script: ScriptSettings = field(default_factory=ScriptSettings)
    generate: GenerateSettings = field(default_factory=GenerateSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    mask: MaskSettings = field(default_factory=MaskSettings)
    inpaint: InpaintSettings = field(default_factory=InpaintSettings)
    lips: LipsSettings = field(default_factory=LipsSettings)
    filter: FilterSettings = field(default_factory=FilterSettings)

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise UsageError(f"clips is {self.clips}", expected="1 or more")
        if not 0 <= self.quantiser <= 40:
            raise UsageError(f"quantiser is {self.quantiser}", expected="0 (no loss) to 40")


def plain(value: Any) -> Any:
    """A tree of settings as JSON has it."""
    import dataclasses
    import json

    return json.loads(json.dumps(dataclasses.asdict(value)))
