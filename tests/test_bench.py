"""``fastmnist bench``, the kernel registry, and the script that writes the speed table."""

import copy
import importlib.util
import json
from itertools import product

import numpy as np
import pytest
import registry
import report as table_script

from fastmnist import _jit, data, scripts
from fastmnist.__main__ import main
from fastmnist.bench import machine, measure, peers, report, rows

DIGITS = data.load_data("synthetic", n_train=400, n_test=400)


@pytest.fixture
def quick(monkeypatch):
    """Few digits, NumPy alone to compare with, no fresh processes, no minutes of multiplying."""
    monkeypatch.setattr(data, "load_data", lambda source: DIGITS)
    monkeypatch.setattr(report, "PEERS", [peer for peer in peers.PEERS if peer.package == "numpy"])
    monkeypatch.setattr(machine, "cold_start", lambda *, compile_anew: 0.5)
    monkeypatch.setattr(machine, "fma_peak", lambda dtype, threads: 1e11 * threads)


# The command


def test_bench_prints_one_json_object(quick, capsys):
    assert main(["bench", "--rows", "b", "e-test", "--quick", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert list(result["rows"]) == ["B", "E-TEST"]
    assert result["repetitions"] >= 5
    assert result["data"] == "mnist"
    assert result["versions"]["numpy"] == np.__version__
    assert result["cold_start"] == {"warm_cache": 0.5, "empty_cache": None}
    row = result["rows"]["B"]
    assert (row["per"], row["dtype"], row["images"]) == ("sample", "float64", 400)
    assert 0 < row["share_of_peak"] == pytest.approx(row["flops"] / (1e11 * result["threads"]))
    ours, numpy_script = row["cells"]
    assert (ours["peer"], ours["ratio"], ours["samples"]) == ("fastmnist", 1, 400)
    assert numpy_script["peer"] == "NumPy script"
    assert numpy_script["ratio"] == pytest.approx(numpy_script["median"] / ours["median"])
    assert 0 < numpy_script["low"] <= numpy_script["median"] <= numpy_script["high"]
    assert numpy_script["deviation"] < 1e-9
    assert [cell["peer"] for cell in result["rows"]["E-TEST"]["cells"]] == ["fastmnist", "NumPy"]
    assert "Row E-TEST" in err


def test_bench_prints_a_table_and_what_was_measured_on(quick, capsys):
    assert main(["bench", "--rows", "D", "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "Row"
    assert [line.split("  ")[0] for line in lines[1:4]] == ["D (float64), per epoch", "", ""]
    assert any("times as fast" in line or "times SLOWER" in line for line in lines[2:4])
    assert any(line.startswith("Row D: ") and "of the peak" in line and "Packing" in line for line in lines)
    assert any(line.startswith("Cold start") for line in lines)


def test_bench_takes_synthetic_digits_where_there_is_no_mnist_and_says_so(quick, monkeypatch, capsys):
    def load_data(source, n_train=None, n_test=None):
        if source == "mnist":
            raise data.DataUnavailableError("MNIST is not available")
        return DIGITS

    monkeypatch.setattr(data, "load_data", load_data)
    assert main(["bench", "--rows", "B-test", "--quick", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["data"] == "synthetic"
    assert "measuring on synthetic digits, NOT on MNIST" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "B", "Z"], "there is no row 'Z'; the rows are A, B, B32, C,"),
        (["--threads", "10000"], "--threads 10000 is more than the"),
    ],
)
def test_bench_refuses(arguments, message, quick, capsys):
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fastmnist: {message}")


# Agreement


def small_work(name):
    return rows.work_for(rows.ROWS[name], DIGITS, None, threads=1)


def cells(work, *chosen):
    measured = measure.measure(work, chosen, repetitions=1, budget=0.0, say=lambda line: None)
    return {cell.peer: cell for cell in measured.cells}


@pytest.mark.parametrize("name", rows.ROWS)
def test_all_installed_peers_compute_what_we_compute(name):
    work = small_work(name)
    # Keras and JAX warn of each other's choices; what counts here is what they compute.
    chosen = [peer for peer in peers.PEERS if peer.package in ("numpy", "numba") and peer.does(work.row)]
    assert chosen
    for peer, cell in cells(work, *chosen).items():
        assert cell.refused is None, f"{peer}: {cell.refused}"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("package", ["jax", "torch", "keras", "scikit-learn"])
def test_other_libraries_compute_what_we_compute(package):
    chosen = [peer for peer in peers.PEERS if peer.package == package]
    if not chosen[0].installed:
        pytest.skip(f"{package} is not installed")
    for name, row in rows.ROWS.items():
        for cell in cells(small_work(name), *(peer for peer in chosen if peer.does(row))).values():
            assert cell.refused is None, f"{name}: {cell.refused}"


@pytest.mark.parametrize("name", ["B", "D", "E", "E-TEST"])
def test_a_side_that_computes_something_else_gets_no_time(name, monkeypatch):
    """Ours, a thousandth off where it counts least: in the last step's rate, or in the error."""
    sgd_epoch, evaluate = scripts.sgd_epoch, scripts.evaluate

    def off(*arrays, learning_rate, **options):
        return sgd_epoch(*arrays, learning_rate=1.005 * learning_rate, **options)

    monkeypatch.setattr(scripts, "sgd_epoch", off)
    monkeypatch.setattr(scripts, "evaluate", lambda *a, **o: (1.005 * evaluate(*a, **o)[0], evaluate(*a, **o)[1]))
    numpy_peers = [p for p in peers.PEERS if p.package == "numpy" and p.does(rows.ROWS[name])]
    refused = [cell for peer, cell in cells(small_work(name), *numpy_peers).items() if peer != "fastmnist"]
    assert refused
    for cell in refused:
        assert "computes something else" in cell.refused
        assert cell.median is None


def test_a_side_that_fails_gets_no_time_and_says_why():
    broken = peers.Peer("Broken", "with_numpy", "no_such_function", "numpy", lambda row: True)
    cell = cells(small_work("B-TEST"), broken)["Broken"]
    assert cell.median is None
    assert cell.refused.startswith("failed: AttributeError: ")


def test_not_a_number_agrees_with_nothing():
    row, start, ours = rows.ROWS["B"], [np.zeros(2)], [np.ones(2)]
    assert measure.deviation(row, start, ours, [np.ones(2)]) == 0
    assert measure.deviation(row, start, ours, [np.array([1.0, np.nan])]) == np.inf
    assert measure.deviation(row, start, ours, [np.ones(3)]) == np.inf


def test_operations_that_non_zero_inputs_need():
    row = rows.Row("", (100, 10, 5), 1, "float64")
    assert row.flops(density=0.2) == 4 * 0.2 * 1000 + 6 * 50
    assert rows.replace(row, evaluates=True).flops(density=1) == 2 * 1000 + 2 * 50


def test_durations_and_ratios_in_words():
    assert [report.duration(s) for s in (12.34, 1.234, 0.1234, 1.2345e-3, 4.2e-6)] == [
        "12.3 s",
        "1.23 s",
        "123 ms",
        "1.23 ms",
        "4.20 us",
    ]
    assert report.comparison(2.04) == "2.0 times as fast"
    assert report.comparison(0.5) == "2.0 times SLOWER"


def test_peers_that_are_not_installed_are_left_out():
    absent = peers.Peer("Absent", "with_absent", "f", "no_such_package", lambda row: True)
    assert not absent.installed
    for peer in peers.PEERS:
        assert importlib.util.find_spec(f"fastmnist.bench.peers.{peer.module}")


# The registry of kernels


@pytest.mark.parametrize(
    ("name", "dtype", "density"),
    [(name, *chosen) for name, case in registry.CASES.items() for chosen in product(case.dtypes, case.densities)],
)
def test_kernels_at_work_compute_what_they_must(name, dtype, density):
    prepared = registry.CASES[name].prepare(dtype, density)
    result, expected = prepared.result(), prepared.expected()
    registry.check(dtype, result, expected)
    prepared.run()
    # The check bites: one number of one array is off by a hundredth of the largest.
    wrong = np.array(result[-1], dtype=np.float64)
    wrong.flat[-1] += 0.01 * np.max(np.abs(wrong))
    with pytest.raises(AssertionError):
        registry.check(dtype, [*result[:-1], wrong], expected)


def test_every_entry_point_is_in_the_registry():
    named = {kernel for case in registry.CASES.values() for kernel in case.kernels}
    assert named == {entry.__name__ for entry in _jit.entries()}


# The table


def measured_cell(peer, median, **changed):
    times = {} if median is None else {"low": 0.9 * median, "high": 1.1 * median, "ratio": median / 2e-6, "first": 1.0}
    return {"peer": peer, "samples": 10_000, "deviation": 0.0, "refused": None, "median": median, **times, **changed}


@pytest.fixture
def measured():
    return {
        "machine": {"processor": "A processor", "platform": "Linux", "cores": 2, "vector_bits": 512},
        "versions": {"numpy": "2.4.6"},
        "missing": ["torch"],
        "keras_backend": "jax",
        "threads": 2,
        "data": "mnist",
        "quick": False,
        "repetitions": 5,
        "tolerance": measure.TOLERANCE,
        "peak_flops": {"float64": {"1": 8e10, "2": 1.6e11}},
        "rows": {
            "B": {
                "title": "per sample",
                "dtype": "float64",
                "images": 10_000,
                "per": "sample",
                "density": 0.19,
                "share_of_peak": 0.2,
                "packing": 0.01,
                "preparing": 0.002,
                "cells": [
                    measured_cell("fastmnist", 2e-6),
                    measured_cell("NumPy script", 4e-4, samples=500),
                    measured_cell("Numba loop", 1e-6),
                    measured_cell("JAX", None, refused="computes something else"),
                ],
            }
        },
        "cold_start": {"warm_cache": 0.5, "empty_cache": 20.0},
    }


def write_table(
    tmp_path, measured, readme=f"Before\n{table_script.BEGIN}\nwhat was there\n{table_script.END}\nAfter\n"
):
    """Run the script on a README of its own; return its exit code, the README after it, and the chart's path."""
    source, target, chart = tmp_path / "measured.json", tmp_path / "README.md", tmp_path / "docs" / "speed.png"
    source.write_text(measured if isinstance(measured, str) else json.dumps(measured))
    target.write_text(readme)
    code = table_script.main([str(source), "--readme", str(target), "--chart", str(chart)])
    return code, target.read_text(), chart


def test_the_table_has_every_cell(tmp_path, measured):
    code, readme, chart = write_table(tmp_path, measured)
    assert code == 0
    assert readme.startswith(f"Before\n{table_script.BEGIN}\n| row ")
    assert readme.endswith(f"\n{table_script.END}\nAfter\n")
    assert "what was there" not in readme
    assert "| 2.00 us ±10% | 400 us ±10%\\*, 200x | 1.00 us ±10%, **0.50x** | refused |" in readme
    assert "- Row B, JAX: computes something else\n" in readme
    assert "Cold start, import to end of the first fit: 500 ms with kernels on disk, 20.0 s" in readme
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert write_table(tmp_path, measured, readme)[1] == readme


def broken(measured, how):
    measured = copy.deepcopy(measured)
    how(measured)
    return measured


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda m: m.pop("rows"), "there are no rows"),
        (lambda m: m.update(quick=True), "these are from --quick"),
        (lambda m: m.pop("cold_start"), "cannot be parsed: KeyError"),
        (lambda m: m["rows"]["B"].pop("images"), "row B cannot be parsed: KeyError"),
        (lambda m: m["rows"]["B"].update(per="hour"), "row B cannot be parsed: KeyError"),
        (lambda m: m["rows"]["B"]["cells"].pop(0), "our own cell must come first"),
        (lambda m: m["rows"]["B"]["cells"][1].update(median=0.0), "NumPy script has the times"),
        (lambda m: m["rows"]["B"]["cells"][1].update(median=float("nan")), "NumPy script has the times"),
        (lambda m: m["rows"]["B"]["cells"][1].update(low=None), "NumPy script has the times"),
        (lambda m: m["rows"]["B"]["cells"][0].update(refused="wrong"), "one side of the comparison has no time"),
    ],
)
def test_the_table_refuses_what_it_cannot_tell(how, message, tmp_path, measured, capsys):
    code, readme, chart = write_table(tmp_path, broken(measured, how))
    assert code == 1
    assert message in capsys.readouterr().err
    assert "what was there" in readme
    assert not chart.exists()


def test_the_table_needs_its_markers_and_a_json_file(tmp_path, measured, capsys):
    assert write_table(tmp_path, measured, "no markers")[:2] == (1, "no markers")
    assert "must have the lines" in capsys.readouterr().err
    assert write_table(tmp_path, "{")[0] == 1


def test_the_readme_has_the_markers():
    readme = (table_script.ROOT / "README.md").read_text(encoding="utf-8")
    assert table_script.with_table(readme, "").count(table_script.BEGIN) == 1
