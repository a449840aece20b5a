"""The one thing a user must know while nothing seems to happen."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastmnist import engine


@contextmanager
def compile_notice() -> Iterator[None]:
    """Say on stderr, once, that kernels are being compiled, if any are."""

    def announce() -> None:
        engine.on_compile(None)
        print(
            "Compiling the kernels for this processor; they are kept for later runs ...",
            file=sys.stderr,
            flush=True,
        )

    engine.on_compile(announce)
    try:
        yield
    finally:
        engine.on_compile(None)
