"""When to train: a first version as soon as there are enough records, the next with four times as many.

A detector without a version, or with a young one, has a goal: so many records of an entity. When it begins,
and whenever the records read since may have reached it, a job trains on what the topics hold, or says that
they hold too few. With every version the goal becomes four times the records that it was trained on, until
2,000 records, and 300 of an entity, were held out: from there on, training is the operator's. A version
that somebody else makes the champion is taken as well, now and later (``following.py``).
"""

import logging
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

import numpy as np

from detector.batch import IntArray
from detector.bootstrap.following import Champion, Following, Loaded
from detector.bootstrap.training_child import TOO_FEW_EXIT_CODE, Ended
from detector.bundles.store import Bundle
from detector.bundles.youth import records_missing, records_of_an_entity
from detector.stream.watch import Watch

GROWTH = 4
LONGEST_JOB_S = 3600.0
"""Then it is ended, and has failed."""
FIRST_LOOK_S = 5.0
"""Before the first job: this process has then read what waited for it, which so is not counted twice."""
FIRST_RETRY_S = 60.0
"""After a job that failed; twice as long after each further one, up to an hour."""
FIRST_LOOK_AGAIN_S = 5.0
"""The same after a job that found too few records."""
_LONGEST_RETRY_S = 3600.0
_LOOK_INTERVAL_S = 1.0
_LOG_INTERVAL_S = 60.0

_log = logging.getLogger(__name__)


class Job(Protocol):
    """A training job that was started."""

    def ended(self) -> Ended | None:
        """Return how it ended, once; None while it runs."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


class Reporter(Protocol):
    """Who is told how far it is."""

    def growing(self, detector: str, records: int, goal: int, note: str) -> None:
        """Set how many records of an entity there are, and with how many the next version is trained.

        Args:
            detector: Which one.
            records: Of an entity.
            goal: So many are needed.
            note: The same in words, while there is no version at all; else empty.
        """
        ...

    def grown(self, detector: str) -> None:
        """Forget both: training is the operator's now."""
        ...

    def training_ended(self, detector: str, outcome: str) -> None:
        """Count a job."""
        ...

    def version_refused(self, detector: str) -> None:
        """Count a version that cannot be used."""
        ...


class Bootstrap:
    """Brings a detector from no version to one that is not young: a ``detector.stream.arrivals.Arrivals``."""

    def __init__(
        self,
        detector: str,
        records: int,
        bundle: Bundle | None,
        champion: Champion,
        start: Callable[[int], Job],
        report: Reporter,
        background: Callable[[Callable[[], Loaded]], "Future[Loaded]"],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        detector: Its name.
        records: Of an entity, for the first version.
        bundle: The version that scores already, if there is one.
        champion: In the store.
        start: Starts a job that trains if there are so many records of an entity; may raise ``OSError``.
        report: Is told how far it is.
        background: Loads versions; see ``Following``.
        clock: Monotonic seconds.
        """
        self._detector = detector
        self._following = Following(detector, None, champion, self._version_refused, background, clock)
        self._start = start
        self._report = report
        self._clock = clock
        self._goal: int | None = records
        self._found = 0
        """Records of an entity, as the last job or version found them."""
        self._seen: IntArray = np.zeros(0, dtype=np.int64)
        """Of each slot, since then."""
        self._job: Job | None = None
        self._started_s = 0.0
        self._looked_into_topics = False
        self._pause_s = 0.0
        self._paused_until_s = clock() + FIRST_LOOK_S
        self._look_due_s = self._log_due_s = -np.inf
        if bundle is not None:
            self._take(bundle)

    def seen(self, slots: IntArray) -> None:
        """Count the records of a batch by the slots of their entities, shape (N,)."""
        if self._goal is None or slots.size == 0:
            return
        counts = np.bincount(slots, minlength=self._seen.size)
        counts[: self._seen.size] += self._seen
        self._seen = counts

    def forget(self, slots: IntArray) -> None:
        """Drop the counts of entities whose partitions went elsewhere."""
        self._seen[slots[slots < self._seen.size]] = 0

    def arrived(self) -> Watch | None:
        """Return a watch with a new version; None without news."""
        now_s = self._clock()
        if now_s < self._look_due_s:
            return None
        self._look_due_s = now_s + _LOOK_INTERVAL_S
        if self._job is not None:
            self._follow(self._job, now_s)
        watch = self._new_version(now_s) if self._job is None else None
        self._move_on(now_s)
        return watch

    def stop(self) -> None:
        """End the job that runs, if one does."""
        job, self._job = self._job, None
        if job is not None:
            job.stop()

    def _move_on(self, now_s: float) -> None:
        """Start a job if it is time, and tell how far it is."""
        if self._goal is None:
            return
        records = self._found + records_of_an_entity(self._seen)
        # The topics may hold more than this process has read.
        due = records >= self._goal or not self._looked_into_topics
        idle = self._job is None and not self._following.loading
        if due and idle and now_s >= self._paused_until_s:
            self._train(self._goal, records, now_s)
        self._tell(records, self._goal, now_s)

    def _train(self, goal: int, records: int, now_s: float) -> None:
        try:
            self._job = self._start(goal)
        except OSError as error:
            self._failed(f"could not be started: {error}", now_s)
            return
        self._started_s = now_s
        self._looked_into_topics = True
        self._found, self._seen = records, np.zeros_like(self._seen)

    def _follow(self, job: Job, now_s: float) -> None:
        """Take note of the end of a job."""
        ended = job.ended()
        if ended is None and now_s - self._started_s > LONGEST_JOB_S:
            job.stop()
            self._job = None
            self._failed(f"was ended, because it took longer than {LONGEST_JOB_S:.0f} s", now_s)
            return
        if ended is None:
            return
        self._job = None
        if ended.code == 0:
            self._pause_s = 0.0
            self._report.training_ended(self._detector, "trained")
            for line in ended.output.splitlines():
                _log.info("detector %s: %s", self._detector, line.strip())
        elif ended.code == TOO_FEW_EXIT_CODE and ended.output.strip().isdecimal():
            self._report.training_ended(self._detector, "too_few_records")
            self._found = int(ended.output)
            self._log_due_s = now_s
            self._pause(FIRST_LOOK_AGAIN_S, now_s)
        else:
            self._failed(_failure(ended), now_s)

    def _failed(self, how: str, now_s: float) -> None:
        self._pause(FIRST_RETRY_S, now_s)
        _log.error(
            "detector %s: training %s; it is tried again in %.0f s", self._detector, how, self._pause_s
        )
        self._report.training_ended(self._detector, "failed")

    def _pause(self, first_s: float, now_s: float) -> None:
        self._pause_s = min(max(first_s, 2 * self._pause_s), _LONGEST_RETRY_S)
        self._paused_until_s = now_s + self._pause_s

    def _new_version(self, now_s: float) -> Watch | None:
        news = self._following.news(now_s)
        if news is None:
            return None
        bundle, watch = news
        self._take(bundle)
        return watch

    def _version_refused(self, detector: str) -> None:
        self._report.version_refused(detector)
        if self._pause_s == 0.0:
            # What a job has just trained, and the next might, too.
            self._pause(FIRST_RETRY_S, self._clock())

    def _take(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self._following.version = manifest.version
        self._found = manifest.training.records // max(len(bundle.held_out.lengths), 1)
        self._goal = GROWTH * max(self._found, 1)
        if records_missing(bundle) == 0:
            self._goal = None
            self._report.grown(self._detector)
            return
        _log.info(
            "detector %s: version %s learnt from %d records of an entity; with %d it is trained again",
            self._detector,
            manifest.version,
            self._found,
            self._goal,
        )

    def _tell(self, records: int, goal: int, now_s: float) -> None:
        note = ""
        if self._following.version is None:
            doing = ", training now" if self._job is not None and records >= goal else ""
            note = f"bootstrapping: {min(records, goal)} of {goal} records of an entity{doing}"
            if now_s >= self._log_due_s:
                self._log_due_s = now_s + _LOG_INTERVAL_S
                _log.info("detector %s: %s", self._detector, note)
        self._report.growing(self._detector, records, goal, note)


def _failure(ended: Ended) -> str:
    """Return what became of a job that brought no version."""
    if ended.code >= 0:
        reason = f": {ended.output.strip()}" if ended.output.strip() else ", which the lines above explain"
        return f"failed with exit code {ended.code}{reason}"
    try:
        name = signal.Signals(-ended.code).name
    except ValueError:
        name = f"signal {-ended.code}"
    memory = ", perhaps because memory ran out" if name == "SIGKILL" else ""
    return f"was killed by {name}{memory}"
