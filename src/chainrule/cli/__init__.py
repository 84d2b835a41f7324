"""The command line: one module a command, loaded when it is called."""

from .main import main

__all__ = ["main"]
