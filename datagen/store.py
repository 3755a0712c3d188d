"""What a stage has made, one clip after the other: ``OUT/STAGE/000017.mp4`` and ``OUT/STAGE/000017.json``.

The JSON is written last and says what belongs to it, so a clip is there whole or not at all, whenever a run was cut
off. `stage.json` says what the results depend on; results of other settings are refused rather than mixed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datagen.film import put
from justdub.errors import BadInputError, JustDubError

DONE, REJECTED = "done", "rejected"


class Rejected(Exception):
    """A clip that cannot be used, and why: one line. The run goes on."""


class Store:
    """The results of one stage.

    Args:
        root: of the run. origin: all that its results depend on, plain values.

    Raises:
        BadInputError: nothing can be written there, or it holds results of another origin.
    """

    def __init__(self, root: Path, stage: str, origin: Mapping[str, Any]) -> None:
        self.folder, self.stage = root / stage, stage
        self._origin = json.loads(json.dumps(origin))
        path = self.folder / "stage.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                put(path, _dump(self._origin))
            found = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInputError(
                f"nothing can be written in {self.folder}: {error.strerror}", remedy="another out, or more space"
            ) from error
        except ValueError as error:
            raise BadInputError(f"{path} is damaged ({error})", remedy=f"delete {self.folder}") from error
        if found != self._origin:
            key, was, now = _difference(found, self._origin)
            raise BadInputError(
                f"{self.folder} was made with {key} {was}, now {now}",
                expected="the settings that it was begun with",
                remedy=f"another out, or delete {stage} and the stages after it",
            )

    def path(self, number: int, suffix: str) -> Path:
        """Where a file of a clip lies: `suffix` such as ".mp4" or "_0.mp4"."""
        return self.folder / f"{number:06d}{suffix}"

    def facts(self, number: int) -> dict[str, Any] | None:
        """What is known of a clip that is finished (made or rejected), else None."""
        try:
            facts = json.loads(self.path(number, ".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        sizes = facts.get("files", {}).items()
        whole = all(
            (self.folder / name).is_file() and (self.folder / name).stat().st_size == size for name, size in sizes
        )
        return facts if whole else None

    def usable(self, number: int) -> dict[str, Any] | None:
        """As `facts`, of a clip that was not rejected."""
        facts = self.facts(number)
        return facts if facts is not None and facts["state"] == DONE else None

    def add(self, number: int, facts: Mapping[str, Any], media: Mapping[str, bytes]) -> None:
        """Write a clip's files (by suffix), then its facts.

        Raises:
            BadInputError: the disk is full, or the folder cannot be written.
        """
        sizes = {self.path(number, suffix).name: len(content) for suffix, content in media.items()}
        try:
            for suffix, content in media.items():
                put(self.path(number, suffix), content)
            put(self.path(number, ".json"), _dump({"number": number, "state": DONE, "files": sizes} | dict(facts)))
        except OSError as error:
            raise BadInputError(
                f"{self.folder} cannot be written: {error.strerror}", remedy="free space, then the same command again"
            ) from error

    def reject(self, number: int, reason: str) -> None:
        """Note that a clip cannot be used."""
        self.add(number, {"state": REJECTED, "reason": reason}, {})

    def numbers(self) -> list[int]:
        """Of all finished clips, rising."""
        return sorted(int(path.stem) for path in self.folder.glob("[0-9]*.json") if path.stem.isdigit())

    def write_manifest(self) -> None:
        """`manifest.jsonl`: the facts of every finished clip, a line each."""
        lines = [json.dumps(facts, ensure_ascii=False) for number in self.numbers() if (facts := self.facts(number))]
        put(self.folder / "manifest.jsonl", "".join(f"{line}\n" for line in lines).encode())


def digest(paths: Mapping[str, Path]) -> str:
    """sha256 over names and bytes of files, hex."""
    total = hashlib.sha256()
    for name, path in sorted(paths.items()):
        total.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def reason_of(error: JustDubError) -> str:
    """One line."""
    return str(error)


def _dump(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _difference(was: Any, now: Any, at: str = "") -> tuple[str, Any, Any]:
    """The first key in which two plain trees differ."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted(was.keys() | now.keys()):
            if was.get(key) != now.get(key):
                return _difference(was.get(key), now.get(key), f"{at}.{key}" if at else str(key))
    return at, was, now
