"""Runs scalar expressions over arrays, by a loop of vectors and one of scalars."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from chainrule.compiler.emit import I64, PTR, Function, Module, Type, Value
from chainrule.compiler.expression import Builder, Expr, emit, llvm_type
from chainrule.compiler.target import Target, target_for

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()

Build = Callable[..., Sequence[Expr]]


def host(plain: bool = False) -> Target:
    """This machine; or, of its processors, the one that has nothing beyond the basic set."""
    if plain:
        return target_for(llvm.get_default_triple(), "", "")
    features = llvm.get_host_cpu_features().flatten()
    return target_for(llvm.get_default_triple(), llvm.get_host_cpu_name(), features)


def in_memory(dtype: Any) -> Type:
    kind = llvm_type(dtype)
    return Type("i8") if kind.base == "i1" else kind


def read(fn: Function, base: Value, index: Value, dtype: Any, lanes: int) -> Value:
    kind = in_memory(dtype).of(lanes)
    value = fn.load(fn.at(base, index, kind), kind)
    return fn.compare("ne", value, fn.const(0, kind)) if np.dtype(dtype) == bool else value


def write(fn: Function, base: Value, index: Value, value: Value) -> None:
    if value.type.base == "i1":
        value = fn.convert("zext", value, Type("i8", value.type.lanes))
    fn.store(value, fn.at(base, index, value.type))


def map_module(target: Target, builder: Builder, exprs: Sequence[Expr], inputs: int) -> Module:
    """Function "map": the addresses of inputs and outputs, how many by vectors, how many in all.

    Loads are keyed 0, 1 …
    """
    module = Module(target)
    pointers = [(PTR, f"p{k}") for k in range(inputs + len(exprs))]
    fn = module.function("map", [*pointers, (I64, "whole"), (I64, "count")], internal=False)
    *arrays, whole, count = fn.arguments
    widest = max(in_memory(x.dtype).bits for x in exprs)
    lanes = target.lanes(max(widest, 32))

    def body(width: int) -> Callable[[Value, list[Value]], None]:
        def one(index: Value, _: list[Value]) -> None:
            def load(key: int, dtype: Any) -> Value:
                return read(fn, arrays[key], index, dtype, width)

            for k, value in enumerate(emit(fn, exprs, load, width)):
                write(fn, arrays[inputs + k], index, value)

        return one

    fn.loop(whole, [], body(lanes), step=lanes)
    fn.loop(count, [], body(0), start=whole)
    fn.finish()
    return module


def run_map(
    build: Build, arrays: Sequence[np.ndarray[Any, Any]], *, plain: bool = False
) -> list[np.ndarray[Any, Any]]:
    """`build(builder, *loads)` computed of flat arrays of one length.

    Every element goes through the vectors and through the scalars, which must agree to the bit.
    """
    builder = Builder()
    exprs = build(builder, *[builder.load(k, a.dtype) for k, a in enumerate(arrays)])
    target = host(plain)
    module = llvm.parse_assembly(map_module(target, builder, exprs, len(arrays)).text())
    module.verify()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    pointers = [ctypes.c_void_p] * (len(arrays) + len(exprs))
    sizes = [ctypes.c_int64] * 2
    native = ctypes.CFUNCTYPE(None, *pointers, *sizes)(engine.get_function_address("map"))
    count = len(arrays[0])
    padded = [np.resize(a, count + 64 - count % 64) for a in arrays]  # whole vectors
    vectors, scalars = ([np.zeros(len(padded[0]), x.dtype) for x in exprs] for _ in range(2))
    for outputs, by_vectors in ((vectors, len(padded[0])), (scalars, 0)):
        addresses = [a.ctypes.data for a in [*padded, *outputs]]
        native(*addresses, by_vectors, len(padded[0]))
    for vector, scalar in zip(vectors, scalars, strict=True):
        np.testing.assert_array_equal(scalar, vector)
        unequal = np.signbit(scalar) != np.signbit(vector)
        assert not (unequal & (scalar == 0)).any()
    return [vector[:count] for vector in vectors]
