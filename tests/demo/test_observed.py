"""Tests for detector.demo.observed."""

import msgspec

from detector.batch import Status
from detector.demo.evaluation import Episode
from detector.demo.observed import Observed
from tests.demo.events import TOPIC, alert_values, score_values


def observed() -> Observed:
    return Observed(TOPIC, ("gmm", "hmm"))


def test_record_is_answered_once_every_detector_gave_it_a_status() -> None:
    seen = observed()
    seen.add_scores(score_values("gmm", range(10)))
    assert seen.answered == 0
    seen.add_scores(score_values("hmm", range(3), status=Status.WARMING_UP))
    seen.add_scores(score_values("hmm", range(3, 6)))
    assert seen.answered == 6
    assert seen.statuses["hmm"] == {"warming_up": 3, "scored": 3}
    assert seen.latest == {("gmm", "omi-1"): 0.5, ("hmm", "omi-1"): 0.5}


def test_score_that_comes_again_is_not_counted_again() -> None:
    seen = observed()
    seen.add_scores(score_values("gmm", range(10)) + score_values("gmm", range(5, 12)))
    assert seen.statuses["gmm"] == {"scored": 12}
    assert seen.duplicates == 5


def test_same_offset_of_another_partition_is_another_record_and_of_another_topic_none() -> None:
    seen = observed()
    seen.add_scores(score_values("gmm", range(4)) + score_values("gmm", range(4), partition=3))
    seen.add_scores(score_values("gmm", range(9), topic="other") + score_values("vae", range(9)))
    assert seen.statuses["gmm"] == {"scored": 8}


def test_episode_lasts_from_its_first_to_its_last_suspicious_record() -> None:
    seen = observed()
    firing, resolved = alert_values(1000.0, 4000.0)
    seen.add_alerts([firing])
    assert seen.firing() == {("gmm", "omi-1")}
    assert seen.episodes("gmm", now=2000.0) == [Episode("omi-1", 1000.0, 1300.0, 2000.0)]
    seen.add_alerts([resolved])
    assert seen.firing() == set()
    assert seen.episodes("gmm", now=9000.0) == [Episode("omi-1", 1000.0, 1300.0, 4000.0)]
    assert seen.episodes("hmm", now=9000.0) == []


def test_news_is_no_end_and_what_fires_again_is_not_over() -> None:
    seen = observed()
    firing, resolved = alert_values(1000.0, 4000.0)
    fields = msgspec.json.decode(firing)
    seen.add_alerts([firing, msgspec.json.encode(fields | {"state": "updated"})])
    assert seen.firing() == {("gmm", "omi-1")}
    seen.add_alerts([resolved, msgspec.json.encode(fields | {"reopened": 1})])
    assert seen.firing() == {("gmm", "omi-1")}
    assert len(seen.alerts) == 1


def test_events_that_come_again_change_nothing() -> None:
    seen = observed()
    values = alert_values(1000.0, 4000.0)
    seen.add_alerts([*values, *values])
    assert len(seen.alerts) == 1
    assert [fires for _, fires in seen.recent] == [True, False]
    assert seen.firing() == set()
