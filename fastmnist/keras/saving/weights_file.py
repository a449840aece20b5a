"""``.weights.h5``: the variables of layers and optimiser in HDF5, under the paths that Keras gives them.

Layers lie under ``layers/<class>``, ``layers/<class>_1`` and so on, numbered per class and not by name; their variables
under ``vars/0``, ``vars/1`` in the order of `layer.weights`. The optimiser's lie under ``optimizer/vars``.
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastmnist.keras.naming import snake_case

Arrays = list[NDArray[Any]]

IN_ARCHIVE = "model.weights.h5"


def save_weights(model: Any, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Write the weights of `model`, and its optimiser's state, to a ``.weights.h5`` file.

    Parameters
    ----------
    model : Sequential
        Must be built.
    filepath : str or path
        Must end in ``.weights.h5``.
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
    if not str(filepath).endswith(".weights.h5"):
        raise ValueError(f"The filename must end in `.weights.h5`; got {str(filepath)!r}.")
    refuse_overwriting(filepath, overwrite)
    if not model.built:
        raise ValueError("the model has no weights yet; call build, or fit, before save_weights.")
    write(model, filepath)


def load_weights(model: Any, filepath: str | os.PathLike[str], skip_mismatch: bool = False) -> None:
    """Read weights, and the optimiser's state where the file and `model` have one, from a file of Keras's.

    Parameters
    ----------
    model : Sequential
        Must be built. Nothing of it has changed if the call raises.
    filepath : str or path
        A ``.weights.h5`` or ``.keras`` file.
    skip_mismatch : bool, default: False
        Leave layers whose number or shapes of weights differ as they are, with a warning.

    Raises
    ------
    ValueError
        If the model has not been built, or the file's weights do not fit it. Differs from Keras: weights of the file
        that belong to no layer of the model are an error, not passed over.
    ImportError
        If h5py is missing.
    """
    name = str(filepath)
    if not model.built:
        raise ValueError("the model has no weights yet; call build before load_weights.")
    if name.endswith(".keras"):
        with zipfile.ZipFile(filepath) as archive:
            read(model, io.BytesIO(archive.read(IN_ARCHIVE)), skip_mismatch)
    elif name.endswith(".weights.h5"):
        read(model, filepath, skip_mismatch)
    else:
        raise ValueError(f"{name!r} ends in neither `.weights.h5` nor `.keras`; those files of Keras's can be read.")


def refuse_overwriting(filepath: str | os.PathLike[str], overwrite: bool) -> None:
    """Raise FileExistsError for a file that exists, unless it may be overwritten."""
    if not overwrite and Path(filepath).exists():
        raise FileExistsError(f"{filepath} exists, and overwrite=False; remove it, or choose another name.")


def write(model: Any, file: str | os.PathLike[str] | IO[bytes]) -> None:
    """Write all variables, with the names of their owners, to a path or a file object."""
    with _h5py("writing").File(file, "w") as h5:
        h5.create_group("vars").attrs["name"] = model.name
        for path, owner in _owners(model):
            variables = h5.create_group(f"{path}/vars")
            variables.attrs["name"] = owner.name
            for i, variable in enumerate(_variables(owner)):
                variables[str(i)] = variable.numpy()


def read(model: Any, file: str | os.PathLike[str] | IO[bytes], skip_mismatch: bool = False) -> None:
    """Read all variables from a path or a file object."""
    owners = dict(_owners(model))
    found: dict[str, Arrays] = {}
    with _h5py("reading").File(file, "r") as h5:
        paths = [f"layers/{name}" for name in h5.get("layers", ())] + ["optimizer"] * ("optimizer" in h5)
        for path in paths:
            variables = h5[path].get("vars", {})
            found[path] = [np.asarray(variables[str(i)]) for i in range(len(variables))]
    state = found.pop("optimizer", None)
    optimizer = owners.pop("optimizer", None)
    problems = {path: _misfit(layer, found.get(path, [])) for path, layer in owners.items()}
    problems |= {path: "the model has no such layer" for path in found if found[path] and path not in owners}
    complaint = "; ".join(f"{path}: {problem}" for path, problem in problems.items() if problem)
    if complaint and not skip_mismatch:
        raise ValueError(f"the file's weights do not fit the model. {complaint}. See skip_mismatch to load the others.")
    if complaint:
        warnings.warn(f"not loaded: {complaint}.", stacklevel=3)
    for path, layer in owners.items():
        if not problems[path]:
            _assign(layer, found.get(path, []))
    if optimizer is not None and state is not None:
        problem = _misfit(optimizer, state)
        if problem:
            warnings.warn(
                f"the optimizer's state is not loaded: {problem}. Compile, and build the optimizer, as for the file.",
                stacklevel=3,
            )
        else:
            _assign(optimizer, state)


def _owners(model: Any) -> Iterator[tuple[str, Any]]:
    """Give each layer, and the optimiser of a compiled model, with its path."""
    used: Counter[str] = Counter()
    for layer in model.layers:
        name = snake_case(type(layer).__name__)
        yield f"layers/{name}_{used[name]}" if used[name] else f"layers/{name}", layer
        used[name] += 1
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None:
        yield "optimizer", optimizer


def _variables(owner: Any) -> list[Any]:
    """Weights of a layer, or variables of an optimiser."""
    return list(owner.weights if hasattr(owner, "weights") else owner.variables)


def _misfit(owner: Any, arrays: Arrays) -> str:
    want, got = [tuple(v.shape) for v in _variables(owner)], [a.shape for a in arrays]
    return "" if want == got else f"{owner.name!r} has weights of shapes {want}, the file {got}"


def _assign(owner: Any, arrays: Arrays) -> None:
    for variable, array in zip(_variables(owner), arrays, strict=True):
        variable.assign(array)


def _h5py(doing: str) -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{doing} Keras's weights needs h5py: pip install 'fastmnist[files]'.") from error
    module: ModuleType = h5py
    return module
