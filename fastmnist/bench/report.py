"""All measurements as one dictionary, and that dictionary as words."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fastmnist import __version__, engine
from fastmnist.bench import machine
from fastmnist.bench.measure import TOLERANCE, measure
from fastmnist.bench.peers import ONE_THREAD, PEERS, Peer
from fastmnist.bench.rows import ROWS, Dataset, work_for

QUICK_IMAGES = 1_000

Report = dict[str, Any]


def collect(
    names: Sequence[str],
    dataset: Dataset,
    source: str,
    *,
    threads: int,
    repetitions: int,
    quick: bool,
    say: Callable[[str], None],
) -> Report:
    """Measure the named rows; `say` is told what is being done. `quick` takes few images and little time for each."""
    installed = [peer for peer in PEERS if peer.installed and (threads > 1 or peer is not ONE_THREAD)]
    say("Peak of this machine")
    report: Report = {
        "machine": {
            "processor": machine.processor(),
            "platform": platform.platform(),
            "cores": machine.cores(),
            "vector_bits": engine.vector_bits(),
        },
        "versions": {
            "fastmnist": __version__,
            "python": platform.python_version(),
            "llvmlite": version("llvmlite"),
            **{peer.package: peer.version for peer in installed},
        },
        "missing": sorted({peer.package for peer in PEERS} - {peer.package for peer in installed}),
        "keras_backend": os.environ.get("KERAS_BACKEND", "jax"),
        "threads": threads,
        "data": source,
        "quick": quick,
        "repetitions": repetitions,
        "tolerance": TOLERANCE,
        "peak_flops": {
            dtype: {str(n): machine.fma_peak(dtype, n) for n in sorted({1, threads})} for dtype in TOLERANCE
        },
        "rows": {},
    }
    for name in names:
        say(f"Row {name}: {ROWS[name].title}")
        report["rows"][name] = _row(name, dataset, installed, report, say)
    say("Cold start")
    report["cold_start"] = _cold_start(1 if quick else repetitions, compile_anew=not quick)
    return report


def _row(name: str, dataset: Dataset, installed: list[Peer], report: Report, say: Callable[[str], None]) -> Report:
    row = ROWS[name]
    work = work_for(row, dataset, QUICK_IMAGES if report["quick"] else None, report["threads"])
    measured = measure(
        work,
        [peer for peer in installed if peer.does(row)],
        repetitions=report["repetitions"],
        budget=0.02 if report["quick"] else 2.0,
        say=say,
    )
    density = engine.pack(work.images).density
    seconds = measured.cells[0].median
    assert seconds is not None  # ours is never refused
    flops = row.flops(density) / seconds
    return {
        "title": row.title,
        "dtype": row.dtype,
        "images": len(work.images),
        "per": "sample" if row.per_sample else "evaluation" if row.evaluates else "epoch",
        "density": density,
        "flops": flops,
        "share_of_peak": flops / report["peak_flops"][row.dtype][str(report["threads"])],
        "packing": measured.packing,
        "preparing": measured.preparing,
        "cells": [asdict(cell) for cell in measured.cells],
    }


def _cold_start(repetitions: int, *, compile_anew: bool) -> Report:
    machine.cold_start(compile_anew=False)  # leaves the machine code on disk
    return {
        "warm_cache": statistics.median(machine.cold_start(compile_anew=False) for _ in range(repetitions)),
        "empty_cache": machine.cold_start(compile_anew=True) if compile_anew else None,
    }


HEADINGS = ("Row", "Against", "Median", "Quartiles", "fastmnist is", "Samples timed")


def table(report: Report) -> Iterator[tuple[str, ...]]:
    """Yield a line of words under `HEADINGS` for every cell, with an empty one after each row."""
    for name, row in report["rows"].items():
        of = {"sample": 1, "epoch": row["images"], "evaluation": row["images"]}[row["per"]]
        label = f"{name} ({row['dtype']}), per {row['per']}"
        for cell in row["cells"]:
            if cell["refused"]:
                yield label, cell["peer"], "-", "-", cell["refused"], "-"
            else:
                yield (
                    label,
                    cell["peer"],
                    duration(cell["median"] * of),
                    f"{duration(cell['low'] * of)} to {duration(cell['high'] * of)}",
                    "" if cell["peer"] == "fastmnist" else comparison(cell["ratio"]),
                    f"{cell['samples']:,}" + (" of " + f"{row['images']:,}" if cell["samples"] < row["images"] else ""),
                )
            label = ""
        yield ("",) * len(HEADINGS)


def footer(report: Report) -> Iterator[str]:
    """Yield what the table leaves out, a sentence a line."""
    on = {"keras": f" on {report['keras_backend']}"}
    versions = ", ".join(f"{name} {number}{on.get(name, '')}" for name, number in report["versions"].items())
    cpu, threads = report["machine"], report["threads"]
    yield (
        f"{cpu['processor']}, {cpu['cores']} cores, vectors of {cpu['vector_bits']} bits; "
        f"threads on every side: {threads}"
    )
    yield versions + (f"; not installed: {', '.join(report['missing'])}" if report["missing"] else "")
    yield (
        f"Data: {report['data']}. Medians of {report['repetitions']} repetitions, all sides taking turns. "
        "Where fewer samples were timed than the row has, the time per sample is extrapolated."
    )
    limits = ", ".join(f"{limit:.0e} in {dtype}" for dtype, limit in report["tolerance"].items())
    yield (
        "Checked before timing: the weights that two batches or 100 samples lead to (in an evaluation, the error and "
        f"the correct count) agree, as a share of their change, to {limits}."
    )
    for dtype, peaks in report["peak_flops"].items():
        rates = " and ".join(f"{rate / 1e9:,.0f} with {n}" for n, rate in peaks.items())
        yield f"Multiply-add peak, {dtype}, billions of operations a second by threads: {rates}."
        if peaks[str(threads)] < 0.75 * threads * peaks["1"]:
            yield "  That is no multiple of one thread's: the cores are busy with something else, or share their units."
    for name, row in report["rows"].items():
        yield (
            f"Row {name}: {row['share_of_peak']:.1%} of the peak, counting only what inputs other than zero "
            f"({row['density']:.1%}) need. Packing {duration(row['packing'])}; blocks and Gram products, "
            f"made in the first call, {duration(row['preparing'])}."
        )
    start = report["cold_start"]
    yield f"Cold start, import to end of the first fit: {duration(start['warm_cache'])} with kernels on disk" + (
        f", {duration(start['empty_cache'])} when they must be compiled." if start["empty_cache"] else "."
    )


def duration(seconds: float) -> str:
    """Write a time with three digits and its unit."""
    value, unit = (
        (seconds, "s") if seconds >= 1 else (seconds * 1e3, "ms") if seconds >= 1e-3 else (seconds * 1e6, "us")
    )
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def comparison(ratio: float) -> str:
    """Say how many times as fast as a peer we are."""
    if ratio >= 1:
        return f"{ratio:.{0 if ratio >= 100 else 1}f} times as fast"
    return f"{1 / ratio:.{0 if ratio < 0.01 else 1}f} times SLOWER"
