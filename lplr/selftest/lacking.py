"""A writer that lacks something, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lplr.exceptions import LplrError
from lplr.selftest.children import run
from lplr.selftest.writings import Place

__all__ = ["MUST_SUCCEED", "tried"]

MUST_SUCCEED = "succeed"
_TYPED = "a typed error: "


def tried(place: Place, before: Callable[[], Any], must: str = "", again: bool = True) -> str:
    """Why a writer that lacks something has not done what it should; ``before`` takes it away.

    It ends in the new, or in a typed error with the old or the new, and leaves nothing else. Then,
    with what it lacked, the same call ends as if nothing had been.
    """

    def work() -> str:
        before()
        try:
            place.write()
        except (LplrError, MemoryError) as error:
            return f"{_TYPED}{type(error).__name__}: {error}"
        return ""

    ended = run(work)
    if ended.code != 0:
        return f"ends with the code {ended.code}: {ended.value}"
    if ended.value and must == MUST_SUCCEED:
        return f"fails with {ended.value}"
    left = [name for name in place.left() if not name.endswith(".job")]
    failure = f"leaves {left[0]}" if left else place.broken()
    if not failure and not ended.value and place.seen() != place.new:
        failure = "reports no error, and the new one is not there"
    return failure or (place.unfinished() if again else "")
