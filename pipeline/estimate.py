"""How much and how long, in words: what a command says before and while it works."""


def size_in_words(n_bytes: float) -> str:
    """1_234_567 -> '1.2 MB'."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:,.1f} {unit}"
    return f"{n_bytes / 1e3:,.1f} kB"


def duration_in_words(seconds: float) -> str:
    """400 -> '7 minutes'."""
    if seconds < 90:
        whole = round(seconds)
        return f"{whole} second" + "s" * (whole != 1)
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
