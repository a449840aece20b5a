"""Real Keras models, trained by these kernels: `fastmnist.accelerate`.

Keras's own `fit`, `evaluate` and `predict` ask here first. What the engine computes as Keras does is computed by it,
and the model has its weights and its optimiser's state afterwards; everything else Keras does itself, and the reason
is kept. A model is read anew at every call, so that a later `compile` or `add` counts.
"""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fastmnist.keras import losses, metrics
from fastmnist.keras.arrays import as_array
from fastmnist.keras.plan import Unsupported, plan_network, plan_optimizer, plan_rate
from fastmnist.keras.task import Metric, Task, Weights
from fastmnist.keras.trainer import Trainer

__all__ = ["Call", "accelerate"]

M = TypeVar("M")

# Callbacks that reach into Keras's own training loop.
_NEED_KERAS = ("BackupAndRestore", "CallbackList", "ProgbarLogger", "SwapEMAWeights", "TensorBoard")
# Arguments of `compile` that change what is computed, or how it is observed.
_COMPILE_MUST_BE = {"loss_weights": None, "run_eagerly": False, "steps_per_execution": 1}
_SLOTS = {1: "momentum", 2: "velocity"}


@dataclass(frozen=True)
class Call:
    """Where calls of a method ran.

    Attributes
    ----------
    method : str
        "fit", "evaluate" or "predict".
    reason : str
        Why Keras ran it; empty if the kernels did.
    times : int
        How often.
    """

    method: str
    reason: str
    times: int

    def __str__(self) -> str:
        """Return it as a sentence."""
        times = f" ({self.times} times)" if self.times > 1 else ""
        return f"{self.method}{times}: " + (f"Keras, because {self.reason}" if self.reason else "fastmnist's kernels")


@dataclass
class _State:
    """What is known of an accelerated model."""

    strict: bool
    verbose: int
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    in_keras: bool = False  # what Keras calls while it trains is Keras's, too


_states: WeakKeyDictionary[Any, _State] = WeakKeyDictionary()


class _Accelerate:
    """Train a Keras model with these kernels.

    `fit`, `evaluate` and `predict` of this model run on them from now on, whenever they compute what Keras would; the
    weights, the optimiser's state and the history are the model's own. Anything else runs in Keras, as before.

    Parameters
    ----------
    model : keras.Model
        A Sequential, or a functional model that is a plain stack of layers; any backend. It may be compiled, built and
        changed before or after.
    strict : bool, default: False
        Raise where Keras would have to run.
    verbose : int, default: 0
        1: say on stderr when Keras runs, and why.

    Returns
    -------
    keras.Model
        The same model.

    Raises
    ------
    TypeError
        If it is no Keras model.

    Examples
    --------
    >>> model = fastmnist.accelerate(model)            # doctest: +SKIP
    >>> model.fit(x_train, y_train, epochs=5)          # doctest: +SKIP
    >>> print(*fastmnist.accelerate.report(model))     # doctest: +SKIP
    fit: fastmnist's kernels
    """

    def __call__(self, model: M, strict: bool = False, verbose: int = 0) -> M:
        """Accelerate `model` and return it."""
        keras = sys.modules.get("keras")
        if keras is None or not isinstance(model, keras.Model):
            raise TypeError(
                f"accelerate was given a {type(model).__module__}.{type(model).__qualname__}; a keras.Model is wanted. "
                "Models of fastmnist.keras run on the kernels as they are."
            )
        for name in _METHODS:
            _ask_here_first(keras.Model, name)
        _states[model] = _State(strict, verbose)
        return model

    @staticmethod
    def report(model: Any) -> list[Call]:
        """Say where the calls of an accelerated model's methods have run since it was accelerated.

        Parameters
        ----------
        model : keras.Model

        Returns
        -------
        list of Call
            One for each method and reason, in the order of their first calls.

        Raises
        ------
        ValueError
            If `model` was never accelerated.
        """
        if model not in _states:
            raise ValueError("this model has not been accelerated; call fastmnist.accelerate(model) first.")
        return [Call(method, reason, times) for (method, reason), times in _states[model].calls.items()]


accelerate = _Accelerate()


def _ask_here_first(model_class: Any, name: str) -> None:
    """Let Keras's method `name` ask for an accelerated model before it does anything.

    Libraries that keep logs (MLflow's autolog for one) put functions of their own in the place of `keras.Model.fit` and
    call the one that they found there, which may be before or after this. So what leads here is that function itself:
    all of Keras's are wrapped for its tracebacks, and the wrapper's variable `fn` is what it calls.
    """
    own = next(vars(c)[name] for c in reversed(model_class.__mro__) if name in vars(c) and _wrapped(vars(c)[name]))
    cell = _wrapped(own)
    keras_own = cell.cell_contents
    if getattr(keras_own, "asks_fastmnist", False):
        return

    @functools.wraps(keras_own)
    def ask(model: Any, *args: Any, **kwargs: Any) -> Any:
        state = _states.get(model)
        if state is None or state.in_keras:
            return keras_own(model, *args, **kwargs)
        call = _Begun()
        try:
            result = _METHODS[name](call, model, **_arguments(keras_own, model, args, kwargs))
        except (NotImplementedError, TypeError, ValueError) as problem:
            if call.begun or state.strict:
                raise
            reason = str(problem)
        else:
            state.calls[name, ""] += 1
            return result
        state.calls[name, reason] += 1
        if state.verbose:
            sys.stderr.write(f"fastmnist: {name} runs in Keras: {reason}\n")
        state.in_keras = True
        try:
            return keras_own(model, *args, **kwargs)
        finally:
            state.in_keras = False

    ask.asks_fastmnist = True  # type: ignore[attr-defined]
    cell.cell_contents = ask


def _wrapped(method: Any) -> Any:
    """Return the cell of the function that Keras's wrapper calls, None if `method` is no such wrapper."""
    cells = dict(zip(method.__code__.co_freevars, method.__closure__ or (), strict=True))
    return cells.get("fn") if method.__module__.startswith("keras.") else None


def _arguments(method: Any, model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, without the model; TypeError for unknown ones, which is Keras's to say."""
    bound = inspect.signature(method).bind(model, *args, **kwargs).arguments
    return dict(list(bound.items())[1:])


class _Begun:
    """A callback that knows whether the work has begun: an error is a reason to let Keras try only before."""

    begun = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Take note."""
        self.begun = True

    on_test_begin = on_predict_begin = on_train_begin


def _fit(call: _Begun, model: Any, x: Any = None, y: Any = None, callbacks: Any = None, **arguments: Any) -> Any:
    import keras

    listed = _callbacks(callbacks)
    history = next((c for c in listed if isinstance(c, keras.callbacks.History)), None)
    if history is None:
        history = keras.callbacks.History()
        listed.append(history)
    trainer, stack, _ = _trainer(model, x)
    _build_metrics(model, y)
    trainer.fit(x, y, callbacks=[call, *listed], **arguments)
    for generator in _seed_generators(stack):
        generator.next()
    model.history = history
    return history


def _evaluate(
    call: _Begun,
    model: Any,
    x: Any = None,
    y: Any = None,
    callbacks: Any = None,
    return_dict: bool = False,
    **arguments: Any,
) -> Any:
    trainer, _, names = _trainer(model, x)
    logs = trainer.evaluate(x, y, callbacks=[call, *_callbacks(callbacks)], **arguments)
    if return_dict:
        return logs
    results = [logs[name] for name in names]
    return results[0] if len(results) == 1 else results


def _predict(call: _Begun, model: Any, x: Any = None, callbacks: Any = None, **arguments: Any) -> NDArray[Any]:
    trainer, _, _ = _trainer(model, x, compiled=False)
    return trainer.predict(x, callbacks=[call, *_callbacks(callbacks)], **arguments)


_METHODS: dict[str, Callable[..., Any]] = {"fit": _fit, "evaluate": _evaluate, "predict": _predict}


def _callbacks(callbacks: Any) -> list[Any]:
    """Callbacks in a list, if they need nothing but the hooks."""
    import keras

    if callbacks is None or isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks] if callbacks else []
    if not isinstance(callbacks, list | tuple):
        raise Unsupported(f"callbacks is a {type(callbacks).__name__}; a list of callbacks is supported.")
    for callback in callbacks:
        names = {c.__name__ for c in type(callback).__mro__ if c.__module__.startswith("keras.")}
        if names.intersection(_NEED_KERAS):
            raise Unsupported(f"callback {type(callback).__name__} needs Keras's own training loop.")
    return list(callbacks)


def _trainer(model: Any, x: Any, compiled: bool = True) -> tuple[Trainer, list[Any], list[str]]:
    """Read the model as it is now; return a trainer for it, its layers, and the names of loss and metrics in order."""
    import keras

    stack = _stack(model)
    if keras.distribution.distribution() is not None:
        raise Unsupported("a keras.distribution is in force; models on one device are supported.")
    if not model.built:
        model.build((None, *(as_array("x", x).shape[1:] or (1,))))
    shape = tuple(model.input_shape[1:])
    plan = plan_network([(type(layer).__name__, layer.get_config()) for layer in stack], shape)
    weights = [weight for at in plan.dense for weight in stack[at].weights]
    stored = {str(weight.numpy().dtype) for weight in weights}
    if {model.input_dtype, *stored} != {plan.dtype}:
        raise Unsupported(
            f"inputs are {model.input_dtype}, weights {', '.join(sorted(stored))}, and layers compute in {plan.dtype}; "
            "float32 for all, or float64, is supported."
        )
    if not compiled:
        return Trainer(_Host(model, weights), plan, shape), stack, []
    task = _task(model, stack)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    names = ["loss", *(metric.name for metric in task.metrics)]
    return Trainer(_Host(model, weights), plan, shape, task), stack, names


def _stack(model: Any) -> list[Any]:
    """Layers in order, without the InputLayer."""
    import keras

    if type(model) is keras.Sequential:
        stack = list(model.layers)
    elif type(model).__name__ == "Functional" and type(model).__module__.startswith("keras."):
        stack = _chain(model)
    else:
        raise Unsupported(
            f"the model is a {type(model).__qualname__}; keras.Sequential and plain stacks made with keras.Model are "
            "supported, classes of your own are not."
        )
    replaced = {"call", "compute_loss", "predict_step", "test_step", "train_step"}.intersection(vars(model))
    if replaced:
        raise Unsupported(f"the model's {', '.join(sorted(replaced))} has been replaced.")
    for layer in stack:
        if type(layer) is not getattr(keras.layers, type(layer).__name__, None):
            raise Unsupported(f"layer {layer.name!r} is a {type(layer).__qualname__}, which is not of keras.layers.")
    if len({id(layer) for layer in stack}) < len(stack):
        raise Unsupported("the model has the same layer in two places.")
    return stack


def _chain(model: Any) -> list[Any]:
    """Layers of a functional model from its input to its output, if each has one input and is called once."""
    config = model.get_config()
    entries = {entry["name"]: entry for entry in config["layers"]}
    chain: list[Any] = []
    at = config["output_layers"]
    while at != config["input_layers"]:
        nodes = entries[at[0]]["inbound_nodes"] if isinstance(at[0], str) else []
        # Whatever `training` a layer was called with, Keras's fit and predict put their own in its place.
        options = [value for node in nodes for name, value in node["kwargs"].items() if name != "training"]
        if len(nodes) != 1 or len(nodes[0]["args"]) != 1 or any(value is not None for value in options):
            raise Unsupported("the functional model is not a plain stack of layers, each called once with one input.")
        chain.insert(0, model.get_layer(at[0]))
        tensor = nodes[0]["args"][0]
        at = tensor["config"]["keras_history"] if isinstance(tensor, Mapping) else [None]
    return chain


def _task(model: Any, stack: list[Any]) -> Task:
    """Read how the model is compiled."""
    import keras

    with warnings.catch_warnings():  # of functions that cannot be written to a file
        warnings.simplefilter("ignore")
        compiled = model.get_compile_config()
    if not compiled:
        raise Unsupported("the model has not been compiled.")
    for argument, value in _COMPILE_MUST_BE.items():
        if compiled[argument] != value:
            raise Unsupported(f"compile was given {argument}={compiled[argument]!r}, which is not supported.")
    limits = [getattr(keras.config, name, lambda: None)() for name in ("max_epochs", "max_steps_per_epoch")]
    if any(limits):
        raise Unsupported("keras.config limits epochs or steps.")
    optimizer = model.optimizer
    kind = type(optimizer).__name__
    if not type(optimizer).__module__.startswith("keras."):  # a backend may have its own version of Keras's
        raise Unsupported(f"optimizer {kind} is not of keras.optimizers.")
    if getattr(optimizer, "_exclude_from_weight_decay", None) or getattr(
        optimizer, "_exclude_from_weight_decay_pattern", None
    ):
        raise Unsupported(f"optimizer {kind} excludes variables from weight decay.")
    loss = losses.get(_loss(model.loss, compiled["loss"]))
    if loss is None:
        raise Unsupported("the model was compiled without a loss.")
    listed = [
        _metric(metric, argument == "weighted_metrics")
        for argument in ("metrics", "weighted_metrics")
        for metric in compiled[argument] or ()
    ]
    names = [metric.name for metric in listed]
    if len(set(names)) < len(names):
        raise Unsupported(f"the metrics are named {', '.join(names)}; different names are supported.")
    states = [generator.state.numpy() for generator in _seed_generators(stack)]
    seed = int(np.random.SeedSequence(np.ravel(states).astype(np.uint32).tolist()).generate_state(1)[0])
    return Task(
        type(loss).__name__, loss.get_config(), tuple(listed), plan_optimizer(kind, optimizer.get_config()), seed
    )


def _loss(loss: Any, identifier: Any) -> Any:
    """Return what names a loss of Keras's own. A function, of Keras's or not, is described by its bare name alone."""
    import keras

    name = getattr(loss, "__name__", "")
    return name if name and getattr(keras.losses, name, None) is loss else _built_in("loss", identifier)


def _built_in(kind: str, identifier: Any) -> Any:
    """Return what names a loss or a metric of Keras's own."""
    if not isinstance(identifier, Mapping):
        return identifier
    if not str(identifier.get("module")).startswith("keras"):
        config = identifier.get("config")
        name = config if isinstance(config, str) else identifier.get("class_name", dict(identifier))
        raise Unsupported(f"{kind} {name} is not one of Keras's own by name or class.")
    return identifier["config"] if identifier["class_name"] == "function" else identifier


def _metric(identifier: Any, weighted: bool) -> Metric:
    return Metric(*metrics.described(_built_in("metric", identifier)), weighted)


def _build_metrics(model: Any, y: Any) -> None:
    """Let Keras choose its metrics by the shape of the targets: callbacks look in `model.metrics` for theirs."""
    if not all(getattr(metric, "built", True) for metric in model.metrics):
        model.compute_metrics(None, as_array("y", y)[:1], np.zeros((1, model.output_shape[-1]), np.float32))
        model.reset_metrics()


def _seed_generators(stack: list[Any]) -> list[Any]:
    """Where Keras's dropout layers take their seeds from."""
    return [layer.seed_generator for layer in stack if getattr(layer, "rate", 0)]


class _Host:
    """A Keras model as `trainer.Host`."""

    def __init__(self, model: Any, weights: list[Any]) -> None:
        self.model = model
        self._weights = weights

    def _slots(self) -> dict[int, list[Any]]:
        """Variables of the optimiser for each weight, by the engine's numbers; Keras's names end in what they are."""
        variables = self.model.optimizer.variables
        return {n: [v for v in variables if v.name.endswith(f"_{kind}")] for n, kind in _SLOTS.items()}

    def read(self) -> Weights:
        """Return the weights."""
        return [weight.numpy() for weight in self._weights]

    def write(self, weights: Weights) -> None:
        """Replace the weights."""
        for variable, value in zip(self._weights, weights, strict=True):
            variable.assign(value)

    def read_optimizer(self) -> tuple[int, dict[int, Weights]]:
        """Return the number of updates made, and the optimiser's slots."""
        slots = {slot: [variable.numpy() for variable in variables] for slot, variables in self._slots().items()}
        return int(self.model.optimizer.iterations.numpy()), slots

    def write_optimizer(self, steps: int, slots: Mapping[int, Weights]) -> None:
        """Replace them."""
        self.model.optimizer.iterations.assign(steps)
        variables = self._slots()
        for slot, values in slots.items():
            for variable, value in zip(variables[slot], values, strict=True):
                variable.assign(value)

    def rates(self, first: int, count: int) -> NDArray[np.float64]:
        """Return learning rates; a callback may have changed them since the last call."""
        import keras

        learning_rate = self.model.optimizer.get_config()["learning_rate"]
        return plan_rate(learning_rate, keras.config.floatx())(np.arange(first, first + count))
