"""chainrule: a backpropagation system that shows its work."""

from . import gradient, ops
from .ops import registry, tensor
globals().update(registry)
from .gradient import *
from .circuit import no_grad, Tensor, Parameter
