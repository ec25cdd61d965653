"""A join of the group that ends while the member is busy, against a real broker."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing

import pytest

from detector.stream.kafka_python_client import KafkaPythonConsumer
from detector.stream.port import ClientSettings
from tests.kafka.broker import RealBroker
from tests.kafka.fixtures import TopicFactory

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture
def members(kafka_broker: RealBroker, group: str) -> Iterator[list[KafkaPythonConsumer]]:
    """Three consumers of one group; the first one to subscribe leads it."""
    settings = ClientSettings(
        client="kafka-python",
        bootstrap_servers=(kafka_broker.bootstrap_servers,),
        group_id=group,
        session_timeout_s=6.0,
    )
    with ExitStack() as stack:
        yield [stack.enter_context(closing(KafkaPythonConsumer(settings))) for _ in range(3)]


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30.0
    while not done():
        assert time.monotonic() < deadline, f"{what}: not within 30 s"
        time.sleep(0.01)


def generations(members: Sequence[KafkaPythonConsumer]) -> set[int]:
    return {member._consumer.group_metadata().generation_id for member in members}


def shared(members: Sequence[KafkaPythonConsumer]) -> bool:
    """Poll each of them; return whether they are one generation of the group, of six partitions in all."""
    for member in members:
        member.poll(10, 0.2)
    held = [len(member.assigned()) for member in members]
    stable = all(member._consumer._coordinator.generation_if_stable() for member in members)
    return stable and len(generations(members)) == 1 and held == [6 // len(members)] * len(members)


def join_while_busy(members: Sequence[KafkaPythonConsumer], topic: str) -> None:
    """Bring the third into the group of two; the joins of these end while none of them is in a poll."""
    leader, second, third = members
    for n in (1, 2):
        members[n - 1].subscribe([topic])
        until(lambda n=n: shared(members[:n]), f"{n} members")  # type: ignore[misc]
    third.subscribe([topic])
    until(lambda: third.poll(10, 0.05) is not None and leader._consumer._coordinator.need_rejoin(), "news")
    # The broker answers only once all have asked.
    leader.poll(10, 0.05)
    until(second._consumer._coordinator.need_rejoin, "news")
    second.poll(10, 0.0)
    joins = [member._consumer._coordinator._join_task for member in members]
    until(lambda: all(join is None or join.is_done for join in joins), "all joined")


def test_a_join_that_ends_between_two_polls_is_not_repeated(
    members: list[KafkaPythonConsumer], topic: TopicFactory
) -> None:
    join_while_busy(members, topic(partitions=6))
    before = generations(members)
    assert len(before) == 1
    # Each alone: a leader that joined anew would wait for the others.
    for member in members:
        until(lambda m=member: m.poll(10, 0.2) is not None and len(m.assigned()) == 2, "a share")  # type: ignore[misc]
    assert len(frozenset().union(*(member.assigned() for member in members))) == 6
    assert generations(members) == before

    # What was used once is not used again: the next join is a new one.
    members[2].close()
    until(lambda: shared(members[:2]), "two members again")
    assert min(generations(members[:2])) > max(before)


def test_a_join_older_than_the_session_is_repeated(
    members: list[KafkaPythonConsumer], topic: TopicFactory
) -> None:
    join_while_busy(members, topic(partitions=6))
    # Until the broker has given all of them up: the session that they agreed on has to pass.
    time.sleep(7.0)
    leader = members[0]
    held: set[int] = set()

    def joined_alone() -> bool:
        leader.poll(10, 0.2)
        held.add(len(leader.assigned()))
        return 6 in held

    until(joined_alone, "joined alone")
    # It never took itself for the owner of the third that was its share while it was a member.
    assert 2 not in held
