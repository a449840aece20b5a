"""Files: written here and opened by Keras, written by Keras and opened here; ONNX by its reference evaluator."""

import io
import json
import os
import sys
import zipfile

import numpy as np
import pytest

import fastmnist.keras
from fastmnist.keras import Sequential, layers, saving
from fastmnist.keras.plan import Unsupported

h5py = pytest.importorskip("h5py")
os.environ.setdefault("KERAS_BACKEND", "jax")

# Keras's own variables, under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SHAPE, CLASSES, N = (4, 3), 3, 40
OPTIMIZERS = {
    "sgd": lambda o: o.SGD(0.1),
    "momentum": lambda o: o.SGD(0.1, momentum=0.9),
    "rmsprop": lambda o: o.RMSprop(0.01, clipnorm=1.0),
    "adamw": lambda o: o.AdamW(o.schedules.ExponentialDecay(0.01, 10, 0.5)),
}


@pytest.fixture
def keras():
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    return random.random((N, *SHAPE), dtype=np.float32), random.integers(CLASSES, size=N)


def make(words, optimizer="adamw", width=8):
    """Return a compiled model in the words of Keras, or in ours."""
    layers = words.layers
    model = words.Sequential(
        [
            words.Input(SHAPE),
            layers.Rescaling(0.5, offset=-0.1),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(width, activation="relu", kernel_regularizer=words.regularizers.L1L2(1e-3, 1e-4)),
            layers.Dropout(0.2),
            layers.Dense(5, use_bias=False, kernel_initializer="he_normal"),
            layers.ReLU(),
            layers.Dense(4, name="named"),
            layers.Activation("tanh"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(
        OPTIMIZERS[optimizer](words.optimizers),
        words.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy", words.metrics.SparseCategoricalCrossentropy(name="ce")],
    )
    return model


def words_of(name):
    return fastmnist.keras if name == "fastmnist" else pytest.importorskip("keras")


def state(model):
    return [variable.numpy() for variable in (*model.weights, *model.optimizer.variables)]


def assert_equal_states(a, b):
    ones, others = state(a), state(b)
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert one.shape == other.shape
        np.testing.assert_array_equal(one, other)


def trained(words, data, optimizer="adamw"):
    model = make(words, optimizer)
    model.fit(*data, batch_size=10, verbose=0)
    assert int(np.asarray(model.optimizer.iterations)) == 4
    return model


BOTH_WAYS = pytest.mark.parametrize(("writer", "reader"), [("fastmnist", "keras"), ("keras", "fastmnist")])


@BOTH_WAYS
@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_models(writer, reader, optimizer, data, tmp_path):
    written = trained(words_of(writer), data, optimizer)
    written.save(tmp_path / "model.keras")
    read = words_of(reader).models.load_model(tmp_path / "model.keras")
    assert_equal_states(read, written)
    assert [type(layer).__name__ for layer in read.layers] == [type(layer).__name__ for layer in written.layers]
    assert [layer.name for layer in read.layers] == [layer.name for layer in written.layers]
    assert read.layers[3].get_config()["kernel_regularizer"]["config"]["l2"] == 1e-4
    assert read.count_params() == written.count_params()
    x, y = data
    np.testing.assert_allclose(read.predict(x, verbose=0), written.predict(x, verbose=0), rtol=1e-5, atol=1e-7)
    # And it goes on as it would have: the loss, the metrics and the optimiser are the same.
    expected, got = (
        written.evaluate(x, y, verbose=0, return_dict=True),
        read.evaluate(x, y, verbose=0, return_dict=True),
    )
    assert set(got) == {"loss", "accuracy", "ce"}
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-5)
    ours, theirs = read.optimizer.get_config(), written.optimizer.get_config()
    assert {**ours, "name": ""} == {**theirs, "name": ""}


@BOTH_WAYS
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_weights(writer, reader, optimizer, data, tmp_path):
    written = trained(words_of(writer), data, optimizer)
    written.save_weights(tmp_path / "some.weights.h5")
    read = make(words_of(reader), optimizer)
    read.optimizer.build(read.trainable_variables)
    read.load_weights(tmp_path / "some.weights.h5")
    assert_equal_states(read, written)


def test_files_are_laid_out_as_keras_s(keras, data, tmp_path):
    contents = []
    for words in (keras, fastmnist.keras):
        trained(words, data).save(tmp_path / "model.keras")
        with zipfile.ZipFile(tmp_path / "model.keras") as archive:
            assert set(archive.namelist()) == {"config.json", "metadata.json", "model.weights.h5"}
            assert json.loads(archive.read("metadata.json"))["keras_version"]
            names = {}
            with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as h5:
                h5.visititems(lambda name, item, names=names: names.update({name: getattr(item, "shape", None)}))
        contents.append(names)
    assert contents[0] == contents[1]
    assert contents[0]["optimizer/vars/1"] == (12, 8)


def test_weights_from_a_keras_file(data, tmp_path):
    written = trained(fastmnist.keras, data)
    written.save(tmp_path / "model.keras")
    read = make(fastmnist.keras)
    with pytest.warns(UserWarning, match="the optimizer's state is not loaded"):  # there is none yet, as in Keras
        read.load_weights(tmp_path / "model.keras")
    for one, other in zip(read.get_weights(), written.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_compiling(data, tmp_path):
    trained(fastmnist.keras, data).save(tmp_path / "model.keras")
    read = saving.load_model(tmp_path / "model.keras", compile=False)
    assert not read.compiled
    never = Sequential([layers.Input(SHAPE), layers.Flatten(), layers.Dense(2)])
    never.save(tmp_path / "never.keras")
    assert not saving.load_model(tmp_path / "never.keras").compiled


def test_weights_that_do_not_fit(data, tmp_path):
    trained(fastmnist.keras, data).save_weights(tmp_path / "some.weights.h5")
    for other in (make(fastmnist.keras, width=9), Sequential([layers.Input((12,)), layers.Dense(8)])):
        before = other.get_weights()
        with pytest.raises(ValueError, match=r"do not fit the model\. layers/dense"):
            other.load_weights(tmp_path / "some.weights.h5")
        for one, was in zip(other.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, was)
    with pytest.warns(UserWarning, match="not loaded: layers/dense_1: the model has no such layer"):
        other.load_weights(tmp_path / "some.weights.h5", skip_mismatch=True)
    assert (other.get_weights()[0] != before[0]).any()


def test_refusals(data, tmp_path):
    model = make(fastmnist.keras)
    for write, ending in ((model.save, ".keras"), (model.save_weights, ".weights.h5")):
        with pytest.raises(ValueError, match=f"must end in `{ending}`"):
            write(tmp_path / "model.h5")
        write(tmp_path / f"model{ending}")
        with pytest.raises(FileExistsError, match="overwrite=False"):
            write(tmp_path / f"model{ending}", overwrite=False)
        with pytest.raises(ValueError, match="no weights yet"):
            getattr(Sequential([layers.Dense(2)]), write.__name__)(tmp_path / f"other{ending}")
    with pytest.raises(ValueError, match="neither"):
        model.load_weights(tmp_path / "model.npz")
    with pytest.raises(ValueError, match=r"is not a `\.keras` file"):
        saving.load_model(tmp_path / "model.weights.h5")
    with pytest.raises(Unsupported, match="custom_objects"):
        saving.load_model(tmp_path / "model.keras", custom_objects={"a": 1})
    with pytest.raises(Unsupported, match='format="onnx" is'):
        model.export(tmp_path / "model")


def test_models_that_this_package_does_not_have(keras, tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "model.keras")
    with pytest.raises(Unsupported, match="class Functional; Sequential is supported"):
        saving.load_model(tmp_path / "model.keras")
    keras.Sequential([inputs, keras.layers.LayerNormalization()]).save(tmp_path / "model.keras")
    with pytest.raises(NotImplementedError, match="LayerNormalization"):
        saving.load_model(tmp_path / "model.keras")


def test_missing_packages(tmp_path, monkeypatch):
    for module in ("h5py", "onnx"):
        monkeypatch.setitem(sys.modules, module, None)
    model = make(fastmnist.keras)
    with pytest.raises(ImportError, match=r"needs h5py: pip install 'fastmnist\[files\]'"):
        model.save(tmp_path / "model.keras")
    with pytest.raises(ImportError, match=r"needs onnx: pip install 'fastmnist\[files\]'"):
        model.export(tmp_path / "model.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_onnx(dtype, data, tmp_path):
    reference = pytest.importorskip("onnx.reference")
    x = data[0].astype(dtype)
    stacks = {
        "all": [
            layers.Rescaling(0.5, offset=-0.1, dtype=dtype),
            layers.Flatten(dtype=dtype),
            layers.Dense(8, activation="relu", dtype=dtype),
            layers.Dropout(0.5, dtype=dtype),
            layers.Dense(5, activation="sigmoid", use_bias=False, dtype=dtype),
            layers.Dense(4, activation="tanh", dtype=dtype),
            layers.Dense(3, activation="softmax", dtype=dtype),
        ],
        "one": [layers.Flatten(dtype=dtype), layers.Dense(2, dtype=dtype)],
    }
    for name, stack in stacks.items():
        model = Sequential([layers.Input(SHAPE, dtype=dtype), *stack])
        model.set_weights([w + 0.1 for w in model.get_weights()])  # biases that are not 0
        model.export(tmp_path / f"{name}.onnx", format="onnx")
        (outputs,) = reference.ReferenceEvaluator(str(tmp_path / f"{name}.onnx")).run(None, {"input": x})
        assert outputs.dtype == dtype
        expected = model.predict(x, verbose=0)
        tolerance = {"float32": 1e-6, "float64": 1e-12}[dtype]
        np.testing.assert_allclose(outputs, expected, rtol=tolerance, atol=tolerance)
