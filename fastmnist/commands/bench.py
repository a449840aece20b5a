"""``fastmnist bench``: this machine, side by side with whatever else is installed."""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from fastmnist.commands import Recipe as TrainRecipe
from fastmnist.commands import UserError

_REPETITIONS = 5
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def run(*, rows: list[str] | None, threads: int | None, quick: bool, as_json: bool) -> int:
    """Measure the named rows, all if none is named, and print what came out."""
    with _limited_to(threads) as n_threads:
        return _run(rows, n_threads, quick, as_json)


def _run(names: list[str] | None, threads: int, quick: bool, as_json: bool) -> int:
    # Only now: libraries count the cores when they are loaded.
    from fastmnist.bench import report as reporting
    from fastmnist.bench.rows import ROWS
    from fastmnist.bench.sections import SECTIONS
    from fastmnist.bench.setting import Recipe, Setting
    from fastmnist.commands import dataset
    from fastmnist.commands.train import learning_rates

    known = [*ROWS, *SECTIONS]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UserError(f"there is no row {unknown[0]!r}; the rows are {', '.join(known)}")
    source, train, test = dataset.load(None, "measuring", at_most=reporting.QUICK_IMAGES if quick else None)
    default = TrainRecipe()
    recipe = Recipe(
        sizes=(train[0][0].size, *default.hidden, 10),
        batch_size=default.batch_size,
        dropout=default.dropout,
        rates=learning_rates(default, len(train[0])),
    )
    say = functools.partial(print, file=sys.stderr, flush=True)
    # A report is for others to read: the name of a file will do.
    setting = Setting((train, test), Path(source).name, recipe, threads, _REPETITIONS, quick, say)
    report = reporting.collect(names or known, setting)
    if as_json:
        print(json.dumps(report))
        return 0
    if report["rows"]:
        _show(reporting.HEADINGS, list(reporting.table(report)))
    print("\n".join([*reporting.footer(report), *reporting.sections(report)]))
    return 0


@contextlib.contextmanager
def _limited_to(threads: int | None) -> Iterator[int]:
    """Keep every library to so many cores, all there are by default; yield how many these are.

    Where the system binds processes to cores, libraries count those they are bound to; elsewhere, variables tell them.
    """
    binds = hasattr(os, "sched_setaffinity")
    before = os.sched_getaffinity(0) if binds else set(range(os.cpu_count() or 1))
    if threads is None:
        yield len(before)
        return
    if threads > len(before):
        raise UserError(f"--threads {threads} is more than the {len(before)} cores there are")
    for name in _VARIABLES:
        os.environ[name] = str(threads)
    if binds:
        os.sched_setaffinity(0, sorted(before)[:threads])
    try:
        yield threads
    finally:
        if binds:
            os.sched_setaffinity(0, before)


def _show(headings: tuple[str, ...], lines: list[tuple[str, ...]]) -> None:
    """Print a table: with rich in a terminal, else as columns of plain text."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*headings)
        for line in lines:
            if any(line):
                table.add_row(*line, style="red" if "SLOWER" in line[4] else "")
            else:
                table.add_section()
        Console().print(table)
        return
    # The fifth column may hold a whole sentence: it does not set a width.
    widths = [max(len(line[k]) for line in (headings, *lines) if line[2] != "-" or k < 2) for k in range(len(headings))]
    for line in (headings, *lines):
        print("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
