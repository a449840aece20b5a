"""The NumPy script in a process of its own, which is how ``python script.py`` runs it.

That is not the same loop at another place. A row A iteration has 250 KB temporaries, and glibc takes those from the
system and gives them back each time (158 us a sample) unless the process has freed a larger block before (58 us): as
this process has, and one that has imported Keras.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import weakref
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fastmnist.bench.peers import with_numpy
from fastmnist.bench.rows import Array, Row, Side, Work

_MAIN = f"import sys; from {__name__} import serve; serve(*sys.argv[1:])"


def script(work: Work) -> Side:
    """Start a process that has the work and waits; its first run draws from NumPy's global stream at seed 1."""
    process = _Process(work)
    return Side(process.run, process.result)


class _Process:
    def __init__(self, work: Work) -> None:
        folder = tempfile.TemporaryDirectory()
        self._results = Path(folder.name, "results.npz")
        file = Path(folder.name, "work.npz")
        np.savez(file, *work.weights, images=work.images, labels=work.labels)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, json.dumps(asdict(work.row)), str(file), str(self._results)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        weakref.finalize(self, _end, self._process, folder)
        self._expect("ready")

    def run(self) -> None:
        self._say("run")

    def result(self) -> list[Array]:
        self._say("save")
        return _arrays(self._results)

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)
        self._expect(word)

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        if (answer := self._process.stdout.readline().strip()) != word:
            raise RuntimeError(f"the script's process says {answer!r} where {word!r} was expected")


def _end(process: subprocess.Popen[str], folder: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    process.communicate()
    folder.cleanup()


def _arrays(file: Path) -> list[Array]:
    with np.load(file) as arrays:
        return [arrays[name] for name in arrays.files if name.startswith("arr_")]


def serve(row: str, file: str, results: str) -> None:
    """Do the work in `file`, and write what has come of it to `results`, whenever a line of the input says so."""
    fields = json.loads(row)
    weights = _arrays(Path(file))
    with np.load(file) as arrays:
        work = Work(
            Row(**fields | {"sizes": tuple(fields["sizes"])}), arrays["images"], arrays["labels"], weights, None, 1
        )
    np.random.seed(1)
    side = with_numpy.script(work)
    _answer("ready\n")
    for line in sys.stdin:
        if line.strip() == "run":
            side.run()
        else:
            np.savez(results, *side.result())
        _answer(line)


def _answer(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()
