"""Tests for detector.delivery.alertmanager and webhook: what goes over the wire."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace

from detector.batch import Source
from detector.delivery.alertmanager import RESOLVED_REPEATED_S, AlertmanagerChannel, Standing
from detector.delivery.notification import Notification
from detector.delivery.webhook import WebhookChannel, signature

NOW = 1.8e9
SOURCE = Source("alerts", 0)
FIRING = Notification(
    id="id-1",
    status="firing",
    labels={"alertname": "DetectorAnomaly", "entity": 'web"17'},
    annotations={"summary": "web-17: cpu"},
    starts_at_s=NOW - 60,
    ends_at_s=None,
)
RESOLVED = replace(FIRING, id="id-2", status="resolved", ends_at_s=NOW - 1)


def alert_posted(notification: Notification, now_s: float = NOW) -> dict[str, object]:
    body, headers = AlertmanagerChannel(resend_s=60.0).request(notification, now_s)
    assert headers == {}
    [alert] = json.loads(body)
    assert isinstance(alert, dict)
    return alert


def test_alertmanager_takes_a_firing_alert_to_last_four_repetitions() -> None:
    assert alert_posted(FIRING) == {
        "labels": FIRING.labels,
        "annotations": FIRING.annotations,
        "startsAt": "2027-01-15T07:59:00.000Z",
        "endsAt": "2027-01-15T08:04:00.000Z",
    }
    assert alert_posted(replace(FIRING, generator_url="https://x/"))["generatorURL"] == "https://x/"


def test_what_is_over_ends_in_the_past_and_never_before_it_began() -> None:
    assert alert_posted(RESOLVED)["endsAt"] == "2027-01-15T07:59:59.000Z"
    ahead = replace(RESOLVED, ends_at_s=NOW + 300)
    assert alert_posted(ahead)["endsAt"] == "2027-01-15T08:00:00.000Z"
    before = replace(RESOLVED, starts_at_s=NOW - 1, ends_at_s=NOW - 9)
    assert alert_posted(before)["endsAt"] == alert_posted(before)["startsAt"]


def test_what_began_ahead_of_the_clock_is_over_when_it_is_over() -> None:
    ahead = replace(RESOLVED, starts_at_s=NOW + 1800, ends_at_s=NOW + 1920)
    posted = alert_posted(ahead)
    assert (posted["startsAt"], posted["endsAt"]) == ("2027-01-15T08:00:00.000Z", "2027-01-15T08:00:00.000Z")
    firing = alert_posted(replace(FIRING, starts_at_s=NOW + 1800))
    assert (firing["startsAt"], firing["endsAt"]) == ("2027-01-15T08:00:00.000Z", "2027-01-15T08:04:00.000Z")


def test_what_stands_is_repeated_and_what_is_over_for_a_while() -> None:
    standing = Standing()
    standing.tell(SOURCE, FIRING)
    assert standing.repeated(NOW + 1e6) == [[FIRING]]
    standing.tell(SOURCE, RESOLVED)
    assert standing.repeated(NOW) == [[RESOLVED]]
    assert standing.repeated(NOW + RESOLVED_REPEATED_S) == []
    assert standing.repeated(NOW) == []


def test_an_end_that_was_late_is_repeated_as_long_as_any_other() -> None:
    standing = Standing()
    standing.tell(SOURCE, RESOLVED, NOW + 3600.0)
    assert standing.repeated(NOW + 3600.0 + RESOLVED_REPEATED_S - 1) == [[RESOLVED]]
    assert standing.repeated(NOW + 3600.0 + RESOLVED_REPEATED_S) == []


def test_a_new_episode_takes_the_place_of_the_one_before() -> None:
    standing = Standing()
    standing.tell(SOURCE, RESOLVED)
    again = replace(FIRING, id="id-3", starts_at_s=NOW)
    standing.tell(SOURCE, again)
    assert standing.repeated(NOW) == [[again]]


def test_many_alerts_go_in_portions() -> None:
    standing = Standing()
    for i in range(150):
        standing.tell(SOURCE, replace(FIRING, labels={"entity": str(i)}))
    standing.tell(Source("alerts", 1), replace(FIRING, labels={"entity": "other"}))
    standing.forget([Source("alerts", 1)])
    assert [len(portion) for portion in standing.repeated(NOW)] == [64, 64, 22]


def test_a_webhook_gets_the_body_that_alertmanagers_webhooks_get() -> None:
    channel = WebhookChannel("oncall", "https://grafana", [])
    body, headers = channel.request(FIRING, NOW + 0.9)
    assert headers == {"webhook-id": "id-1", "webhook-timestamp": "1800000000"}
    assert json.loads(body) == {
        "version": "4",
        "groupKey": '{}:{alertname="DetectorAnomaly", entity="web\\"17"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "oncall",
        "groupLabels": FIRING.labels,
        "commonLabels": FIRING.labels,
        "commonAnnotations": FIRING.annotations,
        "externalURL": "https://grafana",
        "alerts": [
            {
                "status": "firing",
                "labels": FIRING.labels,
                "annotations": FIRING.annotations,
                "startsAt": "2027-01-15T07:59:00.000Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "",
                "fingerprint": FIRING.fingerprint,
            }
        ],
    }


def test_signatures_verify_with_either_key_and_not_over_another_body() -> None:
    old, new = b"o" * 32, b"n" * 32
    body, headers = WebhookChannel("oncall", "", [new, old]).request(FIRING, NOW)
    signatures = headers["webhook-signature"].split(" ")
    for key, given in zip((new, old), signatures, strict=True):
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = hmac.new(key, signed, hashlib.sha256).digest()
        assert given == f"v1,{base64.b64encode(digest).decode()}"
    assert signature(new, "id-1", 1, body) != signature(new, "id-1", 1, body + b" ")


def test_signature_is_that_of_the_specification() -> None:
    # The example that the Standard Webhooks libraries are tested with.
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    id, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'
    assert signature(key, id, 1614265330, body) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_news_that_wakes_nobody_is_for_alertmanager_alone() -> None:
    quiet = replace(FIRING, quiet=True)
    assert AlertmanagerChannel(60.0).wants(quiet)
    assert not WebhookChannel("oncall", "", []).wants(quiet)
    assert WebhookChannel("oncall", "", []).wants(FIRING)


def test_a_retry_has_the_same_id_and_body_and_a_later_time() -> None:
    channel = WebhookChannel("oncall", "", [b"k" * 32])
    (body, first), (same, second) = channel.request(FIRING, NOW), channel.request(FIRING, NOW + 60)
    assert body == same
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-timestamp"] != second["webhook-timestamp"]
