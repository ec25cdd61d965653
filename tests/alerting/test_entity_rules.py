"""Tests for detector.alerting.entity_rules and entity_patterns: which override an entity has."""

import pytest

from detector.alerting.entity_patterns import EntityPatterns
from detector.alerting.entity_rules import EntityRules, Override


@pytest.mark.parametrize(
    ("pattern", "entity", "matches"),
    [
        ("db-*", "db-1", True),
        ("db-*", "db-", True),
        ("db-*", "old-db-1", False),
        ("db-*", "DB-1", False),
        ("web-?", "web-1", True),
        ("web-?", "web-12", False),
        ("rack-[0-3]", "rack-2", True),
        ("rack-[!0-3]", "rack-2", False),
        ("a.b", "a.b", True),
        ("a.b", "axb", False),
        ("*/eth0", "core-1/eth0", True),
        ("*", "line\nbreak", True),
        ("web", "web\n", False),
    ],
)
def test_patterns_are_those_of_shells_and_match_whole_names(pattern: str, entity: str, matches: bool) -> None:
    assert EntityPatterns((pattern,)).matches(entity) is matches


def test_one_of_several_patterns_suffices_and_none_matches_nothing() -> None:
    both = EntityPatterns(("db-*", "cache-*"))
    assert [both.matches(name) for name in ("db-1", "cache-1", "web-1", "db-1|cache-1x")] == [
        True,
        True,
        False,
        True,
    ]


def test_the_first_override_that_matches_holds() -> None:
    rules = EntityRules.of(
        [
            Override(EntityPatterns(("db-test-*",)), mute=True),
            Override(EntityPatterns(("db-*",)), severity="critical"),
        ],
        [0.0, 1.5],
    )
    assert rules.index_of(["db-1", "db-test-1", "web-1", ""]).tolist() == [1, 0, 2, 2]
    assert rules.muted.tolist() == [True, False, False]
    assert rules.threshold_nats.tolist() == [0.0, 1.5, 0.0]
    assert [rules.severity(index, "warning") for index in range(3)] == ["warning", "critical", "warning"]
