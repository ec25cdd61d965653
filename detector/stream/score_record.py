"""Scores as JSON records for the scores topic: a whole batch to a column of bytes at once."""

from datetime import datetime
from itertools import repeat

import msgspec
import numpy as np

from detector.batch import Batch, Scores, Status
from detector.stream.event_time import to_datetimes


class _Origin(msgspec.Struct, gc=False):
    """Which record was scored."""

    topic: str
    partition: int
    offset: int


class _ScoreRecord(msgspec.Struct, gc=False):
    """The record, keys in this order."""

    entity: str
    time: datetime
    detector: str
    role: str
    version: str
    status: str
    log_likelihood: float
    p_value: float
    anomaly_score: float
    exceeds_threshold: bool
    origin: _Origin


_encoder = msgspec.json.Encoder()


def encode_scores(batch: Batch, scores: Scores) -> list[bytes]:
    """Return one JSON object per record, in the batch's order.

    Times are RFC 3339 in UTC with a Z, with a fraction where there is one. The three numbers are null
    unless the status is ``scored``. JSON has no infinities: a ``log_likelihood`` of minus infinity,
    outside the model's support, is null too, and then ``p_value`` says how improbable it was.
    """
    texts = [status.text for status in Status]
    topics = [source.topic for source in batch.sources]
    partitions = [source.partition for source in batch.sources]
    source = batch.source.tolist()
    origins = map(
        _Origin,
        [topics[i] for i in source],
        [partitions[i] for i in source],
        batch.offset.tolist(),
    )
    records = map(
        _ScoreRecord,
        batch.entity,
        to_datetimes(batch.time),
        repeat(scores.detector),
        repeat(scores.role),
        repeat(scores.version),
        [texts[status] for status in scores.status.tolist()],
        # The encoder writes everything that is not finite as null.
        scores.log_likelihood.tolist(),
        scores.p_value.tolist(),
        scores.anomaly_score.tolist(),
        np.asarray(scores.exceeds_threshold).tolist(),
        origins,
    )
    return list(map(_encoder.encode, records))
