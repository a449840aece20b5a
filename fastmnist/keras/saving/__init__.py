"""Keras's files: ``.weights.h5`` and ``.keras``, written and read as Keras does; ONNX, written only.

The functions read a model's public Keras attributes alone. HDF5 needs h5py and ONNX needs onnx, which are imported when
a file is written or read: ``pip install 'fastmnist[files]'`` brings both.
"""

from fastmnist.keras.saving.model_file import load_model, save_model
from fastmnist.keras.saving.onnx_file import export
from fastmnist.keras.saving.weights_file import load_weights, save_weights

__all__ = ["export", "load_model", "load_weights", "save_model", "save_weights"]
