"""`chainrule cache`: what compiled programs are kept on disk, and how to empty it."""

from __future__ import annotations

from dataclasses import asdict

import click

from .terminal import counted, plain_json


@click.command()
@click.option("--clear", "empty", is_flag=True, help="Remove every compiled object.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, nothing else.")
def cache(empty: bool, as_json: bool) -> None:
    """Show where compiled programs are kept, how many, and whether the cache can be used.

    CHAINRULE_CACHE_DIR names another folder ("off" for none), CHAINRULE_CACHE_SIZE a bound in MB.

    \b
    chainrule cache --clear
    """
    from ..compiler import cache as disk

    removed = disk.clear() if empty else None
    state = disk.state()
    if as_json:
        gone = {"removed": {"files": removed[0], "bytes": removed[1]}} if removed else {}
        click.echo(plain_json(asdict(state) | gone))
        return
    if removed is not None:
        click.echo(f"removed  {counted(removed[0], 'object')}, {_megabytes(removed[1])} MB")
    click.echo(f"folder   {state.folder or '-'}")
    click.echo(f"files    {state.files}")
    click.echo(f"size     {_megabytes(state.bytes)} of {_megabytes(state.bound)} MB")
    click.echo(f"usable   {'yes' if state.usable else f'no: {state.why_not}'}")


def _megabytes(count: int) -> str:
    """To three digits.

    >>> _megabytes(300_000), _megabytes(256 << 20)
    ('0.286', '256')
    """
    return f"{count / (1 << 20):.3g}"
