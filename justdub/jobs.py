"""Jobs from YAML into frozen dataclasses: nothing unknown, nothing of the wrong type, nothing silently ignored."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from justdub.errors import BadInputError, UsageError

Job = TypeVar("Job")


def load(kind: type[Job], path: Path, changes: list[str] | None = None) -> Job:
    """The job in a YAML file, after `changes` of the form "a.b=value" (the value as YAML)."""
    tree = read(path)
    for text in changes or []:
        change(tree, text)
    return build(kind, tree)


def read(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file."""
    if not path.is_file():
        raise UsageError(f"no file {path}", remedy="configs/ holds one per job")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise BadInputError(f"{path} holds no keys and values", expected="a job")
    return tree


def build(kind: type[Job], tree: Any, at: str = "") -> Job:
    """A dataclass from nested dicts; errors name the key by its dotted path."""
    if not isinstance(tree, dict):
        raise UsageError(f"{at or 'the job'} is {tree!r}", expected="keys and values")
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for name in tree:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            raise UsageError(
                f"unknown key {at}{name}", expected=f"one of {', '.join(known)}", remedy=near[0] if near else ""
            )
    missing = [f.name for f in dataclasses.fields(kind) if _required(f) and f.name not in tree]
    if missing:
        raise UsageError(f"no value for {at}{missing[0]}")
    return kind(**{name: _value(hints[name], value, f"{at}{name}") for name, value in tree.items()})


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(hint: Any, value: Any, at: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(hint, value, f"{at}.")
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{at} is {value!r}", expected="a list")
        element = typing.get_args(hint)[0]
        return tuple(_value(element, item, f"{at}[{number}]") for number, item in enumerate(value))
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise UsageError(f"{at} is {value!r}", expected="keys and values")
        element = typing.get_args(hint)[1]
        return {str(name): _value(element, item, f"{at}.{name}") for name, item in value.items()}
    if typing.get_origin(hint) is typing.Literal:
        if value not in typing.get_args(hint):
            raise UsageError(f"{at} is {value!r}", expected=" or ".join(map(str, typing.get_args(hint))))
        return value
    if isinstance(hint, types.UnionType):  # "int | None"
        if value is None and type(None) in typing.get_args(hint):
            return None
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 2e-3 as a string
        try:
            return float(value)
        except ValueError:
            raise UsageError(f"{at} is {value!r}", expected="a number") from None
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise UsageError(f"{at} is {value!r}", expected=f"{hint.__name__}")
    return value


def change(tree: dict[str, Any], change: str) -> None:
    """Set a value of a tree in place: "a.b=value", the value as YAML."""
    path, sign, text = change.partition("=")
    if not sign:
        raise UsageError(f"--set {change}", expected="--set a.b=value")
    *parents, last = path.split(".")
    for name in parents:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise UsageError(f"--set {change}: {name} is a value", expected="a section")
    tree[last] = yaml.safe_load(text)
