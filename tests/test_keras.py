"""``fastmnist.keras`` without Keras: words, defaults, errors, callbacks, and what is printed."""

import csv
import subprocess
import sys
import warnings

import numpy as np
import pytest

from fastmnist import keras
from fastmnist.keras import callbacks, initializers, layers, losses, metrics, optimizers, regularizers, utils

random = np.random.default_rng(0)
N, I, O = 96, 12, 3  # noqa: E741
X = random.random((N, I)).astype(np.float32)
CLASSES = (X @ random.standard_normal((I, O))).argmax(axis=1)
SPARSE = "sparse_categorical_crossentropy"


@pytest.fixture(autouse=True)
def _names():
    utils.clear_session()
    utils.set_random_seed(0)


def make(optimizer="sgd", loss=SPARSE, metrics=("accuracy",), output="softmax", units=O, first=(), **arguments):
    model = keras.Sequential([keras.Input((I,)), *first, layers.Dense(8, "relu"), layers.Dense(units, output)])
    model.compile(optimizer, loss, metrics=list(metrics), **arguments)
    return model


def fit(model, x=X, y=CLASSES, **arguments):
    return model.fit(x, y, **{"verbose": 0, "batch_size": 16, **arguments})


# What it costs, and what it needs.


def test_import_needs_neither_keras_nor_numba():
    code = "import sys, fastmnist.keras; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert not {"keras", "jax", "torch", "tensorflow", "sklearn", "numba", "h5py", "onnx", "rich"} & loaded


# Models.


def test_names_and_shapes():
    model = keras.Sequential()
    with pytest.warns(UserWarning, match="input_dim"):
        model.add(layers.Dense(5, input_dim=4, activation="relu"))
    model.add(layers.ReLU())
    model.add(layers.Dense(2))
    assert [layer.name for layer in model.layers] == ["dense", "re_lu", "dense_1"]
    assert model.name == "sequential"
    assert (model.input_shape, model.output_shape) == ((None, 4), (None, 2))
    assert model.compute_output_shape((7, 4)) == (7, 2)
    assert [w.path for w in model.weights][:2] == ["sequential/dense/kernel", "sequential/dense/bias"]
    assert model.count_params() == 5 * 4 + 5 + 5 * 2 + 2
    assert model.pop().name == "dense_1"
    assert model.output_shape == (None, 5)
    assert model.get_layer("dense") is model.get_layer(index=0) is model.layers[0]


def test_a_model_without_input_is_built_by_its_data():
    model = keras.Sequential([layers.Flatten(), layers.Dense(3, "softmax")])
    assert not model.built
    with pytest.raises(ValueError, match="no weights yet"):
        model.count_params()
    model.compile("sgd", SPARSE)
    fit(model, X.reshape(N, 3, 4))
    assert model.input_shape == (None, 3, 4)
    assert model.layers[1].kernel.shape == (12, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.add(3), "3 is a int"),
        (lambda m: m.add(keras.Input((3,))), "has layers already"),
        (lambda m: m.add(layers.Dense(3, name="dense")), "named 'dense'"),
        (lambda m: m.build((None, 7)), r"takes inputs of shape \(None, 12\)"),
        (lambda m: m.set_weights([np.zeros(3)]), "has 4 weights; 1 were given"),
        (lambda m: m.set_weights([np.zeros(3)] * 4), r"kernel has shape \(12, 8\); shape \(3,\)"),
        (lambda m: m.get_layer("none"), "there are dense, dense_1"),
        (lambda m: m.add(make().layers[0]), "has weights for 12 inputs, and gets 3"),
    ],
)
def test_a_refused_change_changes_nothing(change, message):
    model = make()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        change(model)
    assert len(model.layers) == 2
    for w, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(w, b)


def test_config_round_trip():
    model = keras.Sequential(
        [
            keras.Input((4, 3)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(5, "tanh", kernel_initializer=initializers.HeNormal(seed=3), kernel_regularizer="l1_l2"),
            layers.Dropout(0.2, seed=1),
            layers.Dense(2, kernel_regularizer=regularizers.L2(0.1), use_bias=False),
            layers.Activation("softmax"),
        ]
    )
    model.compile(
        optimizers.Adam(optimizers.schedules.CosineDecay(0.1, 10), clipnorm=1.0),
        losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy", metrics.MeanSquaredError(name="mse")],
    )
    again = keras.Sequential.from_config(model.get_config())
    again.compile_from_config(model.get_compile_config())
    assert again.get_config() == model.get_config()
    assert again.get_compile_config() == model.get_compile_config()
    np.testing.assert_array_equal(again.layers[2].kernel, model.layers[2].kernel)
    for copy in (keras.models.clone_model(model), keras.models.model_from_json(model.to_json())):
        assert copy.get_config() == model.get_config()
        assert not copy.compiled


def test_old_words():
    with pytest.warns(UserWarning, match="old name for shape"):
        model = keras.Sequential([layers.InputLayer(input_shape=(I,)), layers.Dense(3, "softmax")])
    assert model.input_shape == (None, I)
    model.compile(optimizers.SGD, losses.SparseCategoricalCrossentropy, metrics=[metrics.SparseCategoricalAccuracy])
    assert model.get_compile_config()["loss"]["class_name"] == "SparseCategoricalCrossentropy"
    assert set(fit(model).history) == {"loss", "sparse_categorical_accuracy"}
    assert isinstance(initializers.he_normal(seed=1), initializers.HeNormal)
    assert isinstance(regularizers.get("l1l2"), regularizers.L1L2)
    assert isinstance(model, keras.Model)


def test_layers_compute_what_the_model_does():
    model = make(output="sigmoid", loss="mse", first=[layers.Rescaling(2.0, 0.5)])
    outputs = X
    for layer in model.layers:
        outputs = layer(outputs)
    np.testing.assert_allclose(model.predict(X, verbose=0), outputs, rtol=1e-5)
    np.testing.assert_allclose(model(X), outputs, rtol=1e-5)


# What is accepted has its effect; what is not is refused with a reason.


@pytest.mark.parametrize(
    "refused",
    [
        lambda: layers.Dense(3, kernel_constraint="max_norm"),
        lambda: layers.Dense(3, activity_regularizer="l2"),
        lambda: layers.Dense(3, activation="gelu"),
        lambda: layers.Dense(3, activation=np.tanh),
        lambda: layers.Dense(3, lora_rank=2),
        lambda: layers.Dense(3, dtype="float16"),
        lambda: layers.Dense(3, kernel_initializer="orthogonal"),
        lambda: layers.Dense(3, kernel_regularizer="orthogonal_regularizer"),
        lambda: layers.Dropout(0.1, noise_shape=(3,)),
        lambda: layers.ReLU(max_value=6),
        lambda: layers.ReLU(negative_slope=0.1),
        lambda: layers.Flatten(data_format="channels_first"),
        lambda: layers.Rescaling([1, 2]),  # type: ignore[arg-type]
        lambda: layers.get({"class_name": "Conv2D", "config": {}}),
        lambda: layers.Dense(3)(keras.Input((3,))),  # type: ignore[arg-type]
        lambda: keras.Input((None,)),  # type: ignore[arg-type]
        lambda: keras.Input((3,), batch_size=3),
        lambda: keras.Input((3,), dtype="int32"),
        lambda: optimizers.Adam(amsgrad=True),
        lambda: optimizers.RMSprop(centered=True),
        lambda: optimizers.RMSprop(momentum=0.5),
        lambda: optimizers.SGD(use_ema=True),
        lambda: optimizers.SGD(gradient_accumulation_steps=2),
        lambda: optimizers.SGD(loss_scale_factor=2.0),
        lambda: optimizers.SGD(lambda: 0.1),  # type: ignore[arg-type]
        lambda: optimizers.SGD().exclude_from_weight_decay(var_names=["bias"]),
        lambda: optimizers.get("lion"),
        lambda: losses.get("hinge"),
        lambda: losses.get(lambda y, p: 0),
        lambda: losses.MeanSquaredError(reduction="sum"),
        lambda: losses.CategoricalCrossentropy(axis=1),
        lambda: losses.SparseCategoricalCrossentropy(ignore_class=1),
        lambda: metrics.get("auc"),
        lambda: make(loss_weights=[1]),
        lambda: make(run_eagerly=True),
        lambda: make(jit_compile=False),
        lambda: make(steps_per_execution=2),
        lambda: make()(X, training=True),
        lambda: fit(make(output="softmax", loss="binary_crossentropy")),
        lambda: fit(make(), (row for row in X)),
        lambda: fit(make(metrics=[SPARSE]), sample_weight=np.ones(N)),
        lambda: fit(make(loss="mse", metrics=["accuracy"], units=1, output=None), y=X[:, 0]),
        lambda: keras.datasets.mnist.load_data("other.npz"),
        lambda: layers.Conv2D(3, 3),
        lambda: callbacks.TensorBoard(),
        lambda: utils.plot_model(make()),
        lambda: optimizers.schedules.CosineDecayRestarts(0.1, 10),
        lambda: keras.Model(inputs=[], outputs=[]),
        lambda: keras.Sequential([make()]),
        lambda: type("Mine", (keras.Model,), {"call": print}),
        lambda: type("Mine", (keras.Sequential,), {"train_step": print}),
        lambda: fit(make(first=[type("Dense", (layers.Dense,), {})(I)])),
        lambda: fit(make(loss=type("MeanSquaredError", (losses.MeanSquaredError,), {})())),
        lambda: type("SGD", (optimizers.SGD,), {})(),
        lambda: setattr(optimizers.SGD(), "momentum", 0.9),
    ],
)
def test_unsupported(refused):
    with pytest.raises(NotImplementedError, match=r"support|No activation"):
        refused()


def test_names_that_are_nowhere():
    assert not hasattr(layers, "Conv2d")
    with pytest.raises(AttributeError, match=r"'fastmnist.keras.layers' has no attribute 'Conv2d'"):
        layers.Conv2d  # noqa: B018


def test_frozen_layers_predict_but_do_not_train():
    model = make()
    model.layers[0].trainable = False
    assert model.predict(X, verbose=0).shape == (N, O)
    with pytest.raises(NotImplementedError, match=r"dense/kernel, .*dense/bias not trainable"):
        fit(model)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: layers.Dense(0), ValueError, "units is 0"),
        (lambda: layers.Dense(3, unknown=1), ValueError, "does not know the arguments unknown"),
        (lambda: layers.Dense(3, "none"), ValueError, "Unknown activation 'none'"),
        (lambda: layers.Dense(3, name="a/b"), ValueError, "without '/'"),
        (lambda: layers.Dropout(1.5), ValueError, "rate is 1.5"),
        (lambda: keras.Input(), ValueError, "shape is None"),
        (lambda: optimizers.SGD(lr=0.1), ValueError, "lr"),
        (lambda: optimizers.SGD(momentum=2), ValueError, "momentum is 2"),
        (lambda: optimizers.SGD(clipnorm=1, clipvalue=1), ValueError, "one is accepted"),
        (lambda: optimizers.AdamW(weight_decay=None), ValueError, "weight_decay is None"),  # type: ignore[arg-type]
        (lambda: optimizers.get("sdg"), ValueError, "optimizer 'sdg'"),
        (lambda: losses.get("msee"), ValueError, "loss 'msee'"),
        (lambda: metrics.get("acuracy"), ValueError, "metric 'acuracy'"),
        (lambda: regularizers.L2(-1), ValueError, "l2 is -1"),
        (lambda: fit(make(), X[:, :5]), ValueError, r"x has shape \(96, 5\); this model takes \(N, 12\)"),
        (lambda: fit(make(), X.reshape(N, 3, 4)), ValueError, r"Try x.reshape\(-1, 12\)"),
        (lambda: fit(make(), X[:0], CLASSES[:0]), ValueError, "no samples"),
        (lambda: fit(make(), X.astype(str)), TypeError, "x has dtype"),
        (lambda: fit(make(), y=CLASSES[:5]), ValueError, "x has 96 samples and y has 5"),
        (lambda: fit(make(), y=CLASSES + 1), ValueError, "between 1 and 3"),
        (lambda: fit(make(), y=None), ValueError, "y is missing"),
        (lambda: fit(make(loss="mse")), ValueError, r"take \(N, 3\)"),
        (lambda: fit(make(), sample_weight=[1]), ValueError, "sample_weight has shape"),
        (lambda: fit(make(), sample_weight=np.ones(N), class_weight={0: 1}), ValueError, "one of them"),
        (lambda: fit(make(), validation_split=0.999), ValueError, "validation_split=0.999"),
        (lambda: fit(make(), validation_data=X), ValueError, "validation_data is a ndarray"),
        (lambda: fit(make(), validation_data=(X, CLASSES), validation_freq=0), ValueError, "validation_freq is 0"),
        (lambda: fit(make(), batch_size=0), ValueError, "batch_size is 0"),
        (lambda: fit(keras.Sequential([keras.Input((I,)), layers.Dense(3)])), ValueError, "not been compiled"),
        (
            lambda: keras.Sequential([keras.Input((I,)), layers.Dense(3)]).evaluate(X, X),
            ValueError,
            "not been compiled",
        ),
        (lambda: utils.set_random_seed("1"), ValueError, "an int is wanted"),  # type: ignore[arg-type]
    ],
)
def test_errors(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


# Arrays.


@pytest.mark.parametrize(
    "as_given",
    [
        lambda a: a.tolist(),
        lambda a: a.astype(np.float64),
        lambda a: a.astype(np.float16),
        lambda a: np.asfortranarray(a),
        lambda a: pytest.importorskip("pandas").DataFrame(a),
    ],
    ids=["list", "float64", "float16", "fortran", "pandas"],
)
def test_inputs(as_given):
    x = np.round(X * 16) / 16
    model = make()
    np.testing.assert_allclose(model.predict(as_given(x), verbose=0), model.predict(x, verbose=0), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("y", [CLASSES.tolist(), CLASSES[:, None], CLASSES.astype(np.uint8), CLASSES.astype(float)])
def test_labels(y):
    assert make().evaluate(X, y, verbose=0) == make_again().evaluate(X, CLASSES, verbose=0)


def make_again():
    utils.clear_session()
    utils.set_random_seed(0)
    return make()


def test_bytes_are_taken_as_they_are():
    bytes_ = random.integers(0, 256, (N, I), dtype=np.uint8)
    model = make()
    np.testing.assert_allclose(model.predict(bytes_, verbose=0), model.predict(bytes_ * 1.0, verbose=0), rtol=1e-5)
    scaled = make(first=[layers.Rescaling(1 / 255)])
    scaled.set_weights(model.get_weights())
    np.testing.assert_allclose(scaled.predict(bytes_, verbose=0), model.predict(bytes_ / 255, verbose=0), rtol=1e-5)


# Training.


def test_an_epoch_is_the_same_in_one_piece_and_batch_by_batch():
    results = []
    for listener in ([], [callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)]):
        utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((I,)),
                layers.Dropout(0.2, seed=1),
                layers.Dense(8, "relu", kernel_initializer=initializers.HeNormal(seed=2)),
                layers.Dropout(0.5, seed=2),
                layers.Dense(O, "softmax", kernel_initializer=initializers.HeNormal(seed=3)),
            ]
        )
        model.compile("adam", SPARSE, metrics=["accuracy"])
        results.append((fit(model, epochs=3, callbacks=listener).history, model.get_weights()))
    (one, weights), (other, other_weights) = results
    assert one["accuracy"] == other["accuracy"]
    np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-6)
    for w, v in zip(weights, other_weights, strict=True):
        np.testing.assert_array_equal(w, v)


def test_dropout_is_off_at_rest_and_differs_between_epochs():
    model = make(optimizers.SGD(0.0), first=[layers.Dropout(0.5)])
    losses_seen = fit(model, epochs=3).history["loss"]
    assert len(set(losses_seen)) == 3
    assert model.evaluate(X, CLASSES, verbose=0) == model.evaluate(X, CLASSES, verbose=0)


def test_seed_fixes_everything():
    def weights():
        utils.set_random_seed(5)
        model = make("adam", first=[layers.Dropout(0.3)])
        fit(model, epochs=2)
        return model.get_weights()

    first, second = weights(), weights()
    for w, v in zip(first, second, strict=True):
        np.testing.assert_array_equal(w, v)
    utils.set_random_seed(6)
    assert (make("adam", first=[layers.Dropout(0.3)]).get_weights()[0] != first[0]).any()


def test_train_on_batch_is_a_fit_of_one_batch():
    one, other = make("adam"), make("adam")
    other.set_weights(one.get_weights())
    logs = [one.train_on_batch(X, CLASSES, return_dict=True) for _ in range(3)]
    history = fit(other, batch_size=N, epochs=3, shuffle=False).history
    np.testing.assert_allclose([log["loss"] for log in logs], history["loss"], rtol=1e-6)
    np.testing.assert_allclose(one.get_weights()[0], other.get_weights()[0], rtol=1e-6)
    assert int(one.optimizer.iterations) == 3
    assert one.test_on_batch(X, CLASSES) == one.evaluate(X, CLASSES, verbose=0, return_dict=False)
    assert one.predict_on_batch(X[:2]).shape == (2, O)


def test_fit_again_goes_on_with_the_optimizers_state():
    one, other = make("adam"), make("adam")
    other.set_weights(one.get_weights())
    fit(one, epochs=2, shuffle=False)
    for epoch in range(2):
        fit(other, initial_epoch=epoch, epochs=epoch + 1, shuffle=False)
    np.testing.assert_array_equal(one.get_weights()[0], other.get_weights()[0])
    assert [v.name for v in one.optimizer.variables[:3]] == [
        "iteration",
        "learning_rate",
        "sequential_dense_kernel_momentum",
    ]


def test_an_interrupt_leaves_what_has_been_trained():
    class Interrupt(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    model = make()
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[Interrupt()])
    assert int(model.optimizer.iterations) == 3
    assert (model.get_weights()[0] != before[0]).any()


def test_weights_set_by_a_callback_are_trained_on():
    class Zero(callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.set_weights([0 * w for w in self.model.get_weights()])

    model = make(optimizers.SGD(0.0))
    fit(model, callbacks=[Zero()])
    assert not any(w.any() for w in model.get_weights())


def test_validation():
    model = make(optimizers.SGD(0.0))
    weights = random.random(N)
    history = fit(model, epochs=4, validation_data=(X, CLASSES, weights), validation_freq=2).history
    assert len(history["loss"]) == 4
    assert len(history["val_loss"]) == 2
    assert history["val_loss"][0] == model.evaluate(X, CLASSES, sample_weight=weights, verbose=0)[0]
    split = fit(model, validation_split=0.25).history
    assert split["val_loss"] == [model.evaluate(X[72:], CLASSES[72:], verbose=0)[0]]
    by_class = fit(model, validation_split=0.25, class_weight={0: 9, 1: 9, 2: 9}).history
    assert by_class["val_loss"] == split["val_loss"]
    np.testing.assert_allclose(by_class["loss"], 9 * np.array(split["loss"]), rtol=1e-5)
    by_sample = fit(model, validation_split=0.25, sample_weight=np.full(N, 9)).history
    np.testing.assert_allclose(by_sample["val_loss"], 9 * np.array(split["val_loss"]), rtol=1e-5)
    steps = fit(model, validation_data=(X, CLASSES), validation_steps=2, validation_batch_size=10).history
    assert steps["val_loss"] == [model.evaluate(X[:20], CLASSES[:20], verbose=0)[0]]
    assert model.evaluate(X, CLASSES, batch_size=10, steps=2, verbose=0)[0] == steps["val_loss"][0]


def test_weighted_metrics():
    weights = random.random(N).astype(np.float32)
    model = make(metrics=["accuracy"], weighted_metrics=["accuracy", SPARSE])
    outputs = model.predict(X, verbose=0)
    right = outputs.argmax(axis=1) == CLASSES
    logs = model.evaluate(X, CLASSES, sample_weight=weights, return_dict=True, verbose=0)
    assert list(logs) == ["accuracy", "loss", SPARSE, "weighted_accuracy"]
    assert logs["accuracy"] == right.mean()
    np.testing.assert_allclose(logs["weighted_accuracy"], np.average(right, weights=weights), rtol=1e-6)
    each = losses.sparse_categorical_crossentropy(CLASSES, outputs)
    np.testing.assert_allclose(logs[SPARSE], np.average(each, weights=weights), rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], (each * weights).mean(), rtol=1e-5)


def test_steps_per_epoch_warns_where_the_data_ends():
    with pytest.warns(UserWarning, match="this epoch has 2 batches, steps_per_epoch is 4"):
        fit(make(), steps_per_epoch=4, epochs=2)


# Callbacks.


def test_order_of_calls():
    calls = []

    class Any:
        """No base class: called by name."""

        def __getattr__(self, name):
            if not name.startswith(("on_", "set_")) or name in ("on_batch_begin", "on_batch_end"):
                raise AttributeError(name)
            return lambda *arguments: calls.append((name, *arguments))

    model = make(metrics=[])
    fit(model, batch_size=48, callbacks=[[Any()]], validation_data=(X, CLASSES))
    assert [call[0] for call in calls] == [
        "set_params", "set_model", "on_train_begin", "on_epoch_begin",
        *["on_train_batch_begin", "on_train_batch_end"] * 2,
        "on_test_begin", *["on_test_batch_begin", "on_test_batch_end"] * 2, "on_test_end",
        "on_epoch_end", "on_train_end",
    ]  # fmt: skip
    assert calls[0][1] == {"verbose": 0, "epochs": 1, "steps": 2}
    assert [call[1] for call in calls if call[0] == "on_train_batch_end"] == [0, 1]
    assert set(calls[-1][1]) == {"loss", "val_loss"}
    calls.clear()
    model.predict(X, batch_size=50, verbose=0, callbacks=[Any()])
    assert [call[0] for call in calls][2:] == [
        "on_predict_begin", *["on_predict_batch_begin", "on_predict_batch_end"] * 2, "on_predict_end",
    ]  # fmt: skip
    assert calls[4][2]["outputs"].shape == (50, O)


def test_every_method_is_given_logs():
    given = []
    whole = callbacks.LambdaCallback(
        on_train_begin=lambda logs: given.append(logs),
        on_epoch_begin=lambda epoch, logs: given.append(logs),
        on_test_begin=lambda logs: given.append(logs),
        on_predict_begin=lambda logs: given.append(logs),
        on_predict_end=lambda logs: given.append(logs),
    )
    single = callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: given.append(logs),
        on_test_batch_begin=lambda batch, logs: given.append(logs),
        on_predict_batch_begin=lambda batch, logs: given.append(logs),
    )
    model = make()
    fit(model, batch_size=N, callbacks=[whole, single])
    model.evaluate(X, CLASSES, batch_size=N, verbose=0, callbacks=[whole, single])
    model.predict(X, batch_size=N, verbose=0, callbacks=[whole, single])
    assert given == [{}] * 8


def test_a_callback_ends_evaluation_and_prediction():
    class Stop(callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            self.model.stop_evaluating = batch == 1

        def on_predict_batch_end(self, batch, logs=None):
            self.model.stop_predicting = batch == 1

    model = make()
    stopped = model.evaluate(X, CLASSES, batch_size=10, verbose=0, callbacks=[Stop()])
    np.testing.assert_allclose(stopped, model.evaluate(X[:20], CLASSES[:20], verbose=0))
    assert len(model.predict(X, batch_size=10, verbose=0, callbacks=[Stop()])) == 20
    assert len(model.predict(X, batch_size=10, verbose=0)) == N


def test_batches_are_not_separate_for_those_who_do_not_listen():
    from fastmnist.keras.trainer import listens

    quiet = [
        callbacks.Callback(),
        callbacks.EarlyStopping(),
        callbacks.History(),
        callbacks.ModelCheckpoint("a.keras"),
        callbacks.LambdaCallback(on_epoch_end=print),
    ]
    assert not any(listens(callback, "train") for callback in quiet)
    loud = [
        callbacks.ModelCheckpoint("a.keras", save_freq=3),
        callbacks.TerminateOnNaN(),
        callbacks.LambdaCallback(on_train_batch_begin=print),
    ]
    assert all(listens(callback, "train") for callback in loud)


class Scripted(callbacks.Callback):
    """Replaces a logged value by given ones, before other callbacks see it."""

    def __init__(self, **values):
        super().__init__()
        self.values = values
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        logs.update({name: values[epoch] for name, values in self.values.items()})
        self.seen.append(self.model.get_weights()[0])


def test_early_stopping(capsys):
    script = Scripted(val_loss=[3, 1, 2, 1.5, 0])
    stop = callbacks.EarlyStopping(patience=2, restore_best_weights=True, verbose=1)
    model = make()
    history = fit(model, epochs=5, callbacks=[script, stop])
    assert history.epoch == [0, 1, 2, 3]
    np.testing.assert_array_equal(model.get_weights()[0], script.seen[1])
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 4: early stopping", "Restoring model weights from the end of the best epoch: 2.",
    ]  # fmt: skip
    script = Scripted(val_accuracy=[0.1, 0.2, 0.2])
    stop = callbacks.EarlyStopping("val_accuracy")
    assert fit(make(), epochs=3, callbacks=[script, stop]).epoch == [0, 1, 2]
    with pytest.warns(UserWarning, match="monitors 'val_loss', which there is not"):
        fit(make(), callbacks=[callbacks.EarlyStopping()])


def test_reduce_lr_on_plateau():
    plateau = callbacks.ReduceLROnPlateau(patience=2, factor=0.5, cooldown=1, min_lr=0.02)
    model = make(optimizers.SGD(0.1))
    history = fit(model, epochs=9, callbacks=[Scripted(val_loss=[1.0] * 9), plateau])
    rates = [0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.02, 0.02]
    np.testing.assert_allclose(history.history["learning_rate"], rates, rtol=1e-6)
    np.testing.assert_allclose(model.optimizer.learning_rate, 0.02, rtol=1e-6)


def test_learning_rate_scheduler():
    both = callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model = make(optimizers.SGD(1.0))
    assert fit(model, epochs=3, callbacks=[both]).history["learning_rate"] == [0.5, 0.25, 0.125]
    fit(model, callbacks=[callbacks.LearningRateScheduler(lambda epoch: 0.0)])
    before = model.get_weights()
    fit(model)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    scheduled = make(optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)))
    with pytest.raises(TypeError, match="has the schedule ExponentialDecay"):
        fit(scheduled, callbacks=[both])


def test_csv_logger(tmp_path):
    file = tmp_path / "log.csv"
    for append in (False, True):
        history = fit(make(), epochs=2, callbacks=[callbacks.CSVLogger(file, append=append)]).history
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1"] * 2
    assert float(rows[-1]["loss"]) == history["loss"][-1]
    assert list(rows[0]) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]


def test_model_checkpoint(tmp_path, capsys):
    pytest.importorskip("h5py")
    path = str(tmp_path / "run" / "{epoch:02d}-{val_loss:.1f}.weights.h5")
    best = callbacks.ModelCheckpoint(path, save_best_only=True, save_weights_only=True, verbose=1)
    fit(make(), epochs=3, callbacks=[Scripted(val_loss=[2.0, 3.0, 1.0]), best])
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["01-2.0.weights.h5", "03-1.0.weights.h5"]
    printed = capsys.readouterr().out
    assert "Epoch 1: finished saving model to " in printed
    assert "Epoch 2: val_loss did not improve from 2.00000" in printed
    assert "Epoch 2: finished" not in printed
    often = callbacks.ModelCheckpoint(tmp_path / "{batch}.weights.h5", save_weights_only=True, save_freq=4)
    fit(make(), callbacks=[often])
    assert (tmp_path / "4.weights.h5").exists()
    with pytest.raises(ValueError, match=r"ends in \.keras"):
        callbacks.ModelCheckpoint("a.weights.h5")


def test_terminate_on_nan(capsys):
    model = make(optimizers.SGD(1e30), loss="mse", output=None)
    with np.errstate(all="ignore"):
        history = fit(model, y=np.eye(O)[CLASSES], epochs=9, callbacks=[callbacks.TerminateOnNaN()])
    assert history.epoch == [0]
    assert "Invalid loss, terminating training" in capsys.readouterr().out


# What is printed.


def test_output_for_a_file(capsys):
    model = make()
    model.fit(X, CLASSES, epochs=2, validation_split=0.25, batch_size=24)
    model.evaluate(X, CLASSES, verbose=2)
    model.predict(X)
    model.fit(X, CLASSES, verbose=0)
    lines = capsys.readouterr().out.splitlines()
    number = r"\d+\.\d+(e-\d+)?"
    time = r"\d+s \d+[mu]?s/step"
    results = f"accuracy: {number} - loss: {number} - val_accuracy: {number} - val_loss: {number}"
    patterns = [
        "Epoch 1/2", f"3/3 {'━' * 20} {time} - {results}", "Epoch 2/2", f"3/3 {'━' * 20} {time} - {results}",
        rf"3/3 - \d+s - \d+[mu]?s/step - accuracy: {number} - loss: {number}", f"3/3 {'━' * 20} {time}",
    ]  # fmt: skip
    import re

    assert len(lines) == len(patterns)
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line


def test_output_for_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    make().fit(X, CLASSES)
    out = capsys.readouterr().out
    assert out.startswith("\r\x1b[1m3/3\x1b[0m ")
    assert out.endswith("\n")
    assert "\b" not in out


def test_summary(capsys):
    model = make("adam")
    model.summary()
    fit(model)
    text = []
    model.summary(print_fn=text.append, line_length=60)
    before = capsys.readouterr().out
    assert "│ dense_1 (Dense)                 │ (None, 3)              │            27 │" in before
    assert " Total params: 131 (524.00 B)" in before
    assert "Optimizer" not in before
    assert " Optimizer params: 264 (1.03 KB)" in text[0]
    assert max(map(len, text[0].splitlines())) == 60


# Functions.


def test_to_categorical():
    one_hot = utils.to_categorical([[0], [2]])
    assert one_hot.dtype == np.float64
    assert one_hot.tolist() == [[1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(utils.normalize([[3.0, 4.0], [0, 0]]), [[0.6, 0.8], [0, 0]])


@pytest.mark.parametrize(
    ("name", "deviation", "limit"),
    [
        ("glorot_uniform", np.sqrt(2 / 700), np.sqrt(6 / 700)),
        ("glorot_normal", np.sqrt(2 / 700), 2 * np.sqrt(2 / 700) / 0.8796),
        ("he_normal", np.sqrt(2 / 300), 2 * np.sqrt(2 / 300) / 0.8796),
        ("he_uniform", np.sqrt(2 / 300), np.sqrt(6 / 300)),
        ("lecun_normal", np.sqrt(1 / 300), 2 * np.sqrt(1 / 300) / 0.8796),
        ("lecun_uniform", np.sqrt(1 / 300), np.sqrt(3 / 300)),
        ("random_uniform", 0.05 / np.sqrt(3), 0.05),
        ("truncated_normal", 0.05 * 0.8796, 0.1),
    ],
)
def test_initializers(name, deviation, limit):
    values = initializers.get(name)((300, 400))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values.std(), deviation, rtol=0.01)
    assert 0.98 * limit < np.abs(values).max() <= limit * (1 + 1e-4)
    seeded = type(initializers.get(name))(seed=4)
    np.testing.assert_array_equal(seeded((3, 4)), seeded((3, 4)))


def test_losses_and_metrics_on_their_own():
    outputs = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    entropy = -np.log([0.7, 0.1])
    np.testing.assert_allclose(losses.SparseCategoricalCrossentropy()([0, 2], outputs), entropy.mean(), rtol=1e-6)
    np.testing.assert_allclose(losses.categorical_crossentropy(np.eye(3)[[0, 2]], outputs), entropy, rtol=1e-6)
    np.testing.assert_allclose(
        losses.sparse_categorical_crossentropy([0, 2], np.log(outputs), from_logits=True), entropy, rtol=1e-5
    )
    np.testing.assert_allclose(losses.binary_crossentropy([1, 0], [[0.7], [0.2]]), -np.log([0.7, 0.8]), rtol=1e-5)
    np.testing.assert_allclose(losses.MeanSquaredError()([[1.0, 2.0]], [[0.0, 0.0]]), 2.5)
    accuracy = metrics.SparseCategoricalAccuracy()
    accuracy.update_state([0, 2], outputs)
    accuracy.update_state([1], [[0, 1, 0]], sample_weight=[2])
    assert accuracy.result() == np.float32(0.75)
    accuracy.reset_state()
    assert accuracy.result() == 0
    assert metrics.BinaryAccuracy(threshold=0.6)([1, 0, 1], [0.7, 0.65, 0.5]) == np.float32(1 / 3)


def test_weights_of_losses_and_metrics_on_their_own():
    targets, outputs = [[1, 1], [0, 0]], [[0.98, 0.2], [0.0, 0.6]]
    assert metrics.BinaryAccuracy()(targets, outputs, sample_weight=[[1, 0], [0, 1]]) == np.float32(0.5)
    assert metrics.BinaryAccuracy()(targets, outputs, sample_weight=[[1, 0]]) == 1
    assert metrics.BinaryAccuracy()(targets, outputs, sample_weight=[3, 1]) == np.float32(0.5)
    assert metrics.Mean()([[1, 2], [3, 4]], sample_weight=[[1], [3]]) == np.float32(3)
    squares = losses.mean_squared_error(targets, outputs)
    mean = losses.MeanSquaredError()
    np.testing.assert_allclose(mean(targets, outputs, sample_weight=3), 3 * squares.mean(), rtol=1e-6)
    for weights in ([1, 3], [[1], [3]]):
        np.testing.assert_allclose(mean(targets, outputs, weights), (squares * [1, 3]).mean(), rtol=1e-6)
    with pytest.raises(ValueError, match="broadcast"):
        mean(targets, outputs, sample_weight=[1, 2, 3])


def test_no_warnings_from_plain_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(make("rmsprop"), validation_split=0.2)
