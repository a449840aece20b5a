"""What the command line and its commands share: the default recipe, and the one kind of error a user sees."""

from dataclasses import dataclass


class UserError(Exception):
    """A mistake that the user can mend; shown as one line on stderr, exit code 2."""


@dataclass(frozen=True)
class Recipe:
    """How ``fastmnist train`` trains: Adam, at a rate that rises over the warm-up and then falls to zero."""

    hidden: tuple[int, ...] = (512,)
    epochs: int = 10
    batch_size: int = 200
    learning_rate: float = 0.004
    dropout: float = 0.3
    seed: int = 0
    warm_up: float = 0.1
