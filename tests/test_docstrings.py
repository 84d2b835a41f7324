"""Every example in a docstring of the package runs, and every public thing has a docstring."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType

import numpy as np
import pytest

import chainrule as cr

MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(cr.__path__, prefix="chainrule.")
    if not name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_module_run(name: str) -> None:
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(recurse=True)
    globs = {**module.__dict__, "np": np, "cr": cr}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    output: list[str] = []
    for test in finder.find(module, name, globs=globs):
        runner.run(test, out=output.append)
    assert runner.failures == 0, "".join(output)


@pytest.mark.parametrize("name", MODULES)
def test_public_things_of_the_module_are_described(name: str) -> None:
    module = importlib.import_module(name)
    assert inspect.getdoc(module), f"{name} has no docstring"
    for label, thing in _public(module):
        assert inspect.getdoc(thing), f"{name}.{label} has no docstring"


def _public(module: ModuleType) -> list[tuple[str, object]]:
    return [
        (label, thing)
        for label, thing in vars(module).items()
        if not label.startswith("_")
        and (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__ == module.__name__
    ]
