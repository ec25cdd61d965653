"""Scores as JSON records for the scores topic: a whole batch to a column of bytes at once."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any

import msgspec

from detector.batch import Batch, OperatorRule, Scores, Status
from detector.stream.event_time import to_datetimes

_encode = msgspec.json.Encoder().encode


def encode_scores(batch: Batch, scores: Scores) -> list[bytes]:
    """Return one JSON object per record, in the batch's order.

    Times are RFC 3339 in UTC with a Z, with a fraction where there is one. The three numbers are null
    unless the status is ``scored``. JSON has no infinities: a ``log_likelihood`` of minus infinity,
    outside the model's support, is null too, and then ``p_value`` says how improbable it was. ``rule`` is
    there only where one of the operator's rules decided over the record.
    """
    # Most of a record is the same in many of them, so only what differs is written for each. The pieces are
    # laid out in the order of the keys.
    before_status = _object(detector=scores.detector, role=scores.role, version=scores.version)[1:-1]
    status = [
        b"," + before_status + b"," + _object(status=status.text)[1:-1] + b',"log_likelihood":'
        for status in Status
    ]
    source = [_object(topic=source.topic, partition=source.partition)[:-1] for source in batch.sources]
    rules = [b""] if scores.rule is None else [_rule(rule) for rule in OperatorRule]
    origin = [
        b',"exceeds_threshold":' + exceeds + rule + b',"origin":' + topic + b',"offset":'
        for topic in source
        for exceeds in (b"false", b"true")
        for rule in rules
    ]
    which = 2 * batch.source + scores.exceeds_threshold
    if scores.rule is not None:
        which = len(rules) * which + scores.rule
    pieces = zip(
        repeat(b'{"entity":'),
        map(_encode, batch.entity),
        repeat(b',"time":'),
        _scalars(to_datetimes(batch.time)),
        map(status.__getitem__, scores.status.tolist()),
        # The encoder writes everything that is not finite as null.
        _scalars(scores.log_likelihood.tolist()),
        repeat(b',"p_value":'),
        _scalars(scores.p_value.tolist()),
        repeat(b',"anomaly_score":'),
        _scalars(scores.anomaly_score.tolist()),
        map(origin.__getitem__, which.tolist()),
        _scalars(batch.offset.tolist()),
        repeat(b"}}"),
    )
    return list(map(b"".join, pieces))


def _rule(rule: OperatorRule) -> bytes:
    return b"" if rule is OperatorRule.NONE else b"," + _object(rule=rule.text)[1:-1]


def _object(**fields: str | int) -> bytes:
    return _encode(fields)


def _scalars(column: list[Any]) -> Iterable[bytes]:
    """Return the JSON of each value; of numbers and times, whose JSON holds no comma."""
    return _encode(column)[1:-1].split(b",")
