"""Tests for detector.bootstrap.bootstrap: when it trains, what it says, and what it does when that fails."""

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache

import numpy as np
import pytest

from detector.alerting.rules import AlertRules
from detector.bootstrap.bootstrap import (
    FIRST_LOOK_AGAIN_S,
    FIRST_LOOK_S,
    FIRST_RETRY_S,
    GROWTH,
    LONGEST_JOB_S,
    Bootstrap,
)
from detector.bootstrap.following import Loaded
from detector.bootstrap.training_child import TOO_FEW_EXIT_CODE, Ended
from detector.bundles.serving import serve
from detector.bundles.store import Bundle, BundleError, BundleRejectedError
from detector.stream.watch import Watch
from detector.training.job import TrainingPlan, train
from tests.made import batch
from tests.stream.fakes import FakeClock

TOO_FEW = TOO_FEW_EXIT_CODE


@cache
def bundle(records: int) -> Bundle:
    rows = np.random.default_rng(0).normal(size=(records, 2))
    plan = TrainingPlan("hosts", "gmm", "none", options={"n_components": 1})
    return train(batch(rows), plan, 1e9 + records)


class FakeJob:
    """Ends when the test says so."""

    def __init__(self, fewest: int) -> None:
        self.fewest = fewest
        self.end: Ended | None = None
        self.stopped = False

    def ended(self) -> Ended | None:
        return self.end

    def stop(self) -> None:
        self.stopped = True


class FakeChampion:
    """A store whose champion the test sets."""

    def __init__(self) -> None:
        self.bundle: Bundle | None = None
        self.error: BundleRejectedError | None = None
        self.missing: BundleError | None = None
        self.serving: list[str] = []

    def version(self) -> str | None:
        return None if self.bundle is None else self.bundle.manifest.version

    def check(self) -> None:
        if self.missing is not None:
            raise self.missing

    def load(self, version: str) -> Loaded:
        if self.error is not None:
            raise self.error
        assert self.bundle is not None
        detector = serve(self.bundle, AlertRules())
        return self.bundle, Watch(detector, "telemetry", np.arange(2))

    def serves(self, loaded: Loaded) -> None:
        self.serving.append(loaded[0].manifest.version)


class FakeBackground:
    """Does at once what it is given, or when the test says so."""

    def __init__(self) -> None:
        self.is_slow = False
        self._waiting: list[Callable[[], None]] = []

    def do(self, work: Callable[[], Loaded]) -> "Future[Loaded]":
        future: Future[Loaded] = Future()

        def into_future() -> None:
            try:
                future.set_result(work())
            except BundleRejectedError as error:
                future.set_exception(error)

        self._waiting.append(into_future)
        if not self.is_slow:
            self.go_on()
        return future

    def go_on(self) -> None:
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()


class Rig:
    """A bootstrap with fakes around it; it is its own reporter."""

    def __init__(self, bundle: Bundle | None = None, records: int = 100) -> None:
        self.clock, self.champion = FakeClock(), FakeChampion()
        self.jobs: list[FakeJob] = []
        self.told: tuple[int, int, str] | None = None
        self.outcomes: list[str] = []
        self.refused = 0
        self.cannot_start: OSError | None = None
        self.champion.bundle = bundle
        self.background = FakeBackground()
        self.bootstrap = Bootstrap(
            "hosts", records, bundle, self.champion, self.start, self, self.background.do, self.clock
        )

    def start(self, fewest: int) -> FakeJob:
        if self.cannot_start is not None:
            raise self.cannot_start
        self.jobs.append(FakeJob(fewest))
        return self.jobs[-1]

    def growing(self, detector: str, records: int, goal: int, note: str) -> None:
        self.told = records, goal, note

    def grown(self, detector: str) -> None:
        self.told = None

    def training_ended(self, detector: str, outcome: str) -> None:
        self.outcomes.append(outcome)

    def version_refused(self, detector: str) -> None:
        self.refused += 1

    def read(self, records: int, entities: Sequence[int] = (0,)) -> None:
        self.bootstrap.seen(np.repeat(np.array(entities, dtype=np.int64), records))

    def after(self, seconds: float) -> Watch | None:
        self.clock.now_s += seconds
        return self.bootstrap.arrived()

    def finish(self, code: int, output: str = "", after_s: float = 2.0) -> Watch | None:
        self.jobs[-1].end = Ended(code, output)
        return self.after(after_s)


def test_topics_are_looked_into_first_and_again_when_enough_was_read() -> None:
    rig = Rig()
    rig.read(20)
    rig.after(0)
    assert (rig.jobs, rig.told) == ([], (20, 100, "bootstrapping: 20 of 100 records of an entity"))
    rig.after(FIRST_LOOK_S)
    assert [job.fewest for job in rig.jobs] == [100]
    rig.finish(TOO_FEW, "30\n")
    assert rig.told == (30, 100, "bootstrapping: 30 of 100 records of an entity")
    rig.read(69, entities=(0, 1))
    rig.after(FIRST_LOOK_AGAIN_S)
    assert rig.told == (99, 100, "bootstrapping: 99 of 100 records of an entity")
    assert len(rig.jobs) == 1
    rig.read(1, entities=(0, 1))
    rig.after(2)
    assert len(rig.jobs) == 2
    assert rig.told == (100, 100, "bootstrapping: 100 of 100 records of an entity, training now")
    assert rig.outcomes == ["too_few_records"]


def test_first_version_is_served_and_trained_again_with_four_times_the_records() -> None:
    rig = Rig()
    rig.after(FIRST_LOOK_S)
    rig.champion.bundle = bundle(300)
    watch = rig.finish(0, "champion")
    assert watch is not None
    assert watch.version == bundle(300).manifest.version
    assert rig.told == (300, 300 * GROWTH, "")
    rig.read(899)
    rig.after(2)
    assert len(rig.jobs) == 1
    rig.read(1)
    rig.after(2)
    assert rig.jobs[1].fewest == 1200
    rig.champion.bundle = bundle(1300)
    watch = rig.finish(0, "champion")
    assert watch is not None
    assert watch.version == bundle(1300).manifest.version
    assert rig.outcomes == ["trained", "trained"]


def test_no_job_starts_while_what_the_last_one_trained_is_loaded() -> None:
    rig = Rig()
    rig.after(FIRST_LOOK_S)
    rig.read(200)
    rig.background.is_slow = True
    rig.champion.bundle = bundle(300)
    assert rig.finish(0, "champion") is None
    assert rig.after(2) is None
    assert len(rig.jobs) == 1
    rig.background.go_on()
    watch = rig.after(2)
    assert watch is not None
    assert watch.version == bundle(300).manifest.version
    assert len(rig.jobs) == 1
    rig.read(700)
    rig.after(2)
    assert [job.fewest for job in rig.jobs] == [100, 1200]


def test_with_two_thousand_held_out_records_of_an_entity_training_is_the_operators() -> None:
    rig = Rig()
    rig.after(FIRST_LOOK_S)
    rig.champion.bundle = bundle(7000)
    assert rig.finish(0) is not None
    assert rig.told is None
    rig.read(1_000_000)
    assert rig.after(3600) is None
    assert len(rig.jobs) == 1


def test_a_young_version_is_served_from_the_start_and_the_topics_asked_for_more() -> None:
    rig = Rig(bundle(300))
    assert rig.after(FIRST_LOOK_S) is None
    assert [job.fewest for job in rig.jobs] == [1200]
    rig.finish(TOO_FEW, "900")
    assert rig.told == (900, 1200, "")


def test_a_version_is_served_that_becomes_the_champion_when_training_is_the_operators() -> None:
    rig = Rig(bundle(7000))
    assert rig.after(FIRST_LOOK_S) is None
    rig.champion.bundle = bundle(7001)
    watch = rig.after(2)
    assert watch is not None
    assert watch.version == bundle(7001).manifest.version
    assert (rig.jobs, rig.told) == ([], None)


def test_a_failure_is_told_and_tried_again_ever_later(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.after(FIRST_LOOK_S)
    for pause_s in (FIRST_RETRY_S, 2 * FIRST_RETRY_S, 4 * FIRST_RETRY_S):
        n = len(rig.jobs)
        rig.finish(2, "no")
        rig.read(1000)
        rig.after(pause_s - 4)
        assert len(rig.jobs) == n
        rig.after(4)
        assert len(rig.jobs) == n + 1
    assert rig.outcomes == ["failed"] * 3
    assert "training failed with exit code 2: no; it is tried again in" in caplog.text
    rig.finish(1, "")
    rig.after(1.0)
    assert "training failed with exit code 1, which the lines above explain; it is tried" in caplog.text


def test_a_job_without_an_end_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.after(FIRST_LOOK_S)
    rig.after(LONGEST_JOB_S + 1)
    assert rig.jobs[0].stopped
    assert rig.outcomes == ["failed"]
    assert "training was ended, because it took longer than 3600 s; it is tried" in caplog.text


def test_a_job_that_cannot_be_started_is_a_failed_one(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.cannot_start = OSError(28, "No space left on device")
    rig.after(FIRST_LOOK_S)
    assert rig.outcomes == ["failed"]
    assert "training could not be started: [Errno 28] No space left on device; it is tried" in caplog.text
    rig.cannot_start = None
    rig.read(100)
    rig.after(FIRST_RETRY_S - 4)
    assert rig.jobs == []
    rig.after(4)
    assert len(rig.jobs) == 1


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (signal.SIGKILL, "training was killed by SIGKILL, perhaps because memory ran out; it is tried"),
        (signal.SIGSEGV, "training was killed by SIGSEGV; it is tried"),
        (40, "training was killed by signal 40; it is tried"),
    ],
)
def test_a_job_that_was_killed_is_said_to_have_been(
    number: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    rig.after(FIRST_LOOK_S)
    rig.finish(-number)
    assert rig.outcomes == ["failed"]
    assert told in caplog.text


def test_a_version_that_somebody_else_trained_is_served() -> None:
    rig = Rig()
    rig.after(FIRST_LOOK_S)
    rig.finish(TOO_FEW, "10")
    rig.champion.bundle = bundle(300)
    assert rig.after(2) is not None
    assert rig.outcomes == ["too_few_records"]
    assert rig.after(2) is None


def test_a_version_that_cannot_be_used_is_refused_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.after(FIRST_LOOK_S)
    rig.champion.bundle, rig.champion.error = bundle(300), BundleRejectedError("trained on other features")
    assert rig.finish(0) is None
    assert rig.after(2) is None
    assert caplog.text.count("trained on other features") == 1
    assert rig.refused == 1
    assert rig.told is not None
    assert rig.told[2].startswith("bootstrapping: ")
    rig.read(1000)
    rig.after(2)
    assert len(rig.jobs) == 1
    rig.after(FIRST_RETRY_S)
    assert len(rig.jobs) == 2


def test_entities_that_went_elsewhere_do_not_count() -> None:
    rig = Rig()
    rig.after(FIRST_LOOK_S)
    rig.finish(TOO_FEW, "0")
    rig.read(60, entities=(0, 1))
    rig.bootstrap.forget(np.array([0, 1, 5]))
    rig.read(20, entities=(2,))
    rig.after(2)
    assert rig.told is not None
    assert rig.told[0] == 20


def test_stop_ends_the_job() -> None:
    rig = Rig()
    rig.after(FIRST_LOOK_S)
    rig.bootstrap.stop()
    rig.bootstrap.stop()
    assert rig.jobs[0].stopped
