"""``fastmnist bench``, the kernel registry, and the script that writes the speed table."""

import copy
import gc
import importlib.util
import json
import os
import re
from itertools import product

import numpy as np
import pytest
import registry
import report as table_script

from fastmnist import _jit, data, scripts
from fastmnist.__main__ import main
from fastmnist.bench import machine, measure, peers, report, rows, words
from fastmnist.bench.peers import alone, with_numpy
from fastmnist.bench.sections import accuracy, cold_start, growth, memory
from fastmnist.bench.setting import Course, Recipe, Setting

DIGITS = data.load_data("synthetic", n_train=400, n_test=400)


@pytest.fixture
def quick(monkeypatch):
    """Few digits, NumPy alone to compare with, no fresh processes, no minutes of multiplying."""
    monkeypatch.delenv("FASTMNIST_MNIST", raising=False)
    monkeypatch.setattr(data, "load_data", lambda source: DIGITS)
    monkeypatch.setattr(report, "PEERS", [peer for peer in peers.PEERS if peer.package == "numpy"])
    monkeypatch.setattr(cold_start, "first_fit", lambda: 0.5)
    monkeypatch.setattr(machine, "fma_peak", lambda dtype, threads: 1e11 * threads)


# The command


def test_bench_prints_one_json_object(quick, capsys):
    assert main(["bench", "--rows", "b", "e-test", "cold-start", "--quick", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert list(result["rows"]) == ["B", "E-TEST"]
    assert result["repetitions"] >= 5
    assert result["data"] == "mnist"
    assert result["versions"]["numpy"] == np.__version__
    assert result["sections"] == {"COLD-START": {"refused": None, "first_fit": 0.5, "compiling": None}}
    row = result["rows"]["B"]
    assert (row["per"], row["dtype"], row["images"]) == ("sample", "float64", 400)
    assert 0 < row["share_of_peak"] == pytest.approx(row["flops"] / (1e11 * result["threads"]))
    ours, numpy_script, warm = row["cells"]
    assert (ours["peer"], ours["ratio"], ours["samples"]) == ("fastmnist", 1, 400)
    assert (numpy_script["peer"], warm["peer"]) == ("NumPy script", "NumPy script, warm heap")
    assert numpy_script["ratio"] == pytest.approx(numpy_script["median"] / ours["median"])
    assert 0 < numpy_script["low"] <= numpy_script["median"] <= numpy_script["high"]
    assert numpy_script["deviation"] < 1e-9
    assert [cell["peer"] for cell in result["rows"]["E-TEST"]["cells"]] == ["fastmnist", "NumPy"]
    assert "Row E-TEST" in err


def test_bench_prints_a_table_and_what_was_measured_on(quick, capsys):
    assert main(["bench", "--rows", "D", "cold-start", "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "Row"
    assert [line.split("  ")[0] for line in lines[1:4]] == ["D (float64), per epoch", "", ""]
    assert any("times as fast" in line or "times SLOWER" in line for line in lines[2:4])
    assert any(line.startswith("Row D: ") and "of the peak" in line and "Packing" in line for line in lines)
    assert lines[-1] == "Cold start, import to end of the first fit: 500 ms with kernels on disk."


def test_bench_names_a_file_that_is_not_mnist_without_its_folder(quick, monkeypatch, capsys):
    monkeypatch.setenv("FASTMNIST_MNIST", "/some/folder/digits.npz")
    assert main(["bench", "--rows", "cold-start", "--quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == "digits.npz"
    assert main(["bench", "--rows", "cold-start", "--quick"]) == 0
    assert not capsys.readouterr().out.startswith("Row")  # no empty table


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
        (["--rows", "B", "Z"], "there is no row 'Z'; the rows are A, B, B32, B-MANY, C,"),
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


def test_many_trainings_start_from_weights_of_their_own():
    work = small_work("B-MANY")
    networks = work.networks()
    assert [[w.shape for w in weights] for weights in networks] == [[(784, 40), (40, 10)]] * 8
    assert len({w.tobytes() for weights in networks for w in weights}) == 16
    before = [w.copy() for w in work.weights]
    side = peers.OURS.prepare(work)
    side.run()
    assert all(np.array_equal(a, b) for a, b in zip(work.weights, before, strict=True))
    for k, weights in enumerate(networks):
        one = peers.OURS.prepare(work._replace(row=rows.ROWS["B"], weights=weights))
        one.run()
        for a, b in zip(side.result()[2 * k : 2 * k + 2], one.result(), strict=True):
            assert np.array_equal(a, b)


def test_plain_arrays_are_told_against_the_script():
    medians = {"fastmnist": 1.0, "fastmnist, plain arrays": 2.0, "NumPy script": 300.0}
    row = {"cells": [{"peer": peer, "median": t, "refused": None} for peer, t in medians.items()]}
    assert list(report._plain_arrays("B", row)) == [
        "Row B without pack, on plain arrays: 150 times as fast as the NumPy script."
    ]
    row["cells"][2]["refused"] = "computes something else"
    assert not list(report._plain_arrays("B", row))


def test_a_side_that_fails_gets_no_time_and_says_why():
    broken = peers.Peer("Broken", "with_numpy", "no_such_function", "numpy", lambda row: True)
    cell = cells(small_work("B-TEST"), broken)["Broken"]
    assert cell.median is None
    assert cell.refused.startswith("failed: AttributeError: ")


def test_a_process_of_its_own_starts_afresh_and_ends_with_its_side():
    work = small_work("C").first(50)
    there, here = alone.script(work), with_numpy.script(work)
    process = there.run.__self__._process
    np.random.seed(1)
    for _ in range(2):  # the stream goes on, and so do the weights
        there.run()
        here.run()
        for a, b in zip(there.result(), here.result(), strict=True):
            assert np.array_equal(a, b)
    assert process.poll() is None
    del there
    gc.collect()
    process.wait(10)  # raises if it goes on


def test_a_process_of_its_own_that_dies_is_told():
    side = alone.script(small_work("B").first(50))
    process = side.run.__self__._process
    process.kill()
    with pytest.raises((RuntimeError, BrokenPipeError)):
        side.run()


def test_not_a_number_agrees_with_nothing():
    row, start, ours = rows.ROWS["B"], [np.zeros(2)], [np.ones(2)]
    assert measure.deviation(row, start, ours, [np.ones(2)]) == 0
    assert measure.deviation(row, start, ours, [np.array([1.0, np.nan])]) == np.inf
    assert measure.deviation(row, start, ours, [np.ones(3)]) == np.inf


def test_operations_that_non_zero_inputs_need():
    row = rows.Row("", (100, 10, 5), 1, "float64")
    assert row.flops(density=0.2) == 4 * 0.2 * 1000 + 6 * 50
    assert rows.replace(row, trainings=3).flops(density=0.2) == 3 * row.flops(density=0.2)
    assert rows.replace(row, evaluates=True).flops(density=1) == 2 * 1000 + 2 * 50


def test_durations_and_ratios_in_words():
    assert [words.duration(s) for s in (12.34, 1.234, 0.1234, 1.2345e-3, 4.2e-6)] == [
        "12.3 s",
        "1.23 s",
        "123 ms",
        "1.23 ms",
        "4.20 us",
    ]
    assert words.comparison(2.04) == "2.0 times as fast"
    assert words.comparison(0.5) == "2.0 times SLOWER"


def test_peers_that_are_not_installed_are_left_out():
    absent = peers.Peer("Absent", "with_absent", "f", "no_such_package", lambda row: True)
    assert not absent.installed
    for peer in peers.PEERS:
        assert importlib.util.find_spec(f"fastmnist.bench.peers.{peer.module}")


# Beside the rows


def setting(**changed):
    recipe = Recipe((784, 16, 10), 100, 0.1, np.full((4, 4), 0.01))
    return Setting(DIGITS, "mnist", recipe, 1, 1, True, lambda line: None)._replace(**changed)


def test_what_cannot_be_measured_says_why(monkeypatch):
    measured = {"ACCURACY": report._section("ACCURACY", setting(source="synthetic"))}
    assert measured["ACCURACY"] == {"refused": "it needs MNIST itself"}
    assert list(report.sections({"sections": measured})) == [
        "98 % of MNIST's test images: not measured: it needs MNIST itself."
    ]
    monkeypatch.setattr(memory, "_TRAIN_ROW_E", "raise SystemExit(1)")
    assert "non-zero exit status 1" in report._section("MEMORY", setting())["refused"]


@pytest.mark.parametrize(
    "module", ["ours", pytest.param("with_torch", marks=pytest.mark.filterwarnings("default")), "both"]
)
def test_accuracy_trains_until_it_is_reached(module, monkeypatch):
    sides = {"ours": ["fastmnist"], "with_torch": ["PyTorch"], "both": ["fastmnist", "PyTorch"]}[module]
    if "PyTorch" in sides:
        pytest.importorskip("torch")
    monkeypatch.setattr(accuracy, "_SIDES", {name: accuracy._SIDES[name] for name in sides})
    monkeypatch.setattr(accuracy, "WANTED", 0.4)
    measured = accuracy.measure(setting())
    assert [cell["peer"] for cell in measured["cells"]] == sides
    for cell in measured["cells"]:
        assert cell["refused"] is None
        assert 1 < cell["epochs"] <= 4
        assert 0.4 <= cell["accuracy"] <= 1
        assert 0 < cell["low"] <= cell["high"]
    assert measured["cells"][0]["ratio"] == 1


class Scripted:
    """A side that is as accurate after each epoch as it is told to be."""

    def __init__(self, *accuracies):
        self.accuracies = accuracies

    def follow(self, recipe, dataset, threads):
        def start(seed):
            done = []
            return Course(done.append, lambda: self.accuracies[len(done) - 1] + (0.001 if seed else -0.001))

        return start


def test_accuracy_is_the_mean_of_the_seeds(monkeypatch):
    def measured(**sides):
        monkeypatch.setattr(accuracy, "_SIDES", {name: ("numpy", name) for name in sides})
        monkeypatch.setattr(accuracy.importlib, "import_module", lambda name: sides[name.split(".")[-1]])
        return accuracy.measure(setting())

    reached = measured(fastmnist=Scripted(0.97, 0.98), PyTorch=Scripted(0.96, 0.97, 0.979, 0.99))
    assert [cell["epochs"] for cell in reached["cells"]] == [2, 4]
    assert [cell["accuracy"] for cell in reached["cells"]] == [pytest.approx(0.98), pytest.approx(0.99)]
    text = " ".join(accuracy.words(reached))
    assert "the mean of 2 seeds" in text
    assert re.search(r": fastmnist .* in 2 epochs, PyTorch .* in 4 epochs \(fastmnist is .* times ", text)

    never = Scripted(0.9, 0.9, 0.9, 0.9799)
    for sides in ({"fastmnist": never, "PyTorch": Scripted(0.99)}, {"fastmnist": Scripted(0.99), "PyTorch": never}):
        lost = measured(**sides)
        assert "only 97.99% after 4 epochs" in " ".join(accuracy.words(lost))
        assert "fastmnist is" not in " ".join(accuracy.words(lost))


def test_growth_is_by_sample_and_by_hidden_unit(monkeypatch):
    monkeypatch.setattr(growth, "SAMPLES", (400, 800, 100_000))
    monkeypatch.setattr(growth, "HIDDEN", (8, 16))
    monkeypatch.setattr(growth, "_DRAWN", 400)
    measured = growth.measure(setting())
    for name in ("B", "E"):
        assert list(measured["samples"][name]) == ["400", "800"]  # a quick run stops before the last
        assert list(measured["hidden"][name]) == ["8", "16"]
        for low, median, high in [*measured["samples"][name].values(), *measured["hidden"][name].values()]:
            assert 0 < low <= median <= high
    (images, labels), _ = growth._digits(1000)
    assert len(images) == len(labels) == 1000
    assert np.array_equal(images[400:800], images[:400])
    assert np.array_equal(images[800:], images[:200])


def test_growth_in_words():
    times = {"10": [0.9e-6, 1e-6, 2e-6], "20": [1e-6, 1.1e-6, 3e-6], "40": [1e-6, 3e-6, 4e-6]}
    samples, hidden = growth.words({"samples": {"B": times}, "hidden": {"B": times}})
    assert "1.00 us, 1.10 us, 3.00 us per sample of 10, 20 and 40; the slowest takes 200% more" in samples
    assert "4 times the units take 3.0 times as long, twice as many at most 2.7 times." in hidden


@pytest.mark.skipif(importlib.util.find_spec("resource") is None, reason="needs the peak of a process")
def test_memory_is_that_of_a_process_of_its_own():
    ballast = np.ones(50_000_000)  # 400 MB, of which nothing may be seen
    measured = memory.measure(setting())
    assert measured["images"] == 400
    assert 10e6 < measured["loaded"] < ballast.nbytes
    assert 0 < measured["libraries"] <= measured["added"] < 300e6
    assert "on 400 uint8 images adds" in " ".join(memory.words(measured))


def test_cold_start_compiles_only_where_it_must(monkeypatch):
    """That `train` compiles with an empty cache, and tells for how long, is tested with `train`."""
    assert cold_start.first_fit() > 0

    def output(*arguments, NUMBA_CACHE_DIR):
        assert arguments[:3] == ("-m", "fastmnist", "train")
        assert os.listdir(NUMBA_CACHE_DIR) == []
        return '{"compile_seconds": 10.0}'

    monkeypatch.setattr(cold_start, "first_fit", lambda: 0.5)
    monkeypatch.setattr(cold_start, "_output", output)
    measured = cold_start.measure(setting(quick=False))
    assert measured == {"first_fit": 0.5, "compiling": 10.0}
    assert " ".join(cold_start.words(measured)).endswith("without, fastmnist train compiles them for 10.0 s.")


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
                    measured_cell("fastmnist, 1 thread", 3e-6),
                    measured_cell("fastmnist, plain arrays", 1e-6),
                    measured_cell("NumPy script", 4e-4, samples=500),
                    measured_cell("Numba loop", 1e-6),
                    measured_cell("JAX", None, refused="computes something else"),
                ],
            }
        },
        "sections": {
            "ACCURACY": {
                "refused": None,
                "wanted": 0.98,
                "seeds": 20,
                "cells": [
                    {"peer": "fastmnist", "epochs": 4, "mean": 1.0, "ratio": 1.0, "refused": None},
                    {"peer": "PyTorch", "epochs": 5, "mean": 0.8, "ratio": 0.8, "refused": None},
                ],
            },
            "MEMORY": {"refused": "this system does not tell"},
            "COLD-START": {"refused": None, "first_fit": 0.5, "compiling": 20.0},
        },
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
    own = "1 thread: 3.00 us ±10%, 1.50x<br>plain arrays: 1.00 us ±10%, **0.50x**"
    assert f"| 2.00 us ±10% | {own} | 400 us ±10%\\*, 200x | 1.00 us ±10%, **0.50x** | refused |" in readme
    assert "fastmnist 1.00 s in 4 epochs, PyTorch 800 ms in 5 epochs (fastmnist is 1.2 times SLOWER)" in readme
    assert "- Memory: not measured: this system does not tell.\n" in readme
    assert "- Row B, JAX: computes something else\n" in readme
    assert "kernels on disk; without, fastmnist train compiles them for 20.0 s." in readme
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
        (lambda m: m.pop("sections"), "cannot be parsed: KeyError"),
        (lambda m: m["sections"]["COLD-START"].pop("compiling"), "cannot be parsed: KeyError"),
        (
            lambda m: m["sections"]["ACCURACY"]["cells"][1].update(ratio=float("nan")),
            "the ratios to 98 % are [1.0, nan]",
        ),
        (lambda m: m["rows"]["B"].pop("images"), "row B cannot be parsed: KeyError"),
        (lambda m: m["rows"]["B"].update(per="hour"), "row B cannot be parsed: KeyError"),
        (lambda m: m["rows"]["B"]["cells"].pop(0), "our own cell must come first"),
        (lambda m: m["rows"]["B"]["cells"][3].update(median=0.0), "NumPy script has the times"),
        (lambda m: m["rows"]["B"]["cells"][3].update(median=float("nan")), "NumPy script has the times"),
        (lambda m: m["rows"]["B"]["cells"][3].update(low=None), "NumPy script has the times"),
        (lambda m: m["rows"]["B"]["cells"][0].update(refused="wrong"), "one side of the comparison has no time"),
    ],
)
def test_the_table_refuses_what_it_cannot_tell(how, message, tmp_path, measured, capsys):
    code, readme, chart = write_table(tmp_path, broken(measured, how))
    assert code == 1
    assert message in capsys.readouterr().err
    assert "what was there" in readme
    assert not chart.exists()


def test_the_chart_has_a_bar_for_each_other_library(measured):
    def texts():
        (axes,) = table_script.chart(table_script.checked(measured)).axes
        return [text.get_text() for text in axes.texts], [label.get_text() for label in axes.get_yticklabels()]

    bars, labels = texts()
    assert bars == ["Numba loop  0.50", "NumPy script  200", "PyTorch  0.80"]
    assert labels == ["B, float64\nper sample", "98 % of MNIST's test images"]
    del measured["sections"]["ACCURACY"]
    measured["rows"]["B"]["cells"][3:] = []  # our own ways alone: no bar, and no failure
    assert texts() == ([], [])


def test_the_table_needs_its_markers_and_a_json_file(tmp_path, measured, capsys):
    assert write_table(tmp_path, measured, "no markers")[:2] == (1, "no markers")
    assert "must have the lines" in capsys.readouterr().err
    assert write_table(tmp_path, "{")[0] == 1


def test_the_readme_has_the_markers():
    readme = (table_script.ROOT / "README.md").read_text(encoding="utf-8")
    assert table_script.with_table(readme, "").count(table_script.BEGIN) == 1
