"""Raw records for tests, without a client: values, keys and times as a poll would return them."""

from collections.abc import Sequence

import numpy as np

from detector.batch import FloatArray, Source
from detector.stream.port import Header, RawRecords

NOW_S = 1_800_000_000.0


class ListEnvelope:
    def __init__(
        self, keys: list[bytes | None], headers: list[list[Header]], timestamp_s: float = NOW_S
    ) -> None:
        self._timestamp_s = timestamp_s
        self._keys = keys
        self._headers = headers

    def key(self, i: int) -> bytes | None:
        return self._keys[i]

    def keys(self) -> list[bytes | None]:
        return self._keys

    def headers(self, i: int) -> list[Header]:
        return self._headers[i]

    def timestamps_s(self) -> FloatArray:
        return np.full(len(self._keys), self._timestamp_s)


def raw_records(
    values: Sequence[bytes | None],
    *,
    sources: Sequence[Source] = (Source("telemetry", 0),),
    source: Sequence[int] | None = None,
    offset: Sequence[int] | None = None,
    keys: Sequence[bytes | None] | None = None,
    timestamp_s: float = NOW_S,
) -> RawRecords:
    n = len(values)
    return RawRecords(
        sources=tuple(sources),
        source=np.array(source if source is not None else [0] * n, dtype=np.int64),
        offset=np.array(offset if offset is not None else range(n), dtype=np.int64),
        value=list(values),
        envelope=ListEnvelope(
            list(keys) if keys is not None else [None] * n, [[] for _ in range(n)], timestamp_s
        ),
    )
