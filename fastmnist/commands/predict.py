"""``fastmnist predict``: which digit a picture shows, by the weights that ``fastmnist train --save`` wrote."""

import json
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist import scripts
from fastmnist.commands import UserError
from fastmnist.notice import compile_notice

Arrays = list[NDArray[np.floating[Any]]]

_SIDE = 28
_INK_SIDE = 20
# From which grey a pixel belongs to the digit: scanned paper and compressed pictures are nowhere quite empty.
_INK = 64


@compile_notice()
def run(*, images: list[str], weights: str, as_json: bool) -> int:
    """Print for each picture the digit and how sure the network is of it."""
    network = _read_network(weights)
    digits = np.stack([_read_digit(path) for path in images])
    try:
        shares = scripts.predict(digits, *network, output="softmax")
    except (TypeError, ValueError) as error:
        raise UserError(f"--weights {weights}: {error}") from None
    results = [
        {"image": path, "digit": int(row.argmax()), "probability": float(row.max()), "probabilities": row.tolist()}
        for path, row in zip(images, shares, strict=True)
    ]
    if as_json:
        print(json.dumps(results if len(results) > 1 else results[0]))
    else:
        for result in results:
            print(f"{result['image']}: {result['digit']} ({result['probability']:.1%})")
    return 0


def _read_network(path: str) -> tuple[Arrays, Arrays]:
    """Read weights and biases, layer by layer."""
    try:
        with np.load(path, allow_pickle=False) as file:
            n_layers = len(file.files) // 2
            return [file[f"weights_{k}"] for k in range(n_layers)], [file[f"biases_{k}"] for k in range(n_layers)]
    except FileNotFoundError:
        raise UserError(f"--weights {path}: there is no such file; fastmnist train --save {path} makes one") from None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):  # TypeError: an npy file is an array
        raise UserError(f"--weights {path}: this is not a file that fastmnist train --save has written") from None


def _read_digit(path: str) -> NDArray[np.uint8]:
    """Read a picture as MNIST's are: 28 x 28, bright on black.

    One of this size is taken as it is, but for its colours. Others are prepared as MNIST was: the digit is cut out,
    made 20 pixels long, and placed with its centre of mass in the middle (LeCun, Cortes and Burges, "The MNIST
    database").
    """
    try:
        from PIL import Image
    except ImportError:
        raise UserError('predict reads pictures with Pillow; pip install "fastmnist[plots]" installs it') from None
    try:
        with Image.open(path) as image:
            # What can be seen through is paper.
            page = Image.new("RGBA", image.size, "white")
            page.alpha_composite(image.convert("RGBA"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    grey = np.asarray(page.convert("L"))
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(edge) > 127:
        grey = 255 - grey
    if grey.shape == (_SIDE, _SIDE):
        return grey
    rows, columns = np.nonzero(grey >= _INK)
    if not len(rows):
        raise UserError(f"{path}: there is nothing to see on it")
    box = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
    width, height = box[2] - box[0], box[3] - box[1]
    scale = _INK_SIDE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    digit = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR, box))
    out = np.zeros((_SIDE, _SIDE), np.uint8)
    out[tuple(_centred(digit.sum(axis=axis)) for axis in (1, 0))] = digit
    return out


def _centred(profile: NDArray[Any]) -> slice:
    """Return where to put rows, or columns, of that much ink, so that their centre of mass is in the middle."""
    centre = profile @ np.arange(len(profile)) / profile.sum()
    start = int(np.clip(round((_SIDE - 1) / 2 - centre), 0, _SIDE - len(profile)))
    return slice(start, start + len(profile))
