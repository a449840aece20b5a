"""Numbers in words."""


def duration(seconds: float) -> str:
    """Write a time with three digits and its unit."""
    value, unit = (
        (seconds, "s") if seconds >= 1 else (seconds * 1e3, "ms") if seconds >= 1e-3 else (seconds * 1e6, "us")
    )
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def comparison(ratio: float) -> str:
    """Say how many times as fast as a peer we are."""
    if ratio >= 1:
        return f"{ratio:.{0 if ratio >= 100 else 1}f} times as fast"
    return f"{1 / ratio:.{0 if ratio < 0.01 else 1}f} times SLOWER"
