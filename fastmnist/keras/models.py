"""`Sequential`: a stack of layers that the engine trains."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist.keras import arrays, layers, losses, metrics, optimizers
from fastmnist.keras.callbacks import History
from fastmnist.keras.layers import InputLayer, Layer, Shape
from fastmnist.keras.naming import auto_name
from fastmnist.keras.plan import plan_network
from fastmnist.keras.saving import export, load_model, load_weights, save_model, save_weights
from fastmnist.keras.serialization import class_name, refuse_arguments, serialize
from fastmnist.keras.summary import print_summary
from fastmnist.keras.task import Metric, Task
from fastmnist.keras.variables import Variable

if TYPE_CHECKING:
    import os

    from fastmnist.keras.trainer import Trainer

__all__ = ["Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model"]


class Model:
    """What a `Sequential` is an instance of; models of other kinds are not supported."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise NotImplementedError(
            "functional models and models of your own classes are not supported; pass the layers to Sequential."
        )

    def __init_subclass__(cls) -> None:
        """Refuse methods that Keras would call in training and the engine does not."""
        own = sorted(_KERAS_CALLS.intersection(vars(cls)))
        if own:
            raise NotImplementedError(
                f"{cls.__name__} defines {', '.join(own)}: models with their own computation are not supported. Pass "
                "the layers to Sequential, and use callbacks to look on."
            )


_KERAS_CALLS = frozenset(
    "call train_step test_step predict_step make_train_function make_test_function make_predict_function compute_loss "
    "compute_metrics".split()
)


class Sequential(Model):
    """A stack of layers, each of which takes the outputs of the one before.

    Parameters
    ----------
    layers : list of Layer, optional
        An `Input` first, if the weights are to exist before the first training.
    trainable : bool, default True
    name : str, optional
        Default: "sequential", numbered.

    Attributes
    ----------
    layers : list of Layer
        Without the `Input`.
    optimizer : Optimizer or None
    loss : str or Loss or None
        As given to `compile`.
    history : History
        Of the last `fit`.
    stop_training, stop_evaluating, stop_predicting : bool
        Set by callbacks to end a `fit`, `evaluate` or `predict`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmnist.keras import Sequential, layers
    >>> model = Sequential([layers.Input((784,)), layers.Dense(10, activation="softmax")])
    >>> model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> model.count_params()
    7850
    """

    keras_module = "keras"

    def __init__(self, layers: Iterable[Any] | None = None, trainable: bool = True, name: str | None = None) -> None:
        self.name = auto_name("Sequential") if name is None else str(name)
        self._trainable = trainable
        self._layers: list[Layer] = []
        self._input_shape: Shape | None = None
        self.built = False
        self.compiled = False
        self.stop_training = self.stop_evaluating = self.stop_predicting = False
        self.optimizer: Any = None
        self.loss: Any = None
        self.history: History
        self._compile_config: dict[str, Any] = {}
        self._loss: losses.Loss | None = None
        self._metrics: list[Metric] = []
        self._trainer: Trainer | None = None
        self._trainings = 0
        for layer in layers or ():
            self.add(layer)

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Put a layer on top.

        Raises
        ------
        ValueError
            If it is no layer, its name is taken, it is a second `Input`, or its weights are for other inputs. Nothing
            has changed then.
        """
        if isinstance(layer, Sequential):
            raise NotImplementedError(f"model {layer.name!r} as a layer is not supported; add its layers one by one.")
        if not isinstance(layer, Layer):
            raise ValueError(f"{layer!r} is a {type(layer).__name__}; a layer of fastmnist.keras.layers is wanted.")
        if any(layer.name == other.name for other in self._layers):
            raise ValueError(f"the model has a layer named {layer.name!r}; give this one another name.")
        if isinstance(layer, InputLayer) and self._layers:
            raise ValueError(f"model {self.name!r} has layers already; an Input has to be the first one.")
        if self._input_shape is not None:
            layer.compute_output_shape(self.output_shape)
        if not self._layers and layer.input_shape_given is not None:
            self._layers.append(InputLayer(batch_shape=layer.input_shape_given))
        self._layers.append(layer)
        self._forget()
        if isinstance(self._layers[0], InputLayer):
            self._build(self._layers[0].batch_shape)

    def pop(self, rebuild: bool = True) -> Layer:
        """Remove the last layer and return it.

        Raises
        ------
        ValueError
            If there is none.
        """
        if not self._layers:
            raise ValueError(f"model {self.name!r} has no layers to remove.")
        layer = self._layers.pop()
        self._forget()
        if self.layers and isinstance(self._layers[0], InputLayer):
            self._build(self._layers[0].batch_shape)
        return layer

    def _forget(self) -> None:
        """Drop what was made of the stack before it changed."""
        self.built = False
        self._input_shape = None
        self._trainer = None

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Make the weights for inputs of that shape, the batch's dimension, None, included.

        Raises
        ------
        ValueError
            If the model has no layers, or has been made for another shape.
        """
        if not self._layers:
            raise ValueError(f"model {self.name!r} has no layers; add some first.")
        if input_shape is None:
            return
        shape = (None, *input_shape[1:])
        if isinstance(self._layers[0], InputLayer):
            if self._layers[0].batch_shape != shape:
                raise ValueError(
                    f"model {self.name!r} takes inputs of shape {self._layers[0].batch_shape}, not {shape}."
                )
        else:
            self._layers.insert(0, InputLayer(batch_shape=shape))
        self._build(shape)

    def _build(self, shape: Shape) -> None:
        self._input_shape = shape
        for layer in self.layers:
            if not layer.built:
                layer.build(shape)
            for weight in layer.weights:
                weight.path = f"{self.name}/{layer.name}/{weight.name}"
            shape = layer.compute_output_shape(shape)
        self.built = bool(self.layers)

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the `Input`."""
        return [layer for layer in self._layers if not isinstance(layer, InputLayer)]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return the layer of that name, or the one with that index.

        Raises
        ------
        ValueError
            If there is none.
        """
        if index is not None and name is None:
            if not 0 <= index < len(self.layers):
                raise ValueError(f"there are {len(self.layers)} layers; index {index} was asked for.")
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name and index is None:
                return layer
        names = ", ".join(layer.name for layer in self.layers)
        raise ValueError(f"there is no layer {name!r} with index {index}; there are {names}.")

    @property
    def trainable(self) -> bool:
        """Whether the layers are trainable; assign to change that for all of them."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self._layers:
            layer.trainable = bool(value)

    @property
    def input_shape(self) -> Shape:
        """Shape of the inputs, the batch's dimension included."""
        if self._input_shape is None:
            raise AttributeError(f"model {self.name!r} has no input shape yet; build it, or put an Input first.")
        return self._input_shape

    @property
    def output_shape(self) -> Shape:
        """Shape of the outputs, the batch's dimension included."""
        return self.compute_output_shape(self.input_shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the outputs for inputs of that shape, the batch's dimension included."""
        shape = tuple(input_shape)
        for layer in self.layers:
            shape = layer.compute_output_shape(shape)
        return shape

    @property
    def inputs(self) -> list[InputLayer]:
        """The `Input`, in a list."""
        return [layer for layer in self._layers if isinstance(layer, InputLayer)]

    @property
    def weights(self) -> list[Variable]:
        """The weights of all layers."""
        return [weight for layer in self.layers for weight in layer.weights]

    @property
    def variables(self) -> list[Variable]:
        """The weights of all layers."""
        return self.weights

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights of the layers that are trainable."""
        return [weight for layer in self.layers for weight in layer.trainable_weights] if self.trainable else []

    @property
    def trainable_variables(self) -> list[Variable]:
        """The weights of the layers that are trainable."""
        return self.trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights of the layers that are not trainable."""
        trained = {id(weight) for weight in self.trainable_weights}
        return [weight for weight in self.weights if id(weight) not in trained]

    def get_weights(self) -> list[NDArray[Any]]:
        """Return copies of the weights: kernel (I, O) and bias (O,) of each dense layer."""
        return [weight.numpy() for weight in self.weights]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Replace the weights, in the order of `get_weights`.

        Raises
        ------
        ValueError
            If their number or a shape differs. Nothing has changed then.
        """
        layers.assign(f"model {self.name!r}", self.weights, weights)

    def count_params(self) -> int:
        """Return how many numbers the weights are.

        Raises
        ------
        ValueError
            If there are no weights yet.
        """
        if not self.built:
            raise ValueError(f"model {self.name!r} has no weights yet; build it, or put an Input first.")
        return sum(layer.count_params() for layer in self.layers)

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Print a table of the layers, with the number of their parameters.

        Parameters
        ----------
        line_length : int, optional
            Default: 88, or what the terminal has.
        positions : sequence of float, optional
            Where each column ends, as a share of the line.
        print_fn : callable, optional
            Called with the whole text, instead of printing it.
        expand_nested : bool
            Models have no models within them here: no effect.
        show_trainable : bool, default False
            Add a column.
        layer_range : two str, optional
            Names of the first and last layer to show.
        """
        print_summary(self, line_length, positions, print_fn, show_trainable, layer_range)

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Sequence[Any] | None = None,
        weighted_metrics: Sequence[Any] | None = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Say how to train.

        Parameters
        ----------
        optimizer : str or Optimizer, default "rmsprop"
        loss : str or Loss
        metrics, weighted_metrics : list of str or Metric, optional
            Reported along with the loss; "accuracy" is the one that fits the targets. Sample weights count for the
            latter alone.
        jit_compile : True or "auto"
            It is compiled in any case.
        auto_scale_loss : bool
            Of no effect without mixed precision, as in Keras.
        loss_weights, run_eagerly, steps_per_execution
            Not supported.

        Raises
        ------
        NotImplementedError
            For what Keras has and this package has not.
        ValueError
            For unknown names.
        """
        refuse_arguments(
            "compile",
            loss_weights=loss_weights,
            run_eagerly=run_eagerly,
            steps_per_execution=None if steps_per_execution == 1 else steps_per_execution,
            jit_compile="False" if jit_compile is False else None,
        )
        found = optimizers.get(optimizer)
        self._loss = losses.get(loss)
        self._metrics = _metrics(metrics, weighted_metrics)
        self.optimizer, self.loss = found, loss
        self._compile_config = {
            "optimizer": serialize(found),
            "loss": _written(loss),
            "loss_weights": None,
            "metrics": None if metrics is None else [_written(metric) for metric in _flat(metrics)],
            "weighted_metrics": None
            if weighted_metrics is None
            else [_written(metric) for metric in _flat(weighted_metrics)],
            "run_eagerly": False,
            "steps_per_execution": 1,
            "jit_compile": True,
        }
        self.compiled = True
        self._trainer = None

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compile with what `get_compile_config` returned, also that of a Keras model."""
        known = {
            "optimizer",
            "loss",
            "loss_weights",
            "metrics",
            "weighted_metrics",
            "run_eagerly",
            "steps_per_execution",
        }
        self.compile(**{name: value for name, value in config.items() if name in known})
        if self.built:
            self.optimizer.build(self.trainable_weights)

    def get_compile_config(self) -> dict[str, Any]:
        """Return what `compile` was given; empty if it has not been called."""
        return {**self._compile_config, "optimizer": serialize(self.optimizer)} if self.compiled else {}

    def get_config(self) -> dict[str, Any]:
        """Return name and layers, with which `from_config` makes the model again, weights anew."""
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": layers.policy("float32"),
            "layers": [serialize(layer) for layer in self._layers],
        }
        return {**config, "build_input_shape": self._input_shape} if self.built else config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Sequential:
        """Make a model from its config."""
        model = cls([layers.get(layer) for layer in config["layers"]], config.get("trainable", True), config["name"])
        if not model.built and config.get("build_input_shape"):
            model.build(config["build_input_shape"])
        return model

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
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
    ) -> History:
        """Train.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            Samples. Bytes are taken as they are, 0 to 255. No array is read again in each epoch.
        y : array_like, shape (N,), (N, 1) or (N, O)
            Targets, as the loss takes them.
        batch_size : int, default 32
            Samples per update; the last batch may have fewer.
        epochs : int, default 1
            Number of the last epoch.
        verbose : {"auto", 0, 1, 2}
            Nothing, a bar for each epoch, or a line.
        callbacks : list, optional
            Objects with any of the methods of `callbacks.Callback`.
        validation_split : float, default 0
            Share of the samples, the last ones, that is evaluated and not trained.
        validation_data : (x, y) or (x, y, sample_weight), optional
            Evaluated after each epoch.
        shuffle : bool or "batch", default True
            Draw a new order for each epoch, from NumPy's global stream as Keras on JAX does.
        class_weight : dict, optional
            Factors on the loss by class number; 1 for others.
        sample_weight : array_like, shape (N,), optional
            Factors on the loss.
        initial_epoch : int, default 0
            Epochs that have been trained before.
        steps_per_epoch : int, optional
            Updates in an epoch, if it is not a pass over the data.
        validation_steps : int, optional
            Batches to evaluate. Default: all.
        validation_batch_size : int, optional
        validation_freq : int or list of int, default 1
            Validate every so many epochs, or after these.

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError
            If the model is not compiled, or the arrays do not fit it. Nothing has changed then.
        NotImplementedError
            If the engine does not train such a model.
        """
        trainer = self._make_trainer(x, training=True)
        self.optimizer.build(self.trainable_weights)
        given = list(arrays.flatten(callbacks))
        histories = [callback for callback in given if isinstance(callback, History)]
        self.history = histories[0] if histories else History()
        trainer.fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=given if histories else [*given, self.history],
            validation_split=validation_split,
            validation_data=validation_data,
            shuffle=shuffle,
            class_weight=class_weight,
            sample_weight=sample_weight,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            validation_batch_size=validation_batch_size,
            validation_freq=validation_freq,
        )
        return self.history

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Return the loss, or a list of the loss and the metrics, or a dictionary of them.

        Parameters are those of `fit`; `steps` is the number of batches to evaluate.
        """
        logs = self._make_trainer(x).evaluate(
            x,
            y,
            batch_size=batch_size,
            verbose=verbose,
            sample_weight=sample_weight,
            steps=steps,
            callbacks=callbacks or (),
        )
        return self._results(logs, return_dict)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> NDArray[Any]:
        """Return the outputs, shape (N, O); parameters as for `evaluate`."""
        trainer = self._make_trainer(x)
        return trainer.predict(x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks or ())

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[Any, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Make one update; return loss and metrics before it, as `evaluate` does."""
        trainer = self._make_trainer(x, training=True)
        self.optimizer.build(self.trainable_weights)
        return self._results(trainer.train_on_batch(x, y, sample_weight, class_weight), return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Return loss and metrics of one batch, as `evaluate` does."""
        logs = self._make_trainer(x).evaluate(x, y, batch_size=len(x), verbose=0, sample_weight=sample_weight)
        return self._results(logs, return_dict)

    def predict_on_batch(self, x: Any) -> NDArray[Any]:
        """Return the outputs of one batch."""
        return self.predict(x, batch_size=len(x), verbose=0)

    def __call__(self, inputs: ArrayLike, training: bool = False) -> NDArray[Any]:
        """Return the outputs for an array.

        Raises
        ------
        NotImplementedError
            With ``training=True``: dropout is for `fit`.
        """
        refuse_arguments("the model", training=training)
        return self.predict_on_batch(np.asarray(inputs))

    @property
    def compiled_metrics(self) -> list[Metric]:
        """What `compile` was given as metrics, with the names that they are shown by."""
        return list(self._metrics)

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, in its order."""
        return ["loss", *(metric.name for metric in self._metrics)]

    def _results(self, logs: dict[str, float], return_dict: bool) -> Any:
        if return_dict:
            return logs
        values = [logs[name] for name in self.metrics_names]
        return values if len(values) > 1 else values[0]

    def save(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write a ``.keras`` file, see `saving.save_model`."""
        save_model(self, filepath, overwrite)

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write a ``.weights.h5`` file, see `saving.save_weights`."""
        save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: str | os.PathLike[str], skip_mismatch: bool = False) -> None:
        """Read a ``.weights.h5`` file, see `saving.load_weights`."""
        load_weights(self, filepath, skip_mismatch)

    def export(self, filepath: str | os.PathLike[str], format: str = "tf_saved_model") -> None:
        """Write an ONNX file, with ``format="onnx"``."""
        export(self, filepath, format)

    def to_json(self) -> str:
        """Return the config as JSON."""
        return json.dumps(serialize(self))

    def _make_trainer(self, x: Any, training: bool = False) -> Trainer:
        """Return the trainer, made anew where the stack, or how it is compiled, has changed."""
        from fastmnist.keras.trainer import Trainer  # with Numba: not before it is needed

        if training and not self.compiled:
            raise ValueError(f"model {self.name!r} has not been compiled; call compile(optimizer, loss) first.")
        if not self.built:
            self.build((None, *arrays.as_array("x", x).shape[1:]))
        if training and self.non_trainable_weights:
            frozen = ", ".join(weight.path for weight in self.non_trainable_weights)
            raise NotImplementedError(f"training with {frozen} not trainable is not supported; set trainable to True.")
        if self._trainer is None:
            shape = tuple(n for n in self.input_shape[1:] if n is not None)
            stack = [(class_name(layer), {**layer.get_config(), "trainable": True}) for layer in self.layers]
            plan = plan_network(stack, shape)
            task = None
            if self._loss is not None:
                task = Task(
                    loss=class_name(self._loss),
                    loss_config=self._loss.get_config(),
                    metrics=tuple(self._metrics),
                    optimizer=self.optimizer.plan(),
                    seed=self._draw_seed(),
                )
            self._trainer = Trainer(_Adapter(self), plan, shape, task)
        return self._trainer

    def _draw_seed(self) -> int:
        """Return a seed for dropout, from those of the layers; another one whenever the model is compiled anew."""
        seeds = [layer.drawn_seed for layer in self.layers if isinstance(layer, layers.Dropout)]
        self._trainings += 1
        return int(np.random.SeedSequence([self._trainings, *seeds]).generate_state(1, np.uint64)[0])

    def __repr__(self) -> str:
        """Return class, name and whether it is built."""
        return f"<Sequential name={self.name}, built={self.built}>"


def clone_model(model: Sequential) -> Sequential:
    """Return a model with the same layers and new weights, not compiled."""
    return Sequential.from_config(model.get_config())


def model_from_json(json_string: str) -> Sequential:
    """Return a model, with new weights, from what `Sequential.to_json` returned.

    Raises
    ------
    NotImplementedError
        If it describes a model of another class.
    """
    saved = json.loads(json_string)
    if saved["class_name"] != "Sequential":
        raise NotImplementedError(f"a model of class {saved['class_name']} is not supported; Sequential is.")
    return Sequential.from_config(saved["config"])


class _Adapter:
    """A `Sequential` as the trainer sees it: a `trainer.Host`."""

    def __init__(self, model: Sequential) -> None:
        self.model = model

    def read(self) -> list[NDArray[Any]]:
        return [weight.value for weight in self.model.weights]

    def write(self, weights: Sequence[NDArray[Any]]) -> None:
        for variable, value in zip(self.model.weights, weights, strict=True):
            variable.assign(value)

    def read_optimizer(self) -> tuple[int, Mapping[int, list[NDArray[Any]]]]:
        return int(self.model.optimizer.iterations), self.model.optimizer.get_slots()

    def write_optimizer(self, steps: int, slots: Mapping[int, Sequence[NDArray[Any]]]) -> None:
        self.model.optimizer.iterations.assign(steps)
        for slot, values in self.model.optimizer.get_slots().items():
            for old, new in zip(values, slots[slot], strict=True):
                old[...] = new

    def rates(self, first: int, count: int) -> NDArray[np.float64]:
        rates: NDArray[np.float64] = self.model.optimizer.rates(first, count)
        return rates


def _metrics(given: Any, weighted_ones: Any) -> list[Metric]:
    """Metrics as the trainer takes them, with the names that Keras shows them by."""
    found: list[Metric] = []
    for weighted, things in ((False, given), (True, weighted_ones)):
        if things is not None and not isinstance(things, list | tuple | Mapping):
            raise ValueError(f"metrics are {things!r}; a list is wanted.")
        for thing in _flat(things):
            name, kind, config = metrics.described(thing)
            taken = [other.name for other in found]
            if name in taken and weighted:
                name = f"weighted_{name}"
            numbered = (f"{name}_{k}" for k in itertools.count(1))
            found.append(
                Metric(
                    name if name not in taken else next(n for n in numbered if n not in taken), kind, config, weighted
                )
            )
    return found


def _flat(given: Any) -> list[Any]:
    return list(arrays.flatten(list(given.values()) if isinstance(given, Mapping) else given))


def _written(thing: Any) -> Any:
    """Return a loss or metric as a config names it."""
    if isinstance(thing, type):
        thing = thing()
    return thing.__name__ if callable(thing) and not hasattr(thing, "get_config") else serialize(thing)
