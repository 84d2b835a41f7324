"""`chainrule compare`: which transfer function and loss is best, and the lectures' claims."""

from __future__ import annotations

import os
from typing import Any

import click

from ..errors import DataError
from .output import demand_place, write_text


@click.command()
@click.argument("data", required=False)
@click.option("--target", metavar="COLUMN", help="The column to predict (for a CSV file).")
@click.option(
    "--task", type=click.Choice(["classification", "regression"]), help="Default: by the target."
)
@click.option(
    "--activation", "activations", multiple=True, metavar="NAME",
    help="A transfer function; repeat for more. Default: sigmoid, tanh, relu.",
)  # fmt: skip
@click.option(
    "--loss", "losses", multiple=True, metavar="NAME",
    help="A loss, or output+loss as sigmoid+squared_error; repeat for more."
    " Default: softmax_cross_entropy, or squared_error for numbers.",
)  # fmt: skip
@click.option(
    "--optimizer", "optimizers", multiple=True, metavar="NAME",
    help="sgd, adam, …; repeat for more. Default: adam.",
)  # fmt: skip
@click.option(
    "--inputs", multiple=True, metavar="HOW",
    help="standardised, centred, positive or raw; repeat for more. Default: standardised.",
)  # fmt: skip
@click.option(
    "--lr", multiple=True, type=click.FloatRange(min=0, min_open=True), metavar="RATE",
    help="Learning rate; of several each combination gets its best. Default: the optimiser's one.",
)  # fmt: skip
@click.option(
    "--hidden", multiple=True, type=click.IntRange(min=1, max=100_000), metavar="UNITS",
    help="A hidden layer; repeat for more. Default: 32.",
)  # fmt: skip
@click.option("--init", metavar="NAME", help="One initialiser for all. Default: as suits each.")
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Default: 5.")
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Default: 20.")
@click.option("--batch-size", type=click.IntRange(min=1), metavar="ROWS", help="Default: 32.")
@click.option(
    "--held-out", type=click.FloatRange(min=0, max=1, max_open=True), metavar="SHARE",
    help="The share of rows kept for the score; 0 scores on the rows trained on. Default: 0.2.",
)  # fmt: skip
@click.option(
    "--level", type=float, metavar="SCORE",
    help="The training score of 'epochs to'. Default: 95 % of the way to the best one.",
)  # fmt: skip
@click.option(
    "--test", type=click.Choice(["t", "sign_flip"]), help="The test of differences. Default: t."
)
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N",
    help="Processes; no figure depends on it. Default: as many as pay.",
)  # fmt: skip
@click.option("--preset", metavar="NAME", help="Run a claim of the lectures again; see --list.")
@click.option("--list", "listing", is_flag=True, help="List the presets and end.")
@click.option("--html", "page", metavar="FILE", help="Write a page with the learning curves.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing while it runs.")
@click.pass_context
def compare(
    context: click.Context,
    /,
    data: str | None,
    preset: str | None,
    listing: bool,
    page: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Train each transfer function × loss from several seeds on DATA, and say which is best.

    \b
    chainrule compare digits --activation relu --activation tanh
    chainrule compare flowers.csv --target species --lr 0.001 --lr 0.01
    chainrule compare --preset relu-6x --html relu.html

    DATA is digits, iris, wine, breast_cancer, diabetes, xor, or a CSV file. Differences that may
    be noise are called tied. Ctrl-C shows what is finished.
    """
    from ..compare import PRESETS, replay
    from ..compare import compare as run

    if listing:
        _list(PRESETS)
        return 0
    if (data is None) == (preset is None):
        raise click.UsageError("name DATA, or a claim with --preset; --list shows them", context)
    if page is not None:
        demand_place(page, force)
    progress = not (quiet or as_json)
    chosen = {name: value for name, value in options.items() if value not in (None, ())}
    if preset is not None:
        found: Any = replay(preset, progress=progress, **_of_preset(chosen))
    else:
        found = run(data, progress=progress, **_of_data(data, chosen))
    if page is not None:
        write_text(page, found.html())
    click.echo(found.to_json() if as_json else str(found))
    if page is not None and not as_json:
        click.echo(f"saved {page}")
    if not found.interrupted:
        return 0
    click.echo("interrupted: these are the runs that were finished", err=True)
    return 130


def _list(presets: Any) -> None:
    width = max(map(len, presets))
    for name, preset in presets.items():
        click.echo(f"{name:{width}}  {preset.claim} ({preset.systems})")


_OPTION = {"activations": "activation", "losses": "loss", "optimizers": "optimizer"} | {
    name: name.replace("_", "-") for name in ("batch_size", "held_out")
}


def _of_preset(chosen: dict[str, Any]) -> dict[str, Any]:
    """The options that leave a claim what it is."""
    other = sorted(set(chosen) - {"seeds", "jobs", "epochs", "test"})
    if other:
        raise DataError(
            f"--preset sets what is compared; leave out --{_OPTION.get(other[0], other[0])}"
            " (--seeds, --epochs, --test and --jobs may be given)"
        )
    return chosen


def _of_data(data: str | None, chosen: dict[str, Any]) -> dict[str, Any]:
    """Options as `compare` takes them: one learning rate is a number, several a list."""
    rates = chosen.get("lr", ())
    if len(rates) == 1:
        chosen["lr"] = rates[0]
    is_file = data is not None and os.path.exists(data)
    if is_file and "target" not in chosen:
        raise DataError(f"{data}: say which column to predict, with --target COLUMN")
    return chosen
