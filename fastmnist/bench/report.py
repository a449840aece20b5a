"""All measurements as one dictionary, and that dictionary as words."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fastmnist import __version__, engine
from fastmnist.bench import machine
from fastmnist.bench.measure import TOLERANCE, measure
from fastmnist.bench.peers import ONE_THREAD, PEERS, WARM_SCRIPT, Peer
from fastmnist.bench.rows import ROWS, work_for
from fastmnist.bench.sections import SECTIONS
from fastmnist.bench.setting import CannotMeasure, Setting
from fastmnist.bench.words import comparison, duration

QUICK_IMAGES = 1_000

Report = dict[str, Any]


def collect(names: Sequence[str], setting: Setting) -> Report:
    """Measure the named rows and sections."""
    threads, say = setting.threads, setting.say
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
        "data": setting.source,
        "quick": setting.quick,
        "repetitions": setting.repetitions,
        "tolerance": TOLERANCE,
        "peak_flops": {
            dtype: {str(n): machine.fma_peak(dtype, n) for n in sorted({1, threads})} for dtype in TOLERANCE
        },
        "rows": {},
        "sections": {},
    }
    for name in (name for name in names if name in ROWS):
        say(f"Row {name}: {ROWS[name].title}")
        report["rows"][name] = _row(name, installed, setting, report["peak_flops"])
    for name in (name for name in names if name in SECTIONS):
        say(SECTIONS[name].TITLE)
        report["sections"][name] = _section(name, setting)
    return report


def _row(name: str, installed: list[Peer], setting: Setting, peaks: Report) -> Report:
    row = ROWS[name]
    work = work_for(row, setting.dataset, QUICK_IMAGES if setting.quick else None, setting.threads)
    measured = measure(
        work,
        [peer for peer in installed if peer.does(row)],
        repetitions=setting.repetitions,
        budget=0.02 if setting.quick else 2.0,
        say=setting.say,
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
        "share_of_peak": flops / peaks[row.dtype][str(setting.threads)],
        "packing": measured.packing,
        "preparing": measured.preparing,
        "cells": [asdict(cell) for cell in measured.cells],
    }


def _section(name: str, setting: Setting) -> Report:
    try:
        return {"refused": None, **SECTIONS[name].measure(setting)}
    except (CannotMeasure, MemoryError, subprocess.CalledProcessError) as error:
        return {"refused": str(error)}


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
        f"Data: {report['data']}. Medians of {report['repetitions']} repetitions, each of an epoch or 0.1 s, all sides "
        "taking turns. Where fewer samples were timed than the row has, the time per sample is extrapolated."
    )
    limits = ", ".join(f"{limit:.0e} in {dtype}" for dtype, limit in report["tolerance"].items())
    yield (
        "Checked before timing: the weights that two batches or 100 samples lead to (in an evaluation, the error and "
        f"the correct count) agree, as a share of their change, to {limits}."
    )
    if any(cell["peer"] == WARM_SCRIPT.name for row in report["rows"].values() for cell in row["cells"]):
        yield (
            "NumPy script: in a process of its own, which has done nothing but load the images; with temporaries of "
            "more than 128 KB it may get memory from the system, and give it back, in every iteration. "
            f"{WARM_SCRIPT.name}: the same loop in this process, which keeps the memory, as glibc does once a larger "
            "block has been freed; a script that has imported Keras is as fast."
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
        yield from _plain_arrays(name, row)


def _plain_arrays(name: str, row: Report) -> Iterator[str]:
    medians = {cell["peer"]: cell["median"] for cell in row["cells"] if not cell["refused"]}
    if {"fastmnist, plain arrays", "NumPy script"} <= set(medians):
        ratio = medians["NumPy script"] / medians["fastmnist, plain arrays"]
        yield f"Row {name} without pack, on plain arrays: {comparison(ratio)} as the NumPy script."


def sections(report: Report) -> Iterator[str]:
    """Yield what was measured beside the rows, a sentence a line."""
    for name, measured in report["sections"].items():
        if measured["refused"]:
            yield f"{SECTIONS[name].TITLE}: not measured: {measured['refused']}."
        else:
            yield from SECTIONS[name].words(measured)
