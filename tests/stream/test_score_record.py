"""Tests for detector.stream.score_record."""

import json
from dataclasses import replace
from datetime import datetime

import numpy as np

from detector.batch import Batch, OperatorRule, Scores, Source, Status
from detector.stream.score_record import encode_scores

BATCH = Batch(
    "telegraf",
    ("cpu",),
    (Source("telemetry", 3), Source("more", 0)),
    np.array([0, 1, 0, 0]),
    np.array([9172, 4, 9173, 9174]),
    ["web-17", 'quo"te\n', "ü", "late"],
    np.array([1795186800.0, 1795186800.25, 1795186801.123456, 1795186801.0]),
    np.zeros((4, 1)),
)
SCORES = Scores(
    "hosts",
    "champion",
    "20261120T140000Z-3f9a",
    np.array([Status.SCORED, Status.WARMING_UP, Status.SCORED, Status.LATE], dtype=np.int8),
    np.array([-4.2, np.nan, -np.inf, np.nan]),
    np.array([0.41, np.nan, 1e-300, np.nan]),
    np.array([0.1, np.nan, 100.0, np.nan]),
    np.array([False, False, True, False]),
    np.array([False, False, True, False]),
)


def test_golden_record() -> None:
    assert encode_scores(BATCH, SCORES)[0] == (
        b'{"entity":"web-17","time":"2026-11-20T15:00:00Z","detector":"hosts","role":"champion",'
        b'"version":"20261120T140000Z-3f9a","status":"scored","log_likelihood":-4.2,"p_value":0.41,'
        b'"anomaly_score":0.1,"exceeds_threshold":false,'
        b'"origin":{"topic":"telemetry","partition":3,"offset":9172}}'
    )


def test_every_record_is_strict_json_and_says_what_the_columns_say() -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    found = [json.loads(value, parse_constant=refuse) for value in encode_scores(BATCH, SCORES)]
    assert [record["entity"] for record in found] == BATCH.entity
    assert [record["status"] for record in found] == ["scored", "warming_up", "scored", "late"]
    assert [record["p_value"] for record in found] == [0.41, None, 1e-300, None]
    assert [record["log_likelihood"] for record in found] == [-4.2, None, None, None]
    assert [record["exceeds_threshold"] for record in found] == [False, False, True, False]
    assert [datetime.fromisoformat(record["time"]).timestamp() for record in found] == BATCH.time.tolist()
    assert all(record["time"].endswith("Z") for record in found)
    assert [tuple(record["origin"].values()) for record in found] == [
        ("telemetry", 3, 9172),
        ("more", 0, 4),
        ("telemetry", 3, 9173),
        ("telemetry", 3, 9174),
    ]


def test_the_rule_that_decided_is_told_where_there_is_one() -> None:
    rule = np.array([OperatorRule.NONE, OperatorRule.DEPLOY, OperatorRule.OUT_OF_RANGE, 0], dtype=np.int8)
    found = [json.loads(value) for value in encode_scores(BATCH, replace(SCORES, rule=rule))]
    assert [record.pop("rule", None) for record in found] == [None, "deploy", "out_of_range", None]
    assert found == [json.loads(value) for value in encode_scores(BATCH, SCORES)]
