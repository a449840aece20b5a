"""The few functions of ``keras.backend`` that training scripts call."""

from fastmnist.keras.utils import clear_session

__all__ = ["clear_session", "epsilon", "floatx"]


def epsilon() -> float:
    """Return what probabilities are kept away from 0 and 1 by."""
    return 1e-7


def floatx() -> str:
    """Return the float type of layers that are given none."""
    return "float32"
