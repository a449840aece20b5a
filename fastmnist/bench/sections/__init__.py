"""What is measured beside the rows: a module each, with `TITLE`, `measure` and `words`.

`measure` takes a `Setting` and returns a dictionary for the report; `words` makes sentences of it.
"""

from types import ModuleType

from fastmnist.bench.sections import accuracy, cold_start, growth, memory

SECTIONS: dict[str, ModuleType] = {
    "ACCURACY": accuracy,
    "GROWTH": growth,
    "MEMORY": memory,
    "COLD-START": cold_start,
}
