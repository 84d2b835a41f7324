"""Differentiation: the one backward loop, and the transformations made of it."""

from .backward import Edge, Gradients, backward, flow_back
from .transform import grad, hessian, jacobian, jvp, value_and_grad, vjp

__all__ = [
    "Edge",
    "Gradients",
    "backward",
    "flow_back",
    "grad",
    "hessian",
    "jacobian",
    "jvp",
    "value_and_grad",
    "vjp",
]
