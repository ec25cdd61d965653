"""How far every partition is delivered: what is committed ends before the first event that somebody lacks."""

from collections.abc import Collection, Iterable

from detector.batch import Source


class Progress:
    """Which receivers still lack which event."""

    def __init__(self) -> None:
        self._lacking: dict[Source, dict[int, set[str]]] = {}
        """Per source, in offset order, who lacks the event at that offset; an empty set is done."""
        self._moved: set[Source] = set()

    def begin(self, source: Source, offset: int, lacking: Iterable[str]) -> None:
        """Note an event, in offset order, and what has to be ``done`` with it; nothing: it is done."""
        self._lacking.setdefault(source, {})[offset] = set(lacking)
        self._moved.add(source)

    def done(self, source: Source, offset: int, what: str) -> None:
        """Note that one part is done; unknown ones, of partitions that went, do not matter."""
        lacking = self._lacking.get(source, {}).get(offset)
        if lacking is not None:
            lacking.discard(what)
            self._moved.add(source)

    def next_offsets(self) -> dict[Source, int]:
        """Return, once, the offsets that may be committed: each after the last of an unbroken row of done."""
        committable: dict[Source, int] = {}
        for source in self._moved:
            events = self._lacking[source]
            finished = []
            for offset, lacking in events.items():
                if lacking:
                    break
                finished.append(offset)
            for offset in finished:
                del events[offset]
            if finished:
                committable[source] = finished[-1] + 1
        self._moved.clear()
        return committable

    def held_up(self) -> dict[Source, int]:
        """Return the offset of the first event that somebody lacks, of each source that has one."""
        first = {
            source: next((offset for offset, lacking in events.items() if lacking), None)
            for source, events in self._lacking.items()
        }
        return {source: offset for source, offset in first.items() if offset is not None}

    def forget(self, sources: Collection[Source]) -> None:
        """Drop what is known of these."""
        for source in sources:
            self._lacking.pop(source, None)
            self._moved.discard(source)

    def forget_everything(self) -> None:
        """Drop it all: records come again from the committed offsets."""
        self._lacking.clear()
        self._moved.clear()
