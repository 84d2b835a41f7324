"""LLVM IR as text, written by Python: typed values, blocks, loops. Knows nothing of tensors.

The text form is what a reader sees in `.stages`, what the cache keys on and what LLVM parses.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from .target import Target

__all__ = ["BOOL", "F32", "F64", "I32", "I64", "PTR", "VOID", "Function", "Module", "Type", "Value"]


class Type(NamedTuple):
    """A machine type: `base` in LLVM's words, and the lanes of a vector (0 for a scalar)."""

    base: str
    lanes: int = 0

    def __str__(self) -> str:
        return f"<{self.lanes} x {self.base}>" if self.lanes else self.base

    def of(self, lanes: int) -> Type:
        """The same numbers in a vector of so many lanes; 0 for one alone."""
        return Type(self.base, lanes)

    @property
    def scalar(self) -> Type:
        """The type of one lane."""
        return Type(self.base)

    @property
    def is_float(self) -> bool:
        return self.base in ("float", "double")

    @property
    def bits(self) -> int:
        """Of one lane."""
        return {"float": 32, "double": 64, "ptr": 64}.get(self.base) or int(self.base[1:])

    @property
    def bytes(self) -> int:
        """Of one lane in memory."""
        return max(1, self.bits // 8)

    @property
    def suffix(self) -> str:
        """As in the name of an intrinsic: v8f32."""
        short = {"float": "f32", "double": "f64"}.get(self.base, self.base)
        return f"v{self.lanes}{short}" if self.lanes else short

    @property
    def as_int(self) -> Type:
        """The integer of the same width."""
        return Type(f"i{self.bits}", self.lanes)


F32, F64, I32, I64 = Type("float"), Type("double"), Type("i32"), Type("i64")
BOOL, PTR, VOID = Type("i1"), Type("ptr"), Type("void")


class Value(NamedTuple):
    """An operand: a register's name or a constant's text, with its type."""

    text: str
    type: Type

    def __str__(self) -> str:
        return f"{self.type} {self.text}"

    @property
    def is_constant(self) -> bool:
        return not self.text.startswith("%")


def number(value: Any, kind: Type) -> str:
    """The text of one number; floats as their exact bits."""
    if kind.base == "i1":
        return "true" if value else "false"
    if not kind.is_float:
        return str(int(value))
    exact = float(np.float32(value)) if kind.base == "float" else float(value)
    return f"0x{struct.unpack('<Q', struct.pack('<d', exact))[0]:016X}"


def constant(value: Any, kind: Type) -> Value:
    """A number, in every lane of a vector type."""
    text = number(value, kind)
    return Value(f"splat ({kind.base} {text})" if kind.lanes else text, kind)


def lanes_of(values: Sequence[Any], kind: Type) -> Value:
    """A constant vector, lane by lane."""
    inside = ", ".join(f"{kind.base} {number(v, kind)}" for v in values)
    return Value(f"<{inside}>", kind.of(len(values)))


class Module:
    """Functions and the declarations that they use."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.functions: dict[str, str] = {}
        self.declared: dict[str, str] = {}
        self.globals: dict[str, str] = {}

    def function(
        self,
        name: str,
        arguments: Sequence[tuple[Type, str]],
        result: Type = VOID,
        *,
        internal: bool = True,
        inline: bool | None = None,
    ) -> Function:
        """A function to fill; `finish` enters it here. Arguments: (type, "name attributes")."""
        return Function(self, name, arguments, result, internal=internal, inline=inline)

    def declare(self, name: str, result: Type, arguments: Sequence[Type]) -> None:
        """Say that a function exists: an intrinsic, or the system's."""
        self.declared[name] = f"declare {result} @{name}({', '.join(map(str, arguments))})"

    def text(self) -> str:
        """The whole module."""
        parts = [
            f'target triple = "{self.target.triple}"',
            *self.globals.values(),
            *self.declared.values(),
            *self.functions.values(),
        ]
        return "\n\n".join(parts) + "\n"


class Function:
    """One function, written instruction by instruction; every method returns the result."""

    def __init__(
        self,
        module: Module,
        name: str,
        arguments: Sequence[tuple[Type, str]],
        result: Type,
        *,
        internal: bool,
        inline: bool | None,
    ) -> None:
        self.module, self.name, self.result = module, name, result
        self.arguments = [Value(f"%{text.split()[0]}", kind) for kind, text in arguments]
        inside = ", ".join(
            f"{kind} {' '.join([*text.split()[1:], ''])}%{text.split()[0]}"
            for kind, text in arguments
        )
        hint = {None: "", True: " alwaysinline", False: " noinline"}[inline]
        self.head = f"define {'internal ' * internal}{result} @{name}({inside}){hint} nounwind {{"
        self.lines: list[str] = ["entry:"]
        self.block = "entry"
        self.counter = 0

    @property
    def target(self) -> Target:
        return self.module.target

    # -- the text -----------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """One instruction without a result."""
        self.lines.append("  " + text)

    def new(self, text: str, kind: Type) -> Value:
        """One instruction with a result."""
        self.counter += 1
        name = f"%v{self.counter}"
        self.lines.append(f"  {name} = {text}")
        return Value(name, kind)

    def label(self, name: str) -> None:
        """Begin a block."""
        self.lines.append(f"{name}:")
        self.block = name

    def fresh(self, stem: str) -> str:
        """A block name that is not yet used."""
        self.counter += 1
        return f"{stem}{self.counter}"

    def finish(self, value: Value | None = None) -> None:
        """Return, and enter the function in its module."""
        self.line("ret void" if value is None else f"ret {value}")
        self.module.functions[self.name] = "\n".join([self.head, *self.lines, "}"])

    # -- arithmetic ---------------------------------------------------------------------------

    def const(self, value: Any, kind: Type) -> Value:
        """A number, in every lane."""
        return constant(value, kind)

    def binary(self, instruction: str, a: Value, b: Value) -> Value:
        """Any instruction of two operands of one type: fadd, and, shl, …"""
        assert a.type == b.type, f"{instruction} of {a.type} and {b.type}"
        return self.new(f"{instruction} {a.type} {a.text}, {b.text}", a.type)

    def add(self, a: Value, b: Value) -> Value:
        return self.binary("fadd" if a.type.is_float else "add", a, b)

    def sub(self, a: Value, b: Value) -> Value:
        return self.binary("fsub" if a.type.is_float else "sub", a, b)

    def mul(self, a: Value, b: Value) -> Value:
        return self.binary("fmul" if a.type.is_float else "mul", a, b)

    def div(self, a: Value, b: Value) -> Value:
        """A quotient of floats."""
        return self.binary("fdiv", a, b)

    def neg(self, a: Value) -> Value:
        if a.type.is_float:
            return self.new(f"fneg {a}", a.type)
        return self.sub(self.const(0, a.type), a)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a·b + c, rounded once where the machine can."""
        if not self.target.kind.fma:
            return self.add(self.mul(a, b), c)
        return self.intrinsic("fma", a, b, c)

    def intrinsic(self, name: str, *operands: Value, kind: Type | None = None) -> Value:
        """`llvm.name` overloaded on its first operand's type: fma, sqrt, fabs, floor, …"""
        kind = kind or operands[0].type
        return self.call(f"llvm.{name}.{operands[0].type.suffix}", kind, operands)

    def compare(self, predicate: str, a: Value, b: Value) -> Value:
        """i1 a lane; `predicate` in LLVM's words: oeq, olt, uno …, or eq, slt … of integers."""
        word = "fcmp" if a.type.is_float else "icmp"
        return self.new(f"{word} {predicate} {a.type} {a.text}, {b.text}", BOOL.of(a.type.lanes))

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        """Lane by lane: yes where the condition holds, else no."""
        assert yes.type == no.type, f"select of {yes.type} and {no.type}"
        return self.new(f"select {condition}, {yes}, {no}", yes.type)

    def convert(self, instruction: str, a: Value, kind: Type) -> Value:
        """sitofp, fptosi, fpext, zext, trunc, bitcast …"""
        return self.new(f"{instruction} {a} to {kind}", kind)

    def bits(self, a: Value) -> Value:
        """A float's bits as an integer of its width."""
        return self.convert("bitcast", a, a.type.as_int)

    def call(self, name: str, result: Type, operands: Sequence[Value]) -> Value:
        """Call a function of this module, an intrinsic or one of the system's."""
        if name.startswith("llvm.") or name not in self.module.functions:
            self.module.declare(name, result, [x.type for x in operands])
        text = f"call {result} @{name}({', '.join(map(str, operands))})"
        if result == VOID:
            self.line(text)
            return Value("", VOID)
        return self.new(text, result)

    # -- lanes --------------------------------------------------------------------------------

    def splat(self, a: Value, lanes: int) -> Value:
        """The same number in every lane."""
        if not lanes:
            return a
        kind = a.type.of(lanes)
        if a.is_constant:
            return Value(f"splat ({a})", kind)
        one = self.new(f"insertelement {kind} poison, {a}, i64 0", kind)
        return self.shuffle(one, one, [0] * lanes)

    def shuffle(self, a: Value, b: Value, mask: Sequence[int]) -> Value:
        """Lanes picked from a, then b; −1 for a lane that nobody reads."""
        picks = ", ".join(f"i32 {k}" if k >= 0 else "i32 poison" for k in mask)
        kind = a.type.of(len(mask))
        return self.new(f"shufflevector {a}, {b}, <{len(mask)} x i32> <{picks}>", kind)

    def extract(self, a: Value, lane: int) -> Value:
        """One lane as a scalar."""
        return self.new(f"extractelement {a}, i64 {lane}", a.type.scalar)

    def insert(self, a: Value, x: Value, lane: int) -> Value:
        """The vector with one lane replaced."""
        return self.new(f"insertelement {a}, {x}, i64 {lane}", a.type)

    # -- memory -------------------------------------------------------------------------------

    def at(self, base: Value, offset: Value | int, kind: Type) -> Value:
        """The address of element `offset` of an array of `kind` (its lane's type)."""
        if isinstance(offset, int):
            if offset == 0:
                return base
            offset = Value(str(offset), I64)
        return self.new(f"getelementptr {kind.scalar}, {base}, {offset}", PTR)

    def load(self, address: Value, kind: Type, align: int | None = None) -> Value:
        """Read; `align` in bytes, one element's by default."""
        return self.new(f"load {kind}, {address}, align {align or kind.bytes}", kind)

    def store(self, value: Value, address: Value, align: int | None = None) -> None:
        """Write."""
        self.line(f"store {value}, {address}, align {align or value.type.bytes}")

    def load_some(self, address: Value, kind: Type, mask: Value) -> Value:
        """Read the lanes where the mask holds, 0 elsewhere; the others' memory is not touched."""
        operands = [address, mask, constant(0, kind)]
        return self.call(f"llvm.masked.load.{kind.suffix}.p0", kind, operands)

    def store_some(self, value: Value, address: Value, mask: Value) -> None:
        """Write the lanes where the mask holds."""
        name = f"llvm.masked.store.{value.type.suffix}.p0"
        self.call(name, VOID, [value, address, mask])

    def first_lanes(self, count: int, lanes: int) -> Value:
        """The constant mask of the first `count` lanes."""
        return lanes_of([k < count for k in range(lanes)], BOOL)

    # -- control ------------------------------------------------------------------------------

    def loop(
        self,
        count: int | Value,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Iterable[Value] | None],
        *,
        start: int | Value = 0,
        step: int = 1,
    ) -> list[Value]:
        """`for i in range(start, count, step)`: `body(i, values)` returns the next values.

        Returns the values after the last round, which are `carried` where there is none.
        """
        first = Value(str(start), I64) if isinstance(start, int) else start
        last = Value(str(count), I64) if isinstance(count, int) else count
        known = isinstance(count, int) and isinstance(start, int)
        if known and start >= count:  # type: ignore[operator]
            return list(carried)
        before, head, end = self.block, self.fresh("loop"), self.fresh("end")
        if known:
            self.line(f"br label %{head}")
        else:
            some = self.compare("slt", first, last)
            self.line(f"br {some}, label %{head}, label %{end}")
        self.label(head)
        place = len(self.lines)
        index = Value(f"%i{self.fresh('')}", I64)
        values = [Value(f"%c{self.fresh('')}", x.type) for x in carried]
        after = list(body(index, values) or [])
        following = self.new(f"add nsw i64 {index.text}, {step}", I64)
        more = self.compare("slt", following, last)
        latch = self.block
        ways = f"[{first.text}, %{before}], [{following.text}, %{latch}]"
        joins = [f"  {index.text} = phi i64 {ways}"]
        joins += [
            f"  {x.text} = phi {x.type} [{a.text}, %{before}], [{b.text}, %{latch}]"
            for x, a, b in zip(values, carried, after, strict=True)
        ]
        self.lines[place:place] = joins
        self.line(f"br {more}, label %{head}, label %{end}")
        self.label(end)
        if known:
            return after
        return [
            self.new(f"phi {x.type} [{a.text}, %{before}], [{b.text}, %{latch}]", x.type)
            for x, a, b in zip(values, carried, after, strict=True)
        ]

    @contextmanager
    def when(self, condition: Value) -> Any:
        """`if condition:` around what is written inside."""
        yes, end = self.fresh("yes"), self.fresh("end")
        self.line(f"br {condition}, label %{yes}, label %{end}")
        self.label(yes)
        yield
        self.line(f"br label %{end}")
        self.label(end)
