"""The one place that decides how kernels are compiled and cached.

Float policy: no ``fastmath``. Every reduction order is written out in the kernels, so that results are the same for
every thread count and every vector width; `simd` gives the speed that reordering would.

`entry` kernels are called from Python and cached on disk; `kernel` and `inlined` functions become part of them, and are
optimised and translated only there. Numba's own cache looks only at the entry's file: a change in another kernel
file, or in a setting that changes the generated code, would leave stale machine code running. Therefore every entry's
cache carries one stamp, a hash over all of them.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba._dynfunc import make_function
from numba.core import config, event
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import PassManager
from numba.core.typed_passes import NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes

# Without Numba's runtime: kernels allocate nothing, and counting references to the arrays they hand on took longer than
# a sample's upper layers (0.15 us of atomic operations a call). Nobody takes a kernel as a C function.
_OPTIONS = {"error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True, "_nrt": False}
_ENTRIES: list[Any] = []

# As arguments: for a literal 0 Numba compiles one more copy of the kernel called.
ZERO, ONE = np.int64(0), np.int64(1)


def _stamp() -> str:
    """Hash of every kernel source and of the settings that Numba's cache key leaves out."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in [here / "_jit.py", here / "spec.py", *sorted((here / "kernels").glob("*.py"))]:
        digest.update(path.read_bytes())
    settings = (
        config.BOUNDSCHECK,
        config.OPT,
        config.LOOP_VECTORIZE,
        config.SLP_VECTORIZE,
        llvmlite.__version__,
    )
    digest.update(repr(settings).encode())
    return digest.hexdigest()


_STAMP = _stamp()


def cpu_features() -> list[str]:
    """Features that the kernels are compiled for."""
    if config.CPU_FEATURES is not None:
        return [f[1:] for f in config.CPU_FEATURES.split(",") if f.startswith("+")]
    return sorted(name for name, has in llvmlite.binding.get_host_cpu_features().items() if has)


def vector_bits() -> int:
    """Width of the vector registers that the kernels use."""
    features = cpu_features()
    return 512 if "avx512f" in features else 256 if "avx2" in features else 128


# For functions within functions and for expressions of whole arrays, of which kernels have none. Each looks through all
# code: without both, `train`'s first compilation takes 5 % less.
_NEEDLESS = InlineClosureLikes, NopythonRewrites


class _Types:
    """Numba's typing context, asked but once what a call of some types returns.

    Type inference asks for each call of a function again until nothing changes, and many functions make equal calls:
    for `train` there are 4,955 questions and 450 answers. Its first compilation takes a tenth less.
    """

    _answers: ClassVar[dict[Any, Any]] = {}

    def __init__(self, context: Any, flags: Any) -> None:
        self._context = context
        self._inline = flags.forceinline  # Numba compiles its own functions once for each

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        """Return the signature of a call."""
        question = self._inline, func, args, tuple(kws.items())
        if question not in self._answers:
            answer = self._context.resolve_function_type(func, args, kws)
            if answer is None:
                return None  # not yet: types may be missing
            self._answers[question] = answer
        return self._answers[question]


class _KernelCompiler(Compiler):
    """Compile with the passes that kernels need."""

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        """Compile `func`."""
        self.state.typingctx = _Types(self.state.typingctx, self.state.flags)
        return super().compile_extra(func)

    def define_pipelines(self) -> list[PassManager]:
        """Take those of Numba's own pipeline."""
        (default,) = super().define_pipelines()
        manager = PassManager("kernel")
        for each, description in default.passes:
            if each not in _NEEDLESS:
                manager.add_pass(each, description)
        manager.finalize()
        return [manager]


class _InnerLibrary(JITCodeLibrary):
    """Code of a function that only other functions contain: no machine code of its own."""

    def _optimize_final_module(self) -> None:
        """Leave it to the entries: all that is done here would be done there once more."""

    def _finalize_final_module(self) -> None:
        """End before machine code is made: the linker would prefer it to what an entry makes of the function."""
        self._finalized = True


class _InnerCompiler(_KernelCompiler):
    """Compile a function as far as its callers need: that made `train`'s first compilation 23.7 -> 20.3 s."""

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        """Compile `func`, and tell Numba what it otherwise learns along with the machine code."""
        self.state.flags.no_compile = True
        self.state.library = _InnerLibrary(self.state.targetctx.codegen(), func.__qualname__)
        result = super().compile_extra(func)
        # Numba knows functions by an object like this. It has no wrapper: a call from Python would crash.
        entry_point = make_function(
            result.fndesc.lookup_module(), func.__name__, "", 0, result.environment, (result.library,)
        )
        self.state.targetctx.insert_user_function(entry_point, result.fndesc, [result.library])
        return result._replace(entry_point=entry_point)


_INNER = {**_OPTIONS, "no_cpython_wrapper": True, "pipeline_class": _InnerCompiler}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that only other kernels call; without `print`, which waits for ever when freshly compiled."""
    # Set, because Numba gives a function what is not set from the caller for whose sake it is being compiled.
    return numba.njit(forceinline=False, **_INNER)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function that LLVM copies into its callers: it is small, or called for every row.

    Not Numba's ``inline="always"``: that copies what is not yet typed, so that each copy is typed and translated again,
    and `train` took 20 s and not 14 s to compile.
    """
    return numba.njit(forceinline=True, **_INNER)(function)


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that the engine calls; its machine code is kept on disk."""
    dispatcher = numba.njit(pipeline_class=_KernelCompiler, **_OPTIONS)(function)
    if not config.DISABLE_JIT:
        _enable_cache(dispatcher)
        _ENTRIES.append(dispatcher)
    return dispatcher


class _Cache(FunctionCache):
    """Machine code on disk. To load it, Numba would import all that it compiles with: 0.35 s and 50 MB."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load what is on disk for a signature; should it not be there, the compiler gets itself ready."""
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def _enable_cache(dispatcher: Any) -> None:
    """Cache on disk under our own stamp, or not at all where Numba has no such stamp or no folder to write to."""
    try:
        dispatcher._cache = _Cache(dispatcher.py_func)
    except RuntimeError:  # "no locator available": a read-only installation without a home folder
        return
    index: Any = getattr(dispatcher._cache, "_cache_file", None)
    if hasattr(index, "_source_stamp"):
        index._source_stamp = _STAMP
    else:
        dispatcher._cache.disable()


def entries() -> tuple[Any, ...]:
    """Every compiled entry point."""
    return tuple(_ENTRIES)


def cached_signatures(dispatcher: Any) -> list[Any]:
    """Signatures whose machine code lies on disk under the present stamp."""
    index = getattr(dispatcher._cache, "_cache_file", None)
    return [] if index is None else list(index._load_index())


class _CompileClock(event.TimingListener):
    """Adds up compile time, and tells one listener when a compilation starts."""

    announce: Callable[[], None] | None = None

    @property
    def seconds(self) -> float:
        """Seconds this process has spent compiling."""
        return self.duration if self.done else 0.0

    def on_start(self, event: Any) -> None:
        """Forward the start of an outermost compilation."""
        if self._depth == 0:
            if self.announce is not None:
                self.announce()
            # Numba makes so many objects that looking for garbage takes 11 % of its time; this seldom, 2 % and 28 MB.
            self._thresholds = gc.get_threshold()
            if self._thresholds[0] > 0:
                gc.set_threshold(max(20_000, self._thresholds[0]), *self._thresholds[1:])
        super().on_start(event)

    def on_end(self, event: Any) -> None:
        """Collect garbage as before."""
        super().on_end(event)
        if self._depth == 0:
            gc.set_threshold(*self._thresholds)


clock = _CompileClock()
event.register("numba:compile", clock)
