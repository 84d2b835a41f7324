"""Differentiation: the one backward loop, and the transformations made of it."""

from .backward import Edge, Gradients, backward, flow_back
from .check import CheckReport, check_grad
from .custom import custom_gate
from .transform import grad, hessian, jacobian, jvp, value_and_grad, vjp

__all__ = [
    "CheckReport",
    "Edge",
    "Gradients",
    "backward",
    "check_grad",
    "custom_gate",
    "flow_back",
    "grad",
    "hessian",
    "jacobian",
    "jvp",
    "value_and_grad",
    "vjp",
]
