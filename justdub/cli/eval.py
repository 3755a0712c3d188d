"""`justdub eval`: the forms of measuring, one file each.

justdub eval RUN.yaml                        eval_run.py
justdub eval --source DIR --dubbed DIR       eval_run.py
justdub eval compare A.json B.json           eval_compare.py
justdub eval blind DIR DIR...                eval_blind.py
justdub eval world                           eval_world.py
justdub eval dubs                            eval_dubs.py
"""

from __future__ import annotations

import argparse

from justdub.cli import eval_blind, eval_compare, eval_dubs, eval_run, eval_world
from justdub.errors import UsageError

HELP = "measure dubs, or a backbone"
DESCRIPTION = (
    "Measure dubs against their sources: `justdub eval RUN.yaml` or `justdub eval --source DIR --dubbed DIR`; or one "
    "of the other forms."
)
FORMS = {"run": eval_run, "compare": eval_compare, "blind": eval_blind, "world": eval_world, "dubs": eval_dubs}


class _Forms(argparse._SubParsersAction):
    """The forms by name; the name of a YAML file stands for the form `run` of that file."""

    def __call__(self, parser, namespace, values, option_string=None):
        if values[0].endswith((".yaml", ".yml")):
            values = ["run", *values]
        elif values[0] not in FORMS:
            raise UsageError(
                f"justdub eval {values[0]}", expected=f"a .yaml file, or one of {', '.join(FORMS)}",
                remedy="justdub eval --help",
            )  # fmt: skip
        early = [name for name, value in vars(namespace).items() if value != parser.get_default(name)]
        if early and values[0] != "run":
            raise UsageError(f"--{early[0]} stands before {values[0]}", expected=f"the options of {values[0]} after it")
        super().__call__(parser, namespace, values, option_string)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    eval_run.add_options(parser)
    forms = parser.add_subparsers(dest="form", action=_Forms, parser_class=type(parser), metavar="FORM", title="forms")
    for name, module in FORMS.items():
        sub = forms.add_parser(name, help=module.HELP, description=module.DESCRIPTION, epilog=parser.epilog)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    forms.choices = None  # checked above, where the name of a file is right too


def run(arguments: argparse.Namespace) -> None:
    """Without a form: the options describe the run."""
    eval_run.run(arguments)
