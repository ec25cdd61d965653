"""Tests for detector.bundles.history."""

from pathlib import Path

import pytest

from detector.bundles.history import How, Promotion, champion_before, read_history, with_another


def promotion(version: str, before: str | None = None, how: How = "train") -> Promotion:
    return Promotion(time_s=1.8e9, version=version, before=before, how=how)


def test_what_is_added_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "champion.history"
    assert read_history(path) == []
    added = [promotion("a"), promotion("b", "a"), promotion("a", "b", "models promote")]
    for each in added:
        path.write_bytes(with_another(path, each))
    assert read_history(path) == added


@pytest.mark.parametrize("torn", [b'{"time_s": 1.8e', b"\xff\xfe\n", b"[]", b"\n\n"])
def test_a_torn_line_hides_no_other(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "champion.history"
    path.write_bytes(with_another(path, promotion("a")) + torn)
    assert read_history(path) == [promotion("a")]
    path.write_bytes(with_another(path, promotion("b", "a")))
    assert read_history(path) == [promotion("a"), promotion("b", "a")]


def test_the_newest_thousand_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "champion.history"
    path.write_bytes(b"".join(promotion(str(i)).model_dump_json().encode() + b"\n" for i in range(1000)))
    path.write_bytes(with_another(path, promotion("new")))
    assert [each.version for each in read_history(path)] == [*map(str, range(1, 1000)), "new"]


def test_rollbacks_lead_further_and_further_back() -> None:
    history = [promotion("a"), promotion("b", "a"), promotion("c", "b")]
    for champion, before in (("c", "b"), ("b", "a")):
        assert champion_before(history, champion) == before
        history.append(promotion(before, champion, "models rollback"))
    assert champion_before(history, "a") is None
    history.append(promotion("d", "a"))
    assert champion_before(history, "d") == "a"


def test_a_promotion_by_hand_is_a_step_like_any_other() -> None:
    history = [promotion("a"), promotion("b", "a"), promotion("a", "b", "models promote")]
    assert champion_before(history, "a") == "b"
    again = [*history, promotion("a", "a", "models promote")]
    assert champion_before(again, "a") == "b"


def test_moves_that_left_no_line_count_as_far_as_they_are_known() -> None:
    assert champion_before([], "a") is None
    assert champion_before([promotion("b", "a")], "b") == "a"
    assert champion_before([promotion("b", "a")], "z") == "b"
    assert champion_before([promotion("a"), promotion("c", "b")], "c") == "b"
    # The alias was away for a while.
    assert champion_before([promotion("a"), promotion("b")], "b") == "a"
    assert champion_before([promotion("a", "b", "models rollback")], "a") is None
