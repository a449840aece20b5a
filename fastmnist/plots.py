"""Pictures of digits. They need matplotlib: ``pip install "fastmnist[plots]"``."""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_images"]

_GAP = 2  # pixels between images
_CAPTION = 11  # pixels above an image, for its caption
_INCH_PER_PIXEL = 0.025


def plot_images(
    images: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    predictions: npt.ArrayLike | None = None,
    *,
    columns: int = 10,
    figure: "Figure | None" = None,
) -> "Figure":
    """Show images in a grid, with what they are and what a network took them for.

    The figure belongs to no window and changes no state of ``matplotlib.pyplot``: save it with
    ``figure.savefig("digits.png")``. To have pyplot show it, pass ``figure=plt.figure()``.

    Parameters
    ----------
    images : array_like, shape (N, 28, 28) or (N, 784)
        Any square images, of any scale: the darkest grey is the lowest value of all, white the highest.
    labels, predictions : array_like, shape (N,), optional
        Captions: either as it is; with both, a wrong prediction reads "label → prediction" in red, framed in
        red.
    columns : int, default 10
        Images in a row.
    figure : matplotlib.figure.Figure, optional
        Draw into this figure; by default into a new one of suitable size.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        `images` is empty or not square, `labels` or `predictions` do not match it, or `columns` is below 1.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise ImportError('plot_images needs matplotlib. Try: pip install "fastmnist[plots]"') from error

    pictures = np.asarray(images)
    n = len(pictures) if pictures.ndim else 0
    side = math.isqrt(pictures.size // n) if n else 0
    if side == 0 or pictures.shape not in ((n, side, side), (n, side * side)):
        raise ValueError(f"images has shape {pictures.shape}; wanted (N, 28, 28) or (N, 784), N at least 1.")
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values is not None and np.shape(values) != (n,):
            raise ValueError(f"{name} has shape {np.shape(values)}; wanted ({n},), one for each image.")
    if columns < 1:
        raise ValueError(f"columns is {columns}; wanted 1 or more.")

    captions, wrong = _captions(n, labels, predictions)
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    width, height = side + _GAP, side + _GAP + (_CAPTION if captions else 0)
    sheet = np.full((rows * height, columns * width), np.nan)
    tops, lefts = height * (np.arange(n) // columns) + height - side - 1, width * (np.arange(n) % columns) + 1
    for picture, top, left in zip(pictures.reshape(n, side, side), tops, lefts, strict=True):
        sheet[top : top + side, left : left + side] = picture

    if figure is None:
        figure = Figure(figsize=(sheet.shape[1] * _INCH_PER_PIXEL, sheet.shape[0] * _INCH_PER_PIXEL))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(sheet, cmap="gray", interpolation="nearest")
    for i, caption in enumerate(captions):
        colour = "tab:red" if wrong[i] else "black"
        # Pixel centres lie on whole numbers, so images begin half a pixel before.
        axes.text(lefts[i] + side / 2 - 0.5, tops[i] - 2, caption, color=colour, ha="center", fontsize=9)
        if wrong[i]:
            corner = (lefts[i] - 0.5, tops[i] - 0.5)
            axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=1.5))
    return figure


def _captions(
    n: int, labels: npt.ArrayLike | None, predictions: npt.ArrayLike | None
) -> tuple[list[str], npt.NDArray[np.bool_]]:
    if labels is not None and predictions is not None:
        wrong = np.asarray(labels) != np.asarray(predictions)
        pairs = zip(np.asarray(labels), np.asarray(predictions), strict=True)
        return [f"{label}" if label == guess else f"{label} → {guess}" for label, guess in pairs], wrong
    single = labels if labels is not None else predictions
    return [] if single is None else [f"{value}" for value in np.asarray(single)], np.zeros(n, bool)
