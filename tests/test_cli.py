"""The command line: options, what is printed where, JSON, exit codes, Ctrl-C."""

import json
import math
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from fastmnist import data, engine, scripts
from fastmnist.__main__ import main
from fastmnist.commands import Recipe, ahead, dataset, predict, reproduce, train
from fastmnist.commands.figures import FIGURES
from fastmnist.engine import flat

SMALL = ["--epochs", "2", "--hidden", "16,8", "--batch-size", "32"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The path of an npz file with a few digits."""
    (x_train, y_train), (x_test, y_test) = data.load_data("synthetic", n_train=600, n_test=200)
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return str(path)


@pytest.fixture
def without_mnist(monkeypatch):
    """As on a machine without MNIST and without a network; the synthetic digits are few."""
    load = data.load_data

    def load_data(source="mnist", n_train=None, n_test=None):
        if source == "mnist":
            raise data.DataUnavailableError("MNIST is not available")
        return load(source, n_train=n_train or 300, n_test=n_test or 100)

    monkeypatch.setattr(data, "load_data", load_data)


def start(*arguments, **options):
    return subprocess.Popen([sys.executable, "-m", "fastmnist", *arguments], **options)


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: command"),
        (["fit"], "invalid choice: 'fit'"),
        (["train", "--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["train", "--epochs", "0"], "--epochs: '0' is not a whole number above 0"),
        (["train", "--epochs", "many"], "--epochs: 'many' is not a whole number above 0"),
        (["train", "--batch-size", "-1"], "--batch-size: '-1' is not a whole number above 0"),
        (["train", "--threads", "0"], "--threads: '0' is not a whole number above 0"),
        (["train", "--hidden", "400,,20"], "--hidden: '' is not a whole number above 0"),
        (["train", "--learning-rate", "nan"], "--learning-rate: 'nan' is not a finite number above 0"),
        (["train", "--learning-rate", "0"], "--learning-rate: '0' is not a finite number above 0"),
        (["train", "--dropout", "1"], "--dropout: '1' is not a number from 0 up to, but not including, 1"),
        (["train", "--seed", "-3"], "--seed: '-3' is not a whole number from 0 up"),
        (["reproduce", "E"], "there is no row 'E'; the rows are A, B, C, D"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastmnist: ")
    assert message in err
    assert err.count("\n") == 1


def test_help_and_version(capsys):
    for option in ("--help", "--version"):
        with pytest.raises(SystemExit, match=r"^0$"):
            main([option])
        assert capsys.readouterr().out


def test_options_reach_the_command(monkeypatch):
    calls = []
    monkeypatch.setattr(train, "run", lambda **options: calls.append(options) or 0)
    assert main("train --hidden 400,20 --learning-rate 1e-4 --dropout 0 --data x.npz --threads 2".split()) == 0
    (options,) = calls
    assert options["hidden"] == (400, 20)
    assert options["learning_rate"] == 1e-4
    assert options["dropout"] == 0
    assert options["source"] == "x.npz"
    assert options["threads"] == 2
    assert options["save"] is None


# train


def test_train_json(digits, capsys):
    assert main(["train", "--data", digits, *SMALL, "--dropout", "0.2", "--seed", "5", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert out.count("\n") == 1
    assert result["dataset"] == digits
    assert result["epochs"] == 2
    assert result["sizes"] == [784, 16, 8, 10]
    assert (result["batch_size"], result["dropout"], result["seed"]) == (32, 0.2, 5)
    assert 0 <= result["test_accuracy"] <= 1
    assert result["test_loss"] > 0
    assert result["train_seconds"] > 0
    assert result["compile_seconds"] >= 0
    assert result["samples_per_second"] == pytest.approx(1200 / result["train_seconds"])
    assert err.count("epoch ") == 2


def test_train_learns_the_same_with_any_number_of_threads(digits, capsys):
    results = []
    for threads in ("1", "2"):
        assert main(["train", "--data", digits, "--epochs", "15", "--threads", threads, "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0]["test_loss"] == results[1]["test_loss"]
    assert results[0]["test_accuracy"] > 0.7


def test_train_prints_plain_lines_where_there_is_no_terminal(digits, capsys):
    assert main(["train", "--data", digits, *SMALL]) == 0
    first, second, summary = capsys.readouterr().out.splitlines()
    form = r"epoch {}/2  loss \d\.\d{{4}}  accuracy \d+\.\d\d%  [\d,]+ samples/s"
    assert re.fullmatch(form.format(1), first)
    assert re.fullmatch(form.format(2), second)
    assert re.match(r"test accuracy \d+\.\d\d%, test loss \d\.\d{4} \(.*784-16-8-10, epochs: 2, ", summary)


def test_train_saves_the_weights(digits, tmp_path, capsys):
    path = tmp_path / "weights.npz"
    assert main(["train", "--data", digits, *SMALL, "--save", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["saved"] == str(path)
    with np.load(path) as saved:
        assert [saved[f"weights_{k}"].shape for k in range(3)] == [(784, 16), (16, 8), (8, 10)]
        assert [saved[f"biases_{k}"].shape for k in range(3)] == [(16,), (8,), (10,)]


def test_train_says_what_it_has_written(digits, tmp_path, monkeypatch, capsys):
    """NumPy appends .npz to other names."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--data", digits, *SMALL, "--save", "weights.v2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["saved"] == "weights.v2.npz"
    assert os.listdir() == ["weights.v2.npz"]
    assert main(["train", "--data", digits, *SMALL, "--save", "weights"]) == 0
    assert capsys.readouterr().out.endswith("\nweights written to weights.npz\n")


def test_train_refuses_to_save_nowhere_before_it_trains(digits, tmp_path, capsys):
    missing = tmp_path / "missing"
    assert main(["train", "--data", digits, "--save", str(missing / "weights.npz")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"there is no folder {missing}" in err


@pytest.mark.slow
def test_train_compiles_all_that_it_needs_ahead_and_says_so_once(digits, tmp_path):
    """Half of it by another process, whose kernels are loaded from disk."""
    program = f"""if True:
        from fastmnist import engine
        from fastmnist.__main__ import main
        from fastmnist.commands import ahead
        compile_for, seconds = ahead.compile_for, []
        def timed(*arguments):
            seconds.append(compile_for(*arguments))
            seconds.append(engine.compile_seconds())
            return seconds[0]
        ahead.compile_for = timed
        assert main(["train", "--data", {digits!r}, "--epochs", "1", "--threads", "2"]) == 0
        assert seconds[1] == engine.compile_seconds(), engine.compile_seconds() - seconds[1]
        assert seconds[1] > 0
        assert compile_for(0.3, 2) == 0
    """
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "random.py").write_text("open('seen', 'w')")
    options = {"cwd": folder, "env": os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}, "timeout": 300}
    first = subprocess.run([sys.executable, "-P", "-c", program], stderr=subprocess.PIPE, text=True, **options)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("Compiling") == 1
    assert not (folder / "seen").exists()

    again = [sys.executable, "-P", "-m", "fastmnist", "train", "--data", digits, "--epochs", "1", "--json"]
    second = subprocess.run(again, capture_output=True, text=True, check=True, **options)
    assert "Compiling" not in second.stderr
    assert json.loads(second.stdout)["compile_seconds"] == 0


@pytest.mark.parametrize("program", ["", None, "/no/such/program", sys.executable])
def test_train_does_without_another_process_that_cannot_start_or_takes_too_long(program, monkeypatch):
    monkeypatch.setattr(engine, "cached_kernels", lambda: 0)
    monkeypatch.setattr(ahead, "_PATIENCE", 0)
    monkeypatch.setattr(sys, "executable", program)
    assert ahead.compile_for(0.3, 2) >= 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_ends_both_processes_that_compile(digits, tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = ["train", "--data", digits]
    with start(*command, stderr=subprocess.PIPE, env=environment, start_new_session=True) as process:
        assert b"Compiling" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == b"fastmnist: interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_train_without_mnist_takes_synthetic_digits_and_says_so(without_mnist, capsys):
    assert main(["train", *SMALL, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["dataset"] == "synthetic"
    assert "warning: training on synthetic digits, NOT on MNIST" in err

    assert main(["train", *SMALL]) == 0
    assert "(synthetic, 784-16-8-10" in capsys.readouterr().out


@pytest.mark.parametrize("source", [None, "mnist"])
def test_data_are_called_mnist_only_if_they_are(source, digits, mnist, monkeypatch):
    monkeypatch.setattr(data, "load_data", lambda source: mnist)
    monkeypatch.setenv("FASTMNIST_MNIST", "found.npz")
    assert dataset.load(source, "training")[0] == "mnist"
    (x_train, y_train), test = mnist
    monkeypatch.setattr(data, "load_data", lambda source: ((x_train, y_train[::-1].copy()), test))
    assert dataset.load(source, "training")[0] == "found.npz"
    monkeypatch.delenv("FASTMNIST_MNIST")  # then Keras's cache, which `load_data` has checked
    assert dataset.load(source, "training")[0] == "mnist"


def test_train_does_not_replace_data_that_was_asked_for(without_mnist, capsys):
    assert main(["train", "--data", "mnist"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "fastmnist: --data mnist: MNIST is not available\n"


def test_train_refuses_bad_data_files(tmp_path, capsys):
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 and no more")
    for source in (str(broken), str(tmp_path / "missing.npz")):
        assert main(["train", "--data", source]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert source in err
        assert err.count("\n") == 1


def test_train_refuses_batches_larger_than_the_data(digits, capsys):
    assert main(["train", "--data", digits, "--batch-size", "601"]) == 2
    assert "--batch-size 601 is more than the 600 training images" in capsys.readouterr().err


def test_train_stops_when_it_diverges(digits, capsys):
    assert main(["train", "--data", digits, "--epochs", "50", "--learning-rate", "1e38", "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"training diverged in epoch \d+: the loss is (nan|inf); try a --learning-rate below 1e\+38", err)
    assert err.count("epoch 50/50") == 0


def test_learning_rates_rise_then_fall_to_zero():
    recipe = Recipe(epochs=4, batch_size=100, learning_rate=0.5, warm_up=0.25)
    rates = train.learning_rates(recipe, n_train=950)
    assert rates.shape == (4, 10)
    assert np.all(np.diff(rates.ravel()[:10]) > 0)
    assert np.all(np.diff(rates.ravel()[10:]) < 0)
    assert rates.max() == pytest.approx(0.5, rel=0.06)
    assert 0 < rates.min() == rates[-1, -1] < 0.001


# reproduce


@pytest.fixture
def counted(monkeypatch):
    """Twenty training and ten test images, and sums that show where they went."""
    digits = data.load_data("synthetic", n_train=20, n_test=10)
    monkeypatch.setattr(data, "load_data", lambda source: digits)
    monkeypatch.setattr(scripts, "sgd_epoch", lambda *arrays, **options: (1000.0, 15))
    monkeypatch.setattr(scripts, "evaluate", lambda *arrays, **options: (40.0, 7))


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("A", "I:0 Train-Err:50.0 Train-Acc:0.75 Test-Err:4.0 Test-Acc:0.7"),
        ("B", "Epoch 1 | Error: 2.0 | Correct: 0.35 | Test-Err: 4.0 | Test-Acc: 0.7"),
        ("C", "Epoch 1 | Error: 50.0 | Correct: 0.75 | Test-Err: 100.0 | Test-Acc: 1.5"),
        ("D", "Epoch 1 | Error: 50.0 | Correct: 0.75 | Test-Err: 100.0 | Test-Acc: 0.7"),
    ],
)
def test_reproduce_prints_what_the_original_has_under_its_headings(row, line, counted, capsys):
    main(["reproduce", row.lower(), "--epochs", "1"])
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "epochs"), [("A", [1, 11, 12]), ("B", [1, 11, 12]), ("C", [1, 11]), ("D", [1, 11, 12])]
)
def test_reproduce_prints_at_the_epochs_of_the_original(row, epochs, counted, capsys):
    main(["reproduce", row, "--epochs", "12", "--json"])
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert set(result) == {"row", "lines", "seconds"}
    assert result["row"] == row
    assert [line["epoch"] for line in result["lines"]] == epochs
    assert set(result["lines"][0]) == {"epoch", "error", "correct", "test_err", "test_acc"}
    assert err.count("\n") > len(epochs)


def test_reproduce_gives_a_list_for_several_rows(counted, capsys):
    main(["reproduce", "B", "D", "--epochs", "1", "--json"])
    assert [result["row"] for result in json.loads(capsys.readouterr().out)] == ["B", "D"]


def figures_line(row, epoch):
    return reproduce.Line(epoch, *FIGURES[row][epoch])


def test_agreement_is_to_nine_digits_and_equal_counts():
    line = figures_line("D", 81)
    assert reproduce._agrees("D", line)
    assert reproduce._agrees("D", line._replace(error=line.error * (1 + 5e-10)))
    assert not reproduce._agrees("D", line._replace(error=line.error * (1 + 5e-9)))
    assert not reproduce._agrees("D", line._replace(test_err=line.test_err * (1 - 5e-9)))
    assert not reproduce._agrees("D", line._replace(correct=line.correct + 0.0001))
    assert not reproduce._agrees("D", line._replace(test_acc=line.test_acc - 0.0001))
    assert not reproduce._agrees("D", line._replace(error=math.nan))
    assert reproduce._agrees("D", line._replace(epoch=82)) is None


def test_agreement_of_row_a_is_to_the_digits_it_printed():
    line = figures_line("A", 350)
    assert reproduce._agrees("A", line._replace(error=0.10899, test_err=0.65300001))
    assert not reproduce._agrees("A", line._replace(error=0.10799))
    assert not reproduce._agrees("A", line._replace(test_err=0.654))
    assert not reproduce._agrees("A", line._replace(test_acc=0.7074))


def test_reproduce_agrees_with_the_original(mnist, capsys):
    assert main(["reproduce", "B", "C", "--epochs", "1"]) == 0
    assert capsys.readouterr().out.count("  (agrees)") == 2


def test_reproduce_says_where_it_differs(mnist, monkeypatch, capsys):
    error, correct, *rest = FIGURES["B"][1]
    monkeypatch.setitem(FIGURES["B"], 1, (error, correct + 0.0001, *rest))
    assert main(["reproduce", "B", "--epochs", "1"]) == 1
    assert "(DIFFERS)" in capsys.readouterr().out


@pytest.mark.slow
def test_reproduce_agrees_with_every_figure(mnist, capsys):
    assert main(["reproduce"]) == 0
    out = capsys.readouterr().out
    assert out.count("  (agrees)") == sum(map(len, FIGURES.values())) == 28


def test_reproduce_needs_mnist(without_mnist, capsys):
    assert main(["reproduce", "B"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "fastmnist: the original figures need MNIST itself: MNIST is not available\n"


# predict


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights that tell most of the synthetic digits, and the digits that they were trained on."""
    (x_train, y_train), test = data.load_data("synthetic", n_train=2000, n_test=40)
    network = engine.Network((784, 64, 10), seed=1)
    for _ in range(15):
        network.train_epoch(x_train, y_train)
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    network.save(path)
    return str(path), test


def on_paper(digit):
    """A large picture, dark on bright, the digit in its upper left."""
    image = pytest.importorskip("PIL.Image")
    page = image.new("L", (420, 300), 245)
    page.paste(image.fromarray(255 - digit).resize((200, 230)), (40, 20))
    return page


def transparent(digit):
    """Black ink, and no paper: only how thick the ink is says what it shows."""
    image = pytest.importorskip("PIL.Image")
    ink = image.new("RGBA", (28, 28), "black")
    ink.putalpha(image.fromarray(digit))
    return ink


@pytest.mark.parametrize(
    ("picture", "suffix"),
    [
        (lambda image, digit: image.fromarray(digit), "png"),
        (lambda image, digit: image.fromarray(255 - digit), "png"),
        (lambda image, digit: on_paper(digit), "jpg"),
        (lambda image, digit: transparent(digit), "png"),
    ],
    ids=["as in MNIST", "dark on bright", "on paper", "transparent"],
)
def test_predict_reads_pictures(picture, suffix, weights, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    path, (digits, labels) = weights
    paths = [str(tmp_path / f"{k}.{suffix}") for k in range(len(digits))]
    for digit, to in zip(digits, paths, strict=True):
        picture(image, digit).save(to)
    assert main(["predict", *paths, "--weights", path, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["image"] for result in results] == paths
    assert np.mean([result["digit"] for result in results] == labels) >= 0.8
    for result in results:
        assert result["probability"] == max(result["probabilities"]) == result["probabilities"][result["digit"]]
        assert sum(result["probabilities"]) == pytest.approx(1)

    assert main(["predict", paths[0], "--weights", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digit"] == results[0]["digit"]
    assert main(["predict", paths[0], "--weights", path]) == 0
    assert re.fullmatch(rf"{paths[0]}: \d \(\d+\.\d%\)\n", capsys.readouterr().out)


def test_predict_takes_pictures_of_its_size_as_they_are(weights, tmp_path):
    image = pytest.importorskip("PIL.Image")
    _, (digits, _) = weights
    for pixels in (digits[0], 255 - digits[0]):
        image.fromarray(pixels).save(tmp_path / "digit.png")
        assert np.array_equal(predict._read_digit(str(tmp_path / "digit.png")), digits[0])


@pytest.mark.parametrize(("width", "height"), [(10, 300), (300, 40), (7, 7)])
def test_predict_prepares_pictures_as_mnist_was(width, height, tmp_path):
    image = pytest.importorskip("PIL.Image")
    page = image.new("L", (500, 400))
    page.paste(255, (80, 50, 80 + width, 50 + height))
    page.save(tmp_path / "bar.png")
    digit = predict._read_digit(str(tmp_path / "bar.png"))
    rows, columns = np.nonzero(digit)
    assert max(np.ptp(rows), np.ptp(columns)) == 19
    for where in (rows, columns):
        assert where.mean() == pytest.approx(13.5, abs=0.5)


def test_predict_refuses(weights, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    path, _ = weights
    image.new("L", (50, 50), 200).save(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no picture")
    np.savez(tmp_path / "small.npz", weights_0=np.ones((4, 2)), biases_0=np.ones(2))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("no weights")
    picture = tmp_path / "digit.png"
    image.fromarray(np.eye(28, dtype=np.uint8)).save(picture)
    for arguments, message in [
        ([tmp_path / "empty.png", "--weights", path], "there is nothing to see on it"),
        ([tmp_path / "text.png", "--weights", path], "cannot identify image file"),
        ([tmp_path / "missing.png", "--weights", path], "No such file"),
        ([picture, "--weights", "missing.npz"], "fastmnist train --save missing.npz makes one"),
        ([picture, "--weights", tmp_path / "small.npz"], "images have 784 inputs each, but weights[0] has 4 rows"),
        ([picture, "--weights", tmp_path / "array.npy"], "not a file that fastmnist train --save has written"),
        ([picture, "--weights", tmp_path / "text.npz"], "not a file that fastmnist train --save has written"),
        ([picture], "required: --weights"),
    ]:
        assert main(["predict", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert err.count("\n") == 1


def test_predict_names_what_is_missing(monkeypatch, weights, capsys):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert main(["predict", "digit.png", "--weights", weights[0]]) == 2
    assert 'pip install "fastmnist[plots]"' in capsys.readouterr().err


# info


def test_info(capsys):
    assert main(["info", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["vector_bits"] in (128, 256, 512)
    assert report["threads"] >= 1
    assert report["cached_kernels"] >= 0

    assert main(["info"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert [key.replace(" ", "_") for key in lines] == list(report)
    assert lines["numba"] == report["numba"]


@pytest.mark.parametrize(("exists", "shown"), [(True, "found.npz"), (False, "none")])
def test_info_says_where_mnist_is(exists, shown, tmp_path, monkeypatch, capsys):
    path = tmp_path / "found.npz"
    if exists:
        path.touch()
    monkeypatch.setenv("FASTMNIST_MNIST", str(path))
    assert main(["info"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mnist: ")]
    assert line.endswith(shown)


# As a program


def test_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "fastmnist", "train", "--epochs", "0"], capture_output=True)
    assert result.returncode == 2
    assert result.stderr.startswith(b"fastmnist: ")


def test_too_little_memory_is_one_line(digits, capsys):
    assert main(["train", "--data", digits, "--hidden", "100000000000"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastmnist: there is not enough memory: ")
    assert err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="closes a pipe")
@pytest.mark.parametrize("arguments", [["--epochs", "100"], ["--epochs", "1", "--json"]])
def test_a_reader_that_has_gone_ends_a_run_quietly(digits, arguments):
    with start("train", "--data", digits, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 141
    assert b"Traceback" not in err
    assert b"BrokenPipe" not in err


LONG = ["--epochs", "100000", "--hidden", "512"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_stops_at_once(digits):
    with start("train", "--data", digits, *LONG, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith(b"fastmnist: interrupted\n")
    assert b"Traceback" not in err


def test_kernels_return_often_enough_for_ctrl_c():
    """Within 0.3 s: what one call of a kernel takes, and what Python takes to end."""
    assert flat._SLICE <= 0.1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_progress_bar_and_its_cursor_back(digits):
    import pty

    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    shown = b""
    with start("train", "--data", digits, *LONG, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        while not re.search(rb"epoch \d+/100000 .*loss \d\.\d{4}  accuracy .*samples/s .*:\d\d", shown):
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # how Linux reports that the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 130
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") > -1
    assert b"Traceback" not in shown
