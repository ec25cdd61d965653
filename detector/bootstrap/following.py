"""The champion of a detector in its store, followed: what becomes it is loaded, checked and served.

Training, or whoever puts another version back, moves an alias. It is looked at between polls. Loading takes
seconds, so that happens in another thread, and what is ready takes over between two polls. A version that
cannot be used leaves the one before serving, and is tried again from time to time, as it may be half copied.
One that serves and vanishes from the store serves on.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Protocol

from detector.batch import IntArray
from detector.bundles.store import Bundle, BundleError
from detector.stream.watch import Watch

LOOK_INTERVAL_S = 1.0
"""Between two looks at the alias, a small file."""
RETRY_S = 60.0
"""Before a version that could not be used is tried again."""

Loaded = tuple[Bundle, Watch]

_log = logging.getLogger(__name__)


class Champion(Protocol):
    """The champion of a detector in its store."""

    def version(self) -> str | None:
        """Return which version it is, None where there is none.

        Raises:
            BundleError: The store cannot be read.
        """
        ...

    def check(self) -> None:
        """Look whether it is still there, without reading it.

        Raises:
            BundleError: There is none, or it cannot be read.
        """
        ...

    def load(self, version: str) -> Loaded:
        """Return a version, and a watch that scores with it; called in another thread than the loop's.

        Raises:
            BundleError: It cannot be used.
        """
        ...

    def serves(self, loaded: Loaded) -> None:
        """Take note that a version scores from now on."""
        ...


class Following:
    """Which version serves, and what came after it: a ``detector.stream.arrivals.Arrivals``."""

    def __init__(
        self,
        detector: str,
        version: str | None,
        champion: Champion,
        refused: Callable[[str], object],
        background: Callable[[Callable[[], Loaded]], "Future[Loaded]"],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        detector: Its name.
        version: The one that serves already, if there is one.
        champion: In the store.
        refused: Called with the detector's name whenever a version cannot be used.
        background: Returns at once what will hold the result of what is given, or what it raised.
        clock: Monotonic seconds.
        """
        self.version = version
        self._detector = detector
        self._champion = champion
        self._refused = refused
        self._background = background
        self._clock = clock
        self._taken: str | None = None
        """What the store calls the version that serves: a copy of it may have another name."""
        self._loading: tuple[str, Future[Loaded]] | None = None
        """What the store calls the version that is being loaded, and what it will be."""
        self._bad: str | None = None
        self._problem = ""
        self._retry_due_s = self._look_due_s = -float("inf")

    def seen(self, slots: IntArray) -> None:
        """Records say nothing of versions."""

    def forget(self, slots: IntArray) -> None:
        """Nor do entities."""

    def arrived(self) -> Watch | None:
        """Return a watch with a new champion; None without news."""
        now_s = self._clock()
        if now_s < self._look_due_s:
            return None
        self._look_due_s = now_s + LOOK_INTERVAL_S
        news = self.news(now_s)
        return None if news is None else news[1]

    @property
    def loading(self) -> bool:
        """Whether another version is on its way."""
        return self._loading is not None

    def news(self, now_s: float) -> Loaded | None:
        """Return the champion, once, if it is another one than serves, can be used, and is loaded."""
        version = None
        try:
            version = self._champion.version()
            if self._loading is None:
                if version is None or version in (self.version, self._taken):
                    if self.version is not None:
                        self._champion.check()
                    self._mended()
                    return None
                if version == self._bad and now_s < self._retry_due_s:
                    return None
                self._loading = version, self._background(partial(self._champion.load, version))
            wanted, future = self._loading
            if not future.done():
                return None
            self._loading = None
            if version != wanted:
                # Another one became the champion meanwhile: the next look is at that.
                return None
            loaded = future.result()
        except BundleError as error:
            self._refuse(version, error, now_s)
            return None
        self._taken = version
        self._champion.serves(loaded)
        bundle, _ = loaded
        self._bad, self._problem = None, ""
        before, self.version = self.version, bundle.manifest.version
        if before is not None:
            _log.info(
                "detector %s: version %s takes over from %s; alerts go on, entities warm up again",
                self._detector,
                self.version,
                before,
            )
        return loaded

    def _mended(self) -> None:
        """Take note that the champion in the store is what serves."""
        if self._problem and self.version is not None:
            _log.info(
                "detector %s: version %s, which serves, is its champion again", self._detector, self.version
            )
        self._bad, self._problem = None, ""

    def _refuse(self, version: str | None, error: BundleError, now_s: float) -> None:
        """Count a version that cannot be used, or a champion that is gone, and log it once."""
        is_gone = version is None or version in (self.version, self._taken)
        if is_gone and now_s < self._retry_due_s:
            return
        self._bad, self._retry_due_s = version, now_s + RETRY_S
        self._refused(self._detector)
        if str(error) == self._problem:
            return
        self._problem = str(error)
        if is_gone and self.version is not None:
            _log.warning(
                "detector %s: its champion is gone, or cannot be read: %s; version %s serves on, and a "
                "process that starts now would have none: put it back, or promote another",
                self._detector,
                error,
                self.version,
            )
            return
        _log.error(
            "version %s of detector %s is not used: %s%s",
            version or "(unknown)",
            self._detector,
            error,
            "" if self.version is None else f"; version {self.version} serves on",
        )
