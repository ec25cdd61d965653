"""Tests for detector.alerting.event."""

from detector.alerting.event import shared_labels


def test_shared_labels_are_those_that_all_have_with_the_same_text() -> None:
    web = {"team": "shop", "region": "eu", "role": "web"}
    assert shared_labels([web]) == web
    assert shared_labels([web, {"team": "shop", "region": "us"}, web]) == {"team": "shop"}
    assert shared_labels([web, {}]) == {}
