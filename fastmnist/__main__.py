"""The command line: ``fastmnist`` and ``python -m fastmnist``.

Only the arguments are handled here. A command's module, and with it NumPy, Numba and rich, is imported when
that command runs, so that ``fastmnist --help`` answers at once.
"""

import argparse
import importlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from fastmnist import __version__
from fastmnist.commands import Recipe, UserError

_Number = TypeVar("_Number", int, float)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def _number(
    kind: Callable[[str], _Number], accepted: Callable[[_Number], bool], words: str
) -> Callable[[str], _Number]:
    def parse(text: str) -> _Number:
        try:
            value = kind(text)
        except ValueError:
            pass
        else:
            if accepted(value):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {words}")

    return parse


_count = _number(int, lambda n: n >= 1, "a whole number above 0")
_seed = _number(int, lambda n: n >= 0, "a whole number from 0 up")
_rate = _number(float, lambda x: 0 < x < math.inf, "a finite number above 0")
_share = _number(float, lambda x: 0 <= x < 1, "a number from 0 up to, but not including, 1")


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_count(size) for size in text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastmnist", description="Train small neural networks on a CPU, fast.")
    parser.add_argument("--version", action="version", version=f"fastmnist {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)

    default = Recipe()
    train = commands.add_parser(
        "train",
        help="train a network on MNIST and test it",
        description="Train a network on MNIST with Adam and test it.",
    )
    train.add_argument("--epochs", type=_count, default=default.epochs, help="default %(default)s")
    train.add_argument(
        "--hidden",
        type=_sizes,
        default=default.hidden,
        metavar="SIZES",
        help=f"sizes of the hidden layers, such as 400,20; default {','.join(map(str, default.hidden))}",
    )
    train.add_argument("--batch-size", type=_count, default=default.batch_size, help="default %(default)s")
    train.add_argument(
        "--learning-rate",
        type=_rate,
        default=default.learning_rate,
        help="the highest rate of the schedule; default %(default)s",
    )
    train.add_argument(
        "--dropout",
        type=_share,
        default=default.dropout,
        help="share of the hidden units switched off per sample; default %(default)s",
    )
    train.add_argument("--seed", type=_seed, default=default.seed, help="default %(default)s")
    train.add_argument("--threads", type=_count, help="default: one per core; the results are the same")
    train.add_argument(
        "--data",
        dest="source",
        metavar="SOURCE",
        help="'mnist', 'synthetic', or the path of an mnist.npz or of a folder of IDX files; "
        "default: mnist, or the synthetic digits where MNIST cannot be had",
    )
    train.add_argument("--save", metavar="FILE", help="write the trained weights to this .npz file")
    train.add_argument("--json", dest="as_json", action="store_true", help="print the result as one JSON object")

    reproduce = commands.add_parser(
        "reproduce",
        help="run the four original programs and compare the figures they printed",
        description="Run the four original NumPy programs on MNIST and compare the figures they printed. "
        "Exit code 1 where one differs.",
    )
    reproduce.add_argument(
        "rows",
        nargs="*",
        type=str.upper,
        metavar="ROW",
        help="A: the first thousand images; B: one update per sample; C: B with dropout; "
        "D: batches with dropout; default: all four",
    )
    reproduce.add_argument("--epochs", type=_count, help="stop earlier than the original")
    reproduce.add_argument(
        "--json",
        dest="as_json",
        action="store_true",
        help="print one JSON object per row, in a list if there are several rows",
    )

    run = commands.add_parser(
        "run",
        help="run a NumPy script with its training loops replaced",
        usage="fastmnist run [-v|-vv] [--verify] [--strict] [--explain] [--profile] "
        "(script.py | -m module | -c code) [argument ...]",
        description="Run a program as python would, with its training and evaluation loops recognised and replaced. "
        "What it prints is what it would have printed.",
        allow_abbrev=False,
    )
    run.add_argument("-v", "--verbose", action="count", default=0, help="a line for each loop; -vv: for each pass")
    run.add_argument("--verify", action="store_true", help="run more of the first iterations both ways, and report")
    run.add_argument("--strict", action="store_true", help="exit code 3 where a training loop was not replaced")
    run.add_argument("--explain", action="store_true", help="say before running what may be replaced")
    run.add_argument("--profile", action="store_true", help="end with a table of the loops replaced")
    run.add_argument("-m", dest="module", metavar="module", help="run a module")
    run.add_argument("-c", dest="code", metavar="code", help="run a string")
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="...", help="the script, and its arguments")

    predict = commands.add_parser(
        "predict",
        help="say which digit a picture shows",
        description="Say which digit each picture shows, by the weights that fastmnist train --save has written.",
    )
    predict.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a picture of one digit, dark on bright or bright on dark; 28 x 28 pixels are taken as they are, "
        "in other pictures the digit is looked for and brought to MNIST's size",
    )
    predict.add_argument("--weights", required=True, metavar="FILE", help="what fastmnist train --save wrote")
    predict.add_argument(
        "--json",
        dest="as_json",
        action="store_true",
        help="print one JSON object per picture, in a list if there are several",
    )

    bench = commands.add_parser(
        "bench",
        help="measure this machine's speed beside NumPy, JAX, PyTorch, Keras and scikit-learn",
        description="Measure our kernels and, side by side, NumPy, Numba and whichever of JAX, PyTorch, Keras and "
        "scikit-learn is installed, after checking that they compute the same thing.",
    )
    bench.add_argument(
        "--rows",
        nargs="+",
        type=str.upper,
        metavar="ROW",
        help="A to D: the NumPy programs, B32 and C32: in float32, B-many: 8 trainings at once; E: batches of 200, "
        "deeper, E-dense: no input zero; B-test, E-test: evaluation; accuracy: time to 98 %% on MNIST; growth: with "
        "samples and hidden units; memory: what training adds; cold-start: a fresh process; default: all",
    )
    bench.add_argument("--threads", type=_count, help="for every side alike; default: one per core")
    bench.add_argument("--quick", action="store_true", help="on a thousand images: to see that it works")
    bench.add_argument("--json", dest="as_json", action="store_true", help="print the result as one JSON object")

    info = commands.add_parser("info", help="versions, processor, threads, kernel cache and data found")
    info.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")
    return parser


def _options(arguments: list[str]) -> dict[str, Any]:
    """Read the arguments; those of a program that is to be run are left to it, whatever they look like."""
    rest: list[str] = []
    if arguments[:1] == ["run"]:
        end = 1
        while end < len(arguments) and arguments[end].startswith("-"):
            takes_name = arguments[end] in ("-m", "-c")
            end += 2 if takes_name else 1
            if takes_name:
                break
        else:
            end += 1
        arguments, rest = arguments[:end], arguments[end:]
    options = vars(_parser().parse_args(arguments))
    if rest:
        options["program"] = [*options["program"], *rest]
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, without the program's name; default ``sys.argv[1:]``.

    Returns
    -------
    int
        0, or 1 where a run did not come out as it should (a training that diverged, a figure that differs),
        2 after a mistake in the arguments or the data or where memory does not suffice, 130 after Ctrl-C, 141 where
        the reader of the output has gone, as ``head`` does.
    """
    try:
        options = _options(sys.argv[1:] if argv is None else list(argv))
        command = importlib.import_module(f"fastmnist.commands.{options.pop('command')}")
        code: int = command.run(**options)
        sys.stdout.flush()
    except UserError as error:
        print(f"fastmnist: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastmnist: interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        print(f"fastmnist: there is not enough memory: {error or 'try less at a time'}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # What is still to be written, the interpreter would try to write at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


if __name__ == "__main__":
    sys.exit(main())
