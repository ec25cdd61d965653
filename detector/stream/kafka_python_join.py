"""A member's place in the group, kept from the end of a join until the member polls."""

import time
from dataclasses import dataclass
from typing import Any

from detector.stream.port import ClientSettings


@dataclass(frozen=True, slots=True)
class _Joined:
    generation: Any
    assignment: bytes
    at: float


def keep_joins(coordinator: Any, settings: ClientSettings) -> None:
    """Mend what kafka-python 3.0.12 does with a join that ends between two polls: it joins once more.

    If the member leads the group, that makes everybody else join anew, who may be between two polls in turn:
    a group of two busy members was seen to take 39 rounds until both had partitions. A version without
    these parts has to be looked at anew, but does its work.
    """
    join = getattr(coordinator, "_do_join_and_sync_async", None)
    if join is None:
        return
    kept: _Joined | None = None

    async def join_unless_joined() -> bytes:
        nonlocal kept
        unused, kept = kept, None
        if (
            unused is not None
            # Once the assignment is used, the member is stable.
            and coordinator.rebalance_in_progress()
            and unused.generation == coordinator._generation
            # No heartbeat is sent before the poll, so by then the group has given it to others.
            and time.monotonic() - unused.at < settings.session_timeout_s
        ):
            return unused.assignment
        assignment: bytes = await join()
        kept = _Joined(coordinator._generation, assignment, time.monotonic())
        return assignment

    coordinator._do_join_and_sync_async = join_unless_joined
