"""The vocabulary: the names in which rules, operators and NumPy's protocols speak of operations."""

from __future__ import annotations

from typing import Any


class Vocabulary:
    """Operations by name; whoever defines one enters it here.

    A tensor's operators and every derivative rule look their words up here at the time of use, so
    the circuit need not know the operations, and rules may speak of each other in any order.
    """

    def enter(self, name: str, function: Any) -> None:
        """Make `function` known as `name`; a name is entered once."""
        if name in self.__dict__:
            raise ValueError(f"the vocabulary already has a word '{name}'")
        self.__dict__[name] = function

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no operation is named '{name}'")


vocabulary = Vocabulary()
