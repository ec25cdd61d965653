"""Tests for detector.demo.summary."""

import io
from dataclasses import replace

from rich.console import Console

from detector.demo.evaluation import Incident, evaluate
from detector.demo.observed import Observed
from detector.demo.scrape import Scrape
from detector.demo.summary import Outcome, accounts, best_explained, explanation, print_summary
from tests.demo.events import TOPIC, alert_values, score_values

INCIDENTS = (Incident("omi-1", 1000.0, 4000.0), Incident("omi-1", 90_000.0, 93_000.0))


def outcome(scored_by_hmm: range = range(20)) -> Outcome:
    observed = Observed(TOPIC, ("gmm", "hmm"))
    observed.add_scores(score_values("gmm", range(20)) + score_values("hmm", scored_by_hmm))
    observed.add_alerts(alert_values(1600.0, 3000.0))
    observed.add_alerts(alert_values(40_000.0, 41_000.0, anomaly_score=5.0))
    observed.add_alerts(alert_values(90_000.0, 93_000.0, detector="hmm"))
    episodes = {name: observed.episodes(name, 1e5) for name in ("gmm", "hmm")}
    return Outcome(
        sent=20,
        total=20,
        observed=observed,
        evaluations={name: evaluate(INCIDENTS, found, 300.0) for name, found in episodes.items()},
        incidents=INCIDENTS,
        firing_share={"gmm": 0.05, "hmm": 0.0},
        server_days=4.0,
        budget_per_server_day=0.5,
        scrape=Scrape(p_value_threshold={"gmm": 0.0125}),
        speed_up=60_000.0,
        streamed_s=2.0,
    )


def text_of(result: Outcome) -> str:
    written = io.StringIO()
    print_summary(Console(width=140, file=written), result)
    return written.getvalue()


def test_every_incident_is_told_per_detector_with_its_delay() -> None:
    lines = [line for line in text_of(outcome()).splitlines() if "omi-1 " in line and "1970" in line]
    assert "after 15 min" in lines[0]
    assert "missed" in lines[0]
    assert "missed" in lines[1]
    assert "after 5 min" in lines[1]


def test_budget_is_compared_with_the_false_episodes_per_server_and_day() -> None:
    line = next(line for line in text_of(outcome()).splitlines() if "1 of 2" in line and "gmm" in line)
    assert line.split() == ["gmm", "1", "of", "2", "0", "1", "0.50", "0.25", "5.0%", "0.013"]


def test_everything_sent_and_answered_by_all_is_complete() -> None:
    assert outcome().complete
    assert accounts(outcome())[1:] == [
        f"{n}: 20 records sent, 20 scored: all of them" for n in ("gmm", "hmm")
    ]


def test_one_record_without_an_answer_is_not_complete_and_is_said_so() -> None:
    result = outcome(range(19))
    assert not result.complete
    assert accounts(result)[2] == "hmm: 20 records sent, 19 scored: NOT ALL OF THEM"


def test_what_was_not_sent_and_what_came_twice_is_told() -> None:
    result = replace(outcome(), total=50)
    result.observed.add_scores(score_values("gmm", range(3)))
    assert result.complete
    assert "30 of 50 records were not sent in the time given" in accounts(result)
    assert "3 scores came twice: delivery is at least once" in accounts(result)


def test_alert_explained_is_one_that_found_an_incident_even_if_a_false_one_is_more_improbable() -> None:
    alert = best_explained(outcome())
    assert alert is not None
    assert alert.firing.anomaly_score == 2.0
    lines = explanation(alert)
    assert "normally once in 23 days" in lines[1]
    assert lines[2] == "  f07  0.970, expected 0.310 ± 0.060"
    assert lines[3] == "  f02  missing, expected 0.500 ± 0.100"
    assert lines[4] == "  in component 1, with probability 0.9"


def test_without_any_alert_there_is_a_summary_all_the_same() -> None:
    quiet = replace(outcome(), observed=Observed(TOPIC, ("gmm", "hmm")), sent=0, total=0)
    assert best_explained(quiet) is None
    assert "0 records sent, none answered: all of them" in text_of(quiet)


def test_incident_that_began_under_a_firing_alert_is_not_told_as_found_at_once() -> None:
    result = outcome()
    result.observed.add_alerts(alert_values(85_000.0, 91_000.0))
    episodes = result.observed.episodes("gmm", 1e5)
    evaluations = {**result.evaluations, "gmm": evaluate(INCIDENTS, episodes, 300.0)}
    text = text_of(replace(result, evaluations=evaluations))
    assert "found, fired 78 min before" in text
    assert evaluations["gmm"].fired_before == 1
