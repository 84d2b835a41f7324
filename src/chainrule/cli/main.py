"""`chainrule`: the group of commands, and what becomes of an error.

Exit status 0 when done, 1 for a clear failure (one line on stderr, no traceback), 2 for wrong
usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import codecs
import importlib
import os
import sys
from collections.abc import Sequence

import click

from ..errors import ChainruleError, nearest

COMMANDS = {
    "explain": "Print a circuit: values, gradients, and local × upstream on each edge.",
    "exercise": "Hide numbers in a circuit, and grade the answers.",
    "draw": "Draw a circuit: values above the wires, gradients below.",
    "derive": "Derive a gate's, a loss's or a formula's derivative, a rule a line.",
    "lectures": "Compute the lectures' systems and compare them with their figures.",
    "train": "Train a network on a bundled dataset or a file.",
    "diagnose": "Say what is wrong with a training run, and prove what repairs it.",
    "predict": "Apply a trained network to the rows of a table.",
    "evaluate": "Score a trained network on rows whose answer is known.",
    "runs": "List the runs that are kept in a folder, and compare them.",
    "compare": "Compare transfer functions and losses by experiment; test the lectures' claims.",
    "bench": "Time a network's training step, and show the kernels that it is made of.",
    "cache": "Show where compiled programs are kept on disk, or remove them.",
}


class _Commands(click.Group):
    """A group that imports a command's module only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{cmd_name}", __package__)
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            match = nearest(args[0], COMMANDS)
            guess = f"; did you mean '{match}'?" if match else ""
            ctx.fail(f"no command '{args[0]}'{guess} Commands: {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chainrule", message="%(prog)s %(version)s")
def cli() -> None:
    """chainrule: the backpropagation system that shows its work."""


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; errors become one line on stderr."""
    _open_streams()
    try:
        status = cli.main(args=args, prog_name="chainrule", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        return _say("stopped", 130)
    except BrokenPipeError:
        # The reader has gone (as with `| head`); what is still buffered must not raise at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ChainruleError as error:
        return _say(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _say(f"{place}{error.strerror or error}")
    except MemoryError:
        return _say("not enough memory; use a smaller input or batch")
    except Exception as error:
        if os.environ.get("CHAINRULE_TRACEBACK"):
            raise
        return _say(
            f"an error that should not happen ({type(error).__name__}: {error});"
            " set CHAINRULE_TRACEBACK=1 to see where, and please report it"
        )


def _say(message: str, status: int = 1) -> int:
    click.echo(f"error: {message}", err=True)
    return status


_PLAIN = str.maketrans(
    {"∂": "d", "→": "->", "×": "x", "·": ".", "╲": "\\", "±": "+/-", "−": "-", "–": "-", "…": "..."}
    | {"²": "^2", "³": "^3", "√": "sqrt", "Σ": "sum", "σ": "sigma", "δ": "delta", "≈": "~"}
    | {
        "′": "'",
        "←": "<-",
        "µ": "u",
        "≤": "<=",
        "≥": ">=",
        "≠": "!=",
        "∞": "inf",
        "‖": "|",
        "⊙": "*",
        "ᵀ": "^T",
    }
    | dict(zip("▁▂▃▄▅▆▇█", "_.-:=+*#", strict=True))
    | {"◄": "<-", **dict.fromkeys("▏▎▍▌▋▊▉", "|")}
)


def _in_plain(error: UnicodeError) -> tuple[str, int]:
    """What a terminal of another encoding shows for a character that it does not have."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_PLAIN)
    return "".join(c if c.isascii() else "?" for c in text), error.end


def _open_streams() -> None:
    """Output that was closed goes nowhere; symbols never break a terminal without Unicode."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for good
    codecs.register_error("chainrule.plain", _in_plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and (stream.encoding or "").lower() != "utf-8":
            stream.reconfigure(errors="chainrule.plain")
