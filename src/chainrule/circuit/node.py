"""The node of a circuit, which is also the handle that the user holds: the tensor."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TraceError
from .state import OFF, PACKAGE, Group, Mark, Site, lose, refuse, site_of, state
from .vocabulary import vocabulary as ops

Array = Any  # an ndarray, or the NumPy scalar that stands for a 0-d one (ten times faster)

_serial = itertools.count(1).__next__
_NO_PARAMS: Mapping[str, Any] = {}


class Tensor:
    """A variable of the circuit: the value of one operation on its inputs, or a leaf.

    Made by `chainrule.tensor` and by every operation on a tensor; immutable but for `.grad`, which
    only `backward` stores. `op` is the operation's record (None for a leaf), `inputs` a tuple (x*x
    has two edges), `params` the operation's parameters, `value` the plain NumPy value. Equality and
    hash are identity, so a tensor can be a dictionary's key; compare values with `cr.equal`.
    """

    __slots__ = (
        "__weakref__",
        "_gradient",
        "_mark",
        "group",
        "inputs",
        "name",
        "op",
        "params",
        "requires_grad",
        "serial",
        "value",
    )
    __array_priority__ = 1000.0

    op: Any
    inputs: tuple[Tensor, ...]
    params: Mapping[str, Any]
    value: Any
    name: str | None
    serial: int
    requires_grad: bool
    group: Group | None
    _gradient: Array | None
    _mark: Mark | None

    def __init__(self, value: Array, *, requires_grad: bool, name: str | None = None) -> None:
        self.op = None
        self.inputs = ()
        self.params = _NO_PARAMS
        self.value = value
        self.name = name
        self.serial = _serial()
        self.requires_grad = requires_grad
        self.group = None
        self._gradient = None
        self._mark = None

    # -- what it is ---------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes; () for a scalar."""
        return np.shape(self.value)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.size(self.value))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the value."""
        return self.value.dtype if hasattr(self.value, "dtype") else np.asarray(self.value).dtype

    @property
    def T(self) -> Tensor:
        """The tensor with its axes in reverse order."""
        return ops.transpose(self)  # type: ignore[no-any-return]

    @property
    def grad(self) -> np.ndarray[Any, Any] | None:
        """∂(output)/∂(this tensor) from the last `backward` that reached it, else None."""
        if self._gradient is None:
            return None
        return np.asarray(self._gradient)

    @property
    def site(self) -> Site | None:
        """The line of the program where this node was made; None for a leaf."""
        return site_of(self._mark)

    @property
    def traced(self) -> bool:
        """Whether it is a variable or computed from one, so that using it records."""
        return self.op is not None or self.requires_grad

    @property
    def is_leaf(self) -> bool:
        """Whether it was given rather than computed."""
        return self.op is None

    @property
    def label(self) -> str:
        """Its name, else its operation's name, else its value."""
        if self.name:
            return self.name
        if self.op is not None:
            return str(self.op.name)
        return f"{float(self.value):.6g}" if self.size == 1 else f"constant{self.shape}"

    def __repr__(self) -> str:
        value = np.array2string(
            np.asarray(self.value), separator=", ", prefix="tensor(", threshold=60
        )
        parts = [value]
        if self.dtype not in (np.float64, np.int64, np.bool_):
            parts.append(f"dtype={self.dtype}")
        if self.name:
            parts.append(f"name={self.name!r}")
        if self.op is not None:
            parts.append(f"op={self.op.name}")
        elif not self.requires_grad:
            parts.append("requires_grad=False")
        return f"tensor({', '.join(parts)})"

    # -- leaving the circuit ------------------------------------------------------------------

    def numpy(self) -> np.ndarray[Any, Any]:
        """The value as a read-only array: writing into it would make recorded gradients wrong."""
        if state.compiling and self.traced:
            lose(self, ".numpy()")
        view = np.asarray(self.value).view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number."""
        if self.traced:
            lose(self, ".item()")
        return np.asarray(self.value).item()

    def tolist(self) -> Any:
        """The value as nested lists of Python numbers."""
        if self.traced:
            lose(self, ".tolist()")
        return np.asarray(self.value).tolist()

    def detach(self) -> Tensor:
        """A constant with the same value: no gradient passes."""
        if state.compiling and self.traced:
            return ops.stop_gradient(self)  # type: ignore[no-any-return]
        return Tensor(self.value, requires_grad=False, name=self.name)

    def __float__(self) -> float:
        if self.traced:
            lose(self, "float()")
        return float(self._single("float()"))

    def __int__(self) -> int:
        if self.traced:
            lose(self, "int()")
        return int(self._single("int()"))

    def __bool__(self) -> bool:
        if state.compiling and self.traced:
            lose(self, "bool()")
        return bool(self._single("bool()"))

    def __index__(self) -> int:
        if not np.issubdtype(self.dtype, np.integer):
            raise TypeError(f"a {self.dtype} tensor cannot be an index; use an integer")
        if state.compiling and self.traced:
            lose(self, "an index")
        return int(self._single("an index"))

    def _single(self, how: str) -> Any:
        if self.size != 1:
            raise TraceError(
                f"{how} needs a tensor of one element, not shape {self.shape};"
                " reduce it first, e.g. with .sum() or .max()"
            )
        return np.asarray(self.value).reshape(())[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if self.traced:
            lose(self, "np.asarray()")
        if dtype is not None and np.dtype(dtype) != self.dtype:
            if copy is False:
                raise ValueError(f"a {self.dtype} tensor needs a copy to become {np.dtype(dtype)}")
            return np.asarray(self.value).astype(dtype)
        return np.array(self.value) if copy else self.numpy()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        return ops.numpy_ufunc(ufunc, method, inputs, keywords)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        return ops.numpy_function(function, args, keywords)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TraceError(
            "a tensor cannot be written into: its circuit remembers the old value. Build a new one,"
            " e.g. y = cr.where(mask, new, x), or y = cr.concatenate([x[:i], new, x[i + 1:]])"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.op is not None:
            raise TraceError(
                f"a computed tensor (op={self.op.name}) belongs to its circuit and cannot be"
                " copied; copy its value with .numpy().copy(), or .detach() it"
            )
        return Tensor(np.copy(self.value)[()], requires_grad=self.requires_grad, name=self.name)

    def __reduce__(self) -> Any:
        if self.op is not None:
            raise TraceError(
                f"a computed tensor (op={self.op.name}) cannot be pickled; pickle its .numpy()"
            )
        return _restore, (np.asarray(self.value), self.requires_grad, self.name)

    # -- operators: set by the room of operations, which knows what they do ---------------------

    if TYPE_CHECKING:

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...

    def __pos__(self) -> Tensor:
        return self

    def __getitem__(self, index: Any) -> Tensor:
        return (ops.at if state.compiling else ops.getitem)(self, index)  # type: ignore[no-any-return]

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a scalar tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    # -- methods ------------------------------------------------------------------------------

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Σ over the axes; see `chainrule.sum`."""
        return ops.sum(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Σ/n over the axes; see `chainrule.mean`."""
        return ops.mean(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The largest element over the axes; see `chainrule.max`."""
        return ops.max(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The smallest element over the axes; see `chainrule.min`."""
        return ops.min(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape; `t.reshape(2, 3)` or `t.reshape((2, 3))`."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)  # type: ignore[no-any-return]

    def transpose(self, *axes: Any) -> Tensor:
        """The axes permuted; reversed when none are given."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return ops.transpose(self, order)  # type: ignore[no-any-return]

    def astype(self, dtype: Any) -> Tensor:
        """The same values in another floating dtype; the gradient comes back in this one."""
        return ops.astype(self, dtype=np.dtype(dtype))  # type: ignore[no-any-return]

    def backward(self, upstream: Any = None) -> Mapping[Tensor, np.ndarray[Any, Any]]:
        """Every gradient ∂(self)/∂(node), stored as `.grad` and returned; see the gradient room."""
        if state.compiling:
            raise refuse(
                ".backward()",
                "it stores gradients in tensors. cr.grad and cr.value_and_grad return them",
            )
        return ops.backward(self, upstream)  # type: ignore[no-any-return]


_new = object.__new__
_getframe = sys._getframe


def record(
    op: Any,
    inputs: tuple[Tensor, ...],
    params: Mapping[str, Any],
    value: Array,
    differentiable: bool,
) -> Tensor:
    """The node of `value = op(*inputs, **params)`; a constant where nothing traced goes in.

    The one place where nodes are made, on the path of every operation: kept flat for speed.
    """
    requires_grad = traced = False
    for source in inputs:
        if source.requires_grad:
            requires_grad = traced = True
            break
        if source.op is not None:
            traced = True
    group = state.group
    if not traced or group is OFF:
        if not (traced and state.compiling):
            return Tensor(value, requires_grad=False)
        # A program computes it again for every input; `no_grad` only lets no gradient pass.
        group, requires_grad = None, False
    if group is not None:
        mark = group.mark
    else:
        frame = _getframe(2)  # who called the operation: mostly the user
        while (code := frame.f_code).co_filename.startswith(PACKAGE) and frame.f_back is not None:
            frame = frame.f_back
        mark = code, frame.f_lasti
    node: Tensor = _new(Tensor)
    node.op = op
    node.inputs = inputs
    node.params = params
    node.value = value
    node.name = None
    node.serial = _serial()
    node.requires_grad = requires_grad and differentiable
    node.group = group
    node._gradient = None
    node._mark = mark
    return node


class Parameter(Tensor):
    """A leaf that training moves: its value is rebound, never written in place.

    `updated` is the serial number of the circuit's clock at the last rebinding, so that backward
    can tell that a circuit was recorded with the old value.
    """

    __slots__ = ("updated",)
    updated: int

    def __init__(self, value: Any, *, name: str | None = None) -> None:
        super().__init__(np.array(value)[()], requires_grad=True, name=name)
        self.updated = 0

    def rebind(self, value: Any) -> None:
        """Give the parameter a copy of a new value, of the same shape, in the same dtype."""
        if state.compiling:
            raise refuse(
                "Parameter.rebind", "return the new value from the function, and rebind outside it"
            )
        new = np.array(value, dtype=self.dtype)
        if new.shape != self.shape:
            raise ValueError(
                f"parameter {self.name or ''} has shape {self.shape}; it cannot become {new.shape}"
            )
        self.value = new[()]
        self.updated = _serial()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        return Parameter(self.value, name=self.name)

    def __reduce__(self) -> Any:
        return _restore_parameter, (np.asarray(self.value), self.name)


class _Given:
    """The operation of a leaf that a program is given at each call.

    As the leaf has one, all that is computed from it is recorded, be it an integer.
    """

    name = "input"
    locals = ()


GIVEN = _Given()


class Reading(Tensor):
    """A leaf of a function that is compiled, whose value is looked up whenever it is asked for."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[], Array], *, name: str | None = None) -> None:
        self._read = read
        super().__init__(None, requires_grad=False, name=name)
        self.op = GIVEN

    @property
    def value(self) -> Array:
        """What it is now."""
        return self._read()

    @value.setter
    def value(self, value: Array) -> None:
        """It is not kept."""


def _restore(value: Any, requires_grad: bool, name: str | None) -> Tensor:
    return Tensor(value[()], requires_grad=requires_grad, name=name)


def _restore_parameter(value: Any, name: str | None) -> Parameter:
    return Parameter(value, name=name)
