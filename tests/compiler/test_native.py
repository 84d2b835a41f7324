"""Text to machine code: what is made runs, what cannot be is told, and no page is left open."""

from __future__ import annotations

import builtins
import ctypes
import gc
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule.compiler import cache, native
from chainrule.compiler.emit import F32, F64, I32, I64, PTR, Module, Value
from chainrule.compiler.target import KINDS, Target, target_for
from chainrule.errors import ChainruleError, CompileError, UnknownNameError

MAPS = Path("/proc/self/maps")
TRIPLES = {
    "linux": ("x86_64-unknown-linux-gnu", "skylake-avx512"),
    "windows": ("x86_64-pc-windows-msvc-elf", "znver4"),  # as llvmlite says it there, for a JIT
    "arm": ("aarch64-unknown-linux-gnu", "neoverse-n1"),
    "apple": ("arm64-apple-macosx13.0", "apple-m1"),
}
FEATURES = "+avx512f,+avx512vl,+avx512dq,+avx512bw,+avx2,+fma"

pytestmark = pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "objects"))
    monkeypatch.delenv("CHAINRULE_CPU", raising=False)


def _axpy(target: Target | None = None, name: str = "axpy") -> str:
    """y ← a·x + y, one vector at a time, with a constant that lies in memory."""
    target = target or native.host()
    module = Module(target)
    arguments = [(F32, "a"), (PTR, "x"), (PTR, "y"), (I64, "n")]
    f = module.function(name, arguments, internal=False)
    a, x, y, n = f.arguments
    lanes = target.lanes(32)
    factor = f.splat(a, lanes)

    def body(i: Value, _: list[Value]) -> None:
        place = f.at(y, i, F32)
        product = f.fma(
            factor, f.load(f.at(x, i, F32), F32.of(lanes)), f.load(place, F32.of(lanes))
        )
        f.store(product, place)

    f.loop(n, [], body, step=lanes)
    f.finish()
    return module.text()


def _calls(name: str, kind: Any = F64, target: Target | None = None) -> str:
    """f(x) = name(x), by a call of the system's function or an intrinsic."""
    module = Module(target or native.host())
    f = module.function("f", [(kind, "x")], kind, internal=False)
    f.finish(f.call(name, kind, [f.arguments[0]]))
    return module.text()


def _function(library: native.Library, name: str = "f") -> Callable[[float], float]:
    made: Callable[[float], float] = library.function(name, ctypes.c_double, ctypes.c_double)
    return made


# -- what is made runs ----------------------------------------------------------------------------


@pytest.mark.parametrize("cpu", ["", "avx512", "avx2", "plain"])
def test_a_program_runs(monkeypatch: pytest.MonkeyPatch, cpu: str) -> None:
    monkeypatch.setenv("CHAINRULE_CPU", cpu)
    library = native.build(_axpy())
    signature = [ctypes.c_float, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    axpy = library.function("axpy", None, *signature)
    x, y = np.arange(64, dtype=np.float32), np.ones(64, np.float32)
    axpy(3.0, x.ctypes.data, y.ctypes.data, 64)
    np.testing.assert_array_equal(y, 3 * np.arange(64, dtype=np.float32) + 1)


@pytest.mark.parametrize("name", ["sin", "cos", "tan", "exp", "log", "pow", "floor", "fma"])
def test_the_systems_mathematics_is_found(name: str) -> None:
    """Also without the processor's own instructions, where floor and fma are calls."""
    machine = native.host()
    baseline = Target(machine.triple, "x86-64", "", KINDS["plain"]) if machine.is_x86 else machine
    module = Module(baseline)
    f = module.function("f", [(F64, "x")], F64, internal=False)
    count = {"pow": 2, "fma": 3}.get(name, 1)
    f.finish(f.call(f"llvm.{name}.f64", F64, f.arguments * count))
    call = _function(native.build(module.text(), baseline))
    expected = {"pow": lambda x: x**x, "fma": lambda x: x * x + x}.get(name)
    expected = expected or getattr(math, name)
    assert call(1.75) == pytest.approx(expected(1.75), rel=1e-15)


def test_the_systems_calls_are_found() -> None:
    name = "SwitchToThread" if native.host().is_windows else "sched_yield"
    module = Module(native.host())
    f = module.function("f", [], I32, internal=False)
    f.finish(f.call(name, I32, []))
    library = native.build(module.text())
    assert library.function("f", ctypes.c_int)() in (0, 1)


def test_memory_is_filled_and_moved_by_the_systems_calls() -> None:
    module = Module(native.host())
    f = module.function("f", [(PTR, "p"), (PTR, "q"), (I64, "n")], internal=False)
    line, to = f.line, "ptr %p, ptr %q, i64 %n, i1 false"
    module.declared["set"] = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"
    module.declared["move"] = "declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)"
    line(f"call void @llvm.memmove.p0.p0.i64({to})")
    line("call void @llvm.memset.p0.i64(ptr %q, i8 7, i64 %n, i1 false)")
    f.finish()
    library = native.build(module.text())
    a, b = np.zeros(1000, np.uint8), np.arange(1000, dtype=np.uint8)
    kept = b.copy()
    signature = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    call = library.function("f", None, *signature)
    call(a.ctypes.data, b.ctypes.data, 1000)
    np.testing.assert_array_equal(a, kept)
    assert (b == 7).all()


def test_names_found_elsewhere_are_given_to_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process has not opened the library of mathematics."""
    llvm, added = native._llvm(), []
    add, find = llvm.add_symbol, llvm.address_of_symbol
    monkeypatch.setattr(llvm, "address_of_symbol", lambda n: None if n == "cosh" else find(n))
    monkeypatch.setattr(llvm, "add_symbol", lambda n, a: (added.append(n), add(n, a)))
    call = _function(native.build(_calls("cosh")))
    assert added == ["cosh"]
    assert call(1.5) == pytest.approx(math.cosh(1.5), rel=1e-15)


def test_several_threads_build_at_once() -> None:
    values: dict[int, float] = {}

    def work(k: int) -> None:
        module = Module(native.host())
        f = module.function("f", [(F64, "x")], F64, internal=False)
        f.finish(f.mul(f.arguments[0], f.const(k, F64)))
        library = native.build(module.text())
        values[k] = _function(library)(2.0)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == {k: 2.0 * k for k in range(8)}


# -- what cannot be -------------------------------------------------------------------------------


def test_an_unknown_name_is_an_error_and_not_the_end() -> None:
    with pytest.raises(CompileError, match=r"calls 'no_such_function', which no library") as error:
        native.build(_calls("no_such_function"))
    assert isinstance(error.value, ChainruleError)
    # The object is in the cache by now; it must not be loaded without the question.
    with pytest.raises(CompileError, match="no_such_function"):
        native.build(_calls("no_such_function"))


def test_without_the_question_the_call_leads_nowhere() -> None:
    """Why every name is asked for: LLVM says nothing, and the call ends the process."""
    program = (
        "from chainrule.compiler import native\n"
        "native._resolve = lambda name: None\n"
        "text = 'define void @f() {\\n call void @no_such_function()\\n ret void\\n}\\n'\n"
        "library = native.build(text + 'declare void @no_such_function()', cache=False)\n"
        "library.function('f', None)()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("what", "expected top-level entity"),
        ("define i32 @f() {\n ret float 1.0\n}", "value doesn't match function result type"),
        ("define void @f() {\n call void @g()\n ret void\n}", "undefined value '@g'"),
        # Parsed, and refused by the verifier: a value that is used before it is made.
        (
            "define i32 @f() {\n %a = add i32 %b, 1\n %b = add i32 1, 1\n ret i32 %a\n}",
            "does not dominate all uses",
        ),
    ],
)
def test_a_module_that_is_refused(text: str, found: str) -> None:
    with pytest.raises(CompileError, match="LLVM refuses the module: .*" + found) as error:
        native.object_of(text, native.host())
    assert "\n" not in str(error.value)


def test_an_unknown_machine() -> None:
    with pytest.raises(CompileError, match="no code for 'abacus-unknown-none'"):
        native.object_of("", Target("abacus-unknown-none", "", "", KINDS["plain"]))


def test_code_of_another_machine_is_not_loaded() -> None:
    for triple, cpu in TRIPLES.values():
        if triple != native.host().triple:
            target = target_for(triple, cpu, "")
            with pytest.raises(CompileError, match=r"cannot run on this machine.*native\.host"):
                native.build(_axpy(target), target)


def test_wider_code_than_the_machines_is_not_loaded() -> None:
    machine = native.host()
    if machine.kind is KINDS["avx512"] or not machine.is_x86:
        pytest.skip("this machine has the widest kind")
    wide = target_for(machine.triple, "znver4", FEATURES)
    with pytest.raises(
        CompileError, match=f"code for avx512 on .* this machine, {machine.kind.name}"
    ):
        native.build(_axpy(wide), wide)


@pytest.mark.parametrize("cut", [0, 3, 4, 40, 100, 300, -30, -1])
def test_half_an_object_is_an_error(cut: int) -> None:
    object = native.object_of(_calls("llvm.sin.f64"), native.host())
    if cut < 0:
        cut += len(object)
    with pytest.raises(CompileError, match="no whole ELF or Mach-O file"):
        native.load(object[:cut])


@given(place=st.integers(0, 10_000), value=st.integers(0, 255), apple=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_altered_object_is_read_or_refused(place: int, value: int, apple: bool) -> None:
    """Of the names alone: only the cache's MAC says that the code is what it was."""
    triple, cpu = TRIPLES["apple" if apple else "linux"]
    native._every_target()
    target = target_for(triple, cpu, "")
    object = bytearray(native.object_of(_calls("llvm.sin.f64", target=target), target))
    object[place % len(object)] = value
    with suppress(CompileError):
        native._symbols(bytes(object))


def test_a_function_that_is_not_there() -> None:
    library = native.build(_axpy())
    assert library.names == {"axpy"}
    with pytest.raises(
        UnknownNameError, match="unknown compiled function 'axpi'; did you mean 'axpy'"
    ):
        library.address("axpi")
    with pytest.raises(UnknownNameError):
        library.address("printf")  # the process' own are not ours to give


# -- the machine ----------------------------------------------------------------------------------


def test_the_host_is_narrowed_and_never_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = native.host()
    assert machine is native.host()
    kinds = list(KINDS)
    for word in ("avx512", "avx2", "plain", "PLAIN"):
        monkeypatch.setenv("CHAINRULE_CPU", word)
        found = native.host()
        wanted = max(kinds.index(machine.kind.name), kinds.index(word.lower()))
        if machine.is_x86:
            assert found.kind.name == kinds[wanted]
        assert found.triple == machine.triple
    monkeypatch.setenv("CHAINRULE_CPU", "avx1024")
    with pytest.raises(UnknownNameError, match=r"unknown CHAINRULE_CPU 'avx1024'.*'avx2'"):
        native.host()


def test_narrow_code_has_no_wide_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    if not native.host().is_x86:
        pytest.skip("x86's registers")
    monkeypatch.setenv("CHAINRULE_CPU", "plain")
    text = native.assembly_of(_axpy(), native.host())
    assert "mulps" in text
    assert not re.search(r"[yz]mm|vmul|vfma", text)


@pytest.mark.parametrize("name", TRIPLES)
def test_code_for_other_machines(name: str) -> None:
    triple, cpu = TRIPLES[name]
    target = target_for(triple, cpu, FEATURES if triple.startswith("x86") else "")
    ir = _axpy(target)
    text = native.assembly_of(ir, target)
    fused = "vfmadd.*zmm" if target.is_x86 else r"fmla\.?\w*\s+v"
    assert re.search(fused, text)
    assert native._symbols(native.object_of(ir, target)) == ({"axpy"}, frozenset())
    wanted = native._symbols(native.object_of(_calls("llvm.sin.f64", target=target), target))
    assert wanted == ({"f"}, {"sin"})  # and no table of offsets, which the loader would not fill


def test_the_room_opens_without_llvmlite(monkeypatch: pytest.MonkeyPatch) -> None:
    there = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "llvmlite":
            raise ImportError(name)
        return there(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    for cached in (native._llvm, native._host):
        cached.cache_clear()
    assert not native.available.__wrapped__()
    with pytest.raises(ImportError):
        native.host()


def test_importing_the_room_does_not_import_llvmlite() -> None:
    program = "import sys, chainrule.compiler.native as n; sys.exit('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_a_system_that_forbids_executable_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid() -> None:
        raise OSError(13, "cannot allocate executable memory")

    monkeypatch.setattr(native._llvm(), "check_jit_execution", forbid)
    assert not native.available.__wrapped__()


# -- memory ---------------------------------------------------------------------------------------


def _pages(modes: str) -> set[str]:
    """The address ranges whose pages have all these rights."""
    lines = [line.split() for line in MAPS.read_text().splitlines()]
    return {line[0] for line in lines if set(modes) <= set(line[1])}


def _rights_at(address: int) -> str:
    for line in MAPS.read_text().splitlines():
        place, rights = line.split()[:2]
        first, last = (int(part, 16) for part in place.split("-"))
        if first <= address < last:
            return rights
    return ""


@pytest.mark.skipif(not MAPS.exists(), reason="reads /proc/self/maps")
def test_no_page_is_writable_and_executable() -> None:
    native.build(_axpy())  # whatever LLVM and ctypes need for themselves is there by now
    before = _pages("wx")
    libraries = []
    for k in range(20):
        ir = _axpy(name=f"axpy{k}") + "\n@here = global [5000 x double] zeroinitializer\n"
        libraries.append(native.build(ir, cache=k % 2 == 0))
        address = libraries[-1].address(f"axpy{k}")
        assert _rights_at(address) == "r-xp"
        assert _rights_at(libraries[-1].address("here")) == "rw-p"
    assert _pages("wx") == before
    with_function = _function(native.build(_calls("llvm.sin.f64")))
    assert with_function(0.5) == math.sin(0.5)


def test_a_function_keeps_its_library() -> None:
    call = _function(native.build(_calls("llvm.sin.f64")))
    gc.collect()
    assert call(0.5) == math.sin(0.5)


@pytest.mark.skipif(not MAPS.exists(), reason="reads /proc/self/maps")
def test_a_library_that_is_let_go_gives_its_memory_back() -> None:
    ir = _axpy() + "\n@large = global [4194304 x double] zeroinitializer\n"
    library = native.build(ir)
    code, data = library.address("axpy"), library.address("large") + (16 << 20)
    assert _rights_at(code) == "r-xp"
    assert _rights_at(data) == "rw-p"
    del library
    gc.collect()
    assert _rights_at(data) == ""
    assert not _rights_at(code).startswith("r-x")


# -- the cache ------------------------------------------------------------------------------------


def test_the_second_build_comes_from_the_disk() -> None:
    first, second = native.build(_calls("llvm.sin.f64")), native.build(_calls("llvm.sin.f64"))
    assert (first.timings["cached"], second.timings["cached"]) == (False, True)
    assert set(first.timings) == {"parse", "codegen", "load", "cached"}
    assert min(first.timings[part] for part in ("parse", "codegen", "load")) > 0
    assert (second.timings["parse"], second.timings["codegen"]) == (0, 0)
    assert _function(first)(0.5) == _function(second)(0.5) == math.sin(0.5)


def test_another_process_finds_it(tmp_path: Path) -> None:
    ir = tmp_path / "module.ll"
    ir.write_text(_calls("llvm.sin.f64"), encoding="utf-8")
    native.build(ir.read_text())
    program = (
        "import sys; from chainrule.compiler import native;"
        "sys.exit(not native.build(open(sys.argv[1]).read()).timings['cached'])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(ir)], timeout=60)
    assert done.returncode == 0


def test_without_the_cache_nothing_is_stored() -> None:
    library = native.build(_axpy(), cache=False)
    assert not library.timings["cached"]
    assert cache.state().files == 0


def test_an_altered_object_is_compiled_anew() -> None:
    native.build(_axpy())
    (path,) = Path(cache.state().folder).glob("*.o")
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"?")
    assert not native.build(_axpy()).timings["cached"]
    assert path.read_bytes() == good
    assert native.build(_axpy()).timings["cached"]


def test_the_key_depends_on_all_that_makes_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    import llvmlite

    machine, ir = native.host(), _axpy()
    others = [
        native._key(ir + ";", machine),
        native._key(ir, Target(machine.triple + "x", machine.cpu, machine.features, machine.kind)),
        native._key(ir, Target(machine.triple, "generic", machine.features, machine.kind)),
        native._key(ir, Target(machine.triple, machine.cpu, "", machine.kind)),
    ]
    for module, name, value in (
        (llvmlite, "__version__", "0.0"),
        (native._llvm(), "llvm_version_info", (1, 2, 3)),
        (sys.modules["chainrule"], "__version__", "0.0"),
        (native, "OPT", 0),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            others.append(native._key(ir, machine))
    assert len({native._key(ir, machine), *others}) == 9
    assert native._key(ir, machine) == native._key(str(ir), native.host())


def test_a_full_disk_does_not_stop_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert _function(native.build(_calls("llvm.sin.f64")))(0.5) == math.sin(0.5)
    assert cache.state().files == 0


# -- time -----------------------------------------------------------------------------------------


def _long(functions: int) -> str:
    """A hundred instructions a function."""
    body = "\n".join(f"  %v{k + 1} = fadd double %v{k}, 1.5" for k in range(100))
    return "\n".join(
        f"define double @f{n}(double %v0) {{\n{body}\n  ret double %v100\n}}"
        for n in range(functions)
    )


def test_reading_takes_time_in_proportion_to_the_text() -> None:
    def seconds(functions: int) -> float:
        ir, times = _long(functions), []
        for _ in range(3):
            start = time.process_time()
            native._parsed(ir)
            times.append(time.process_time() - start)
        return min(times)

    short, long = seconds(100), seconds(1000)  # 10⁴ and 10⁵ lines
    assert long < 40 * short  # 10, were the machine quiet; 100, were it quadratic


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_forked_while_another_thread_compiles_can_compile() -> None:
    """LLVM's lock is held by a thread that the child does not have."""
    native.host()
    lock = native._llvm().ffi.lib._lock
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        with lock:
            os._exit(0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
