"""Out of memory: the batch is halved until it fits, and the results are the same."""

import pytest
import torch

from nearsql.pipeline.halving import in_halves, is_out_of_memory

ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("fits", [1, 2, 3, 7, 20])
def test_the_results_are_those_of_one_batch(error: Exception, fits: int) -> None:
    sizes: list[int] = []

    def square(items):
        sizes.append(len(items))
        if len(items) > fits:
            raise error
        return [item * item for item in items]

    items = list(range(17))
    assert in_halves(square, items) == [item * item for item in items]
    assert sum(size for size in sizes if size <= fits) == 17


def test_one_that_does_not_fit_alone_and_other_errors_are_raised() -> None:
    def never(items):
        raise MemoryError

    with pytest.raises(MemoryError):
        in_halves(never, [1, 2, 3])
    calls = []

    def wrong(items):
        calls.append(items)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        in_halves(wrong, [1, 2])
    assert calls == [[1, 2]]


def test_a_real_allocation_that_fails() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator"))
