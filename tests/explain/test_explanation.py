"""Tests for detector.explain: an alert found again on its topics, replayed and told."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from detector.alerting.event import AlertEvent, FeatureReason, Frequency, Stuck
from detector.batch import Batch, Source
from detector.bundles.store import Bundle, BundleStore
from detector.cli.main import main
from detector.config.root import Config
from detector.explain.explanation import RECORDS, Access, ExplainError, Explanation, explain, part_of
from detector.explain.page import explanation_page
from detector.explain.text import as_data, print_explanation
from detector.from_config import detector_of
from detector.stream.alert_record import encode_alert
from detector.stream.incident_record import encode_incident
from detector.stream.port import RawRecords
from detector.stream.watch import Watch
from detector.training.job import TrainingPlan, train
from tests.delivery.events import absence, event, incident
from tests.made import batch
from tests.stream.records import NOW_S, raw_records

SOURCE = Source("telemetry", 0)
START = NOW_S - 50_000.0
OFFSETS = 10_000
FEATURES = ("cpu", "memory", "disk")


def rows(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x: np.ndarray = rng.normal(size=(n, 3)) @ np.array([[1.0, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return x


@dataclass
class FakePartition:
    """One partition of records, from an offset that retention left; notes what is read."""

    values: list[bytes]
    first_offset: int = 0
    closed: bool = False

    @property
    def end_offset(self) -> int:
        return len(self.values)

    def read(self, from_offset: int, until_offset: int) -> Iterator[RawRecords]:
        assert from_offset >= self.first_offset
        for begin in range(from_offset, until_offset, 500):
            end = min(begin + 500, until_offset)
            yield raw_records(self.values[begin:end], sources=[SOURCE], offset=range(begin, end))

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    trained = replace(batch(rows(900, 0)), feature_names=FEATURES)
    return train(trained, TrainingPlan("hosts", "gmm", options={"n_components": 1}), now_s=START)


class Rig:
    """Two entities on one partition, one of them ill for a while; a daemon raised its alert."""

    def __init__(self, folder: Path, bundle: Bundle, *, n: int = 400, ill: range = range(300, 306)) -> None:
        store = BundleStore(folder / "store")
        store.save(bundle.manifest, bundle.model, bundle.held_out)
        store.set_alias("hosts", bundle.manifest.version)
        self.path = folder / "detector.yaml"
        written = {
            "inputs": [{"name": "telegraf", "topics": ["telemetry"]}],
            "detectors": [
                {
                    "name": "hosts",
                    "input": "telegraf",
                    "features": [*FEATURES],
                    "store": str(folder / "store"),
                }
            ],
        }
        self.path.write_text(json.dumps(written))
        self.config = Config.model_validate(written)
        values = rows(2 * n, 1)
        values[[2 * i for i in ill], 0] += 15.0
        entities = ["web-17", "web-2"] * n
        time = START + np.repeat(np.arange(n, dtype=np.float64), 2)
        self.records: Batch = replace(batch(values, entity=entities, time=time), feature_names=FEATURES)
        self.partition = FakePartition(
            [
                json.dumps({"entity": e, "time": t, "features": dict(zip(FEATURES, x, strict=True))}).encode()
                for e, t, x in zip(entities, time.tolist(), values.tolist(), strict=True)
            ]
        )
        watch = Watch(
            detector_of(self.config.detector("hosts"), bundle.manifest.version), "telegraf", np.arange(3)
        )
        self.scores, self.events = watch.process(self.records, np.array([0, 1] * n))
        self.control: list[bytes] | None = None
        self.alerts = [encode_alert(each, "g").value for each in self.events]

    def id(self) -> str:
        return next(each for each in self.events if each.start == START + 300).alert_id

    def access(self) -> Access:
        return Access(
            lambda: [raw_records([b"no event", None, *self.alerts])],
            lambda _: self.partition,
            None if self.control is None else lambda: [raw_records(self.control or [])],
            lambda: NOW_S,
        )

    def explain(self, alert_id: str | None = None, offsets: int = OFFSETS) -> Explanation:
        return explain(self.config, self.path, alert_id or self.id(), offsets, self.access())


@pytest.fixture
def rig(tmp_path: Path, bundle: Bundle) -> Rig:
    return Rig(tmp_path, bundle)


def printed(found: Explanation) -> str:
    text = io.StringIO()
    print_explanation(found, Console(file=text, width=200))
    return text.getvalue()


def test_the_replay_says_of_every_record_what_the_daemon_said(rig: Rig) -> None:
    found = rig.explain()
    assert len(found.moments) == RECORDS
    daemons = dict(zip(rig.records.offset.tolist(), rig.scores.anomaly_score.tolist(), strict=True))
    for moment in found.moments:
        assert moment.anomaly_score == daemons[moment.offset]
    assert any("the replay says what the alert said" in note for note in found.notes)
    assert rig.partition.closed


def test_records_end_with_the_episode(rig: Rig) -> None:
    found = rig.explain()
    assert found.alert.state == "resolved"
    assert found.alert.origin is not None
    assert found.moments[-1].offset == found.alert.origin.last_offset
    assert [m.time_s - START for m in found.moments if m.suspicious] == [300, 301, 302, 303, 304, 305]


def test_actual_values_and_expected_bands_are_those_of_the_data(rig: Rig) -> None:
    found = rig.explain()
    assert found.features[0] == "cpu"
    ill = next(moment for moment in found.moments if moment.suspicious)
    cpu = part_of(ill, "cpu")
    assert cpu is not None
    assert cpu.actual == rig.records.values[ill.offset, 0]
    assert isinstance(cpu.expected, float)
    assert cpu.std is not None
    # By hand: given memory, cpu has mean 0.6 m / 1.36 and variance 1 - 0.36 / 1.36.
    memory = rig.records.values[ill.offset, 1]
    assert cpu.expected == pytest.approx(0.6 * memory / 1.36, abs=0.2)
    assert cpu.std == pytest.approx(np.sqrt(1 - 0.36 / 1.36), rel=0.1)
    assert cpu.nats > 50


def test_it_is_printed_with_feature_band_and_marks(rig: Rig) -> None:
    found = rig.explain()
    text = printed(found)
    assert "because      cpu" in text
    # The event lists it, but it is as it should be.
    assert "disk" in {reason.feature for reason in found.firing.reasons}
    assert "because      disk" not in text
    assert "fired 2027-01-14 18:11:40 UTC\n" in text
    assert "time (UTC)" in text
    assert "expected: ± 2 standard deviations" in text
    assert text.count("suspicious") == 5
    assert text.count("peak") >= 2
    assert "no longer unusual" in text
    assert "Nobody else alarmed" in text
    narrow = io.StringIO()
    print_explanation(found, Console(file=narrow, width=80))
    assert max(map(len, narrow.getvalue().splitlines()[-80:-10])) <= 80


def test_names_from_records_are_no_markup_and_no_control_characters(rig: Rig) -> None:
    hostile = replace(event("firing", START, "[red]\x1b[2J"), source=Source("telemetry", 0))
    rig.alerts.append(encode_alert(hostile, "g").value)
    text = printed(rig.explain(hostile.alert_id))
    assert "[red]" in text
    assert "\x1b" not in text


def test_a_value_that_stays_is_told_with_since_when(rig: Rig) -> None:
    stuck = FeatureReason("cpu", 0.25, 0.2, 1.0, 0.1, "1", stuck=Stuck(0.25, START, 2460.0, 1800.0))
    fired = replace(event("firing", START + 2460), source=Source("telemetry", 0), reasons=(stuck,))
    rig.alerts.append(encode_alert(fired, "g").value)
    assert (
        "because      cpu has been 0.25 since 18:06 UTC, for 41 minutes (stuck_after is 30 minutes)\n"
    ) in printed(rig.explain(fired.alert_id))


def test_a_value_that_comes_too_often_is_told_with_its_share(rig: Rig) -> None:
    often = Frequency("share", "503", 0.27, 0.011, 20)
    mean = Frequency("mean", None, 1.03, 0.02, 20)
    reasons = (
        FeatureReason("cpu", "200", "200", None, 14.24, frequency=often),
        FeatureReason("errors", 500.0, 0.02, 0.1, 9.0, valid_range=(0.0, 100.0), frequency=mean),
    )
    fired = replace(event("firing", START), source=Source("telemetry", 0), reasons=reasons)
    rig.alerts.append(encode_alert(fired, "g").value)
    # One outside its range is told by its value: that is the alert.
    assert "because      errors 500, expected" in printed(rig.explain(fired.alert_id))
    assert ("because      cpu '503' in 27 % of 20 records, usually 1.1 % (14.2 nats)\n") in printed(
        rig.explain(fired.alert_id)
    )


def test_without_the_records_it_says_so_and_tells_what_the_event_holds(rig: Rig) -> None:
    rig.partition.first_offset = 650
    found = rig.explain()
    assert found.moments == []
    assert found.notes == [
        "the records are deleted: telemetry[0] holds offsets from 650 on, the alert began at 600"
    ]
    assert "because      cpu" in printed(found)


def test_fewer_records_before_are_said_to_be_few(rig: Rig) -> None:
    found = rig.explain(offsets=50)
    assert 20 < len(found.moments) <= 25
    assert any("among 50 offsets of telemetry[0]; --offsets looks at more" in note for note in found.notes)


def test_other_scores_than_the_alert_told_are_pointed_out(rig: Rig) -> None:
    fields = [msgspec.json.decode(value) for value in rig.alerts]
    rig.alerts = [msgspec.json.encode(each | {"anomaly_score": 77.0}) for each in fields]
    [note] = [note for note in rig.explain().notes if "the alert said anomaly score 77" in note]
    assert "of the same p-value: the threshold was another" in note
    rig.alerts = [msgspec.json.encode(each | {"anomaly_score": 77.0, "p_value": 1e-99}) for each in fields]
    [note] = [note for note in rig.explain().notes if "the alert said anomaly score 77" in note]
    assert "fewer records than the daemon knew" in note


def test_a_long_episode_is_shown_from_its_beginning_on(tmp_path: Path, bundle: Bundle) -> None:
    rig = Rig(tmp_path, bundle, ill=range(300, 390))
    found = rig.explain()
    assert len(found.moments) == RECORDS
    assert found.moments[20].time_s == START + 300
    assert any("later records of the episode are not shown" in note for note in found.notes)


def test_before_a_long_episode_as_many_records_are_found_as_before_a_short_one(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.explain.records._FIRST_CHUNK", 100)
    rig = Rig(tmp_path, bundle, n=1300, ill=range(300, 1290))
    found = rig.explain()
    assert found.moments[20].time_s == START + 300
    assert any("from 280 earlier records" in note for note in found.notes)


def test_an_unknown_id_says_what_was_searched(rig: Rig) -> None:
    with pytest.raises(ExplainError, match=r"no alert 'x' among the \d+ events of topic detector.alerts,"):
        rig.explain("x")
    rig.alerts = []
    with pytest.raises(ExplainError, match="holds no event; is it the daemon's"):
        rig.explain("x")


def test_a_version_that_is_gone_leaves_what_the_event_says(rig: Rig) -> None:
    fields = [msgspec.json.decode(value) for value in rig.alerts]
    rig.alerts = [msgspec.json.encode(each | {"version": "20200101T000000Z-0000"}) for each in fields]
    found = rig.explain()
    assert found.moments == []
    assert "no replay without the version that raised the alert" in found.notes[0]


def taken_over(rig: Rig, **peak: float) -> str:
    """Let another version tell the newest event; return that version."""
    trained = replace(batch(9.0 * rows(900, 5)), feature_names=FEATURES)
    other = train(trained, TrainingPlan("hosts", "gmm", options={"n_components": 1}), now_s=START + 302)
    BundleStore(rig.path.parent / "store").save(other.manifest, other.model, other.held_out)
    newest = msgspec.json.decode(rig.alerts[-1])
    rig.alerts[-1] = msgspec.json.encode(newest | {"version": other.manifest.version} | peak)
    return other.manifest.version


def test_where_another_version_took_over_the_one_that_raised_the_alert_scores_again(rig: Rig) -> None:
    other = taken_over(rig)
    found = rig.explain()
    assert (found.alert.version, found.firing.version) == (other, rig.events[0].version)
    daemons = dict(zip(rig.records.offset.tolist(), rig.scores.anomaly_score.tolist(), strict=True))
    assert [moment.anomaly_score for moment in found.moments] == [daemons[m.offset] for m in found.moments]
    text = printed(found)
    assert f"scored again by version {found.firing.version}, from" in text
    assert "at the peak the replay says what the alert said" in text
    assert (
        f"hosts, version {found.firing.version}, as champion; {other} took over while it was open\n"
    ) in text


def test_a_peak_that_another_version_may_have_scored_is_not_blamed_on_the_records(rig: Rig) -> None:
    other = taken_over(rig, anomaly_score=77.0, p_value=1e-99)
    [note] = [note for note in rig.explain().notes if "the alert said anomaly score 77" in note]
    assert note.endswith(f": version {other}, which took over, may have scored it")


def around(rig: Rig, entity: str, after_s: float, lasted_s: float) -> list[AlertEvent]:
    begun = event("firing", START + 300 + after_s, entity, episode=7)
    return [begun, event("resolved", begun.time + lasted_s, entity, start_s=begun.time, episode=7)]


def test_who_else_alarmed_then_is_told_and_who_did_at_other_times_is_not(rig: Rig) -> None:
    for others in (
        around(rig, "before", -700.0, 50.0),
        around(rig, "just-before", -700.0, 150.0),
        around(rig, "after", 560.0, 10.0),
        around(rig, "long-after", 900.0, 10.0),
    ):
        rig.alerts += [encode_alert(other, "g").value for other in others]
    rig.alerts.append(encode_incident(incident("firing", START + 310), "g").value)
    found = rig.explain()
    assert [(o.kind, o.entity) for o in found.others] == [
        ("incident", ""),
        ("anomaly", "just-before"),
        ("anomaly", "after"),
    ]
    assert "Who else alarmed within 10 minutes of it: 3 of hosts" in printed(found)


def test_a_record_that_came_twice_has_no_score_and_no_bands(rig: Rig) -> None:
    rig.partition.values[592] = rig.partition.values[590]
    [twice] = [moment for moment in rig.explain().moments if moment.status != "scored"]
    assert (twice.offset, twice.status, twice.features) == (592, "duplicate", ())
    assert "duplicate" in printed(rig.explain())


def test_many_others_are_counted(rig: Rig) -> None:
    for i in range(30):
        rig.alerts += [encode_alert(other, "g").value for other in around(rig, f"e{i}", 0.0, 10.0)]
    found = rig.explain()
    assert (len(found.others), found.others_left_out) == (20, 10)


def test_what_changed_in_the_day_before_is_told(rig: Rig) -> None:
    # The version was trained at the time of the first record; its file is of today.
    [change] = rig.explain().changes
    assert change.time_s == START
    assert change.what.endswith("of hosts was trained")


def test_deploys_announced_before_are_told_and_kept_out_of_the_replay(rig: Rig) -> None:
    def announced(entities: str, first: float, last: float) -> bytes:
        window = {"from": START + first, "until": START + last, "kind": "deploy"}
        return msgspec.json.encode(window | {"selector": {"entities": entities}})

    rig.control = [announced("web-*", 295, 298), announced("db-*", -90_000, -89_000), b"nothing"]
    found = rig.explain()
    assert [change.what.split(" until")[0] for change in found.changes][1:] == ["deploy of web-*"]
    assert [moment.time_s - START for moment in found.moments if moment.rule == "deploy"] == [295, 296, 297]
    assert "deploy" in printed(found)


def test_an_incident_names_its_members_and_is_not_replayed(rig: Rig) -> None:
    rig.alerts.append(encode_incident(incident("firing", START + 310), "g").value)
    found = rig.explain("incident-0")
    assert found.moments == []
    text = printed(found)
    assert "5 entities of detector hosts at once" in text
    assert "web-4, cpu, anomaly score 2.7: alert alert-web-4" in text


def test_an_absence_is_told_and_not_replayed(rig: Rig) -> None:
    record, alert = absence("firing", START + 310, start=START + 250)
    rig.alerts.append(record.value)
    found = rig.explain(alert.alert_id)
    assert found.notes == ["records that did not come cannot be scored"]
    assert "web-17: nothing for" in printed(found)
    assert "telegraf: absence, web-17" in printed(rig.explain())


def test_of_a_vanished_feature_the_records_are_there(rig: Rig) -> None:
    record, alert = absence(
        "firing", START + 310, start=START + 250, kind="vanished_feature", features=("cpu",)
    )
    rig.alerts.append(record.value)
    assert rig.explain(alert.alert_id).notes == [
        "a feature that did not come cannot be scored; its records were, by what they had"
    ]


def test_what_came_after_it_fired_is_told_apart(rig: Rig) -> None:
    window = {"from": START + 303, "until": START + 304, "kind": "deploy"}
    rig.control = [msgspec.json.encode(window | {"selector": {"entities": "db-*"}})]
    found = rig.explain()
    assert found.alert.end is not None
    assert found.changes_until_s == found.alert.end.timestamp() + 600.0
    _, later = printed(found).split("What changed since then, until 2027-01-14 18:21:45 UTC\n")
    assert later.startswith("  2027-01-14 18:11:43 UTC  deploy of db-*")
    assert "trained" not in later


def test_until_when_changes_were_looked_for_is_told_where_there_is_none(rig: Rig) -> None:
    assert printed(rig.explain()).endswith("Nothing changed since then, until 2027-01-14 18:21:45 UTC\n")
    assert as_data(rig.explain())["changes_until"] == "2027-01-14T18:21:45Z"


def test_a_cause_that_moved_is_told_and_shown_beside_the_first_one(rig: Rig) -> None:
    rig.alerts[-1] = encode_alert(replace(rig.events[-1], reasons=rig.events[-1].reasons[::-1]), "g").value
    found = rig.explain(rig.events[-1].alert_id)
    first, newest = rig.events[-1].reasons[0].feature, rig.events[-1].reasons[-1].feature
    assert found.features[:2] == (first, newest)
    assert f"later        {newest}" in printed(found)


def test_it_says_how_often_it_fired_again(rig: Rig) -> None:
    for reopened, told in ((1, "and again once after it had resolved"), (2, "and again 2 times after")):
        again = replace(rig.events[-1], reopened=reopened)
        rig.alerts[-1] = encode_alert(again, "g").value
        assert told in printed(rig.explain(again.alert_id))


def test_as_json_it_has_every_record_with_its_features(rig: Rig) -> None:
    said = msgspec.json.decode(msgspec.json.encode(as_data(rig.explain())))
    assert said["alert"]["alert_id"] == rig.id()
    assert len(said["records"]) == RECORDS
    assert [r["mark"] for r in said["records"]].count("peak") == 1
    assert {f["feature"] for f in said["records"][0]["features"]} == set(FEATURES)


def test_the_page_has_a_plot_for_the_score_and_two_for_each_feature(rig: Rig) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no plots")
    page = explanation_page(rig.explain())
    assert page.count("<svg") == 1 + 2 * len(FEATURES)
    assert "cpu 1" in page
    assert " UTC</h1>" in page


def test_the_command_prints_text_or_json_and_draws(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no plots")
    monkeypatch.setattr("detector.explain.explanation.access_to", lambda _: rig.access())
    page = rig.path.with_suffix(".html")
    done = CliRunner().invoke(main, ["explain", str(rig.path), rig.id(), "--html", str(page)])
    assert done.exit_code == 0, done.output
    assert "because      cpu" in done.stdout
    assert page.read_text().startswith("<!doctype html>")
    done = CliRunner().invoke(main, ["explain", str(rig.path), rig.id(), "--json"])
    assert json.loads(done.stdout)["alert"]["alert_id"] == rig.id()
    done = CliRunner().invoke(main, ["explain", str(rig.path), "nonsense"])
    assert done.exit_code == 2
    assert done.stderr.startswith("no alert 'nonsense' among the ")
