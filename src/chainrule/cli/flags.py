"""The settings of a run as flags of the command line, each under its heading in the help."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any

import click

from ..errors import ChainruleError, DataError, listed, quoted
from ..runs.config import Rule, Settings, rules

__all__ = ["Grouped", "Setting", "settings_flags"]

HEADINGS = {
    "Data": ("target", "task", "missing", "categories", "categorical", "drop", "stream"),
    "Network": ("hidden", "linear", "activation", "batch_norm", "dropout", "init"),
    "Learning": (
        "epochs", "batch_size", "lr", "schedule", "optimizer", "momentum", "weight_decay", "loss",
        "class_weight", "label_smoothing", "clip_norm", "clip_value", "ema", "accumulate",
    ),
    "Validation and score": ("held_out", "validation", "patience"),
    "The run": (
        "run", "no_run", "resume", "config", "seed", "dtype", "threads", "checkpoint_every",
        "plots", "doctor", "tensorboard",
    ),
}  # fmt: skip
LAST = "Output"
METAVARS = {"target": "COLUMN", "categorical": "COLUMN", "drop": "COLUMN"}
METAVARS |= {"hidden": "UNITS", "batch_size": "ROWS", "lr": "RATE", "checkpoint_every": "SECONDS"}


class Grouped(click.Command):
    """A command whose help puts each flag under its heading; what has none stands last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the headings in their order, and the flags under each as they stand there."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        left = {param.name or "": param for param in options}
        for heading, names in HEADINGS.items():
            shown = [left.pop(name) for name in names if name in left]
            self._section(ctx, formatter, heading, shown)
        self._section(ctx, formatter, LAST, list(left.values()))

    def _section(
        self, ctx: click.Context, formatter: click.HelpFormatter, heading: str, shown: list[Any]
    ) -> None:
        records = [record for param in shown if (record := param.get_help_record(ctx))]
        if records:
            with formatter.section(heading):
                formatter.write_dl(records)


def settings_flags(
    command: Callable[..., Any], without: Collection[str] = ()
) -> Callable[..., Any]:
    """An option for each setting; what is not given on the command line is None."""
    for name, rule in reversed(rules().items()):
        if name != "data" and name not in without:
            command = _flag(name, rule)(command)
    return command


def _flag(name: str, rule: Rule) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    flag = "--" + name.replace("_", "-")
    if rule.kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=rule.meaning)
    return click.option(
        flag,
        name,
        type=Setting(name, rule),
        multiple=rule.many,
        metavar=METAVARS.get(name) or {int: "N", float: "X", str: "NAME"}[rule.kind],
        help=rule.meaning + _default(name),
    )


def _default(name: str) -> str:
    default = Settings.__dataclass_fields__[name].default
    if default is None or default == ():
        return ""
    return f"  [default: {default:g}]" if isinstance(default, float) else f"  [default: {default}]"


class Setting(click.ParamType):  # type: ignore[type-arg]
    """One value of a setting, by the rule that files and Python follow too."""

    def __init__(self, name: str, rule: Rule) -> None:
        self.name, self.rule = name, rule

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as `Settings` takes it; what cannot be is wrong usage."""
        try:
            return self.rule.checked(self.name, self._read(value))
        except ChainruleError as error:
            self.fail(str(error), param, ctx)

    def _read(self, value: Any) -> Any:
        rule = self.rule
        if rule.kind is str or value in rule.names:
            return value
        with contextlib.suppress(ValueError):
            return rule.kind(value)
        if rule.names:
            known = listed(rule.names)
            raise DataError(f"{self.name} must be a number or {known}, got {quoted(value)}")
        return value
