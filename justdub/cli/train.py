"""`justdub train`: not in this version."""

from __future__ import annotations

import argparse

from justdub.errors import MissingError

HELP = "train an adapter (not in this version)"
DESCRIPTION = (
    "Train an IC-LoRA adapter from paired clips. Not in this version: the command says so and exits with code 4."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", help="the training job")


def run(arguments: argparse.Namespace) -> None:
    raise MissingError("training is not in this version of justdub", expected="`justdub dub`", remedy="a later version")
