"""Tests for detector.delivery.episodes: whom an event is news for."""

from dataclasses import replace

import pytest

from detector.alerting.event import AlertEvent, FeatureReason
from detector.batch import Source
from detector.delivery.episodes import Episodes, Reading
from detector.delivery.mailbox import Letter
from detector.delivery.notification import fingerprint, labels_of
from tests.delivery.events import ALERTS, challenger, event, incident, read, read_incident

NOW = 1.8e9
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


def episodes() -> Episodes:
    return Episodes(
        15 * MINUTE, expire_after_s=DAY, deliver_within_s=HOUR, generator_url="https://x/{entity}"
    )


class Topic:
    """Events at ever higher offsets."""

    def __init__(self, episodes: Episodes) -> None:
        self.episodes = episodes
        self.offset = 0

    def take(
        self, event: AlertEvent, now_s: float, written_s: float | None = None, **more: str
    ) -> tuple[Reading, list[Letter]]:
        self.offset += 1
        return self.again(event, now_s, self.offset, written_s, seen=False, **more)

    def again(
        self,
        event: AlertEvent,
        now_s: float,
        offset: int,
        written_s: float | None = None,
        *,
        seen: bool = False,
        **more: str,
    ) -> tuple[Reading, list[Letter]]:
        record, alert = read(event, offset, more=more)
        written_s = now_s if written_s is None else written_s
        return self.episodes.take(record, alert, written_s, now_s, seen=seen)

    def restore(
        self, event: AlertEvent, written_s: float, offset: int, *, delivered: bool = True, **more: str
    ) -> None:
        self.episodes.restore(*read(event, offset, more=more), written_s, delivered=delivered)


def told(taken: tuple[Reading, list[Letter]]) -> list[str]:
    return [letter.notification.status for letter in taken[1]]


def test_an_episode_is_told_when_it_starts_and_when_it_ends() -> None:
    topic = Topic(episodes())
    reading, [letter] = topic.take(event("firing", NOW), NOW + 1)
    assert reading is Reading.NOTIFIED
    assert (letter.notification.status, letter.notification.ends_at_s) == ("firing", None)
    assert letter.notification.id == event("firing", NOW).id
    assert letter.notification.generator_url == "https://x/web-17"
    assert topic.episodes.open_episodes() == 1
    _, [end] = topic.take(event("resolved", NOW + 60, start_s=NOW), NOW + 61)
    assert (end.notification.status, end.notification.ends_at_s) == ("resolved", NOW + 60)
    assert end.notification.fingerprint == letter.notification.fingerprint
    assert topic.episodes.open_episodes() == 0


def test_the_end_has_the_labels_of_the_beginning() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW), NOW)
    moved = replace(event("resolved", NOW + 60), labels={"team": "other"})
    _, [end] = topic.take(moved, NOW + 60)
    assert end.notification.labels["team"] == "shop"


def test_an_old_episode_wakes_nobody_at_its_start_nor_at_its_end() -> None:
    topic = Topic(episodes())
    assert topic.take(event("firing", NOW - 6 * HOUR), NOW) == (Reading.OLD, [])
    assert topic.take(event("resolved", NOW - 5 * HOUR), NOW) == (Reading.OLD, [])


def test_an_old_start_whose_end_is_new_wakes_nobody() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW - HOUR), NOW)
    assert topic.take(event("resolved", NOW - 1), NOW) == (Reading.OLD, [])


def test_the_end_of_what_was_told_is_told_however_late() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW), NOW)
    assert told(topic.take(event("resolved", NOW + 60), NOW + 6 * HOUR)) == ["resolved"]


@pytest.mark.parametrize("delivered", [False, True])
def test_what_still_fires_is_told_though_the_deliverer_was_away(delivered: bool) -> None:
    topic, began = Topic(episodes()), NOW - 3 * HOUR
    topic.restore(event("firing", began), began, offset=1, delivered=delivered)
    assert told(topic.again(event("firing", began), NOW, 1, began)) == ["firing"]


@pytest.mark.parametrize("delivered", [False, True])
def test_what_was_over_before_the_deliverer_came_back_wakes_nobody(delivered: bool) -> None:
    topic = Topic(episodes())
    firing, resolved = event("firing", NOW - 2 * HOUR), event("resolved", NOW - HOUR)
    topic.restore(firing, NOW - 2 * HOUR, offset=1, delivered=delivered)
    topic.restore(resolved, NOW - HOUR, offset=2, delivered=delivered)
    assert topic.again(firing, NOW, 1, NOW - 2 * HOUR) == (Reading.OLD, [])
    assert topic.again(resolved, NOW, 2, NOW - HOUR) == (Reading.OLD, [])


def test_what_expired_before_the_deliverer_came_back_wakes_nobody() -> None:
    topic, began = Topic(episodes()), NOW - 2 * DAY
    topic.restore(event("firing", began), began, offset=1, delivered=False)
    assert topic.again(event("firing", began), NOW, 1, began) == (Reading.OLD, [])
    assert topic.episodes.expire([ALERTS], NOW) == []


def test_what_a_receiver_lacks_is_told_from_its_beginning_to_its_end_after_a_restart() -> None:
    topic, began = Topic(episodes()), NOW - 30 * MINUTE
    firing, resolved = event("firing", began), event("resolved", NOW - 20 * MINUTE)
    topic.restore(firing, began, offset=1, delivered=False)
    topic.restore(resolved, NOW - 20 * MINUTE, offset=2, delivered=False)
    assert told(topic.again(firing, NOW, 1, began, seen=True)) == ["firing"]
    assert told(topic.again(resolved, NOW, 2, NOW - 20 * MINUTE, seen=True)) == ["resolved"]


def test_what_nobody_read_before_it_was_over_and_old_wakes_nobody() -> None:
    topic, began = Topic(episodes()), NOW - 30 * MINUTE
    assert topic.again(event("firing", began), NOW, 1, began) == (Reading.OLD, [])
    assert topic.again(event("resolved", NOW - 20 * MINUTE), NOW, 2, NOW - 20 * MINUTE) == (Reading.OLD, [])


def test_too_late_to_wake_anybody_the_end_is_told_to_those_who_heard_of_the_beginning() -> None:
    topic, began = Topic(episodes()), NOW - 2 * HOUR
    assert topic.again(event("firing", began), NOW, 1, began, seen=True) == (Reading.OLD, [])
    assert told(topic.again(event("resolved", NOW - MINUTE), NOW, 2, seen=True)) == ["resolved"]


def test_the_end_that_a_receiver_lacks_is_told_after_a_restart() -> None:
    topic, began = Topic(episodes()), NOW - 3 * HOUR
    topic.restore(event("firing", began), began, offset=1)
    resolved = event("resolved", NOW - 2 * HOUR)
    topic.restore(resolved, NOW - 2 * HOUR, offset=2, delivered=False)
    assert told(topic.again(resolved, NOW, 2, NOW - 2 * HOUR)) == ["resolved"]


def test_a_severity_that_a_receiver_lacks_is_told_after_a_restart() -> None:
    topic = Topic(episodes())
    topic.restore(event("firing", NOW - MINUTE), NOW - MINUTE, offset=1)
    worse = replace(event("firing", NOW - MINUTE), id="update-1", time=NOW, severity="critical")
    topic.restore(worse, NOW, offset=2, delivered=False, state="updated")
    reading, letters = topic.again(worse, NOW, 2, state="updated")
    assert reading is Reading.NOTIFIED
    assert [(x.notification.status, x.notification.labels["severity"]) for x in letters] == [
        ("resolved", "warning"),
        ("firing", "critical"),
    ]
    assert not letters[1].notification.quiet


def test_of_what_is_still_to_be_read_nothing_stands_before() -> None:
    topic = Topic(episodes())
    topic.restore(event("firing", NOW - HOUR), NOW - HOUR, offset=1)
    topic.restore(event("resolved", NOW - 59 * MINUTE), NOW - 59 * MINUTE, offset=2)
    topic.restore(event("firing", NOW - HOUR, "db-1"), NOW - HOUR, offset=3)
    topic.restore(event("resolved", NOW, "db-1"), NOW, offset=4, delivered=False)
    # The next alert of the same entity.
    topic.restore(event("firing", NOW, episode=9), NOW, offset=5, delivered=False)
    assert list(topic.episodes.standing(NOW)) == []
    # Once they are read they say nothing about later ones.
    topic.episodes.expire([ALERTS], NOW)
    assert [x.status for _, x in topic.episodes.standing(NOW)] == ["resolved", "firing"]


@pytest.mark.parametrize("delivered", [False, True])
def test_history_that_a_scorer_catches_up_with_wakes_nobody_after_a_restart_either(delivered: bool) -> None:
    topic = Topic(episodes())
    firing = event("firing", NOW - 6 * HOUR)
    topic.restore(firing, NOW - MINUTE, offset=1, delivered=delivered)
    assert list(topic.episodes.standing(NOW)) == []
    assert topic.again(firing, NOW, 1, NOW - MINUTE, seen=True) == (Reading.OLD, [])
    assert topic.take(event("resolved", NOW - 5 * HOUR), NOW) == (Reading.OLD, [])


def test_after_a_restart_what_fires_stands_and_its_end_is_told_once() -> None:
    topic = Topic(episodes())
    topic.restore(event("firing", NOW - HOUR), NOW - HOUR, offset=1)
    [(source, standing)] = topic.episodes.standing(NOW)
    assert (source, standing.status) == (ALERTS, "firing")
    topic.offset = 1
    assert told(topic.take(event("resolved", NOW), NOW)) == ["resolved"]


def test_what_is_over_since_shortly_stands_as_over() -> None:
    topic = Topic(episodes())
    topic.restore(event("firing", NOW - HOUR), NOW - HOUR, offset=1)
    topic.restore(event("resolved", NOW - MINUTE), NOW - MINUTE, offset=2)
    assert [standing.status for _, standing in topic.episodes.standing(NOW)] == ["resolved"]


def test_a_repeated_start_opens_nothing_again_after_a_restart_either() -> None:
    topic = Topic(episodes())
    firing = event("firing", NOW - HOUR)
    topic.restore(firing, NOW - HOUR, offset=1)
    topic.restore(event("resolved", NOW - MINUTE), NOW - MINUTE, offset=2)
    topic.restore(firing, NOW - 1, offset=3)
    assert [standing.status for _, standing in topic.episodes.standing(NOW)] == ["resolved"]


def test_an_end_whose_beginning_is_too_long_ago_to_be_known_is_told() -> None:
    assert told(Topic(episodes()).take(event("resolved", NOW), NOW)) == ["resolved"]


def test_a_repeated_event_is_told_once_and_the_same_place_read_again_is_no_repetition() -> None:
    topic = Topic(episodes())
    firing = event("firing", NOW)
    assert told(topic.take(firing, NOW)) == ["firing"]
    assert told(topic.again(firing, NOW, topic.offset)) == ["firing"]
    assert topic.take(firing, NOW) == (Reading.REPEATED, [])


def test_a_challenger_wakes_nobody() -> None:
    topic = Topic(episodes())
    assert topic.take(challenger(event("firing", NOW)), NOW) == (Reading.SHADOW, [])
    assert topic.episodes.open_episodes() == 0


def test_silence_ends_an_episode_once() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW), NOW)
    assert topic.episodes.expire([ALERTS], NOW + DAY - 1) == []
    [end] = topic.episodes.expire([ALERTS], NOW + DAY)
    assert (end.notification.status, end.notification.ends_at_s) == ("resolved", NOW + DAY)
    assert "no news for 1 day" in end.notification.annotations["summary"]
    assert topic.episodes.expire([ALERTS], NOW + DAY) == []
    # The scorer was only slow.
    assert topic.take(event("resolved", NOW + DAY + 60), NOW + DAY + 60) == (Reading.EXPIRED, [])


def test_what_goes_on_after_all_may_expire_again_under_an_id_of_its_own() -> None:
    topic = Topic(episodes())
    firing = event("firing", NOW)
    topic.take(firing, NOW)
    [first] = topic.episodes.expire([ALERTS], NOW + DAY)
    goes_on = replace(firing, id="keep-alive-1", time=NOW + DAY)
    assert told(topic.take(goes_on, NOW + DAY + 60, state="updated")) == ["firing"]
    [second] = topic.episodes.expire([ALERTS], NOW + 3 * DAY)
    assert second.notification.status == "resolved"
    assert second.notification.id != first.notification.id
    # A successor says the same in the same words.
    again = episodes()
    again.restore(*read(goes_on, 2, more={"state": "updated"}), NOW + DAY + 60)
    assert [x.notification.id for x in again.expire([ALERTS], NOW + 3 * DAY)] == [second.notification.id]


def test_the_end_of_one_of_two_alerts_with_the_same_labels_is_told_with_the_others() -> None:
    topic, moved = Topic(episodes()), Source("alerts", 1)
    topic.take(event("firing", NOW), NOW)
    # On another partition the entity has a new alert; nothing more is heard of the old one.
    topic.episodes.take(*read(event("firing", NOW + HOUR, episode=5), 0, moved), NOW + HOUR, NOW + HOUR)
    assert topic.episodes.expire([ALERTS, moved], NOW + DAY) == []
    assert topic.episodes.open_episodes() == 1
    assert [standing.status for _, standing in topic.episodes.standing(NOW + DAY)] == ["firing"]
    over = event("resolved", NOW + DAY, start_s=NOW + HOUR, episode=5)
    read_again = read(over, 1, moved)
    assert told(topic.episodes.take(*read_again, NOW + DAY, NOW + DAY)) == ["resolved"]


def test_of_two_alerts_with_the_same_labels_the_second_goes_on_when_the_first_is_over_or_becomes_worse() -> (
    None
):
    topic = Topic(episodes())
    for episode in (0, 5):
        topic.take(event("firing", NOW, episode=episode), NOW)
    over = event("resolved", NOW + 60, start_s=NOW)
    assert topic.take(over, NOW + 60) == (Reading.REFRESHED, [])
    topic.take(event("firing", NOW + 90, episode=7), NOW + 90)
    worse = replace(event("firing", NOW, episode=5), id="u", time=NOW + 99, severity="critical")
    _, [letter] = topic.take(worse, NOW + 99, state="updated")
    assert (letter.notification.status, letter.notification.labels["severity"]) == ("firing", "critical")
    assert told(topic.take(event("resolved", NOW + 120, episode=7), NOW + 120)) == ["resolved"]


def test_an_event_may_say_itself_when_it_expires() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW), NOW, expires_at="2027-01-15T08:05:00Z")
    assert topic.episodes.expire([ALERTS], NOW + 299) == []
    assert len(topic.episodes.expire([ALERTS], NOW + 300)) == 1


def test_news_keeps_an_episode_alive_and_wakes_nobody() -> None:
    topic = Topic(episodes())
    firing = event("firing", NOW)
    topic.take(firing, NOW, expires_at="2027-01-15T08:05:00Z")
    keep_alive = replace(firing, id="keep-alive-1", time=NOW + 299)
    reading, [letter] = topic.take(keep_alive, NOW + 299, state="updated", expires_at="2027-01-15T08:10:00Z")
    assert reading is Reading.REFRESHED
    assert letter.notification.quiet
    assert topic.episodes.expire([ALERTS], NOW + 599) == []
    assert len(topic.episodes.expire([ALERTS], NOW + 600)) == 1


def test_a_cause_that_moves_is_in_the_text_and_wakes_nobody() -> None:
    topic = Topic(episodes())
    firing = event("firing", NOW)
    topic.take(firing, NOW)
    reasons = (FeatureReason("memory", 9.0, 1.0, 0.5, 30.0),)
    moved = replace(
        firing, id="moved", transition="updated", updated_because="feature", reasons=reasons, time=NOW + 60
    )
    reading, [letter] = topic.take(moved, NOW + 60)
    assert (reading, letter.notification.quiet) == (Reading.REFRESHED, True)
    assert letter.notification.annotations["summary"] == "web-17: memory 9, expected 1 ± 0.5 (30.0 nats)"


def test_records_that_lag_behind_the_clock_expire_no_sooner() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW - 600), NOW, expires_at="2027-01-15T07:55:00Z")
    assert topic.episodes.expire([ALERTS], NOW + 299) == []
    assert len(topic.episodes.expire([ALERTS], NOW + 300)) == 1


def test_what_fires_again_is_told_again_under_the_same_labels() -> None:
    topic = Topic(episodes())
    firing = replace(event("firing", NOW), labels={"team": "shop"})
    _, [first] = topic.take(firing, NOW)
    topic.take(event("resolved", NOW + 60), NOW + 60)
    again = replace(firing, id="again", time=NOW + 120, reopened=1, labels={"team": "other"})
    reading, [letter] = topic.take(again, NOW + 120)
    assert reading is Reading.NOTIFIED
    assert (letter.notification.status, letter.notification.quiet) == ("firing", False)
    assert letter.notification.fingerprint == first.notification.fingerprint
    assert "resolved once before" in letter.notification.annotations["description"]
    assert told(topic.take(event("resolved", NOW + 180), NOW + 180)) == ["resolved"]


def test_an_alert_says_what_to_type_to_hear_more() -> None:
    firing = event("firing", NOW)
    for alert_id, typed in ((firing.alert_id, firing.alert_id), ("$(reboot)", "'$(reboot)'")):
        _, [letter] = Topic(episodes()).take(replace(firing, alert_id=alert_id), NOW)
        assert letter.notification.annotations["explain"] == f"detector explain CONFIG {typed}"


def test_what_counts_as_normal_now_is_not_said_to_be_as_usual() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW), NOW)
    released = replace(event("resolved", NOW + 7200, start_s=NOW), resolved_because="new_normal")
    _, [end] = topic.take(released, NOW + 7200)
    assert end.notification.annotations["summary"] == (
        "web-17: still unusual after 2 hours, taken to be normal from now on"
    )


def test_news_of_an_old_episode_that_goes_on_is_told() -> None:
    topic = Topic(episodes())
    firing = event("firing", NOW - 6 * HOUR)
    topic.take(firing, NOW)
    _, [letter] = topic.take(replace(firing, id="keep-alive-9", time=NOW), NOW, state="updated")
    assert (letter.notification.status, letter.notification.quiet) == ("firing", False)
    assert letter.notification.starts_at_s == NOW - 6 * HOUR


def test_another_severity_is_another_alert() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW), NOW)
    worse = replace(event("firing", NOW), id="update-1", time=NOW + 60, severity="critical")
    reading, letters = topic.take(worse, NOW + 60, state="updated")
    assert reading is Reading.NOTIFIED
    assert [(x.notification.status, x.notification.labels["severity"]) for x in letters] == [
        ("resolved", "warning"),
        ("firing", "critical"),
    ]
    _, [end] = topic.take(replace(event("resolved", NOW + 120), severity="critical"), NOW + 120)
    assert end.notification.labels["severity"] == "critical"


def test_members_of_an_incident_wake_nobody_and_the_incident_does_once() -> None:
    topic = Topic(episodes())
    for name in ("web-1", "web-2"):
        member = replace(event("firing", NOW, name), incident_id="incident-0")
        assert topic.take(member, NOW) == (Reading.GROUPED, [])
    begun = read_incident(incident("firing", NOW), 100)
    reading, [letter] = topic.episodes.take(*begun, NOW, NOW)
    assert reading is Reading.NOTIFIED
    assert letter.notification.labels["alertname"] == "DetectorIncident"
    joined = read_incident(incident("updated", NOW + 60, entities=["a"] * 9, start_s=NOW), 101)
    reading, [letter] = topic.episodes.take(*joined, NOW + 60, NOW + 60)
    assert (reading, letter.notification.quiet) == (Reading.REFRESHED, True)
    over = replace(event("resolved", NOW + 90, "web-1"), incident_id="incident-0")
    assert topic.take(over, NOW + 90) == (Reading.GROUPED, [])
    end = read_incident(incident("resolved", NOW + 90, start_s=NOW), 102)
    reading, [letter] = topic.episodes.take(*end, NOW + 90, NOW + 90)
    assert (reading, letter.notification.status) == (Reading.NOTIFIED, "resolved")
    assert letter.notification.fingerprint == fingerprint(labels_of(begun[1]))


def test_a_member_that_outlasts_its_incident_is_told_of_to_its_end() -> None:
    topic = Topic(episodes())
    member = replace(event("firing", NOW), incident_id="incident-0")
    topic.take(member, NOW)
    topic.episodes.take(*read_incident(incident("firing", NOW), 100), NOW, NOW)
    goes_on = replace(member, id="u-1", time=NOW + 60, expires_at=NOW + 960)
    assert topic.take(goes_on, NOW + 60, state="updated") == (Reading.GROUPED, [])
    over = read_incident(incident("resolved", NOW + 90, start_s=NOW), 101)
    assert told(topic.episodes.take(*over, NOW + 90, NOW + 90)) == ["resolved"]
    # Written before the end was known.
    before = replace(goes_on, id="u-2", time=NOW + 80)
    assert topic.take(before, NOW + 91, state="updated") == (Reading.GROUPED, [])
    goes_on = replace(goes_on, id="u-3", time=NOW + 120)
    reading, [letter] = topic.take(goes_on, NOW + 120, state="updated")
    assert reading is Reading.NOTIFIED
    assert (letter.notification.status, letter.notification.quiet) == ("firing", False)
    assert (
        topic.take(replace(goes_on, id="u-4", time=NOW + 180), NOW + 180, state="updated")[0] == "refreshed"
    )
    end = replace(event("resolved", NOW + 240, start_s=NOW), incident_id="incident-0")
    assert told(topic.take(end, NOW + 240)) == ["resolved"]


def test_a_member_that_only_waits_for_its_cooldown_does_not_outlast_its_incident() -> None:
    topic = Topic(episodes())
    member = replace(event("firing", NOW), incident_id="incident-0", reopened=1)
    topic.take(member, NOW)
    topic.episodes.take(*read_incident(incident("firing", NOW), 100), NOW, NOW)
    topic.episodes.take(*read_incident(incident("resolved", NOW + 90, start_s=NOW), 101), NOW + 90, NOW + 90)
    calm = replace(member, id="u-1", time=NOW + 120, last_suspicious=NOW + 10)
    assert topic.take(calm, NOW + 120, state="updated") == (Reading.GROUPED, [])
    came_back = replace(calm, id="u-2", time=NOW + 180, last_suspicious=NOW + 170)
    assert told(topic.take(came_back, NOW + 180, state="updated")) == ["firing"]


def test_a_member_of_an_incident_that_expired_is_told_of() -> None:
    topic = Topic(episodes())
    topic.episodes.take(*read_incident(incident("firing", NOW), 100), NOW, NOW)
    member = replace(event("firing", NOW), incident_id="incident-0", expires_at=NOW + 2 * DAY)
    topic.take(member, NOW)
    assert [x.notification.labels["alertname"] for x in topic.episodes.expire([ALERTS], NOW + DAY)] == [
        "DetectorIncident"
    ]
    goes_on = replace(member, id="u-1", time=NOW + DAY + 60)
    assert told(topic.take(goes_on, NOW + DAY + 60, state="updated")) == ["firing"]


def test_a_member_that_opens_its_incident_again_wakes_nobody_itself() -> None:
    topic = Topic(episodes())
    topic.episodes.take(*read_incident(incident("firing", NOW), 100), NOW, NOW)
    topic.episodes.take(*read_incident(incident("resolved", NOW + 60, start_s=NOW), 101), NOW + 60, NOW + 60)
    member = replace(event("firing", NOW + 70), incident_id="incident-0")
    assert topic.take(member, NOW + 70) == (Reading.GROUPED, [])
    again = read_incident(incident("updated", NOW + 70, start_s=NOW), 102)
    assert told(topic.episodes.take(*again, NOW + 70, NOW + 70)) == ["firing"]
    goes_on = replace(member, id="u-1", time=NOW + 130)
    assert topic.take(goes_on, NOW + 130, state="updated") == (Reading.GROUPED, [])


def test_after_a_restart_a_member_that_outlasted_its_incident_is_known_to_be_told_of() -> None:
    topic = Topic(episodes())
    member = replace(event("firing", NOW), incident_id="incident-0")
    topic.restore(member, NOW, offset=1)
    topic.restore(replace(member, id="u-1", time=NOW + 120), NOW + 120, offset=2, state="updated")
    for i, of_incident in enumerate([incident("firing", NOW), incident("resolved", NOW + 60, start_s=NOW)]):
        record, alert = read_incident(of_incident, i)
        topic.episodes.restore(record._replace(source=Source("alerts", 1)), alert, of_incident.time)
    topic.episodes.restored()
    topic.offset = 2
    assert topic.take(replace(member, id="u-2", time=NOW + 180), NOW + 180, state="updated")[0] == "refreshed"
    end = replace(event("resolved", NOW + 240, start_s=NOW), incident_id="incident-0")
    assert told(topic.take(end, NOW + 240)) == ["resolved"]


def test_who_was_told_of_before_the_incident_is_told_of_to_the_end() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW), NOW)
    worse = replace(event("firing", NOW), id="u", time=NOW + 9, severity="critical", incident_id="incident-0")
    assert told(topic.take(worse, NOW + 9, state="updated")) == ["resolved", "firing"]
    over = replace(event("resolved", NOW + 60), severity="critical", incident_id="incident-0")
    assert told(topic.take(over, NOW + 60)) == ["resolved"]


def test_members_of_an_incident_stay_untold_after_a_restart() -> None:
    topic = Topic(episodes())
    topic.restore(replace(event("firing", NOW), incident_id="incident-0"), NOW, offset=1)
    record, alert = read_incident(incident("firing", NOW), 2)
    topic.episodes.restore(record, alert, NOW)
    assert [told.labels["alertname"] for _, told in topic.episodes.standing(NOW)] == ["DetectorIncident"]
    topic.offset = 2
    over = replace(event("resolved", NOW + 60), incident_id="incident-0")
    assert topic.take(over, NOW + 60) == (Reading.GROUPED, [])


def test_partitions_not_read_to_their_end_expire_nothing() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW), NOW)
    assert topic.episodes.expire([Source("alerts", 1)], NOW + 2 * DAY) == []


def test_what_expired_while_nobody_looked_is_told_however_late() -> None:
    topic = Topic(episodes())
    topic.restore(event("firing", NOW - DAY - MINUTE), NOW - DAY - MINUTE, offset=1)
    topic.restore(event("firing", NOW - 2 * DAY, "db-1"), NOW - 2 * DAY, offset=2)
    # Of history nobody was told.
    topic.restore(event("firing", NOW - 3 * DAY, "db-2"), NOW - 2 * DAY, offset=3)
    assert list(topic.episodes.standing(NOW)) == []
    ends = [letter.notification for letter in topic.episodes.expire([ALERTS], NOW)]
    assert [(end.labels["entity"], end.status) for end in ends] == [
        ("web-17", "resolved"),
        ("db-1", "resolved"),
    ]


def test_episodes_of_partitions_that_went_are_forgotten() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW), NOW)
    topic.episodes.drop([ALERTS])
    assert topic.episodes.open_episodes() == 0


def test_memory_of_what_is_over_ends() -> None:
    topic = Topic(episodes())
    topic.take(event("firing", NOW), NOW)
    topic.take(event("resolved", NOW + 60), NOW + 60)
    topic.episodes.expire([ALERTS], NOW + 2 * DAY)
    assert list(topic.episodes.standing(NOW + 2 * DAY)) == []
