"""Keras's callbacks.

`fit` calls callbacks by the names of their methods, so yours need not derive from `Callback`. One that defines a batch
method makes `fit` train batch by batch, which takes longer; without such a one an epoch is one piece of work.
"""

from __future__ import annotations

import csv
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from fastmnist.keras.progress import say
from fastmnist.keras.serialization import stand_ins

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]

_ELSEWHERE = "BackupAndRestore CallbackList OrbaxCheckpoint ProgbarLogger RemoteMonitor SwapEMAWeights TensorBoard"
__getattr__ = stand_ins(__name__, _ELSEWHERE.split())

Logs = dict[str, Any]
Method = TypeVar("Method", bound=Callable[..., Any])


def _default(method: Method) -> Method:
    """Mark a method that does nothing, as Keras does: who overrides it wants to be called."""
    method._is_default = True  # type: ignore[attr-defined]
    return method


class Callback:
    """Base class: methods that `fit`, `evaluate` and `predict` call, and that do nothing.

    Attributes
    ----------
    model : Sequential
        The model that is being trained.
    params : dict
        "verbose", "epochs" and "steps".
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_params(self, params: dict[str, Any]) -> None:
        """Take the parameters of the run."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Take the model."""
        self.model = model

    @_default
    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    @_default
    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch."""

    @_default
    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before each epoch, counted from 0."""

    @_default
    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After each epoch; `logs` has the means of the epoch, and those of the validation."""

    @_default
    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """As `on_train_batch_begin`."""

    @_default
    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """As `on_train_batch_end`."""

    @_default
    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before each update."""
        self.on_batch_begin(batch, logs=logs)

    @_default
    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After each update; `logs` has the means of the epoch so far."""
        self.on_batch_end(batch, logs=logs)

    @_default
    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation, `fit`'s validation included."""

    @_default
    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation."""

    @_default
    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before each batch of an evaluation."""

    @_default
    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After each batch of an evaluation."""

    @_default
    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before a prediction."""

    @_default
    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After a prediction."""

    @_default
    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before each batch of a prediction."""

    @_default
    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After each batch of a prediction; `logs` has its "outputs"."""


class History(Callback):
    """Keeps what each epoch gave; `fit` returns one.

    Attributes
    ----------
    history : dict of list of float
        By name: "loss", "accuracy", "val_loss" and so on.
    epoch : list of int
        The epochs, counted from 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start a new list of epochs; what is in `history` stays."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add an epoch."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.history = self


class _Monitor(Callback):
    """A callback that asks of each epoch whether something has become better."""

    def __init__(self, monitor: str, mode: str, min_delta: float, best: float | None = None) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            warnings.warn(f"mode is {mode!r}, which is taken for 'auto'; there are 'min' and 'max'.", stacklevel=3)
            mode = "auto"
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(min_delta)
        self.best = best

    def _improved(self, value: float, reference: float | None) -> bool:
        """Whether `value` is better than `reference` by more than `min_delta`."""
        if reference is None:
            return True
        return value - self.min_delta > reference if self._more_is_better() else value + self.min_delta < reference

    def _more_is_better(self) -> bool:
        if self.mode != "auto":
            return self.mode == "max"
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return False
        kinds: dict[str, str] = {metric.name: metric.class_name for metric in self.model.compiled_metrics}
        if name not in kinds:
            raise ValueError(
                f"{type(self).__name__} monitors {self.monitor!r}, which is no metric of the model, so whether more is "
                "better is unknown; pass mode='min' or mode='max'."
            )
        return kinds[name].lower().endswith("accuracy")

    def _value(self, logs: Logs | None) -> Any:
        logs = logs or {}
        if self.monitor not in logs:
            warnings.warn(
                f"{type(self).__name__} monitors {self.monitor!r}, which there is not; there are {', '.join(logs)}.",
                stacklevel=4,
            )
        return logs.get(self.monitor)


class EarlyStopping(_Monitor):
    """Ends training when something has not become better for some epochs.

    Parameters
    ----------
    monitor : str, default "val_loss"
    min_delta : float, default 0
        What counts as better has to be more than this.
    patience : int, default 0
        Epochs without improvement that are waited for.
    verbose : {0, 1}
    mode : {"auto", "min", "max"}
        Which way is better; "auto" knows the loss and the model's metrics.
    baseline : float, optional
        Improvements count from here.
    restore_best_weights : bool, default False
    start_from_epoch : int, default 0
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = None
        self.best_weights: Any = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin anew."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Count the epochs without improvement."""
        current = self._value(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        improved = self._improved(current, self.best)
        if self.restore_best_weights and (improved or self.best_weights is None):
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        self.wait += 1
        if improved:
            self.best, self.best_epoch = current, epoch
            if self.baseline is None or self._improved(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Go back to the best weights, if wanted."""
        if self.stopped_epoch > 0 and self.verbose > 0:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping", beside_bar=False)
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                message = f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}."
                say(message, beside_bar=False)
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(_Monitor):
    """Saves the model, or its weights, as training goes on.

    Parameters
    ----------
    filepath : str or path
        May contain ``{epoch}`` and the names of the logs, ``{val_loss:.2f}``. Ends in ".keras", or in ".weights.h5"
        with `save_weights_only`.
    monitor : str, default "val_loss"
    verbose : {0, 1}
    save_best_only : bool, default False
    save_weights_only : bool, default False
    mode : {"auto", "min", "max"}
    save_freq : "epoch" or int, default "epoch"
        A number of updates makes `fit` train batch by batch.
    initial_value_threshold : float, optional
        The best value before the first epoch.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode, 0, initial_value_threshold)
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        ending = ".weights.h5" if save_weights_only else ".keras"
        if not self.filepath.endswith(ending):
            raise ValueError(
                f"filepath is {self.filepath!r}; with save_weights_only={save_weights_only} it ends in {ending}."
            )
        if save_freq != "epoch" and not isinstance(save_freq, int):
            raise ValueError(f"save_freq is {save_freq!r}; 'epoch' or a number of updates is wanted.")
        self._updates = 0
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save after every `save_freq` updates."""
        self._updates += 1
        if isinstance(self.save_freq, int) and self._updates >= self.save_freq:
            self._updates = 0
            self._save(self._epoch, {"batch": batch + 1, **(logs or {})})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save after the epoch."""
        if self.save_freq == "epoch":
            self._save(epoch, logs or {})

    def _save(self, epoch: int, logs: Logs) -> None:
        try:
            path = self.filepath.format(**{"epoch": epoch + 1, **logs})
        except KeyError as error:
            raise KeyError(
                f"filepath is {self.filepath!r}, but there is no {error}; there are {', '.join(logs)}."
            ) from None
        if not self.save_best_only:
            message = f"saving model to {path}"
        else:
            current = self._value(logs)
            best = "None" if self.best is None else f"{self.best:.5f}"
            if current is not None and not self._improved(current, self.best):
                self._say(epoch, f"{self.monitor} did not improve from {best}")
                return
            self.best = current
            shown = "None" if current is None else f"{current:.5f}"
            message = f"{self.monitor} improved from {best} to {shown}, saving model to {path}"
        self._say(epoch, message)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        (self.model.save_weights if self.save_weights_only else self.model.save)(path, overwrite=True)
        self._say(epoch, f"finished saving model to {path}")

    def _say(self, epoch: int, message: str) -> None:
        if self.verbose:
            say(f"Epoch {epoch + 1}: {message}")


class ReduceLROnPlateau(_Monitor):
    """Lowers the learning rate when something has not become better for some epochs.

    Parameters
    ----------
    monitor : str, default "val_loss"
    factor : float, default 0.1
        The new rate is the old one times this, below 1.
    patience : int, default 10
        Epochs without improvement that are waited for.
    verbose : {0, 1}
    mode : {"auto", "min", "max"}
    min_delta : float, default 0.0001
    cooldown : int, default 0
        Epochs after a change in which nothing is counted.
    min_lr : float, default 0
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if factor >= 1:
            raise ValueError(f"factor is {factor}; less than 1 is wanted.")
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin anew."""
        self.best = None
        self.wait = self.cooldown_counter = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Count the epochs without improvement."""
        rate = float(self.model.optimizer.learning_rate)
        if logs is not None:
            logs["learning_rate"] = rate
        current = self._value(logs)
        if current is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._improved(current, self.best):
            self.best = current
            self.wait = 0
        elif self.cooldown_counter <= 0:
            self.wait += 1
            if self.wait >= self.patience and rate > np.float32(self.min_lr):
                self.wait, self.cooldown_counter = 0, self.cooldown
                self.model.optimizer.learning_rate = max(rate * self.factor, self.min_lr)
                if self.verbose > 0:
                    new = max(rate * self.factor, self.min_lr)
                    say(f"Epoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {new}.")


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch.

    Parameters
    ----------
    schedule : callable
        From epoch and current rate, or from the epoch alone, to the new rate, a float.
    verbose : {0, 1}
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the rate."""
        optimizer = self.model.optimizer
        try:
            rate = self.schedule(epoch, float(optimizer.learning_rate))
        except TypeError:  # as in Keras: a function of the epoch alone
            rate = self.schedule(epoch)
        if not isinstance(rate, float | np.floating):
            raise ValueError(f"the schedule returned {rate!r}; a float is wanted.")
        optimizer.learning_rate = rate
        if self.verbose > 0:
            say(f"Epoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add the rate to the logs."""
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class CSVLogger(Callback):
    """Writes a row for each epoch to a file.

    Parameters
    ----------
    filename : str or path
    separator : str, default ","
    append : bool, default False
        Keep what the file holds.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = os.fspath(filename)
        self.sep = separator
        self.append = append
        self._file: IO[str] | None = None
        self._names: list[str] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Open the file."""
        self._file = open(self.filename, "a" if self.append else "w", newline="", encoding="utf-8")
        self._names = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write a row; the first one decides which columns there are."""
        logs = logs or {}
        assert self._file is not None
        writer = csv.writer(self._file, delimiter=self.sep)
        if not self._names:
            self._names = sorted(logs)
            if not any(name.startswith("val_") for name in self._names):
                self._names += [f"val_{name}" for name in self._names]
            if self._file.tell() == 0:
                writer.writerow(["epoch", *self._names])
        writer.writerow([epoch, *(logs.get(name, "NA") for name in self._names)])
        self._file.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class LambdaCallback(Callback):
    """Calls functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch))``.

    Parameters
    ----------
    **methods : callable
        By the names of `Callback`'s methods.
    """

    def __init__(self, **methods: Callable[..., Any] | None) -> None:
        super().__init__()
        for name, method in methods.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise ValueError(f"LambdaCallback does not know {name!r}; the names of Callback's methods are wanted.")
            if method is not None:
                setattr(self, name, method)


class TerminateOnNaN(Callback):
    """Ends training when the loss is no number; `fit` trains batch by batch for it.

    Parameters
    ----------
    raise_error : bool, default False
        Raise a RuntimeError instead.
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = raise_error

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Look at the loss."""
        loss: Mapping[str, Any] | float = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):  # type: ignore[arg-type]
            if self.raise_error:
                raise RuntimeError(f"the loss is {loss} at batch {batch}.")
            say(f"Batch {batch}: Invalid loss, terminating training")
            self.model.stop_training = True
