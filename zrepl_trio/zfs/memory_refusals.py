"""What the model of `MemoryZfs` refuses, in the commands' words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zrepl_trio.emulate.fault import Fault
from zrepl_trio.zfs.failures import failure

__all__ = ["Refusals"]


class Refusals:
    """Has what the model refuses look like what the command would have said of it."""

    __slots__ = ("_dataset", "_words")

    def __init__(self, words: Callable[[], Sequence[str]], dataset: str) -> None:
        self._words = words
        self._dataset = dataset

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        if isinstance(error, Fault):
            raise failure(
                self._words(), error.status, error.text + "\n", dataset=self._dataset
            ) from error
