"""Wiring of ``detector notify``: from a configuration to a running deliverer, and back down in reverse."""

import base64
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from detector import __version__
from detector.config.notify import NotifyConfig, ReceiverConfig
from detector.config.root import Config
from detector.delivery.alertmanager import PATH, AlertmanagerChannel
from detector.delivery.episodes import Episodes
from detector.delivery.http_post import Endpoint, Poster
from detector.delivery.loop import DeliveryLoop
from detector.delivery.mailbox import Finished, Mailbox
from detector.delivery.observer import DeliveryObserver
from detector.delivery.receiver import AlertmanagerReceiver, Receiver
from detector.delivery.webhook import WebhookChannel
from detector.from_config import client_settings
from detector.signals import stopped_by_signals
from detector.stream.port import (
    ClientFailedError,
    ClientSettings,
    RawRecords,
    open_consumer,
    open_producer,
    read_range,
)
from detector.stream.watchdog import Watchdog
from detector.web.health import Health
from detector.web.notify_metrics import NotifyMetrics
from detector.web.server import WebServer, application

LETTERS_WAITING = 10_000
"""Per receiver; beyond it the oldest become dead letters, so that memory is bounded."""

_log = logging.getLogger(__name__)


class NotConfiguredError(ValueError):
    """The configuration has no ``notify`` section; nothing was started."""


def run(config: Config) -> None:
    """Deliver alert events until SIGTERM or SIGINT.

    Neither a broker nor a receiver that is away is an error.

    Raises:
        NotConfiguredError: Nobody is to be told.
        WebError: The HTTP port cannot be served.
        ClientSettingsError: The Kafka settings can never work.
        SystemExit: The Kafka client is beyond repair, or another replica has the instance id.
    """
    notify = config.notify
    if notify is None:
        raise NotConfiguredError(
            "the configuration has no notify section; add alertmanagers or webhooks there"
        )
    with ExitStack() as resources:
        registry, health = CollectorRegistry(), Health()
        metrics = NotifyMetrics(registry, health)
        health.models_loaded = True  # There are none to load.
        server = WebServer(application(registry, health), *notify.address)
        resources.callback(server.stop)

        finished: SimpleQueue[Finished] = SimpleQueue()
        receivers = _receivers(notify, finished.put, metrics)
        for receiver in receivers:
            metrics.receiver_added(receiver.name, receiver.address)
            resources.callback(receiver.stop, 0.0)
            receiver.start()

        settings = replace(
            client_settings(config),
            group_id=notify.group_id or f"{config.kafka.group_id}-notify",
            client_id="detector-notify",
        )
        watchdog = Watchdog()
        loop = DeliveryLoop(
            config.outputs.alerts_topic,
            config.outputs.dead_letter_topic,
            partial(open_consumer, settings),
            partial(open_producer, settings),
            _reader_back(settings, config.outputs.alerts_topic),
            Episodes(
                notify.max_alert_age_s,
                notify.expire_after_s,
                max(receiver.give_up_after_s for receiver in (*notify.alertmanagers, *notify.webhooks)),
                notify.generator_url or "",
            ),
            receivers,
            finished,
            metrics,
            watchdog,
            # What expired is told as well, in case nobody was there to tell it.
            read_back_s=notify.expire_after_s + notify.max_alert_age_s,
        )
        resources.enter_context(stopped_by_signals(loop.stop))
        # Not before: whoever sees that it answers may want it to stop.
        server.start()
        resources.callback(watchdog.stop)
        watchdog.start()
        _log.info(
            "detector %s: alerts of topic %s go to %s, as group %s; metrics on http://%s:%d/metrics",
            __version__,
            config.outputs.alerts_topic,
            ", ".join(receiver.id for receiver in receivers),
            settings.group_id,
            notify.address[0],
            server.port,
        )
        try:
            loop.run()
        except ClientFailedError as error:
            _log.error("%s; ending with code %d", error, error.exit_code)
            raise SystemExit(error.exit_code) from error
        _log.info("stopped: what was not delivered is not committed, and comes again")


def _receivers(
    notify: NotifyConfig, finished: Callable[[Finished], object], observer: DeliveryObserver
) -> list[Receiver]:
    """Return a receiver for every replica of every Alertmanager, and for every webhook."""
    receivers: list[Receiver] = []
    for manager in notify.alertmanagers:
        for url in manager.urls:
            endpoint = _endpoint(manager, url.rstrip("/") + PATH)
            receivers.append(
                AlertmanagerReceiver(
                    manager.name,
                    endpoint.address,
                    AlertmanagerChannel(manager.resend_s),
                    Poster(endpoint).post,
                    _mailbox(manager, endpoint),
                    finished,
                    observer,
                    manager.resend_s,
                )
            )
    for hook in notify.webhooks:
        endpoint = _endpoint(hook, hook.url)
        receivers.append(
            Receiver(
                hook.name,
                endpoint.address,
                WebhookChannel(hook.name, _site(notify.generator_url), hook.keys),
                Poster(endpoint).post,
                _mailbox(hook, endpoint),
                finished,
                observer,
            )
        )
    return receivers


def _endpoint(receiver: ReceiverConfig, url: str) -> Endpoint:
    authorization = None
    if receiver.bearer_token is not None:
        authorization = f"Bearer {receiver.bearer_token.get_secret_value()}"
    elif receiver.username is not None and receiver.password is not None:
        pair = f"{receiver.username}:{receiver.password.get_secret_value()}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    ca_file = None if receiver.ca_file is None else str(receiver.ca_file)
    return Endpoint(url, receiver.timeout_s, authorization, ca_file)


def _mailbox(receiver: ReceiverConfig, endpoint: Endpoint) -> Mailbox:
    return Mailbox(
        f"{receiver.name} {endpoint.address}",
        receiver.give_up_after_s,
        LETTERS_WAITING,
        # Jitter, so that deliverers do not keep in step.
        random.Random(),  # noqa: S311
    )


def _site(url: str | None) -> str:
    """Return scheme and host of a link."""
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def _reader_back(settings: ClientSettings, topic: str) -> Callable[[float], Iterator[RawRecords]]:
    return lambda from_s: read_range(settings, [topic], from_s)
