"""The table of `Sequential.summary`, as Keras prints it."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmnist.keras.models import Sequential
    from fastmnist.keras.variables import Variable

_WIDTH = 88


def print_summary(
    model: Sequential,
    line_length: int | None,
    positions: Sequence[float] | None,
    print_fn: Callable[[str], Any] | None,
    show_trainable: bool,
    layer_range: Sequence[str] | None,
) -> None:
    """Print the summary, or call `print_fn` with its text; parameters as for `Sequential.summary`."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    header, justify = ["Layer (type)", "Output Shape", "Param #"], ["left", "left", "right"]
    ends = list(positions or [0.45, 0.80, 1.0])
    width = _WIDTH
    if show_trainable:
        header, justify = [*header, "Trainable"], [*justify, "center"]
        ends = [0.9 * end for end in ends] + [1.0]
        width += 12
    width = line_length or min(width, shutil.get_terminal_size().columns - 4)
    stops = [int(end * width) for end in ends]
    widths = [stop - start for start, stop in zip([0, *stops], stops, strict=False)]
    if min(widths) < 4:
        raise ValueError(f"line_length is {width}; every column needs 4 characters or more.")
    table = Table(width=width, show_lines=True)
    for name, side, size in zip(header, justify, widths, strict=True):
        table.add_column(name, justify=side, width=size)  # type: ignore[arg-type]
    shape = model.input_shape if model.built else None
    shown = _range([layer.name for layer in model.layers], layer_range)
    for k, layer in enumerate(model.layers):
        shape = None if shape is None else layer.compute_output_shape(shape)
        numbers = "?" if shape is None else f"({', '.join(_number(size) for size in shape)})"
        count = _number(f"{layer.count_params():,}") if layer.built else f"{_number(0)} (unbuilt)"
        kind = f"[color(33)]{escape(type(layer).__name__)}[/]"
        row = [f"{escape(layer.name)} ({kind})", numbers, count]
        if show_trainable:
            row.append(("[bold]Y[/]" if layer.trainable else "[bold]N[/]") if layer.weights else "-")
        if k in shown:
            table.add_row(*row)

    text = io.StringIO()
    plain = Console(file=text, highlight=False, force_terminal=False, color_system=None)
    console = plain if print_fn else Console(highlight=False)
    console.print(f'[bold]Model: "{escape(model.name)}"[/]')
    console.print(table)
    slots = model.optimizer.variables if model.optimizer is not None and model.optimizer.built else []
    console.print(_total("Total", [*model.weights, *slots]))
    console.print(_total("Trainable", model.trainable_weights))
    console.print(_total("Non-trainable", model.non_trainable_weights))
    if slots:
        console.print(_total("Optimizer", slots))
    if print_fn:
        print_fn(text.getvalue())


def _range(names: list[str], layer_range: Sequence[str] | None) -> range:
    """Return the indices of the layers from the first that matches a pattern to the last."""
    if layer_range is None:
        return range(len(names))
    matches = [[k for k, name in enumerate(names) if re.match(pattern, name)] for pattern in layer_range]
    if len(matches) != 2 or not all(matches):
        raise ValueError(f"layer_range is {layer_range}; two names among {', '.join(names)} are wanted.")
    return range(min(map(min, matches)), max(map(max, matches)) + 1)


def _number(value: object) -> str:
    return f"[color({45 if value is None else 34})]{value}[/]"


def _total(what: str, variables: Sequence[Variable]) -> str:
    count = sum(variable.value.size for variable in variables)
    # Keras counts the step number of an optimiser as 4 bytes too.
    size = sum(variable.value.size * min(4, variable.value.itemsize) for variable in variables)
    return f"[bold] {what} params: [/]{_number(f'{count:,}')} ({_memory(size)})"


def _memory(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GB"
