"""A model as an ONNX graph: inputs scaled and flattened, then Gemm and an activation for each dense layer."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastmnist.keras.plan import Unsupported, plan_network

# Gemm, Softmax and the others read as here since opset 13; runtimes from 2021 on accept 17 and IR 8.
_OPSET, _IR = 17, 8
_OPERATORS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax"}


def export(model: Any, filepath: str | os.PathLike[str], format: str = "tf_saved_model") -> None:
    """Write `model` for inference; dropout is left out.

    Parameters
    ----------
    model : Sequential
        Must be built.
    filepath : str or path
    format : str
        Only ``"onnx"`` is supported; the default is Keras's.

    Raises
    ------
    NotImplementedError
        For other formats.
    ImportError
        If onnx is missing.
    """
    if format != "onnx":
        raise Unsupported(f'export with format={format!r} is not supported; format="onnx" is.')
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError as error:
        raise ImportError("export needs onnx: pip install 'fastmnist[files]'.") from error

    shape = tuple(model.input_shape[1:])
    plan = plan_network([(type(layer).__name__, layer.get_config()) for layer in model.layers], shape)
    dtype = np.dtype(plan.dtype)
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    value = "input"

    def apply(operator: str, *others: str, **attributes: Any) -> str:
        name = f"{operator.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(operator, [value, *others], [name], name, **attributes))
        return name

    if len(shape) != 1:
        value = apply("Flatten", axis=1)
    if plan.scale != 1:
        value = apply("Mul", constant("scale", plan.scale))
    if plan.offset != 0:
        value = apply("Add", constant("offset", plan.offset))
    for at, layer in zip(plan.dense, plan.layers, strict=True):
        keras_layer = model.layers[at]
        names = [f"{keras_layer.name}/{kind}" for kind in ("kernel", "bias")]
        weights = [constant(*pair) for pair in zip(names, keras_layer.get_weights(), strict=False)]
        value = apply("Gemm", *weights)
        if layer.activation != "linear":
            value = apply(_OPERATORS[layer.activation], **({"axis": -1} if layer.activation == "softmax" else {}))
    nodes[-1].output[0] = "output"
    real = helper.np_dtype_to_tensor_dtype(dtype)
    graph = helper.make_graph(
        nodes,
        model.name,
        [helper.make_tensor_value_info("input", real, ["N", *shape])],
        [helper.make_tensor_value_info("output", real, ["N", plan.layers[-1].units])],
        constants,
    )
    made = helper.make_model(
        graph, producer_name="fastmnist", ir_version=_IR, opset_imports=[helper.make_opsetid("", _OPSET)]
    )
    onnx.checker.check_model(made)
    onnx.save(made, os.fspath(filepath))
