"""The training loop of Keras over the engine, for our own models and for real Keras ones.

It knows class names and configs, arrays, and callbacks by the names of their methods; models are reached through a
`Host`. An epoch is one call of the engine unless a callback listens to batches.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist import engine, spec
from fastmnist.keras import arrays
from fastmnist.keras.plan import LossPlan, Plan, Unsupported, plan_loss
from fastmnist.keras.progress import Progress
from fastmnist.keras.task import Host, Metric, Task, Weights
from fastmnist.notice import compile_notice

__all__ = ["Host", "Metric", "Task", "Trainer", "listens"]

# Columns of the engine's scores.
_SQUARED, _ENTROPY, _CORRECT, _RIGHT_SIDE = range(4)
_EPSILON = 1e-7  # keras.config.epsilon()


@dataclass(frozen=True)
class _Column:
    """A metric as a column of the engine's scores."""

    name: str
    column: int
    scale: float
    weighted: bool


@dataclass(frozen=True)
class _Data:
    """Samples with their targets, checked and in the engine's form."""

    x: NDArray[Any]
    targets: NDArray[Any]
    threshold: float
    weights: NDArray[Any] | None
    columns: tuple[_Column, ...]

    @cached_property
    def packed(self) -> engine.Packed:
        """Samples, packed once: looking in each epoch whether one has changed took a tenth of row E's."""
        return engine.as_packed(self.x, None)

    def part(self, rows: slice) -> engine.Packed:
        """Return some of the samples, packed."""
        return self.packed if rows == slice(0, len(self)) else engine.as_packed(self.x[rows], None)

    def __len__(self) -> int:
        return len(self.x)


class _Sums:
    """Running sums over the samples of an epoch, and the means that are logged."""

    def __init__(self, loss: LossPlan, columns: Sequence[_Column]) -> None:
        self._loss = _Column("loss", _SQUARED if loss.reported == "squared" else _ENTROPY, loss.report_scale, True)
        self._columns = columns
        self._rows = self._weight = self._penalty = 0.0
        self._plain = self._weighted = np.zeros(4)

    def add_totals(self, totals: engine.Totals, rows: int, weights: NDArray[Any] | None) -> None:
        """Add what training returned for some rows: errors multiplied by weights, counts not.

        What a metric would need otherwise, `_Compiled.columns` has refused.
        """
        sums = np.array([totals.squared, totals.entropy, totals.correct, totals.right_side])
        self._add(rows, rows if weights is None else weights.sum(dtype=np.float64), totals.penalty, sums, sums)

    def add_scores(self, scores: NDArray[np.float64], penalty: float, weights: NDArray[Any] | None) -> None:
        """Add the scores (N, 4) of samples that were evaluated."""
        each = np.ones(len(scores)) if weights is None else weights.astype(np.float64)
        self._add(len(scores), each.sum(), penalty * len(scores), scores.sum(axis=0), each @ scores)

    def _add(
        self, rows: int, weight: float, penalty: float, plain: NDArray[np.float64], weighted: NDArray[np.float64]
    ) -> None:
        self._rows += rows
        self._weight += weight
        self._penalty += penalty
        self._plain = self._plain + plain
        self._weighted = self._weighted + weighted

    def logs(self) -> dict[str, float]:
        """Return the means, sorted by name as Keras does."""
        loss = self._weighted[self._loss.column] * self._loss.scale + self._penalty
        means = {"loss": float(loss / self._rows)}
        for column in self._columns:
            sums, count = (self._weighted, self._weight) if column.weighted else (self._plain, self._rows)
            means[column.name] = float(sums[column.column] * column.scale / count) if count else 0.0
        return dict(sorted(means.items()))


class Trainer:
    """Trains, evaluates and predicts with the engine in a model's place.

    Parameters
    ----------
    host : Host
    plan : Plan
        The model's layers.
    input_shape : tuple of int
        Shape of a sample.
    task : Task, optional
        Not needed for predictions.

    Raises
    ------
    Unsupported
        If the engine does not compute the model, the loss or a metric as Keras does.
    """

    def __init__(self, host: Host, plan: Plan, input_shape: tuple[int, ...], task: Task | None = None) -> None:
        self._host = host
        self._plan = plan
        self._input_shape = input_shape
        self._n_out = plan.layers[-1].units
        self._dtype = np.dtype(plan.dtype)
        self._net = engine.FlatNetwork(plan.n_inputs, plan.layers, self._dtype)
        self._outputs_net = self._net
        self._drops = any(layer.dropout for layer in plan.layers)
        self._passes = 0
        self._compiled = task
        if task is not None:
            self._loss = plan_loss(task.loss, task.loss_config, plan.layers[-1].activation, self._n_out)
            if self._loss.output != plan.layers[-1].activation:  # logits: the engine applies what the loss would
                layers = (*plan.layers[:-1], replace(plan.layers[-1], activation=self._loss.output))
                self._net = engine.FlatNetwork(plan.n_inputs, layers, self._dtype)
            self._floor = sys.float_info.min if self._loss.logits else _EPSILON  # Keras does not clip what logits give

    @property
    def _task(self) -> Task:
        if self._compiled is None:
            raise ValueError("the model has not been compiled with a loss; call compile(optimizer, loss) first.")
        return self._compiled

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Iterable[Any] = (),
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Mapping[Any, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
    ) -> None:
        """Train, with the arguments of Keras's `fit`; `callbacks` include the `History` if one is wanted.

        Arrays must stay as they are until it returns: they are not read again in each epoch.

        Raises
        ------
        ValueError, TypeError
            For arrays that do not fit the model or one another. Nothing has changed then.
        Unsupported
            For what the engine does not do.
        """
        x, y = self._pair(x, y)
        weights = self._weights(y, sample_weight, class_weight)
        validation = None
        if validation_data is not None:
            val_x, val_y, val_weights = arrays.unpack(validation_data)
            val_x, val_y = self._pair(val_x, val_y, "validation ")
            validation = self._data(val_x, val_y, self._weights(val_y, val_weights), training=False)
        elif validation_split:
            (x, y, weights), held_out = arrays.split(validation_split, x, y, weights)
            val_x, val_y, val_weights = held_out
            if class_weight is not None:  # in Keras they are for training alone
                val_weights = None
            validation = self._data(val_x, val_y, val_weights, training=False)
        data = self._data(x, y, weights, training=True)
        batch_size = _batch_size(batch_size, steps_per_epoch, len(data))
        batches = _Batches(len(data), batch_size, shuffle, steps_per_epoch)
        due = _due(validation_freq)
        model = self._host.model
        hooks = _Hooks(callbacks, model, {"verbose": verbose, "epochs": epochs, "steps": batches.per_epoch})
        model.stop_training = False
        logs: dict[str, float] = {}
        truth = self._truth(data, slice(None), data.weights)
        hooks.call("on_train_begin", {})
        for epoch in range(initial_epoch, epochs):
            hooks.call("on_epoch_begin", epoch, {})
            progress = Progress(verbose, batches.per_epoch, f"Epoch {epoch + 1}/{epochs}" if epochs > 1 else "")
            with compile_notice() if verbose else contextlib.nullcontext():
                logs = self._epoch(data, truth, batches, hooks, progress)
            if validation is not None and due(epoch):
                size = _batch_size(validation_batch_size or batch_size, None, len(validation))
                found = self._evaluate(validation, size, validation_steps, hooks, Progress(0, 1))
                logs |= {f"val_{name}": value for name, value in found.items()}
            hooks.call("on_epoch_end", epoch, logs)
            progress.finish(logs)
            if model.stop_training:
                break
        hooks.call("on_train_end", logs)

    def evaluate(
        self,
        x: Any,
        y: Any,
        *,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Iterable[Any] = (),
    ) -> dict[str, float]:
        """Return loss and metrics by name, with the arguments of Keras's `evaluate`."""
        x, y = self._pair(x, y)
        data = self._data(x, y, self._weights(y, sample_weight), training=False)
        batch_size = _batch_size(batch_size, steps, len(data))
        n_steps = len(_ranges(len(data), batch_size, steps, singly=True))
        hooks = _Hooks(callbacks, self._host.model, {"verbose": verbose, "epochs": 1, "steps": n_steps})
        return self._evaluate(data, batch_size, steps, hooks, Progress(verbose, n_steps))

    def predict(
        self,
        x: Any,
        *,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Iterable[Any] = (),
    ) -> NDArray[Any]:
        """Return the outputs, (N, O), with the arguments of Keras's `predict`."""
        x = arrays.scaled(arrays.as_samples("x", x, self._input_shape), self._plan)
        batch_size = _batch_size(batch_size, steps, len(x))
        n_steps = len(_ranges(len(x), batch_size, steps, singly=True))
        hooks = _Hooks(callbacks, self._host.model, {"verbose": verbose, "epochs": 1, "steps": n_steps})
        progress = Progress(verbose, n_steps)
        self._push(self._outputs_net)
        self._host.model.stop_predicting = False
        hooks.call("on_predict_begin", {})
        parts = []
        for step, rows in _ranges(len(x), batch_size, steps, singly=hooks.listens("predict")):
            hooks.call("on_predict_batch_begin", step, {})
            parts.append(self._outputs_net.infer(engine.as_packed(x[rows], None), None, None, want_outputs=True)[1])
            hooks.call("on_predict_batch_end", step, {"outputs": parts[-1]})
            if self._host.model.stop_predicting:
                break
        hooks.call("on_predict_end", {})
        progress.finish({})
        return np.concatenate(parts)

    def train_on_batch(
        self, x: Any, y: Any, sample_weight: Any = None, class_weight: Mapping[Any, float] | None = None
    ) -> dict[str, float]:
        """Make one update and return loss and metrics before it."""
        x, y = self._pair(x, y)
        data = self._data(x, y, self._weights(y, sample_weight, class_weight), training=True)
        batches = _Batches(len(data), len(data), False, None)
        truth = self._truth(data, slice(None), data.weights)
        return self._epoch(data, truth, batches, _Hooks((), self._host.model, {}), Progress(0, 1))

    def _epoch(self, data: _Data, truth: Any, batches: _Batches, hooks: _Hooks, progress: Progress) -> dict[str, float]:
        """Train the batches of one epoch: in one call of the engine, or in one for each if a callback listens."""
        first, last = batches.next_epoch()
        if first == 0:
            self._passes += 1
        packed = data.packed
        if self._plan.input_dropout:
            packed = packed.dropped(self._plan.input_dropout, np.random.default_rng([self._task.seed, self._passes]))
        sums = _Sums(self._loss, data.columns)
        singly = hooks.listens("train")
        for start in range(first, last) if singly else [first]:
            step = start - first
            rows = slice(start * batches.size, min((start + 1 if singly else last) * batches.size, len(data)))
            order = batches.order_of(rows)
            hooks.call("on_train_batch_begin", step, {})
            totals = self._train(packed, truth, order, rows, batches.size, step, progress)
            weights = data.weights if data.weights is None or order is None else data.weights[order]
            sums.add_totals(totals, rows.stop - rows.start, weights)
            hooks.call("on_train_batch_end", step, sums.logs())
            if singly and self._host.model.stop_training:
                break
        return sums.logs()

    def _train(
        self,
        packed: engine.Packed,
        truth: Any,
        order: NDArray[np.int64] | None,
        rows: slice,
        batch_size: int,
        step: int,
        progress: Progress,
    ) -> engine.Totals:
        """Train `rows` of a pass over the data, the first of which belongs to batch `step` of the epoch.

        The model has its weights and its optimiser's state back afterwards, even if the user interrupts.
        """
        steps = self._push(self._net, with_slots=True)
        n_rows = rows.stop - rows.start
        trained = 0

        def advance(done: int) -> None:
            nonlocal trained
            trained = done
            progress.update(step + done // batch_size)

        try:
            totals = self._net.train(
                packed,
                truth,
                order=order,
                batch_size=batch_size,
                rates=self._host.rates(steps, -(-n_rows // batch_size)),
                optimizer=self._task.optimizer,
                steps_before=steps,
                loss=self._loss.loss,
                loss_scale=self._loss.loss_scale,
                draws=engine.Draws(self._task.seed, epoch=self._passes) if self._drops else None,
                first_row=rows.start,
                progress=advance,
            )
            trained = n_rows
        finally:
            self._pull(steps + -(-trained // batch_size))
        return totals

    def _evaluate(
        self, data: _Data, batch_size: int, steps: int | None, hooks: _Hooks, progress: Progress
    ) -> dict[str, float]:
        sums = _Sums(self._loss, data.columns)
        self._push(self._net)
        self._host.model.stop_evaluating = False
        hooks.call("on_test_begin", {})
        for step, rows in _ranges(len(data), batch_size, steps, singly=hooks.listens("test")):
            hooks.call("on_test_batch_begin", step, {})
            scores, _ = self._net.infer(data.part(rows), self._truth(data, rows, None), None)
            weights = None if data.weights is None else data.weights[rows]
            sums.add_scores(scores, self._net.penalty(), weights)
            hooks.call("on_test_batch_end", step, sums.logs())
            if self._host.model.stop_evaluating:
                break
        logs = sums.logs()
        hooks.call("on_test_end", logs)
        progress.finish(logs)
        return logs

    def _push(self, net: engine.FlatNetwork, with_slots: bool = False) -> int:
        """Give the engine the model's weights, and the optimiser's slots; return the number of updates made."""
        net.set(*self._by_kind(self._host.read()))
        if not with_slots:
            return 0
        steps, slots = self._host.read_optimizer()
        for slot in spec.SLOTS[self._task.optimizer.name]:
            net.set_state(slot, *self._by_kind(slots[slot]))
        return steps

    def _pull(self, steps: int) -> None:
        """Give the model the engine's weights and slots."""
        weights, biases = self._empty()
        self._net.get(weights, biases)
        self._host.write(_by_layer(weights, biases))
        slots = {}
        for slot in spec.SLOTS[self._task.optimizer.name]:
            weights, biases = self._empty()
            self._net.state(slot, weights, biases)
            slots[slot] = _by_layer(weights, biases)
        self._host.write_optimizer(steps, slots)

    def _by_kind(self, flat: Weights) -> tuple[Weights, list[NDArray[Any] | None]]:
        """Kernels and biases, None where a layer has none."""
        rest = iter(flat)
        weights: Weights = []
        biases: list[NDArray[Any] | None] = []
        for layer in self._plan.layers:
            weights.append(next(rest))
            biases.append(next(rest) if layer.biases else None)
        return weights, biases

    def _empty(self) -> tuple[Weights, list[NDArray[Any] | None]]:
        sizes = [self._plan.n_inputs, *(layer.units for layer in self._plan.layers)]
        weights = [np.empty(pair, self._dtype) for pair in itertools.pairwise(sizes)]
        return weights, [np.empty(layer.units, self._dtype) if layer.biases else None for layer in self._plan.layers]

    def _truth(self, data: _Data, rows: slice, weights: NDArray[Any] | None) -> Any:
        """Targets of some rows as the engine reads them; in evaluation the weights come later."""
        targets = data.targets[rows]
        return engine.truth_of(
            targets, len(targets), self._n_out, self._dtype,
            sample_weights=weights, floor=self._floor, threshold=data.threshold,
        )  # fmt: skip

    def _pair(self, x: Any, y: Any, which: str = "") -> tuple[NDArray[Any], NDArray[Any]]:
        """Return samples and as many targets."""
        self._task  # noqa: B018 - the first thing to say of a model that is not compiled
        x = arrays.as_samples(f"{which}x", x, self._input_shape)
        if y is None:
            raise ValueError(f"{which}y is missing; targets for {len(x)} samples are wanted.")
        y = arrays.as_array(f"{which}y", y)
        if len(y) != len(x):
            raise ValueError(f"{which}x has {len(x)} samples and {which}y has {len(y)}; the same number is wanted.")
        return x, y

    def _weights(
        self, y: NDArray[Any], sample_weight: Any, class_weight: Mapping[Any, float] | None = None
    ) -> NDArray[Any] | None:
        if class_weight is None:
            return arrays.sample_weights(sample_weight, len(y), self._plan.dtype)
        if sample_weight is not None:
            raise ValueError("both sample_weight and class_weight were given; one of them is accepted.")
        return arrays.class_weights(y, class_weight)

    def _data(self, x: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None, training: bool) -> _Data:
        """Check targets, and find what each metric reads from the engine's scores."""
        targets = self._loss.targets(y, self._n_out, self._plan.dtype)
        columns = []
        thresholds = set()
        for metric in self._task.metrics:
            column, scale = self._column(metric, y)
            known = weights is None or not training or metric.weighted == (column in (_SQUARED, _ENTROPY))
            if not known:
                how, other = ("with", "metrics") if metric.weighted else ("without", "weighted_metrics")
                raise Unsupported(
                    f"metric {metric.name} {how} sample weights is not supported in training; pass it as one of "
                    f"{other}, or leave it to evaluate."
                )
            if column == _RIGHT_SIDE:
                thresholds.add(self._threshold(metric, y, targets))
            columns.append(_Column(metric.name, column, scale, metric.weighted))
        if len(thresholds) > 1:
            raise Unsupported("BinaryAccuracy with two different thresholds is not supported; one threshold is.")
        return _Data(
            arrays.scaled(x, self._plan), targets, thresholds.pop() if thresholds else 0.5, weights, tuple(columns)
        )

    def _column(self, metric: Metric, y: NDArray[Any]) -> tuple[int, float]:
        """Return which of the engine's scores a metric is, and what a sample's score is multiplied by."""
        kind = metric.class_name
        if kind == "accuracy":
            by_class = y.ndim == 1 or y.shape[1] == 1
            kind = "SparseCategoricalAccuracy" if by_class else "CategoricalAccuracy"
            kind = "BinaryAccuracy" if self._n_out == 1 else kind
        if kind not in _METRICS:
            raise Unsupported(f"metric {kind} is not supported; {', '.join(_METRICS)} are.")
        if kind.startswith("Sparse") != self._loss.classes:
            wanted = ("target vectors", "class numbers")[kind.startswith("Sparse")]
            raise ValueError(f"metric {metric.name}: {kind} takes {wanted}, but the loss is {self._task.loss}.")
        column, output, per_output = _METRICS[kind]
        logits = bool(metric.config.get("from_logits", False))
        smooth = float(metric.config.get("label_smoothing", 0.0))
        if column == _SQUARED:
            same = not self._loss.logits and not self._loss.smooth
        elif column == _ENTROPY:
            same = (output, logits, smooth) == (self._loss.output, self._loss.logits, self._loss.smooth)
        else:
            same = True
        if not same:
            raise Unsupported(
                f"metric {metric.name}: {kind} of other outputs or targets than those of the loss {self._task.loss} is "
                "not supported; give it the same output, from_logits and label_smoothing."
            )
        return column, 1 / self._n_out if per_output else 1.0

    def _threshold(self, metric: Metric, y: NDArray[Any], targets: NDArray[Any]) -> float:
        """Return what the engine compares outputs and targets with in Keras's place."""
        threshold = self._loss.threshold(float(metric.config.get("threshold", 0.5)))
        if not np.isin(y, (0, 1)).all():
            raise Unsupported(f"metric {metric.name}: BinaryAccuracy is supported for targets 0 and 1 alone.")
        moved = (targets > threshold) != (y.reshape(targets.shape) > 0)
        if moved.any() or (self._loss.logits and self._loss.output == "softmax"):
            raise Unsupported(
                f"metric {metric.name}: BinaryAccuracy with the loss {self._task.loss} as configured is not supported."
            )
        return threshold


# Which of the engine's scores a metric is, the output that it supposes, and whether it is a mean over the outputs.
_METRICS = {
    "BinaryAccuracy": (_RIGHT_SIDE, "", True),
    "CategoricalAccuracy": (_CORRECT, "", False),
    "SparseCategoricalAccuracy": (_CORRECT, "", False),
    "MeanSquaredError": (_SQUARED, "", True),
    "BinaryCrossentropy": (_ENTROPY, "sigmoid", True),
    "CategoricalCrossentropy": (_ENTROPY, "softmax", False),
    "SparseCategoricalCrossentropy": (_ENTROPY, "softmax", False),
}


class _Batches:
    """Which samples each epoch trains: all of them, or the next `steps_per_epoch` batches of a pass over the data."""

    def __init__(self, n: int, size: int, shuffle: bool | str, steps_per_epoch: int | None) -> None:
        if shuffle not in (True, False, "batch"):
            raise NotImplementedError(f"shuffle is {shuffle!r}; True, False and 'batch' are supported.")
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch is {steps_per_epoch}; 1 or more is wanted.")
        self.size = size
        self.per_epoch = steps_per_epoch or -(-n // size)
        self._n = n
        self._in_pass = -(-n // size)
        self._shuffle = shuffle
        self._order: NDArray[np.int64] | None = None
        self._next = self._in_pass

    def next_epoch(self) -> tuple[int, int]:
        """Return the first batch of the epoch and the one after its last, as numbers within the pass."""
        if self._next == self._in_pass:
            self._order = self._draw()
            self._next = 0
        first, self._next = self._next, min(self._next + self.per_epoch, self._in_pass)
        if self._next - first < self.per_epoch:
            warnings.warn(
                f"the data ran out: this epoch has {self._next - first} batches, steps_per_epoch is {self.per_epoch}.",
                stacklevel=4,
            )
        return first, self._next

    def order_of(self, rows: slice) -> NDArray[np.int64] | None:
        """Return the samples of some rows of the pass; None for all of them as they are."""
        if self._order is not None:
            return self._order[rows]
        return None if rows == slice(0, self._n) else np.arange(rows.start, rows.stop)

    def _draw(self) -> NDArray[np.int64] | None:
        """From NumPy's global stream, as Keras on JAX does; "batch" shuffles within each batch."""
        if self._shuffle == "batch":
            parts = [slice(at, min(at + self.size, self._n)) for at in range(0, self._n, self.size)]
            return np.concatenate([np.random.permutation(p.stop - p.start) + p.start for p in parts])  # noqa: NPY002
        return np.random.permutation(self._n) if self._shuffle else None  # noqa: NPY002


class _Hooks:
    """Callbacks, called by the names of their methods; what a callback does not have is not called."""

    def __init__(self, callbacks: Iterable[Any], model: Any, params: Mapping[str, Any]) -> None:
        self._callbacks = list(arrays.flatten(callbacks))
        self._listens = {phase: any(listens(c, phase) for c in self._callbacks) for phase in _BATCH_HOOKS}
        self.call("set_params", dict(params))
        self.call("set_model", model)

    def call(self, name: str, *arguments: Any) -> None:
        """Call the method of that name of each callback that has it."""
        for callback in self._callbacks:
            method = getattr(callback, name, None)
            if method is not None:
                method(*arguments)

    def listens(self, phase: str) -> bool:
        """Whether a callback wants to hear of every batch in "train", "test" or "predict"."""
        return self._listens[phase]


_BATCH_HOOKS = {
    "train": ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end"),
    "test": ("on_test_batch_begin", "on_test_batch_end"),
    "predict": ("on_predict_batch_begin", "on_predict_batch_end"),
}


def listens(callback: Any, phase: str) -> bool:
    """Whether a callback has a batch method of its own for "train", "test" or "predict".

    Keras marks the methods of its base class, which do nothing, with ``_is_default``. Its `ModelCheckpoint` counts
    batches even where it saves by the epoch, and need not.
    """
    if type(callback).__name__ == "ModelCheckpoint" and getattr(callback, "save_freq", None) == "epoch":
        return False
    methods = (getattr(callback, name, None) for name in _BATCH_HOOKS[phase])
    return any(method is not None and not getattr(method, "_is_default", False) for method in methods)


def _batch_size(batch_size: int | None, steps: int | None, n: int) -> int:
    """Return a batch size from 1 to `n`: as given, or 32, or what makes that many steps."""
    if batch_size is None:
        batch_size = math.ceil(n / steps) if steps else 32
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; a whole number, 1 or more, is wanted.")
    return min(int(batch_size), n)


def _ranges(n: int, batch_size: int, steps: int | None, singly: bool) -> list[tuple[int, slice]]:
    """Return step and rows of each batch, or of all of them together."""
    stop = min(n, steps * batch_size) if steps else n
    size = batch_size if singly else stop
    return [(step, slice(at, min(at + size, stop))) for step, at in enumerate(range(0, stop, size))]


def _due(validation_freq: int | Sequence[int]) -> Callable[[int], bool]:
    """Return whether to validate after an epoch, counted from 0."""
    if isinstance(validation_freq, int) and validation_freq > 0:
        return lambda epoch: (epoch + 1) % validation_freq == 0
    if isinstance(validation_freq, list | tuple):
        return lambda epoch: epoch + 1 in validation_freq
    raise ValueError(f"validation_freq is {validation_freq!r}; 1 or more, or a list of epochs, is wanted.")


def _by_layer(weights: Weights, biases: Sequence[NDArray[Any] | None]) -> Weights:
    """Kernel and bias of each layer, one after the other."""
    pairs = zip(weights, biases, strict=True)
    return [array for pair in pairs for array in pair if array is not None]
