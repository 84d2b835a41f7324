"""LLVM IR text → machine code in this process, through LLVM's code generator.

No optimisation pass is run: the emitter writes what it wants to see in the object. llvmlite is
imported inside the functions, so that the room opens where it is not installed.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import struct
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

from ..errors import CompileError, quoted, unknown
from . import cache as disk
from .target import KINDS, Target, target_for

__all__ = ["Library", "assembly_of", "available", "build", "host", "load", "object_of"]

OPT = 1  # of the code generator: 2 and 3 take a quarter longer for the same speed, 0 halves it

# Where LLVM does not find a name among what the process has open: sin, memset, sched_yield …
SYSTEM = {
    "win32": ("ucrtbase", "msvcrt", "kernel32", "ntdll"),
    "darwin": ("libSystem.dylib",),
}.get(sys.platform, ("libm.so.6", "libc.so.6"))

# A narrower processor of the same family: LLVM's generic name of it, and what it needs.
NARROWER = {
    "avx2": ("x86-64-v3", ("avx2", "fma", "bmi", "bmi2", "f16c", "lzcnt", "movbe")),
    "plain": ("x86-64-v2", ("sse4.2", "popcnt")),
}


# -- the machine ----------------------------------------------------------------------------------


@cache
def available() -> bool:
    """Whether native code can be made and run here: llvmlite is installed and knows the processor.

    False also where the system forbids a process to make executable memory.
    """
    if struct.calcsize("P") != 8 or sys.byteorder != "little":
        return False
    try:
        llvm = _llvm()
        triple = llvm.get_process_triple()
        llvm.Target.from_triple(triple)
        llvm.check_jit_execution()
    except (ImportError, OSError, RuntimeError, AttributeError):
        return False
    return str(triple).startswith(("x86_64", "aarch64", "arm64"))


def host() -> Target:
    """The machine that this process runs on, with the widest kind that it has.

    The environment's CHAINRULE_CPU narrows the kind to "avx512", "avx2" or "plain", as tests of
    another machine's code want; it never widens it.
    """
    return _host(os.environ.get("CHAINRULE_CPU", "").strip().lower())


@cache
def _host(asked: str) -> Target:
    llvm = _llvm()
    triple, cpu = llvm.get_process_triple(), llvm.get_host_cpu_name()
    features = llvm.get_host_cpu_features()
    machine = target_for(triple, cpu, features.flatten())
    known = ("avx512", "avx2", "plain")
    if asked and asked not in known:
        raise unknown("CHAINRULE_CPU", asked, known)
    if not asked or _rank(asked) <= _rank(machine.kind.name):
        return machine
    if not machine.is_x86:
        if asked == "plain":
            return Target(triple, cpu, machine.features, KINDS["plain"])
        return machine
    name, needs = NARROWER[asked]
    if not all(features.get(need) for need in needs):
        return machine
    return target_for(triple, name, ",".join(f"+{need}" for need in needs))


def _rank(kind: str) -> int:
    """The place of a kind among all, from the widest."""
    return list(KINDS).index(kind)


@cache
def _llvm() -> Any:
    """llvmlite's binding, with the code generator of this machine ready."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    lock = getattr(llvm.ffi.lib, "_lock", None)
    if lock is not None and hasattr(os, "register_at_fork"):
        # A child that is forked while another thread holds LLVM's lock would wait for it for ever.
        release = functools.partial(lock.__exit__, None, None, None)
        os.register_at_fork(before=lock.__enter__, after_in_parent=release, after_in_child=release)
    return llvm


@cache
def _every_target() -> None:
    llvm = _llvm()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


# -- text to object -------------------------------------------------------------------------------


def object_of(ir: str, target: Target) -> bytes:
    """The object file of a module: parsed, verified and generated for the target."""
    module = _parsed(ir)
    return _generated(module, target)


def assembly_of(ir: str, target: Target) -> str:
    """The assembly text of a module, for any target that LLVM knows."""
    _every_target()
    module = _parsed(ir)
    return str(_machine(target).emit_assembly(module))


def _parsed(ir: str) -> Any:
    try:
        module = _llvm().parse_assembly(ir)
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"LLVM refuses the module: {_one_line(error)}") from None
    return module


def _generated(module: Any, target: Target) -> bytes:
    try:
        return bytes(_machine(target).emit_object(module))
    except RuntimeError as error:
        raise CompileError(f"LLVM makes no object: {_one_line(error)}") from None


def _machine(target: Target) -> Any:
    """LLVM's code generator for a target.

    The large code model ("jitdefault"): code, constants and the system's functions may lie
    anywhere, for the loader does not promise to put them within 2 GB of each other. `jit` makes
    addresses absolute, also for Windows, where the default would be a table that nobody fills.
    """
    try:
        made = _llvm().Target.from_triple(target.triple)
    except RuntimeError as error:
        raise CompileError(f"no code for {quoted(target.triple)}: {_one_line(error)}") from None
    return made.create_target_machine(
        cpu=target.cpu, features=target.features, opt=OPT, codemodel="jitdefault", jit=True
    )


def _one_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if len(words) <= 400 else words[:399] + "…"


# -- object to program ----------------------------------------------------------------------------


class Library:
    """Machine code in this process; it lives as long as this object, so keep it while you call.

    `timings` holds the seconds of `parse`, `codegen` and `load`, and `cached` (1 or 0): whether
    the object came from the disk, where the first two are 0.
    """

    def __init__(self, engine: Any, names: frozenset[str], timings: dict[str, float]) -> None:
        self._engine, self.names, self.timings = engine, names, timings

    def address(self, name: str) -> int:
        """Where the function begins; valid no longer than this library lives."""
        if name not in self.names:
            # LLVM would look on among the whole process' functions.
            raise unknown("compiled function", name, sorted(self.names))
        return int(self._engine.get_function_address(name))

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        """The function as `ctypes` calls it, of these types; it keeps the library alive."""
        made: Any = ctypes.CFUNCTYPE(result, *arguments)(self.address(name))
        made.library = self
        return made


def load(object: bytes) -> Library:
    """Put an object of this machine into memory: pages are executable or writable, never both."""
    start = perf_counter()
    llvm, machine = _llvm(), _host("")
    defined, wanted = _symbols(object)
    for name in sorted(wanted):
        _resolve(name)
    # An engine begins with a module; the code is in the object, so this one is empty.
    empty = llvm.parse_assembly(f'target triple = "{machine.triple}"')
    engine = llvm.create_mcjit_compiler(empty, _machine(machine))
    engine.add_object_file(llvm.ObjectFileRef.from_data(object))
    engine.finalize_object()
    timings = {"parse": 0.0, "codegen": 0.0, "load": perf_counter() - start, "cached": False}
    return Library(engine, defined, timings)


def build(
    ir: str | Callable[[], str],
    target: Target | None = None,
    cache: bool = True,
    *,
    meaning: str = "",
) -> Library:
    """The program of a module, from the cache on disk or compiled now and stored there.

    `meaning` is a text from which this version of the compiler writes just this module: where the
    object is found by it, the module need not be written, so `ir` may be a function that does so.
    """
    target = target or host()
    machine = _host("")
    if target.triple != machine.triple or _rank(target.kind.name) < _rank(machine.kind.name):
        raise CompileError(
            f"code for {target.kind.name} on {target.triple} cannot run on this machine,"
            f" {machine.kind.name} on {machine.triple}; build it for native.host()"
        )
    start = perf_counter()
    known = cache and meaning and _sources()
    if not known and callable(ir):
        ir = ir()
    key = _key(f"{_sources()} {meaning}" if known else str(ir), target) if cache else ""
    object = disk.lookup(key) if cache else None
    cached, parsed, generated = object is not None, start, start
    if object is None:
        ir = ir() if callable(ir) else ir
        start = perf_counter()
        module = _parsed(ir)
        parsed = perf_counter()
        object = _generated(module, target)
        generated = perf_counter()
        if cache:
            disk.store(key, object)
    library = load(object)
    library.timings |= {
        "parse": parsed - start,
        "codegen": generated - parsed,
        "cached": cached,
    }
    return library


@cache
def _sources() -> str:
    """A digest of the compiler's own text, which tells its versions apart; "" if unreadable."""
    digest = hashlib.sha256()
    try:
        for path in sorted(Path(__file__).parent.glob("*.py")):
            digest.update(path.read_bytes())
    except OSError:
        return ""
    return digest.hexdigest()


def _key(ir: str, target: Target) -> str:
    """What the object depends on: another text, machine or version makes another one."""
    import llvmlite

    ours = sys.modules[__name__.partition(".")[0]].__version__
    versions = (str(llvmlite.__version__), str(_llvm().llvm_version_info), ours)
    return disk.key_of(ir, target.triple, target.cpu, target.features, str(OPT), *versions)


def _resolve(name: str) -> None:
    """See that LLVM finds a function of the system; else its call would lead nowhere."""
    llvm = _llvm()
    if llvm.address_of_symbol(name):
        return
    for place in SYSTEM:
        try:
            function = getattr(ctypes.CDLL(place), name)
        except (OSError, AttributeError):
            continue
        llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
        return
    raise CompileError(
        f"the compiled code calls {quoted(name)}, which no library of this system has;"
        " run without compiling, and please report it"
    )


# -- the names in an object -----------------------------------------------------------------------


def _symbols(object: bytes) -> tuple[frozenset[str], frozenset[str]]:
    """The functions that an object gives to others, and the names that it wants of them."""
    defined: set[str] = set()
    wanted: set[str] = set()
    try:
        read = {b"\x7fELF": _elf_symbols, b"\xcf\xfa\xed\xfe": _macho_symbols}[object[:4]]
        for name, there in read(object):
            (defined if there else wanted).add(name)
    except (KeyError, struct.error, IndexError, ValueError, OverflowError):
        raise CompileError("the object is no whole ELF or Mach-O file; compile it anew") from None
    return frozenset(defined), frozenset(wanted)


def _elf_symbols(object: bytes) -> Iterator[tuple[str, bool]]:
    """Each global symbol, and whether it is defined here. For a JIT, Windows has ELF too."""
    (table,) = struct.unpack_from("<Q", object, 40)
    size, count = struct.unpack_from("<HH", object, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", object, table + size * k) for k in range(count)]
    for section in sections:
        _, kind, _, _, start, length, link, _, _, each = section
        if kind != 2:  # SHT_SYMTAB
            continue
        names = sections[link][4]
        for place in range(start + each, start + length, each):  # the first is always empty
            name, info, _, where = struct.unpack_from("<IBBH", object, place)
            if info >> 4:  # not STB_LOCAL
                yield _text_at(object, names + name), where != 0


def _macho_symbols(object: bytes) -> Iterator[tuple[str, bool]]:
    """The same of a Mach-O file, where C's names begin with an underscore."""
    count = struct.unpack_from("<I", object, 16)[0]
    place = 32
    for _ in range(count):
        command, length = struct.unpack_from("<II", object, place)
        if length < 8:
            raise ValueError("a command without end")
        if command == 2:  # LC_SYMTAB
            start, number, names = struct.unpack_from("<III", object, place + 8)
            for k in range(number):
                name, kind = struct.unpack_from("<IB", object, start + 16 * k)
                if kind & 0x01 and not kind & 0xE0:  # N_EXT, and no debugging entry
                    yield _text_at(object, names + name).removeprefix("_"), kind & 0x0E != 0
        place += length


def _text_at(object: bytes, place: int) -> str:
    return object[place : object.index(b"\0", place)].decode()
