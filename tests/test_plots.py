import io
import subprocess
import sys

import numpy as np
import pytest

from fastmnist.plots import plot_images

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.figure import Figure  # noqa: E402


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(1, 256, size=(7, 28, 28), dtype=np.uint8)


def sheet(figure):
    [axes] = figure.axes
    [image] = axes.images
    return np.ma.filled(image.get_array().astype(float), np.nan)


def captions(figure):
    return [(text.get_text(), text.get_color()) for text in figure.axes[0].texts]


@pytest.mark.parametrize("columns", [1, 3, 7, 10])
def test_every_image_is_there_in_reading_order(columns, images):
    figure = plot_images(images, columns=columns)
    shown = sheet(figure)
    columns = min(columns, 7)
    assert shown.shape == (30 * -(-7 // columns), 30 * columns)
    for i, image in enumerate(images):
        cell = shown[30 * (i // columns) :, 30 * (i % columns) :][:30, :30]
        np.testing.assert_array_equal(cell[1:29, 1:29], image)
    assert np.sum(~np.isnan(shown)) == images.size
    assert captions(figure) == []


def test_flat_and_float_images_look_the_same(images):
    shown = sheet(plot_images(images))
    np.testing.assert_array_equal(sheet(plot_images(images.reshape(7, 784))), shown)
    np.testing.assert_array_equal(sheet(plot_images((images / 256).tolist())), shown / 256)


def test_wrong_predictions_are_marked(images):
    labels = np.arange(7)
    predictions = labels.copy()
    predictions[[2, 5]] = 9
    figure = plot_images(images, labels, predictions, columns=4)
    texts = captions(figure)
    assert [text for text, _ in texts] == ["0", "1", "2 → 9", "3", "4", "5 → 9", "6"]
    assert [colour for _, colour in texts] == ["black"] * 2 + ["tab:red"] + ["black"] * 2 + [
        "tab:red",
        "black",
    ]

    # The frames lie around the third and the sixth image.
    shown = sheet(figure)
    frames = figure.axes[0].patches
    assert len(frames) == 2
    for frame, i in zip(frames, (2, 5), strict=True):
        left, top = (int(v + 0.5) for v in frame.get_xy())
        np.testing.assert_array_equal(shown[top : top + 28, left : left + 28], images[i])


@pytest.mark.parametrize("name", ["labels", "predictions"])
def test_one_kind_of_caption_alone(name, images):
    figure = plot_images(images, **{name: np.arange(7)})
    assert captions(figure) == [(str(i), "black") for i in range(7)]
    assert figure.axes[0].patches[:] == []


def test_it_renders(images):
    file = io.BytesIO()
    plot_images(images, np.zeros(7, int), np.arange(7)).savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")


def test_it_draws_into_a_given_figure(images):
    figure = Figure(figsize=(3, 4))
    assert plot_images(images, figure=figure) is figure
    assert figure.get_size_inches().tolist() == [3, 4]
    assert len(figure.axes) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": np.zeros((0, 28, 28))}, r"images has shape \(0, 28, 28\); wanted \(N, 28, 28\)"),
        ({"images": np.zeros((2, 28, 27))}, r"images has shape \(2, 28, 27\)"),
        ({"images": np.zeros((2, 783))}, r"images has shape \(2, 783\)"),
        ({"images": np.zeros((28, 28, 28, 1))}, r"images has shape \(28, 28, 28, 1\)"),
        ({"images": np.float64(1)}, r"images has shape \(\)"),
        ({"labels": [1, 2]}, r"labels has shape \(2,\); wanted \(7,\)"),
        ({"predictions": np.zeros((7, 10))}, r"predictions has shape \(7, 10\); wanted \(7,\)"),
        ({"columns": 0}, "columns is 0; wanted 1 or more"),
    ],
)
def test_bad_arguments(arguments, message, images):
    with pytest.raises(ValueError, match=message):
        plot_images(**({"images": images} | arguments))


def test_no_window_system_is_touched():
    program = (
        "import sys, numpy; from fastmnist.plots import plot_images; assert 'matplotlib' not in sys.modules;"
        "plot_images(numpy.zeros((3, 28, 28))); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_matplotlib_it_says_what_to_install(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "fastmnist\[plots\]"'):
        plot_images(images)
