"""Bad records of every kind, each with the reason for which it must be refused."""

import json
from typing import Any

from detector.stream.codec_json import MAX_ENTITY_LENGTH
from detector.stream.reasons import Reason

MAX_RECORD_BYTES = 10_000
"""Of an input that refuses all of these."""
TIME = 1_763_650_800
GOOD = b'{"entity":"web-17","time":%d,"features":{"cpu":0.31,"memory":null,"requests_per_s":120.5}}' % TIME


def record(**changes: Any) -> bytes:
    """Return GOOD with fields changed; None takes one out."""
    fields = {**json.loads(GOOD), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


POISON = [
    (None, Reason.EMPTY),
    (b"", Reason.EMPTY),
    (record(junk="x" * 10_000), Reason.TOO_LARGE),
    (b"   ", Reason.MALFORMED_JSON),
    (GOOD[:-1], Reason.MALFORMED_JSON),
    (GOOD[:40], Reason.MALFORMED_JSON),
    (GOOD + GOOD, Reason.MALFORMED_JSON),
    (b"\xef\xbb\xbf" + GOOD, Reason.MALFORMED_JSON),
    (b"\x00\x00\x00\x00\x01" + GOOD, Reason.MALFORMED_JSON),
    (GOOD.replace(b"web", b"\xff\xfe"), Reason.MALFORMED_JSON),
    (GOOD.replace(b"web", rb"\ud800"), Reason.MALFORMED_JSON),
    (GOOD.replace(b"web", rb"\ud800").replace(b"0.31", b"NaN"), Reason.MALFORMED_JSON),
    (json.dumps(json.loads(GOOD)).encode("utf-16"), Reason.MALFORMED_JSON),
    (GOOD.replace(b"0.31", b"nan"), Reason.MALFORMED_JSON),
    (GOOD.replace(b"0.31", b"01"), Reason.MALFORMED_JSON),
    (b'{"junk":' + b"[" * 9_000, Reason.MALFORMED_JSON),
    (b"[" * 4_000 + b"]" * 4_000, Reason.MALFORMED_JSON),
    (b'{"junk":' + b'{"a":' * 1_500 + b"1" + b"}" * 1_501, Reason.MALFORMED_JSON),
    (b"[1,2,3]", Reason.NOT_AN_OBJECT),
    (b'"text"', Reason.NOT_AN_OBJECT),
    (b"null", Reason.NOT_AN_OBJECT),
    (b"12", Reason.NOT_AN_OBJECT),
    (b"NaN", Reason.NOT_AN_OBJECT),
    (record(features={"cpu": "0.31"}), Reason.WRONG_TYPE),
    (record(features={"cpu": True}), Reason.WRONG_TYPE),
    (record(features={"cpu": [1.0]}), Reason.WRONG_TYPE),
    (record(features={"cpu": {"value": 1.0}}), Reason.WRONG_TYPE),
    (record(features=[1, 2, 3]), Reason.WRONG_TYPE),
    (record(features="1,2,3"), Reason.WRONG_TYPE),
    (record(features=None, values={"cpu": 1}), Reason.WRONG_TYPE),
    (record(features=None, values=[1, "2", 3]), Reason.WRONG_TYPE),
    (record(features=None, values=[1, False, 3]), Reason.WRONG_TYPE),
    (record(entity=True), Reason.WRONG_TYPE),
    (record(entity=["a"]), Reason.WRONG_TYPE),
    (record(time=True), Reason.WRONG_TYPE),
    (record(time=[2026]), Reason.WRONG_TYPE),
    (record(features=None), Reason.NO_FEATURES),
    (b"{}", Reason.NO_FEATURES),
    (record(features=None, values=[1, 2]), Reason.WRONG_LENGTH),
    (record(features=None, values=[1, 2, 3, 4]), Reason.WRONG_LENGTH),
    (record(features=None, values=[]), Reason.WRONG_LENGTH),
    (GOOD.replace(b"0.31", b"1e999"), Reason.NOT_FINITE),
    (GOOD.replace(b"0.31", b"-1e999"), Reason.NOT_FINITE),
    (GOOD.replace(b"0.31", b"Infinity"), Reason.NOT_FINITE),
    (GOOD.replace(b"0.31", b"-Infinity"), Reason.NOT_FINITE),
    (GOOD.replace(b"0.31", b"9" * 400), Reason.NOT_FINITE),
    (GOOD.replace(b"0.31", b"-" + b"9" * 5_000), Reason.NOT_FINITE),
    (record(features=None, values=[1, 2, 3]).replace(b"[1,", b"[Infinity,"), Reason.NOT_FINITE),
    (record(entity=None), Reason.NO_ENTITY),
    (record(entity=""), Reason.NO_ENTITY),
    (record(entity="x" * (MAX_ENTITY_LENGTH + 1)), Reason.NO_ENTITY),
    (GOOD.replace(b'"web-17"', b"NaN"), Reason.NO_ENTITY),
    (GOOD.replace(b'"web-17"', b"1e999"), Reason.NO_ENTITY),
    (GOOD.replace(b'"web-17"', b"9" * 5_000), Reason.NO_ENTITY),
    (record(time=None), Reason.NO_TIME),
    (record(time=""), Reason.NO_TIME),
    (record(time="yesterday"), Reason.NO_TIME),
    (record(time="2026-11-20"), Reason.NO_TIME),
    (record(time="2026-02-30T00:00:00Z"), Reason.NO_TIME),
    (record(time=str(TIME)), Reason.NO_TIME),
    (record(time=0), Reason.TIME_OUT_OF_RANGE),
    (record(time=-5.0), Reason.TIME_OUT_OF_RANGE),
    (record(time="1970-01-01T00:00:00Z"), Reason.TIME_OUT_OF_RANGE),
    (record(time="2200-01-01T00:00:00Z"), Reason.TIME_OUT_OF_RANGE),
    (record(time=TIME * 1_000_000), Reason.TIME_OUT_OF_RANGE),
    (record(time=10**30), Reason.TIME_OUT_OF_RANGE),
    (GOOD.replace(b"%d" % TIME, b"1e999"), Reason.TIME_OUT_OF_RANGE),
    (GOOD.replace(b"%d" % TIME, b"9" * 5_000), Reason.TIME_OUT_OF_RANGE),
]
