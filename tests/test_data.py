import gzip
import hashlib
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fastmnist import data
from fastmnist.data import DataUnavailableError, flatten, keras_cache_file, load_data, scale, to_categorical

KINDS = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def make_arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(256, size=(7, 28, 28), dtype=np.uint8),
        "y_train": rng.integers(10, size=7, dtype=np.uint8),
        "x_test": rng.integers(256, size=(3, 28, 28), dtype=np.uint8),
        "y_test": rng.integers(10, size=3, dtype=np.uint8),
    }


def idx_bytes(array):
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_npz(path, **changes):
    np.savez_compressed(path, **(make_arrays() | changes))
    return path


def write_idx(folder, pack=bytes, rename=lambda name: name):
    folder.mkdir()
    for key, array in make_arrays().items():
        (folder / rename(KINDS[key])).write_bytes(pack(idx_bytes(array)))
    return folder


def assert_is(loaded, wanted):
    (x_train, y_train), (x_test, y_test) = loaded
    for name, array in {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}.items():
        assert array.dtype == np.uint8
        assert array.flags.writeable
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Keras's cache in a folder of its own, FASTMNIST_MNIST unset."""
    monkeypatch.delenv("FASTMNIST_MNIST", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras" / "datasets").mkdir(parents=True)
    return tmp_path / "keras" / "datasets" / "mnist.npz"


@pytest.fixture
def offline(monkeypatch):
    """Every attempt to look up a host fails; the list says which."""
    asked = []

    def refuse(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.fixture
def server(monkeypatch):
    """Answers every request with server["content"] and notes the addresses asked for."""
    import requests

    state = {"content": b"", "urls": []}

    def get(url, **kwargs):
        state["urls"].append((url, kwargs["timeout"]))
        response = requests.Response()
        response.status_code = 200
        response.raw = io.BytesIO(state["content"])
        return response

    monkeypatch.setattr(requests, "get", get)
    return state


# Where MNIST comes from.


def test_mnist_is_mnist(mnist):
    (x_train, y_train), (x_test, y_test) = mnist
    assert x_train.shape == (60_000, 28, 28)
    assert x_test.shape == (10_000, 28, 28)
    assert [a.sum(dtype=np.int64) for a in (x_train, y_train, x_test, y_test)] == [
        1_567_298_545,
        267_236,
        264_923_200,
        44_434,
    ]
    assert y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_environment_wins_over_a_valid_cache(cache, tmp_path, monkeypatch, offline):
    write_npz(cache, y_test=np.array([9, 9, 9], np.uint8))
    monkeypatch.setattr(data, "MNIST_SHA256", hashlib.sha256(cache.read_bytes()).hexdigest())
    assert load_data("mnist")[1][1].tolist() == [9, 9, 9]

    monkeypatch.setenv("FASTMNIST_MNIST", str(write_npz(tmp_path / "own.npz")))
    assert_is(load_data("mnist"), make_arrays())
    monkeypatch.setenv("FASTMNIST_MNIST", str(write_idx(tmp_path / "idx")))
    assert_is(load_data(), make_arrays())
    assert offline == []


def test_environment_naming_nothing_is_an_error_and_no_download(cache, monkeypatch, offline):
    monkeypatch.setenv("FASTMNIST_MNIST", "/no/such/mnist.npz")
    with pytest.raises(FileNotFoundError, match=r"FASTMNIST_MNIST names /no/such/mnist\.npz") as caught:
        load_data("mnist")
    assert not isinstance(caught.value, DataUnavailableError)
    assert offline == []


def test_cache_file_is_where_keras_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "not" / "yet"))
    assert keras_cache_file() == tmp_path / "not" / "yet" / "datasets" / "mnist.npz"
    assert not (tmp_path / "not").exists()

    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert keras_cache_file() == tmp_path / ".keras" / "datasets" / "mnist.npz"


@pytest.mark.skipif(not Path("/tmp").is_dir(), reason="no /tmp")
@pytest.mark.parametrize("exists", [True, False])
def test_unwritable_cache_moves_to_tmp(exists, tmp_path, monkeypatch):
    home = tmp_path / "keras"
    if exists:
        home.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(home))
    # Not chmod: root may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != (home if exists else tmp_path))
    assert keras_cache_file() == Path("/tmp/.keras/datasets/mnist.npz")


def test_no_network_says_what_was_tried_and_what_to_do(cache, offline):
    with pytest.raises(DataUnavailableError) as caught:
        load_data("mnist")
    message = str(caught.value)
    for part in ("FASTMNIST_MNIST is not set", f"{cache} does not exist", data.MNIST_URL, "no network"):
        assert part in message
    assert "Set FASTMNIST_MNIST" in message
    assert 'load_data("synthetic")' in message
    assert isinstance(caught.value, OSError)
    assert len(offline) == 1  # no retries
    assert list(cache.parent.iterdir()) == []


def test_download_lands_in_kerass_cache_and_is_not_repeated(cache, server, tmp_path, monkeypatch):
    server["content"] = write_npz(tmp_path / "served.npz").read_bytes()
    monkeypatch.setattr(data, "MNIST_SHA256", hashlib.sha256(server["content"]).hexdigest())
    assert_is(load_data("mnist"), make_arrays())
    assert cache.read_bytes() == server["content"]
    assert_is(load_data("mnist"), make_arrays())
    [(url, timeout)] = server["urls"]
    assert url == "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
    assert max(timeout) <= 15


def test_download_makes_the_folder(tmp_path, server, monkeypatch):
    monkeypatch.delenv("FASTMNIST_MNIST", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "new"))
    server["content"] = write_npz(tmp_path / "served.npz").read_bytes()
    monkeypatch.setattr(data, "MNIST_SHA256", hashlib.sha256(server["content"]).hexdigest())
    assert_is(load_data("mnist"), make_arrays())
    assert (tmp_path / "new" / "datasets" / "mnist.npz").is_file()


def test_download_with_another_checksum_is_refused(cache, server):
    server["content"] = b"a log-in page"
    with pytest.raises(DataUnavailableError, match="hash"):
        load_data("mnist")
    assert not cache.exists()


def test_damaged_cache_is_downloaded_again(cache, server, tmp_path, monkeypatch):
    server["content"] = write_npz(tmp_path / "served.npz").read_bytes()
    monkeypatch.setattr(data, "MNIST_SHA256", hashlib.sha256(server["content"]).hexdigest())
    cache.write_bytes(server["content"][:100])
    with pytest.warns(UserWarning, match=f"SHA-256 .*, wanted {data.MNIST_SHA256}: downloading it again") as caught:
        loaded = load_data("mnist")
    assert caught[0].filename == __file__
    assert_is(loaded, make_arrays())
    assert cache.read_bytes() == server["content"]


def test_damaged_cache_without_network_is_kept_and_named(cache, offline):
    cache.write_bytes(b"half a file")
    digest = hashlib.sha256(b"half a file").hexdigest()
    with (
        pytest.warns(UserWarning, match="downloading it again"),
        pytest.raises(DataUnavailableError, match=f"has SHA-256 {digest}, wanted {data.MNIST_SHA256}"),
    ):
        load_data("mnist")
    assert cache.read_bytes() == b"half a file"


# Files.


@pytest.mark.parametrize("kind", [str, Path])
def test_npz_by_path(kind, tmp_path):
    assert_is(load_data(kind(write_npz(tmp_path / "own.npz"))), make_arrays())


@pytest.mark.parametrize(
    ("pack", "rename"),
    [
        (bytes, lambda name: name),
        (gzip.compress, lambda name: f"{name}.gz"),
        (bytes, lambda name: name.replace("-idx", ".idx")),
        (gzip.compress, lambda name: name.replace("-idx", ".idx") + ".gz"),
        (gzip.compress, lambda name: name),
        (bytes, lambda name: f"{name}.gz"),  # unpacked on the way, by a browser say
    ],
    ids=["plain", "gz", "dot", "dot gz", "gz without suffix", "suffix without gz"],
)
def test_idx_round_trip(pack, rename, tmp_path):
    assert_is(load_data(write_idx(tmp_path / "idx", pack, rename)), make_arrays())


def test_path_to_nothing():
    with pytest.raises(FileNotFoundError, match='source=\'mnits\' is neither "mnist" nor "synthetic"'):
        load_data("mnits")


@pytest.mark.parametrize("argument", ["seed", "n_train", "n_test"])
@pytest.mark.parametrize("source", ["mnist", "file.npz"])
def test_arguments_of_the_synthetic_digits_are_refused_elsewhere(argument, source):
    with pytest.raises(ValueError, match=f"{argument}=0.* with source='{source}'"):
        load_data(source, **{argument: 0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((7, 28, 28))}, r"x_train has dtype float64 and shape \(7, 28, 28\)"),
        ({"y_test": np.zeros(3, np.int64)}, "y_test has dtype int64"),
        ({"x_test": np.zeros((3, 784), np.uint8)}, r"x_test has dtype uint8 and shape \(3, 784\)"),
        ({"x_test": np.zeros((3, 32, 32), np.uint8)}, r"shape \(3, 32, 32\)"),
        ({"y_train": np.zeros((7, 1), np.uint8)}, r"y_train has dtype uint8 and shape \(7, 1\)"),
        ({"y_train": np.uint8(3)}, r"y_train has dtype uint8 and shape \(\)"),
        ({"y_train": np.zeros(6, np.uint8)}, "7 images but 6 labels in its train part"),
        ({"x_test": np.zeros((4, 28, 28), np.uint8)}, "4 images but 3 labels in its test part"),
    ],
)
def test_npz_of_another_form(changes, message, tmp_path):
    path = write_npz(tmp_path / "own.npz", **changes)
    with pytest.raises(ValueError, match=f"own.npz.*{message}"):
        load_data(path)


def test_npz_lacking_an_array(tmp_path):
    arrays = make_arrays()
    del arrays["y_test"]
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(ValueError, match=r"own.npz lacks an array: y_test .*Wanted: uint8 arrays x_train"):
        load_data(tmp_path / "own.npz")


class Trap:
    """Touches a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_are_never_loaded(tmp_path):
    sprung = tmp_path / "sprung"
    path = write_npz(tmp_path / "own.npz", y_train=np.array([Trap(sprung)] * 7, object))
    with pytest.raises(ValueError, match=r"own.npz cannot be read .*allow_pickle=False"):
        load_data(path)
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(ValueError, match=r"bare.npz cannot be read"):
        load_data(tmp_path / "bare.npz")
    assert not sprung.exists()

    np.load(path, allow_pickle=True)["y_train"]
    assert sprung.exists()  # the trap works


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_truncated_npz(share, tmp_path):
    path = write_npz(tmp_path / "own.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"own\.npz cannot be read as an npz file"):
        load_data(path)


def test_corrupt_npz(tmp_path):
    path = write_npz(tmp_path / "own.npz")
    content = bytearray(path.read_bytes())
    content[2000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"own\.npz cannot be read as an npz file"):
        load_data(path)


def test_damage_is_a_value_error_whatever_it_hits(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, **make_arrays())
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        place = rng.choice([rng.integers(200), len(content) - 1 - rng.integers(400)])
        damaged[place] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        try:
            load_data(path)
        except ValueError:
            refused += 1
    assert refused > 100  # not 300: dates and the like may change unnoticed


def test_npy_is_no_npz(tmp_path):
    np.save(tmp_path / "own.npy", make_arrays()["x_train"])
    with pytest.raises(ValueError, match=r"own\.npy cannot be read as an npz file"):
        load_data(tmp_path / "own.npy")


@pytest.mark.parametrize("n", [8, 10**9, 10**14])
def test_npz_header_that_lies(n, tmp_path):
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in make_arrays().items():
            file = io.BytesIO()
            shape = (n, 28, 28) if key == "x_train" else array.shape
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            archive.writestr(f"{key}.npy", file.getvalue() + array.tobytes())
    with pytest.raises(ValueError, match=r"own\.npz cannot be read as an npz file"):
        load_data(path)


@pytest.mark.parametrize("key", KINDS)
def test_idx_folder_lacking_a_file(key, tmp_path):
    folder = write_idx(tmp_path / "idx")
    (folder / KINDS[key]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"idx lacks {KINDS[key]} \(or {KINDS[key]}.gz\)"):
        load_data(folder)


def images_with_header(*numbers):
    return struct.pack(f">{len(numbers)}I", *numbers) + make_arrays()["x_train"].tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"has 0 bytes; an IDX header of 3 dimension\(s\) takes 16"),
        (images_with_header(0x803)[:15], "has 15 bytes"),
        (images_with_header(0x801, 7, 28, 28), "begins with the number 0x00000801; wanted 0x00000803"),
        (images_with_header(0xD03, 7, 28, 28), "begins with the number 0x00000d03"),
        (images_with_header(0x803, 7, 28, 29), r"items of shape \(28, 29\); wanted \(28, 28\)"),
        (images_with_header(0x803, 0, 2**32 - 1, 2**32 - 1), r"items of shape \(4294967295, 4294967295\)"),
        (images_with_header(0x803, 8, 28, 28), r"shape \(8, 28, 28\), that is 6272 bytes .* it has 5488"),
        (images_with_header(0x803, 6, 28, 28), r"shape \(6, 28, 28\), that is 4704 bytes"),
        (images_with_header(0x803, 2**32 - 1, 28, 28), r"shape \(4294967295, 28, 28\)"),
        (images_with_header(0x803, 7, 28, 28)[:-1], "that is 5488 bytes after the header; it has 5487"),
        (images_with_header(0x803, 6, 28, 28)[: 16 + 6 * 784], "6 images but 7 labels in its train part"),
    ],
)
def test_idx_that_lies(pack, content, message, tmp_path):
    folder = write_idx(tmp_path / "idx")
    (folder / KINDS["x_train"]).write_bytes(pack(content))
    with pytest.raises(ValueError, match=f"idx.*{message}"):
        load_data(folder)


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:8], lambda b: b[:50] + b"???" + b[53:]])
def test_corrupt_gzip(damage, tmp_path):
    folder = write_idx(tmp_path / "idx", gzip.compress)
    path = folder / KINDS["y_test"]
    path.write_bytes(damage(gzip.compress(idx_bytes(np.arange(200, dtype=np.uint8)))))
    with pytest.raises(ValueError, match=f"{path.name} is a truncated or corrupt gzip file"):
        load_data(folder)


# Synthetic digits.


@pytest.fixture(scope="module")
def synthetic():
    return load_data("synthetic", n_train=4000, n_test=1000)


def test_synthetic_form(synthetic):
    (x_train, y_train), (x_test, y_test) = synthetic
    assert (x_train.shape, y_train.shape) == ((4000, 28, 28), (4000,))
    assert (x_test.shape, y_test.shape) == ((1000, 28, 28), (1000,))
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert np.bincount(y_train, minlength=10).min() > 300
    assert y_train.max() == 9


def test_synthetic_sizes_default_to_those_of_mnist(monkeypatch):
    monkeypatch.setattr(data, "_synthetic_digits", lambda n, seed, stream: (n, seed, stream))
    assert load_data("synthetic") == ((60_000, 0, 0), (10_000, 0, 1))


def test_synthetic_zeros_are_as_frequent_as_in_mnist(synthetic):
    (x_train, _), (x_test, _) = synthetic
    assert 0.79 < np.mean(x_train == 0) < 0.83
    assert 0.79 < np.mean(x_test == 0) < 0.83
    assert x_train.max() == 255
    # As in MNIST, nothing touches the border.
    assert not x_train[:, [0, -1], :].any()
    assert not x_train[:, :, [0, -1]].any()


def test_synthetic_is_centred_by_mass(synthetic):
    x = synthetic[0][0].astype(np.float64)
    place = np.arange(28)
    mass = x.sum(axis=(1, 2))
    assert mass.min() > 0
    for centre in (x.sum(axis=2) @ place / mass, x.sum(axis=1) @ place / mass):
        assert abs(centre.mean() - 13.5) < 0.2
        assert centre.std() < 0.8


def test_synthetic_is_settled_by_its_seed(synthetic):
    again = load_data("synthetic", seed=0, n_train=4000, n_test=1000)
    for part, part_again in zip(synthetic, again, strict=True):
        for array, array_again in zip(part, part_again, strict=True):
            np.testing.assert_array_equal(array, array_again)
    other = load_data("synthetic", seed=1, n_train=4000, n_test=1000)
    assert (other[0][1] != synthetic[0][1]).any()


@pytest.mark.parametrize("n", [0, 1, data._CHUNK - 1, data._CHUNK, data._CHUNK + 1, 3000])
def test_synthetic_first_digits_do_not_depend_on_how_many(n, synthetic):
    for part, longer in zip(load_data("synthetic", n_train=n, n_test=n // 3), synthetic, strict=True):
        for array, prefix in zip(part, longer, strict=True):
            np.testing.assert_array_equal(array, prefix[: len(array)])


def test_synthetic_digits_are_all_different(synthetic):
    images = np.concatenate([flatten(synthetic[0][0]), flatten(synthetic[1][0])])
    assert len(np.unique(images, axis=0)) == len(images)


def linear_accuracy(x, y, x_test, y_test):
    def with_bias(images):
        return np.column_stack([scale(flatten(images), "float64"), np.ones(len(images))])

    a = with_bias(x)
    weights = np.linalg.solve(a.T @ a + 10 * np.eye(785), a.T @ to_categorical(y, 10))
    return np.mean(np.argmax(with_bias(x_test) @ weights, axis=1) == y_test)


def mlp_accuracy(x, y, x_test, y_test):
    """Accuracy of 784-64-10, ReLU and softmax, after 10 epochs of SGD with momentum in plain NumPy."""
    rng = np.random.default_rng(0)
    images, targets = scale(flatten(x)), to_categorical(y, 10).astype(np.float32)
    shapes = [(784, 64), (64,), (64, 10), (10,)]
    weights = [rng.normal(0, (2 / s[0]) ** 0.5 if len(s) == 2 else 0, s).astype(np.float32) for s in shapes]
    speed = [np.zeros_like(w) for w in weights]
    for _ in range(10):
        for batch in np.array_split(rng.permutation(len(images)), len(images) // 200):
            w1, b1, w2, b2 = weights
            hidden = np.maximum(images[batch] @ w1 + b1, 0)
            output = np.exp(hidden @ w2 + b2)
            d2 = (output / output.sum(axis=1, keepdims=True) - targets[batch]) / len(batch)
            d1 = d2 @ w2.T * (hidden > 0)
            gradients = (images[batch].T @ d1, d1.sum(axis=0), hidden.T @ d2, d2.sum(axis=0))
            for w, v, g in zip(weights, speed, gradients, strict=True):
                v *= 0.9
                v -= 0.15 * g
                w += v
    w1, b1, w2, b2 = weights
    outputs = np.maximum(scale(flatten(x_test)) @ w1 + b1, 0) @ w2 + b2
    return np.mean(np.argmax(outputs, axis=1) == y_test)


def test_synthetic_is_learnable_and_a_line_is_not_enough(synthetic):
    (x, y), (x_test, y_test) = load_data("synthetic", n_train=10_000, n_test=2000)
    linear, mlp = (accuracy(x, y, x_test, y_test) for accuracy in (linear_accuracy, mlp_accuracy))
    assert 0.82 < linear < 0.91
    assert mlp > 0.96


@pytest.mark.parametrize("argument", ["seed", "n_train", "n_test"])
def test_synthetic_refuses_negative_numbers(argument):
    sizes = {"n_train": 1, "n_test": 1}
    with pytest.raises(ValueError, match="must be 0 or more"):
        load_data("synthetic", **(sizes | {argument: -1}))


def test_synthetic_refuses_fractions():
    with pytest.raises(TypeError, match="float"):
        load_data("synthetic", n_train=1e3)


# Conversions.


def test_flatten():
    images = np.arange(2 * 28 * 28).reshape(2, 28, 28)
    assert flatten(images).shape == (2, 784)
    assert np.shares_memory(flatten(images), images)
    np.testing.assert_array_equal(flatten(images)[1], images[1].ravel())
    assert flatten(images[:0]).shape == (0, 784)
    with pytest.raises(ValueError, match=r"shape \(28,\)"):
        flatten(np.zeros(28))


@pytest.mark.parametrize("dtype", ["float32", np.float64])
def test_scale_divides_in_its_dtype(dtype):
    grey = np.arange(256, dtype=np.uint8).reshape(2, 128)
    scaled = scale(grey, dtype)
    assert scaled.dtype == dtype
    assert scaled.shape == grey.shape
    np.testing.assert_array_equal(scaled, grey.astype(dtype) / np.dtype(dtype).type(255))
    assert (scaled.min(), scaled.max()) == (0, 1)


def test_scale_refuses_what_is_scaled_already():
    assert scale(np.uint8([255])).dtype == np.float32
    with pytest.raises(ValueError, match="images has dtype float32; scale takes uint8"):
        scale(scale(np.uint8([255])))
    with pytest.raises(ValueError, match="dtype is int64; wanted float32 or float64"):
        scale(np.uint8([255]), "int64")


@pytest.mark.parametrize(
    ("labels", "num_classes", "shape"),
    [
        ([0, 2, 1], None, (3, 3)),
        (np.array([3, 0], np.uint8), 10, (2, 10)),
        ([[1], [2]], None, (2, 3)),
        ([1.0, 0.0], 2, (2, 2)),
        ([[0, 1], [2, 0]], 3, (2, 2, 3)),
        ([], 4, (0, 4)),
    ],
)
def test_to_categorical(labels, num_classes, shape):
    rows = to_categorical(labels, num_classes)
    assert rows.dtype == np.float64
    assert rows.shape == shape
    np.testing.assert_array_equal(rows, np.eye(shape[-1])[np.reshape(labels, shape[:-1]).astype(int)])


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0, -1], None, r"labels run from -1 to 0; wanted 0 \.\. 0"),
        ([0, 10], 10, r"labels run from 0 to 10; wanted 0 \.\. 9"),
        ([0.5, 1], None, "dtype float64 are not all whole numbers"),
        ([np.nan], 3, "not all whole numbers"),
        ([np.inf], 3, "not all whole numbers"),
        ([], None, "labels is empty"),
    ],
)
def test_to_categorical_refuses(labels, num_classes, message):
    with pytest.raises(ValueError, match=message):
        to_categorical(labels, num_classes)


def test_only_a_download_imports_pooch():
    program = (
        "import sys; from fastmnist.data import load_data; load_data('synthetic', n_train=1, n_test=1);"
        "sys.exit(len({'pooch', 'requests', 'numba', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
