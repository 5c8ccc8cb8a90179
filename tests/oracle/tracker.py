"""Counts the bytes of all tensors that are alive, operation by operation, and remembers the most there ever were.

A dispatch mode above the fake tensors: it sees each operation of forward pass, backward pass and optimizer after
autograd has taken it apart. A storage counts from the operation that made it until Python or autograd drops the last
tensor on it, rounded as CUDA's allocator rounds. It must never keep a tensor alive.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# CUDA's caching allocator hands out multiples of this.
ROUNDING = 512

Stand = Callable[..., Any]
Scratch = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Peak:
    """The most bytes that were alive at once; during which operation, and for which node of the backward pass."""

    bytes: int = 0
    operation: str = ""
    node: str = ""


class LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Use as a context. `peak` is the highest since the last `reset`.

    `stands_in` replaces operations that need values, which fake tensors do not have; `scratch` says how many bytes an
    operation takes inside, beyond its results.
    """

    def __init__(self, stands_in: dict[Any, Stand], scratch: dict[Any, Scratch]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stands_in = stands_in
        self._scratch = scratch
        self._sizes: dict[int, tuple[int, Any]] = {}
        self._alive = 0
        self.peak = Peak()

    def reset(self) -> None:
        """Forgets the peak; what is alive stays counted."""
        self.peak = Peak(self._alive)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = self._stands_in.get(func, func)(*args, **kwargs)
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        extra = self._scratch[func](*args, **kwargs) if func in self._scratch else 0
        if self._alive + extra > self.peak.bytes:
            self.peak = Peak(self._alive + extra, str(func), _backward_node())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, -(-storage.nbytes() // ROUNDING) * ROUNDING
        known = self._sizes.get(key)
        if known is None:
            self._sizes[key] = (size, weakref.ref(storage, lambda _: self._drop(key)))
            self._alive += size
        elif known[0] != size:
            self._sizes[key] = (size, known[1])
            self._alive += size - known[0]

    def _drop(self, key: int) -> None:
        self._alive -= self._sizes.pop(key)[0]


def _backward_node() -> str:
    node = torch._C._current_autograd_node()
    return node.name() if node is not None else ""
