"""Images that stay packed from one pass through a loop to the next, where nothing can have written to them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastmnist.accel.program import Scope, origins
from fastmnist.accel.rewrite import Loop, Outer

if TYPE_CHECKING:
    from fastmnist.accel.quiet import Between
    from fastmnist.accel.replace import Replacement
    from fastmnist.engine import Packed


@dataclass
class _Held:
    """One packing, the run of the loop over epochs for which it holds, and the arrays it was made from."""

    outer: int
    running: object
    rows: slice
    arrays: list[weakref.ref[Any]]
    packed: Packed


class Packings:
    """What is packed, by loop."""

    def __init__(self) -> None:
        self._hooked: dict[int, set[tuple[int, int]]] = {}
        self._outers: list[Outer] = []
        self._running: dict[int, object] = {}
        self._between: dict[int, Between] = {}
        self._held: dict[int, _Held] = {}

    def add(self, loops: Sequence[Loop], outers: Sequence[Outer]) -> None:
        """Take loops, and the loops around them."""
        self._outers += outers
        for loop in loops:
            if loop.outer is not None and loop.refused is None:
                self._hooked.setdefault(loop.outer, set()).add((loop.node.lineno, loop.node.col_offset))

    def begin(self, outer: int, items: Any) -> None:
        """Note that a loop around others begins; only a range runs no code of the program's between its items."""
        self._running[outer] = object() if type(items) is range else None

    def forget(self, outer: int | None) -> None:
        """Drop what is held within a loop in which something has run as written."""
        self._held = {number: held for number, held in self._held.items() if held.outer != outer}

    def note_changed(self, arrays: Sequence[Any]) -> None:
        """Drop what was made from memory that a replaced loop has changed."""
        import numpy as np

        def touched(held: _Held) -> bool:
            sources = [array for ref in held.arrays if (array := ref()) is not None]
            return any(np.may_share_memory(array, source) for array in arrays for source in sources)

        self._held = {number: held for number, held in self._held.items() if not touched(held)}

    def images(self, loop: Loop, replacement: Replacement, scope: Scope, first: int, last: int) -> Packed | None:
        """Return the packed `inputs_of` iterations `first` to `last` - 1, if they hold or can be held."""
        from fastmnist.accel.recognise import Plan
        from fastmnist.accel.replace import inputs_of

        plan = replacement.plan
        running = None if loop.outer is None else self._running.get(loop.outer)
        if loop.outer is None or running is None or not isinstance(plan, Plan):
            return None
        inputs = inputs_of(plan, scope, first, last)
        if plan.pick is not None and not inputs.are_whole:
            return None
        arrays = [scope.resolve(path) for path in origins(inputs.path)]
        held = self._held.get(loop.number)
        if held is not None and held.running is running and held.rows == inputs.rows:
            if all(ref() is array for ref, array in zip(held.arrays, arrays, strict=True)):
                return held.packed
        self._held.pop(loop.number, None)
        # The first pass begins with iterations that are verified: it alone takes other rows.
        if (first and not inputs.are_whole) or not self._is_quiet(loop.outer, scope, arrays):
            return None
        packed = inputs.packed(scope)
        self._held[loop.number] = _Held(loop.outer, running, inputs.rows, [weakref.ref(a) for a in arrays], packed)
        return packed

    def _is_quiet(self, outer: int, scope: Scope, arrays: Sequence[Any]) -> bool:
        from fastmnist.accel.quiet import look_between

        if outer not in self._between:
            self._between[outer] = look_between(self._outers[outer].node, self._hooked[outer])
        return self._between[outer].holds(scope, arrays)
