"""The circuit: what a program on tensors leaves behind. This room knows nobody else's."""

from .node import GIVEN, Parameter, Reading, Tensor, record
from .order import circuit_of
from .state import OFF, Group, enter_group, no_grad, refuse, state
from .vocabulary import vocabulary

__all__ = [
    "GIVEN",
    "OFF",
    "Group",
    "Parameter",
    "Reading",
    "Tensor",
    "circuit_of",
    "enter_group",
    "no_grad",
    "record",
    "refuse",
    "state",
    "vocabulary",
]
