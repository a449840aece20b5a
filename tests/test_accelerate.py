"""Real Keras models on these kernels: what they compute, what callbacks see, what is left to Keras, and why."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest

import fastmnist
from fastmnist.keras.plan import Unsupported

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("keras")
import keras

# Keras's own variables, under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers
N, INPUTS, CLASSES = 90, 12, 3


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    x = random.random((N, INPUTS), dtype=np.float32) * (random.random((N, INPUTS)) < 0.5)
    return x, random.integers(CLASSES, size=N)


@pytest.fixture(autouse=True)
def _seed():
    """Other weights than these may have gradients so small that Adam's division magnifies their rounding."""
    keras.utils.set_random_seed(1)


def make(*layers, optimizer="sgd", loss="sparse_categorical_crossentropy", metrics=("accuracy",), **more):
    """Return a compiled model of one hidden layer, or of the layers given."""
    layers = layers or (L.Dense(8, activation="relu"), L.Dense(CLASSES, activation="softmax"))
    model = keras.Sequential([keras.Input((INPUTS,)), *layers])
    model.compile(optimizer, loss, metrics=list(metrics), **more)
    return model


def copy_of(model, **more):
    """Return a model with equal layers, weights and compilation."""
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    other.compile_from_config(model.get_compile_config())
    return other


def state(model):
    return [variable.numpy() for variable in (*model.weights, *model.optimizer.variables)]


def assert_equal_states(a, b):
    for one, other in zip(state(a), state(b), strict=True):
        np.testing.assert_array_equal(one, other)


def where(model):
    """Return method and reason of each kind of call."""
    return [(call.method, call.reason) for call in fastmnist.accelerate.report(model)]


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, clipnorm=0.5),
    "adamw": lambda: keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.02, 9)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_keras_s(name, data):
    x, y = data
    theirs = make(
        L.Dense(8, activation="tanh", kernel_regularizer="l2"),
        L.Dense(5, use_bias=False),
        L.ReLU(),
        L.Dense(CLASSES, activation="softmax"),
        optimizer=OPTIMIZERS[name](),
    )
    ours = fastmnist.accelerate(copy_of(theirs), strict=True)
    options = {"batch_size": 20, "shuffle": False, "verbose": 0, "validation_split": 0.2}
    expected, history = theirs.fit(x, y, epochs=2, **options), ours.fit(x, y, epochs=2, **options)
    # Two roundings of float32, 6e-8 of numbers below 2, at each of 8 steps; Adam divides by roots of small numbers.
    for one, other in zip(state(ours), state(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6)
    assert isinstance(history, keras.callbacks.History)
    assert ours.history is history
    assert history.params == expected.params
    assert list(history.history) == list(expected.history)
    for key, values in expected.history.items():
        np.testing.assert_allclose(history.history[key], values, rtol=1e-5)
    assert where(ours) == [("fit", "")]
    # Keras goes on from where the kernels left the weights and the optimiser.
    assert ours.train_on_batch(x, y)[0] == pytest.approx(theirs.train_on_batch(x, y)[0], rel=1e-5)
    for one, other in zip(state(ours), state(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6)


def test_evaluate_and_predict_are_keras_s(data):
    x, y = data
    theirs = make(metrics=["acc", keras.metrics.SparseCategoricalCrossentropy(name="ce")])
    ours = fastmnist.accelerate(copy_of(theirs), strict=True)
    np.testing.assert_allclose(ours.evaluate(x, y, verbose=0), theirs.evaluate(x, y, verbose=0), rtol=1e-5)
    logs = ours.evaluate(x, y, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "acc", "ce"}
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-5, atol=1e-7)
    assert where(ours) == [("evaluate", ""), ("predict", "")]
    assert [str(call) for call in fastmnist.accelerate.report(ours)] == [
        "evaluate (2 times): fastmnist's kernels",
        "predict: fastmnist's kernels",
    ]


def test_a_loss_alone_is_a_number(data):
    x, _ = data
    model = fastmnist.accelerate(make(L.Dense(1), loss="mse", metrics=()), strict=True)
    assert isinstance(model.evaluate(x, x[:, :1], verbose=0), float)


def test_functional_stack(data):
    x, y = data
    inputs = keras.Input((INPUTS,))
    hidden = L.Dropout(0.5)(L.Dense(8, activation="relu")(inputs), training=True)  # which fit and predict override
    theirs = keras.Model(inputs, L.Dense(CLASSES, activation="softmax")(hidden))
    theirs.compile("adam", "sparse_categorical_crossentropy")
    ours = fastmnist.accelerate(copy_of(theirs), strict=True)
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-5, atol=1e-7)
    ours.fit(x, y, verbose=0)
    assert int(ours.optimizer.iterations.numpy()) == -(-N // 32)


def test_what_changes_later_counts(data):
    x, y = data
    model = fastmnist.accelerate(keras.Sequential([L.Dense(8, activation="relu")]), strict=True)
    model.add(L.Dense(CLASSES, activation="softmax"))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    assert model.predict(x, verbose=0).shape == (N, CLASSES)
    model.pop()
    model.add(L.Dense(5, activation="tanh"))
    model.add(L.Dense(2))
    model.compile("adam", "mse")
    model.fit(x, x[:, :2], epochs=2, verbose=0)
    assert len(model.optimizer.variables) == 2 + 2 * 6
    assert model.optimizer.variables[2].numpy().any()
    model.compile("lion", "mse")
    with pytest.raises(Unsupported, match="Lion"):
        model.fit(x, x[:, :2], verbose=0)


def custom_loss(y_true, y_pred):
    return keras.ops.mean(y_pred, axis=-1)


class Twice(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


class Subclass(keras.Sequential):
    pass


def shared():
    layer = L.Dense(INPUTS)
    inputs = keras.Input((INPUTS,))
    return keras.Model(inputs, layer(layer(inputs)))


def branched():
    inputs = keras.Input((INPUTS,))
    return keras.Model(inputs, L.Add()([inputs, L.Dense(INPUTS)(inputs)]))


def two_outputs():
    inputs = keras.Input((INPUTS,))
    return keras.Model(inputs, [L.Dense(2)(inputs), L.Dense(2)(inputs)])


def excluding():
    optimizer = keras.optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def compiled(model, **more):
    model.compile("sgd", "mse", **more)
    return model


def compiled_by_output():
    inputs = keras.Input((INPUTS,))
    model = keras.Model(inputs, L.Dense(CLASSES, name="out")(inputs))
    model.compile("sgd", {"out": "mse"})
    return model


def with_train_step(model):
    model.train_step = lambda data: {}
    return model


MODELS = {
    "not of keras.layers": lambda: make(Twice(), L.Dense(CLASSES, activation="softmax")),
    "Subclass; keras.Sequential": lambda: compiled(Subclass([keras.Input((INPUTS,)), L.Dense(2)])),
    "not a plain stack of layers, each called once with one input (shared)": lambda: compiled(shared()),
    "not a plain stack of layers, each called once with one input (branched)": lambda: compiled(branched()),
    "not a plain stack of layers, each called once with one input (outputs)": lambda: compiled(two_outputs()),
    "layer BatchNormalization": lambda: make(L.BatchNormalization(), L.Dense(CLASSES, activation="softmax")),
    "kernel_constraint=": lambda: make(L.Dense(CLASSES, activation="softmax", kernel_constraint="max_norm")),
    "inputs are int32, weights float32": lambda: compiled(
        keras.Sequential([keras.Input((INPUTS,), dtype="int32"), L.Dense(2)])
    ),
    "train_step has been replaced": lambda: with_train_step(make()),
    "has not been compiled": lambda: keras.Sequential([keras.Input((INPUTS,)), L.Dense(2)]),
    "without a loss": lambda: make(loss=None, metrics=()),
    "loss_weights=": lambda: make(loss_weights=[2.0]),
    "run_eagerly=True": lambda: make(run_eagerly=True),
    "steps_per_execution=2": lambda: make(steps_per_execution=2),
    "optimizer Lion": lambda: make(optimizer="lion"),
    "use_ema=True": lambda: make(optimizer=keras.optimizers.SGD(use_ema=True)),
    "excludes variables from weight decay": lambda: make(optimizer=excluding()),
    "schedule CosineDecayRestarts": lambda: make(
        optimizer=keras.optimizers.SGD(keras.optimizers.schedules.CosineDecayRestarts(0.1, 5))
    ),
    "loss custom_loss is not one of Keras's own": lambda: make(loss=custom_loss, metrics=()),
    "loss 'huber' is not supported": lambda: make(loss="huber", metrics=()),
    "output activation sigmoid": lambda: make(L.Dense(CLASSES, activation="sigmoid")),
    "metric 'mae' is not supported": lambda: make(metrics=["mae"]),
    "loss __lambda__ is not one of Keras's own": lambda: make(loss=lambda t, p: custom_loss(t, p), metrics=()),
    "metric __lambda__ is not one of Keras's own": lambda: make(metrics=[lambda t, p: custom_loss(t, p)]),
    "loss {'out': 'mse'} is not one of Keras's own": compiled_by_output,
    "metric custom_loss is not one of Keras's own": lambda: make(metrics=[custom_loss]),
}


@pytest.mark.parametrize("reason", MODELS)
def test_models_that_are_left_to_keras(reason, data):
    x, y = data
    model = fastmnist.accelerate(MODELS[reason](), strict=True)
    with pytest.raises((NotImplementedError, ValueError)) as refusal:
        model.fit(x, y, verbose=0)
    assert reason.split(" (")[0] in str(refusal.value)


def test_losses_that_are_functions(data):
    x, y = data
    loss = keras.losses.sparse_categorical_crossentropy
    by_name, by_function = fastmnist.accelerate(make(), strict=True), fastmnist.accelerate(make(loss=loss), strict=True)
    by_function.set_weights(by_name.get_weights())
    for model in (by_name, by_function):
        model.fit(x, y, shuffle=False, verbose=0)
    assert_equal_states(by_name, by_function)


LOADED = """\
import numpy as np, keras
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
x, y = np.eye(8, 4, dtype="float32"), np.arange(8) % 3
model.fit(x, y, epochs=2, verbose=0)
expected = model.evaluate(x, y, verbose=0)
for path in ("m.keras", "m.h5"):
    model.save(path)
    loaded = keras.models.load_model(path)
    print(loaded.evaluate(x, y, verbose=0) == expected, int(loaded.optimizer.iterations.numpy()))
print(keras.models.clone_model(model).compiled)
"""


def test_run_knows_loaded_and_cloned_models(tmp_path):
    """Keras does not compile them if it takes the class's `compile` for a custom one."""
    (tmp_path / "loaded.py").write_text(LOADED)
    command = [sys.executable, "-m", "fastmnist", "run", "--strict", "loaded.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout == "True 2\nTrue 2\nTrue\n", result.stderr
    assert result.returncode == 0, result.stderr
    assert "custom" not in result.stderr


def test_data_that_are_left_to_keras(data):
    x, y = data
    model = fastmnist.accelerate(make(), strict=True)
    before = state(model)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return x, y

    for samples in (Batches(), iter([(x, y)]), {"x": x}):
        with pytest.raises(NotImplementedError, match="arrays, lists and data frames are supported"):
            model.fit(samples, verbose=0)
    with pytest.raises(Unsupported, match="BackupAndRestore needs Keras"):
        model.fit(x, y, verbose=0, callbacks=[keras.callbacks.BackupAndRestore("nowhere")])
    with pytest.raises(Unsupported, match="CallbackList needs Keras"):
        model.fit(x, y, verbose=0, callbacks=keras.callbacks.CallbackList())
    with pytest.raises(Unsupported, match="callbacks is a set"):
        model.fit(x, y, verbose=0, callbacks={keras.callbacks.History()})
    with pytest.raises(ValueError, match="labels lie between"):
        model.fit(x, y + 1, verbose=0)
    for one, other in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_called_float64_and_is_not(data):
    x, _ = data
    if keras.backend.backend() != "jax":
        pytest.skip("other backends store float64")
    with pytest.warns(UserWarning, match="Explicitly requested dtype"):  # without jax_enable_x64 there is float32 alone
        model = compiled(keras.Sequential([keras.Input((INPUTS,)), L.Dense(2, dtype="float64")]))
    fastmnist.accelerate(model, strict=True)
    with pytest.raises(Unsupported, match="layers compute in float64"):
        model.predict(x, verbose=0)


def test_keras_runs_what_is_left_to_it(data, capsys):
    x, y = data
    theirs = make(optimizer="lion")
    ours = fastmnist.accelerate(copy_of(theirs), verbose=1)
    options = {"batch_size": 30, "shuffle": False, "verbose": 0, "validation_data": (x, y)}
    expected, history = theirs.fit(x, y, **options), ours.fit(x, y, **options)
    assert history.history == expected.history
    assert_equal_states(ours, theirs)
    (call,) = fastmnist.accelerate.report(ours)  # the validation was Keras's, too
    assert str(call).startswith("fit: Keras, because optimizer Lion is not supported; SGD")
    assert capsys.readouterr().err == f"fastmnist: fit runs in Keras: {call.reason}\n"


def test_errors_are_keras_s_own(data):
    x, y = data
    theirs, ours = make(), fastmnist.accelerate(make())
    for arguments in ((x[:, :5], y), (x, y[:5])):
        with pytest.raises(ValueError) as expected:  # noqa: PT011 - whatever Keras says
            theirs.fit(*arguments, verbose=0)
        with pytest.raises(ValueError) as raised:  # noqa: PT011
            ours.fit(*arguments, verbose=0)
        assert str(raised.value)[:40] == str(expected.value)[:40]
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        ours.fit(x, y, epoch=3)


def test_errors_of_callbacks_end_training(data):
    x, y = data
    model = fastmnist.accelerate(make())
    calls = []

    def fail(epoch, logs):
        calls.append(epoch)
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        model.fit(x, y, epochs=3, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=fail)])
    assert calls == [0]
    assert where(model) == []
    assert int(model.optimizer.iterations.numpy()) == 3  # and the epoch was trained


def test_keras_s_callbacks(data, tmp_path):
    x, y = data
    model = fastmnist.accelerate(make(optimizer=keras.optimizers.SGD(0.5)), strict=True)
    seen = []
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 / (epoch + 1)),
        keras.callbacks.EarlyStopping("loss", patience=0, min_delta=10.0, restore_best_weights=True),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, dict(logs)))),
    ]
    history = model.fit(x, y, epochs=9, verbose=0, callbacks=callbacks)
    assert history.epoch == [0, 1]  # the second is no better by 10
    assert [epoch for epoch, _ in seen] == [0, 1]
    assert seen[1][1]["loss"] == history.history["loss"][1]
    np.testing.assert_allclose(history.history["learning_rate"], [0.5, 0.25])
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    for one, other in zip(keras.models.load_model(tmp_path / "1.keras").weights, model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())  # the best weights were those of the first epoch


@pytest.mark.parametrize("monitor", ["accuracy", "val_accuracy"])
def test_callbacks_that_look_their_metric_up(monitor, data):
    x, y = data
    model = fastmnist.accelerate(make(optimizer=keras.optimizers.SGD(0.0)), strict=True)
    callback = keras.callbacks.ReduceLROnPlateau(monitor, patience=1, factor=0.5)
    model.optimizer.learning_rate = 1e-9
    model.fit(x, y, epochs=3, verbose=0, validation_split=0.2, callbacks=[callback])
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.25e-9)
    assert [metric.name for metric in model.metrics[1].metrics] == ["accuracy"]


def test_callbacks_that_listen_to_batches(data):
    x, y = data
    per_epoch, per_batch = make(), None
    per_batch = fastmnist.accelerate(copy_of(per_epoch), strict=True)
    fastmnist.accelerate(per_epoch, strict=True)
    losses = []

    class Listener(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append((batch, logs["loss"], self.model.get_weights()[0].sum()))

    options = {"batch_size": 20, "shuffle": False, "verbose": 0}
    per_epoch.fit(x, y, **options)
    history = per_batch.fit(x, y, callbacks=[Listener()], **options)
    assert [batch for batch, *_ in losses] == [0, 1, 2, 3, 4]
    assert len({weights for *_, weights in losses}) == 5
    assert losses[-1][1] == pytest.approx(history.history["loss"][0])
    assert_equal_states(per_epoch, per_batch)


def test_callbacks_may_stop_and_change_weights(data):
    x, y = data
    model = fastmnist.accelerate(make(), strict=True)

    class Meddler(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.set_weights([np.full_like(w, epoch) for w in self.model.get_weights()])

        def on_epoch_end(self, epoch, logs=None):
            self.accuracy = self.model.evaluate(x, y, verbose=0)[1]
            self.model.stop_training = epoch == 1

    meddler = Meddler()
    history = model.fit(x, y, epochs=5, verbose=0, callbacks=[meddler])
    assert len(history.epoch) == 2
    assert abs(model.get_weights()[0] - 1).max() < 0.5
    assert meddler.accuracy == pytest.approx(model.evaluate(x, y, verbose=0)[1])
    assert where(model) == [("evaluate", ""), ("fit", "")]


@pytest.mark.parametrize("accelerated_first", [True, False])
def test_libraries_that_replace_fit(accelerated_first, data, monkeypatch):
    x, y = data
    logged = []

    class Logger(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logged.append(logs["loss"])

    def replace_fit():
        found = keras.Model.fit

        def fit(self, *args, callbacks=(), **kwargs):
            return found(self, *args, callbacks=[*callbacks, Logger()], **kwargs)

        monkeypatch.setattr(keras.Model, "fit", fit)

    model = make()
    if accelerated_first:
        fastmnist.accelerate(model, strict=True)
        replace_fit()
    else:
        replace_fit()
        fastmnist.accelerate(model, strict=True)
    history = model.fit(x, y, epochs=2, verbose=0)
    assert logged == history.history["loss"]
    assert where(model) == [("fit", "")]


def test_dropout_and_shuffling_can_be_repeated(data):
    x, y = data

    def trained(fits):
        keras.utils.set_random_seed(3)
        model = make(L.Dropout(0.1), L.Dense(16, activation="relu"), L.Dropout(0.5), L.Dense(3, activation="softmax"))
        fastmnist.accelerate(model, strict=True)
        start = model.get_weights()
        for _ in range(fits):
            model.set_weights(start)
            np.random.seed(0)  # the order of the samples
            model.fit(x, y, verbose=0)
        return model.get_weights()[0]

    once = trained(1)
    np.testing.assert_array_equal(once, trained(1))
    assert np.abs(once - trained(2)).max() > 1e-6  # other units are dropped


def test_other_models_are_not_touched(data):
    x, y = data
    fastmnist.accelerate(make())
    other = make(optimizer="lion")
    other.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match=r"call fastmnist\.accelerate\(model\) first"):
        fastmnist.accelerate.report(other)
    with pytest.raises(TypeError, match=r"a builtins\.list; a keras\.Model is wanted"):
        fastmnist.accelerate([other])


def test_models_are_not_kept_alive(data):
    from fastmnist.keras.accelerate import _states

    gc.collect()
    before = len(_states)
    model = fastmnist.accelerate(make())
    model.predict(data[0], verbose=0)
    assert len(_states) == before + 1
    del model
    gc.collect()
    assert len(_states) == before


def test_neither_keras_nor_a_backend_is_imported():
    code = (
        "import sys, fastmnist.keras.accelerate, fastmnist.keras.plan, fastmnist.keras.saving;"
        "print(*{'keras', 'jax', 'torch', 'tensorflow', 'h5py', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
