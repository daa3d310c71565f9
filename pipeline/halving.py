"""What does not fit in memory at once is tried in halves."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")

# PyTorch has a class of its own only for CUDA; the other allocators say it in words.
_OUT_OF_MEMORY = ("DefaultCPUAllocator", "MPS backend out of memory")


def in_halves(
    function: Callable[[Sequence[Input]], Sequence[Output]], items: Sequence[Input]
) -> list[Output]:
    """function(items), one result an item; when memory runs out, that of the two halves, joined.

    The halves are halved again as often as it takes. Raises what the function raises: out of memory
    too, when a single item does not fit.
    """
    try:
        return list(function(items))
    except Exception as error:
        if len(items) < 2 or not is_out_of_memory(error):
            raise
    # Only now, after the except block: the traceback kept alive what filled the memory.
    _give_back()
    half = len(items) // 2
    return in_halves(function, items[:half]) + in_halves(function, items[half:])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, in Python, on the CPU or on a GPU."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    )


def _give_back() -> None:
    """Lets go of the GPU memory that PyTorch keeps for later, which may be in the wrong pieces."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
