"""Tests for detector.demo.evaluation."""

from detector.demo.evaluation import GAP_RECORDS, Episode, Incident, alarms, evaluate

INTERVAL_S = 60.0
INCIDENT = Incident("web", 6000.0, 9000.0)


def episode(start: float, end: float, entity: str = "web", fired: float | None = None) -> Episode:
    return Episode(entity, start, start + INTERVAL_S if fired is None else fired, end)


def test_alarm_within_an_incident_finds_it_and_its_delay_counts_to_the_alert_not_to_the_first_sign() -> None:
    result = evaluate([INCIDENT], [episode(6600, 7000, fired=6720)], INTERVAL_S)
    assert result.findings[0].delay_s == 720.0
    assert result.found == 1
    assert result.false_alarms == ()


def test_alarm_that_was_firing_already_finds_it_and_is_told_apart() -> None:
    early = evaluate([INCIDENT], [episode(5000, 6000)], INTERVAL_S)
    assert early.findings[0].delay_s == -940.0
    assert (early.found, early.fired_before) == (1, 1)
    assert evaluate([INCIDENT], [episode(5940, 6300)], INTERVAL_S).fired_before == 0


def test_touching_the_incident_by_one_record_is_enough_and_one_record_off_is_not() -> None:
    assert evaluate([INCIDENT], [episode(9000, 9300)], INTERVAL_S).found == 1
    assert evaluate([INCIDENT], [episode(9001, 9300)], INTERVAL_S).found == 0
    assert evaluate([INCIDENT], [episode(5000, 5999)], INTERVAL_S).found == 0


def test_alarm_beside_every_incident_is_false() -> None:
    result = evaluate([INCIDENT], [episode(100, 400), episode(20000, 20100)], INTERVAL_S)
    assert result.found == 0
    assert len(result.false_alarms) == 2
    assert result.findings[0].delay_s is None


def test_alarm_of_another_entity_finds_nothing() -> None:
    result = evaluate([INCIDENT], [episode(6600, 7000, entity="db")], INTERVAL_S)
    assert (result.found, len(result.false_alarms)) == (0, 1)


def test_many_episodes_in_one_incident_find_it_once_with_the_first_ones_delay() -> None:
    result = evaluate([INCIDENT], [episode(8000, 8100), episode(6100, 6200)], INTERVAL_S)
    assert result.found == 1
    assert result.findings[0].delay_s == 160.0


def test_one_alarm_over_two_incidents_finds_both() -> None:
    later = Incident("web", 9600.0, 9900.0)
    result = evaluate([INCIDENT, later], [episode(8000, 9700)], INTERVAL_S)
    assert [finding.delay_s for finding in result.findings] == [2060.0, -1540.0]


def test_episodes_are_one_alarm_up_to_the_longest_gap_and_two_beyond_it() -> None:
    gap_s = (GAP_RECORDS + 1) * INTERVAL_S  # so many records lie strictly between
    assert len(alarms([episode(0, 100), episode(100 + gap_s, 900)], INTERVAL_S)) == 1
    assert len(alarms([episode(0, 100), episode(101 + gap_s, 900)], INTERVAL_S)) == 2
    assert len(alarms([episode(0, 100), episode(120, 900, entity="db")], INTERVAL_S)) == 2


def test_false_alarm_of_several_episodes_is_one_alarm_but_several_for_the_budget() -> None:
    result = evaluate([], [episode(0, 100), episode(200, 300), episode(5000, 5100)], INTERVAL_S)
    assert len(result.false_alarms) == 2
    assert result.false_episodes == 3


def test_blip_before_the_incident_joined_to_it_does_not_shorten_the_delay() -> None:
    result = evaluate([INCIDENT], [episode(5700, 5760), episode(6120, 7000)], INTERVAL_S)
    assert result.found == 1
    assert result.findings[0].delay_s == 180.0


def test_long_episode_that_holds_a_short_one_is_not_cut_at_its_end() -> None:
    assert len(alarms([episode(0, 5000), episode(100, 200), episode(5100, 5200)], INTERVAL_S)) == 1


def test_nothing_reported_means_everything_missed() -> None:
    result = evaluate([INCIDENT], [], INTERVAL_S)
    assert (result.found, result.false_episodes) == (0, 0)
