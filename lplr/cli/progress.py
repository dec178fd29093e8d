"""What commands say while they work, and the notice that kernels are being compiled.

Without that notice the first run would look stuck.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lplr.progress.display import ProgressLine as Progress

__all__ = ["Progress", "watch_compilation"]


@contextmanager
def watch_compilation(progress: Progress) -> Iterator[None]:
    """Say once that Numba compiles, as soon as it really does and not for kernels in its cache.

    Numba announces each compilation before it starts, and nothing where the cache has the
    kernel. So no guess about the state of the cache is needed, whatever made it stale.
    """
    from numba.core import event

    class Listener(event.Listener):
        said = False

        def on_start(self, event: Any) -> None:
            if not self.said:
                self.said = True
                progress.say("compiling kernels, once, about 20 s; later runs load them")

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
