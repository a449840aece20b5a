"""Keras's layers, as far as the engine trains them.

A layer holds its arguments and weights; called on an array it computes its outputs with NumPy. Models compute theirs
with the engine instead.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist.keras import activations, initializers, regularizers
from fastmnist.keras.naming import auto_name
from fastmnist.keras.serialization import refuse_arguments, resolve, serialize, stand_ins
from fastmnist.keras.variables import Variable

__all__ = ["Activation", "Dense", "Dropout", "Flatten", "Input", "InputLayer", "Layer", "ReLU", "Rescaling", "get"]

# With the batch's open dimension in front: (None, 784).
Shape = tuple[int | None, ...]


class Layer:
    """What all layers share.

    Parameters
    ----------
    trainable : bool, default True
        Models in which a layer with weights is not trainable predict, but do not train.
    dtype : {"float32", "float64"}, optional
        What weights are stored and computed in; all layers of a model must agree. Default: "float32".
    activity_regularizer, autocast
        Not supported.
    name : str, optional
        Default: the class's name in lower case, numbered.
    input_shape : tuple of int, optional
        Shape of one sample, for the first layer of a model. An `Input` is the newer way.
    input_dim : int, optional
        Short for ``input_shape=(input_dim,)``.

    Attributes
    ----------
    name : str
    trainable : bool
    built : bool
        Whether the weights exist.
    """

    keras_module = "keras.layers"

    def __init__(
        self,
        *,
        trainable: bool = True,
        dtype: Any = None,
        activity_regularizer: Any = None,
        autocast: bool = True,
        name: str | None = None,
        input_shape: Sequence[int] | None = None,
        input_dim: int | None = None,
        **unknown: Any,
    ) -> None:
        kind = type(self).__name__
        if unknown:
            raise ValueError(f"{kind} does not know the arguments {', '.join(unknown)}.")
        if not isinstance(trainable, bool):
            raise ValueError(f"trainable is {trainable!r}; True or False is wanted.")
        refuse_arguments(kind, activity_regularizer=activity_regularizer, autocast=None if autocast else "False")
        if name is not None and "/" in str(name):
            raise ValueError(f"name is {name!r}; a name without '/' is wanted.")
        self.name = auto_name(kind) if name is None else str(name)
        self.trainable = trainable
        self.dtype = _dtype(kind, dtype)
        self.built = False
        self.build_shape: Shape | None = None
        self.input_shape_given: Shape | None = None
        self._weights: list[Variable] = []
        if input_dim is not None:
            input_shape = (input_dim,)
        if input_shape is not None:
            warnings.warn(
                "input_shape and input_dim are Keras's old way; an Input(shape) as the first layer is the new one.",
                stacklevel=3,
            )
            self.input_shape_given = _shape("input_shape", input_shape)

    def build(self, input_shape: Shape) -> None:
        """Make the weights for inputs of that shape, the batch's dimension included."""
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the outputs, the batch's dimension included."""
        return tuple(input_shape)

    def call(self, inputs: NDArray[Any], training: bool = False) -> NDArray[Any]:
        """Return the outputs."""
        raise NotImplementedError

    def __call__(self, inputs: ArrayLike, training: bool = False) -> NDArray[Any]:
        """Return the outputs for an array, and make the weights if there are none yet."""
        if isinstance(inputs, InputLayer):
            raise NotImplementedError(
                f"{self.name} was called on an Input: functional models are not supported. Pass the layers, Input "
                "first, to Sequential."
            )
        x = np.asarray(inputs, self.dtype)
        if not self.built:
            self.build((None, *x.shape[1:]))
        return self.call(x, training)

    @property
    def weights(self) -> list[Variable]:
        """All weights."""
        return list(self._weights)

    @property
    def variables(self) -> list[Variable]:
        """All weights."""
        return list(self._weights)

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights, if the layer is trainable."""
        return list(self._weights) if self.trainable else []

    @property
    def trainable_variables(self) -> list[Variable]:
        """The weights, if the layer is trainable."""
        return self.trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights, if the layer is not trainable."""
        return [] if self.trainable else list(self._weights)

    def get_weights(self) -> list[NDArray[Any]]:
        """Return copies of the weights: kernel (I, O), then bias (O,)."""
        return [weight.numpy() for weight in self.weights]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Replace the weights, in the order of `get_weights`.

        Raises
        ------
        ValueError
            If their number or a shape differs. Nothing has changed then.
        """
        assign(f"layer {self.name!r}", self.weights, weights)

    def count_params(self) -> int:
        """Return how many numbers the weights are.

        Raises
        ------
        ValueError
            If there are no weights yet.
        """
        if not self.built:
            raise ValueError(f"layer {self.name!r} has no weights yet; build it, or give the model an Input.")
        return sum(math.prod(weight.shape) for weight in self.weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"name": self.name, "trainable": self.trainable, "dtype": policy(self.dtype)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Make a layer, with new weights, from its config."""
        return cls(**config)

    def __repr__(self) -> str:
        """Return class, name and whether it is built."""
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


class InputLayer(Layer):
    """The shape of a sample; first layer of a model.

    Parameters
    ----------
    shape : tuple of int
        Without the batch's dimension.
    batch_shape : tuple of int, optional
        Instead of `shape`: with the batch's dimension, None.
    dtype : str, optional
        "float32", or "uint8" for images: their numbers are taken as they are, 0 to 255.
    name : str, optional
    input_shape : tuple of int, optional
        Keras's old name for `shape`.
    batch_size, sparse, ragged, input_tensor, optional
        Not supported.
    """

    def __init__(
        self,
        shape: int | Sequence[int] | None = None,
        batch_size: Any = None,
        dtype: str | None = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Sequence[int | None] | None = None,
        input_tensor: Any = None,
        optional: bool = False,
        name: str | None = None,
        input_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(name=name)
        if input_shape is not None:
            warnings.warn("input_shape is Keras's old name for shape.", stacklevel=2)
            shape = input_shape
        if (shape is None) == (batch_shape is None):
            raise ValueError(f"shape is {shape} and batch_shape is {batch_shape}; one of them is wanted.")
        if batch_shape is not None:
            batch_size, shape = batch_shape[0], batch_shape[1:]  # type: ignore[assignment]
        refuse_arguments(
            "Input", batch_size=batch_size, sparse=sparse, ragged=ragged, tensor=input_tensor, optional=optional
        )
        if dtype not in (None, "float32", "float64", "uint8"):
            raise NotImplementedError(f"Input was given dtype={dtype!r}; float32, float64 and uint8 are supported.")
        self.batch_shape = _shape("shape", shape)
        self.dtype = dtype or "float32"
        self.built = True

    @property
    def shape(self) -> Shape:
        """Shape of a batch: ``(None, 784)``."""
        return self.batch_shape

    def call(self, inputs: NDArray[Any], training: bool = False) -> NDArray[Any]:
        """Return the inputs."""
        return inputs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.dtype,
            "sparse": False,
            "ragged": False,
            "name": self.name,
            "optional": False,
        }


def Input(
    shape: int | Sequence[int] | None = None,
    batch_size: Any = None,
    dtype: str | None = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
    tensor: Any = None,
    optional: bool = False,
) -> InputLayer:
    """Return the `InputLayer` for samples of that shape."""
    return InputLayer(shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name)


class Dense(Layer):
    """Outputs ``activation(x @ kernel + bias)``.

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str or function, optional
        "linear", "relu", "sigmoid" or "tanh"; "softmax" for the last layer. Default: linear.
    use_bias : bool, default True
    kernel_initializer, bias_initializer : str or Initializer, default "glorot_uniform" and "zeros"
    kernel_regularizer, bias_regularizer : str or Regularizer, optional
    activity_regularizer, kernel_constraint, bias_constraint, lora_rank, lora_alpha, quantization_config
        Not supported.
    **options
        As for `Layer`.

    Attributes
    ----------
    kernel : Variable, shape (I, O)
    bias : Variable, shape (O,), or None
    """

    kernel: Variable
    bias: Variable | None

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: Any = None,
        lora_alpha: Any = None,
        quantization_config: Any = None,
        **options: Any,
    ) -> None:
        if isinstance(units, bool) or not isinstance(units, int | np.integer) or units <= 0:
            raise ValueError(f"units is {units!r}; a whole number, 1 or more, is wanted.")
        refuse_arguments(
            "Dense",
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            quantization_config=quantization_config,
        )
        super().__init__(activity_regularizer=activity_regularizer, **options)
        self.units = int(units)
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)

    def build(self, input_shape: Shape) -> None:
        """Make kernel and bias."""
        n_in = input_shape[-1]
        self.build_shape = tuple(input_shape)
        self.kernel = self._variable("kernel", self.kernel_initializer((n_in, self.units), self.dtype))
        self.bias = None
        if self.use_bias:
            self.bias = self._variable("bias", self.bias_initializer((self.units,), self.dtype))
        self._weights = [self.kernel] if self.bias is None else [self.kernel, self.bias]
        self.built = True

    def _variable(self, name: str, value: NDArray[Any]) -> Variable:
        return Variable(value, name, f"{self.name}/{name}", self.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape with `units` as its last dimension.

        Raises
        ------
        ValueError
            If the weights exist, for another number of inputs.
        """
        if self.built and input_shape[-1] != self.kernel.shape[0]:
            raise ValueError(
                f"layer {self.name!r} has weights for {self.kernel.shape[0]} inputs, and gets {input_shape[-1]}; use a "
                "new layer."
            )
        return (*input_shape[:-1], self.units)

    def call(self, inputs: NDArray[Any], training: bool = False) -> NDArray[Any]:
        """Return ``activation(inputs @ kernel + bias)``."""
        n_in = self.kernel.shape[0]
        if inputs.ndim < 2 or inputs.shape[-1] != n_in:
            raise ValueError(f"layer {self.name!r} takes inputs of shape (N, {n_in}); got {inputs.shape}.")
        sums = inputs @ self.kernel.value
        return self.activation(sums if self.bias is None else sums + self.bias.value)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": serialize(self.kernel_initializer),
            "bias_initializer": serialize(self.bias_initializer),
            "kernel_regularizer": serialize(self.kernel_regularizer),
            "bias_regularizer": serialize(self.bias_regularizer),
            "kernel_constraint": None,
            "bias_constraint": None,
            "quantization_config": None,
        }


class Dropout(Layer):
    """Sets a share of its inputs to 0 in training and divides the others by ``1 - rate``.

    Parameters
    ----------
    rate : float
        The share, in [0, 1]; models take rates below 1.
    noise_shape
        Not supported.
    seed : int, optional
    **options
        As for `Layer`.
    """

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **options: Any) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"rate is {rate!r}; a share in [0, 1] is wanted.")
        refuse_arguments("Dropout", noise_shape=noise_shape)
        super().__init__(**options)
        self.rate = rate
        self.seed = seed
        self.drawn_seed = random.randint(1, 10**9) if seed is None else int(seed)
        self._generator = np.random.default_rng(self.drawn_seed)
        self.built = True

    def call(self, inputs: NDArray[Any], training: bool = False) -> NDArray[Any]:
        """Return the inputs, or what dropout leaves of them in training."""
        if not training or self.rate == 0:
            return inputs
        kept = self._generator.random(inputs.shape) >= self.rate
        scale = inputs.dtype.type(1 / (1 - self.rate) if self.rate < 1 else 0)
        return np.asarray(inputs * kept * scale)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed, "noise_shape": None}


class Flatten(Layer):
    """Makes a row of each sample.

    Parameters
    ----------
    data_format : {"channels_last"}, optional
    **options
        As for `Layer`.
    """

    def __init__(self, data_format: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        if data_format not in (None, "channels_last"):
            raise NotImplementedError(f"Flatten was given data_format={data_format!r}; 'channels_last' is supported.")

    def build(self, input_shape: Shape) -> None:
        """Remember the shape."""
        self.build_shape = tuple(input_shape)
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the number of inputs, as one dimension."""
        sizes = input_shape[1:]
        return (input_shape[0], None if None in sizes else math.prod(n for n in sizes if n is not None))

    def call(self, inputs: NDArray[Any], training: bool = False) -> NDArray[Any]:
        """Return a row for each sample."""
        return inputs.reshape(len(inputs), -1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "data_format": "channels_last"}


class Activation(Layer):
    """Applies an activation.

    Parameters
    ----------
    activation : str or function
        As for `Dense`.
    **options
        As for `Layer`.
    """

    def __init__(self, activation: Any, **options: Any) -> None:
        super().__init__(**options)
        self.activation = activations.get(activation)
        self.built = True

    def call(self, inputs: NDArray[Any], training: bool = False) -> NDArray[Any]:
        """Return the activation of the inputs."""
        return self.activation(inputs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "activation": activations.serialize(self.activation)}


class ReLU(Layer):
    """Returns ``max(x, 0)``.

    Parameters
    ----------
    max_value, negative_slope, threshold
        Not supported; their defaults are None, 0 and 0.
    **options
        As for `Layer`.
    """

    def __init__(
        self, max_value: Any = None, negative_slope: float = 0.0, threshold: float = 0.0, **options: Any
    ) -> None:
        super().__init__(**options)
        refuse_arguments(
            "ReLU", max_value=max_value, negative_slope=negative_slope or None, threshold=threshold or None
        )
        self.built = True

    def call(self, inputs: NDArray[Any], training: bool = False) -> NDArray[Any]:
        """Return the positive part."""
        return activations.relu(inputs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "max_value": None, "negative_slope": 0.0, "threshold": 0.0}


class Rescaling(Layer):
    """Returns ``x * scale + offset``; before the first `Dense` of a model.

    Parameters
    ----------
    scale : float
    offset : float, default 0
    **options
        As for `Layer`.
    """

    def __init__(self, scale: float, offset: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        for name, value in (("scale", scale), ("offset", offset)):
            if not isinstance(value, int | float | np.number):
                raise NotImplementedError(f"Rescaling was given {name}={value!r}; one number is supported.")
        self.scale, self.offset = float(scale), float(offset)

    def build(self, input_shape: Shape) -> None:
        """Remember the shape."""
        self.build_shape = tuple(input_shape)
        self.built = True

    def call(self, inputs: NDArray[Any], training: bool = False) -> NDArray[Any]:
        """Return the inputs, scaled."""
        number = inputs.dtype.type
        return np.asarray(inputs * number(self.scale) + number(self.offset))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}


_ELSEWHERE = (
    "ActivityRegularization Add AdditiveAttention AlphaDropout Attention AutoContrast Average AveragePooling1D "
    "AveragePooling2D AveragePooling3D BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate Conv1D "
    "Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D "
    "Convolution2D Convolution3D Cropping1D Cropping2D Cropping3D DepthwiseConv1D DepthwiseConv2D Discretization Dot "
    "ELU EinsumDense Embedding GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D "
    "GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization Hashing "
    "Identity IntegerLookup LSTM LSTMCell Lambda LayerNormalization LeakyReLU Masking MaxPool1D MaxPool2D MaxPool3D "
    "MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU Permute "
    "RNN RandomBrightness RandomContrast RandomCrop RandomFlip RandomRotation RandomTranslation RandomZoom "
    "RepeatVector Reshape Resizing SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax SpatialDropout1D "
    "SpatialDropout2D SpatialDropout3D SpectralNormalization StringLookup Subtract TextVectorization TimeDistributed "
    "UnitNormalization UpSampling1D UpSampling2D UpSampling3D Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D add "
    "average concatenate dot maximum minimum multiply subtract"
).split()
__getattr__ = stand_ins(__name__, _ELSEWHERE)

_CLASSES = {c.__name__: c for c in (Activation, Dense, Dropout, Flatten, InputLayer, ReLU, Rescaling)}


def get(identifier: Any) -> Any:
    """Return a layer made from a dictionary with its class name and config; layers stay what they are.

    Raises
    ------
    NotImplementedError
        For Keras's other layers.
    """
    elsewhere = [identifier.get("class_name", "")] if isinstance(identifier, Mapping) else ()
    return resolve("layer", identifier, _CLASSES, elsewhere)


def policy(dtype: str) -> dict[str, Any]:
    """Return a float type as the policy that Keras's configs name it by."""
    return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": dtype}, "registered_name": None}


def _dtype(kind: str, dtype: Any) -> str:
    """Name of a layer's float type, from a name or from the config of one of Keras's policies."""
    name = dtype["config"]["name"] if isinstance(dtype, Mapping) else dtype or "float32"
    if name not in ("float32", "float64"):
        raise NotImplementedError(f"{kind} was given dtype={name!r}; 'float32' and 'float64' are supported.")
    return str(name)


def _shape(name: str, shape: Any) -> Shape:
    """Shape of a batch, from that of a sample."""
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    for size in sizes:
        if size is None:
            raise NotImplementedError(f"{name} is {shape}; open dimensions are not supported.")
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(f"{name} is {shape!r}; a tuple of whole numbers, each 1 or more, is wanted.")
    return (None, *map(int, sizes))


def assign(owner: str, variables: Sequence[Variable], weights: Sequence[ArrayLike]) -> None:
    """Give each variable its value, once all are known to fit."""
    if len(weights) != len(variables):
        raise ValueError(f"{owner} has {len(variables)} weights; {len(weights)} were given to set_weights.")
    arrays = [np.asarray(weight) for weight in weights]
    for variable, array in zip(variables, arrays, strict=True):
        if variable.shape != array.shape:
            raise ValueError(f"{owner}: {variable.path} has shape {variable.shape}; shape {array.shape} was given.")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
