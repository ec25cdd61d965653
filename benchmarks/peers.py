"""What the daemon is compared with, each one a process: drains, echoes, and Quix Streams with scikit-learn.

Run by ``throughput.py``. Nothing here imports the detector, so the Quix Streams peer can run in an
environment of its own. Each is written as somebody who knows the library would write it for speed.

    python benchmarks/peers.py drain confluent --bootstrap H:P --input IN --skip 20000 --records 100000
    python benchmarks/peers.py echo kafka-python --bootstrap H:P --input IN --output OUT
    python benchmarks/peers.py quix quix --bootstrap H:P --input IN --output OUT --training rows.npy
"""

import argparse
import json
import signal
import sys
import time
import uuid
from typing import Any

BATCH = 1_000
"""Records per poll at most: the cheapest for an echo of 500, 1,000, 5,000 and 10,000."""
IDLE_S = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["drain", "echo", "quix"])
    parser.add_argument("client", choices=["confluent", "kafka-python", "quix"])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output")
    parser.add_argument("--skip", type=int, default=0, help="records before the clock of a drain starts")
    parser.add_argument("--records", type=int, default=0, help="records that a drain counts after that")
    parser.add_argument("--training", help="rows of the model, .npy")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run = {
        ("drain", "confluent"): drain_confluent,
        ("drain", "kafka-python"): drain_kafka_python,
        ("echo", "confluent"): echo_confluent,
        ("echo", "kafka-python"): echo_kafka_python,
        ("quix", "quix"): quix,
    }[arguments.kind, arguments.client]
    run(arguments)


class Clock:
    """Time and CPU of this process, all threads, from one count of records to another."""

    def __init__(self, skip: int, records: int) -> None:
        self._skip, self._records = skip, records
        self._seen = self._first = 0
        self._started = self._cpu = 0.0

    def count(self, n: int) -> bool:
        """Add n records; print the result and return True once all were seen."""
        self._seen += n
        if not self._first and self._seen >= self._skip:
            self._first, self._started, self._cpu = self._seen, time.perf_counter(), time.process_time()
        if self._seen < self._skip + self._records:
            return False
        seconds, cpu_s = time.perf_counter() - self._started, time.process_time() - self._cpu
        print(json.dumps({"records": self._seen - self._first, "seconds": seconds, "cpu_s": cpu_s}))
        return True


def confluent_consumer(arguments: argparse.Namespace) -> Any:
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": arguments.bootstrap,
            "group.id": f"bench-{uuid.uuid4().hex}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
            "queued.min.messages": 20_000,
        }
    )
    consumer.subscribe([arguments.input])
    return consumer


def confluent_batch(consumer: Any) -> list[Any]:
    """Take what is there; wait only for the first."""
    messages: list[Any] = consumer.consume(BATCH, 0)
    if not messages:
        first = consumer.poll(IDLE_S)
        if first is not None:
            messages = [first, *consumer.consume(BATCH - 1, 0)]
    for message in messages:
        if message.error():
            raise SystemExit(str(message.error()))
    return messages


def drain_confluent(arguments: argparse.Namespace) -> None:
    consumer, clock = confluent_consumer(arguments), Clock(arguments.skip, arguments.records)
    while not clock.count(len([message.value() for message in confluent_batch(consumer)])):
        pass
    consumer.close()


def echo_confluent(arguments: argparse.Namespace) -> None:
    from confluent_kafka import Producer

    failures: list[Any] = []
    producer = Producer(
        {
            "bootstrap.servers": arguments.bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "delivery.report.only.error": True,
            "on_delivery": lambda error, _: failures.append(error),
        }
    )
    consumer = confluent_consumer(arguments)
    output, produce = arguments.output, producer.produce
    while True:
        messages = confluent_batch(consumer)
        if not messages:
            continue
        for message in messages:
            produce(output, message.value(), message.key(), message.partition())
        if producer.flush(30) or failures:
            raise SystemExit(f"not delivered: {failures[:1]}")
        consumer.commit(asynchronous=False)


def kafka_python_consumer(arguments: argparse.Namespace) -> Any:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        bootstrap_servers=arguments.bootstrap,
        group_id=f"bench-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        metrics_enabled=False,
    )
    consumer.subscribe([arguments.input])
    return consumer


def drain_kafka_python(arguments: argparse.Namespace) -> None:
    consumer, clock = kafka_python_consumer(arguments), Clock(arguments.skip, arguments.records)
    while True:
        polled = consumer.poll(timeout_ms=200, max_records=BATCH)
        if clock.count(sum(len([record.value for record in records]) for records in polled.values())):
            break
    consumer.close(autocommit=False)


def echo_kafka_python(arguments: argparse.Namespace) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=arguments.bootstrap,
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        batch_size=131_072,
        metrics_enabled=False,
    )
    consumer = kafka_python_consumer(arguments)
    output, send = arguments.output, producer.send
    while True:
        futures = [
            send(output, record.value, record.key, None, partition.partition)
            for partition, records in consumer.poll(timeout_ms=200, max_records=BATCH).items()
            for record in records
        ]
        if not futures:
            continue
        producer.flush(timeout=30)
        if any(future.failed() for future in futures):
            raise SystemExit("not delivered")
        consumer.commit()


def quix(arguments: argparse.Namespace) -> None:
    import numpy as np
    from quixstreams import Application
    from sklearn.mixture import GaussianMixture

    rows = np.load(arguments.training)
    names = [f"f{j}" for j in range(rows.shape[1])]
    model = GaussianMixture(8, covariance_type="full", random_state=0).fit(rows)
    app = Application(
        broker_address=arguments.bootstrap,
        consumer_group=f"bench-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        loglevel="ERROR",
    )

    def score(value: dict[str, Any]) -> dict[str, Any]:
        features = value["features"]
        row = np.array([[features[name] for name in names]])
        return {
            "entity": value["entity"],
            "time": value["time"],
            "log_likelihood": float(model.score_samples(row)[0]),
        }

    stream = app.dataframe(app.topic(arguments.input, value_deserializer="json"))
    stream.apply(score).to_topic(app.topic(arguments.output, value_serializer="json"))
    app.run()


if __name__ == "__main__":
    main()
