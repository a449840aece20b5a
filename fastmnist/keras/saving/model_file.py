"""``.keras``: a zip archive of the model's configuration, as JSON, and its weights file."""

from __future__ import annotations

import datetime
import io
import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

from fastmnist.keras.plan import Unsupported
from fastmnist.keras.saving import weights_file
from fastmnist.keras.serialization import serialize

if TYPE_CHECKING:
    from fastmnist.keras.models import Sequential

_FORMAT_OF = "3.15.1"  # the Keras whose files these are


def save_model(model: Any, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Write `model`, how it was compiled, its weights and its optimiser's state to a ``.keras`` file.

    Parameters
    ----------
    model : Sequential
        Must be built.
    filepath : str or path
        Must end in ``.keras``.
    overwrite : bool, default: True
        Differs from Keras: with False, a file that exists is an error and not a question on the terminal.

    Raises
    ------
    ValueError
        If the name ends otherwise, or the model has not been built.
    FileExistsError
        If there is such a file and `overwrite` is False.
    ImportError
        If h5py is missing.
    """
    if not str(filepath).endswith(".keras"):
        raise ValueError(f"The filename must end in `.keras`; got {str(filepath)!r}. For ONNX see `Sequential.export`.")
    weights_file.refuse_overwriting(filepath, overwrite)
    if not model.built:
        raise ValueError("the model has no weights yet; call build, or fit, before save.")
    config = {**serialize(model), "compile_config": model.get_compile_config()}
    saved = f"{datetime.datetime.now():%Y-%m-%d@%H:%M:%S}"
    weights = io.BytesIO()
    weights_file.write(model, weights)
    with zipfile.ZipFile(filepath, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": _FORMAT_OF, "date_saved": saved}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr(weights_file.IN_ARCHIVE, weights.getvalue())


def load_model(
    filepath: str | os.PathLike[str], custom_objects: None = None, compile: bool = True, safe_mode: bool = True
) -> Sequential:
    """Read a model from a ``.keras`` file, one of Keras's own included.

    Parameters
    ----------
    filepath : str or path
    custom_objects : None
        Not supported: nothing but this package's own classes is made.
    compile : bool, default: True
        Compile the model as it was, and load its optimiser's state.
    safe_mode : bool, default: True
        Has to be True: no code is ever loaded.

    Returns
    -------
    Sequential

    Raises
    ------
    NotImplementedError
        For models and layers that this package does not have.
    ValueError
        If it is no ``.keras`` file.
    ImportError
        If h5py is missing.
    """
    from fastmnist.keras.models import Sequential

    if custom_objects or not safe_mode:
        raise Unsupported("load_model with custom_objects or safe_mode=False is not supported; leave them out.")
    if not zipfile.is_zipfile(filepath):
        raise ValueError(f"{filepath} is not a `.keras` file; weights alone are loaded by `Sequential.load_weights`.")
    with zipfile.ZipFile(filepath) as archive:
        saved = json.loads(archive.read("config.json"))
        if saved["class_name"] != "Sequential":
            raise Unsupported(f"{filepath} holds a model of class {saved['class_name']}; Sequential is supported.")
        model = Sequential.from_config(saved["config"])
        if compile and saved.get("compile_config"):
            model.compile_from_config(saved["compile_config"])
        weights_file.read(model, io.BytesIO(archive.read(weights_file.IN_ARCHIVE)))
    return model
