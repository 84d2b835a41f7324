"""Every system in the lecture notes, computed with chainrule and compared with its figures."""

# Importing a module enters its systems into the register.
from . import (
    activations,
    circuits,
    experiments,
    flow,
    losses,
    networks,
    practice,
    recurrent,
    training,
    worked,
)
from .systems import SYSTEMS, Check, Result, System, choose, figures, run

__all__ = [
    "SYSTEMS",
    "Check",
    "Result",
    "System",
    "activations",
    "choose",
    "circuits",
    "experiments",
    "figures",
    "flow",
    "losses",
    "networks",
    "practice",
    "recurrent",
    "run",
    "training",
    "worked",
]
