"""The whole configuration: its sections, and what must hold between them."""

import importlib.util
from collections.abc import Mapping, Sequence

from pydantic import Field

from detector.config.detectors import DetectorConfig
from detector.config.inputs import InputConfig
from detector.config.kafka import KafkaConfig
from detector.config.maintenance import ControlConfig, MaintenanceConfig, maintenance_problems
from detector.config.notify import OWN_LABELS, NotifyConfig
from detector.config.outputs import LoggingConfig, OutputsConfig, WebConfig
from detector.config.problem import Problem, suggestion
from detector.config.section import Section
from detector.extras import how_to_install


class Config(Section):
    """Everything the daemon is told. Nothing is read from the environment later."""

    kafka: KafkaConfig = Field(
        default_factory=KafkaConfig,
        description="Brokers.",
        examples=['{bootstrap_servers: ["kafka-1:9092"]}'],
    )
    inputs: tuple[InputConfig, ...] = Field(
        min_length=1, description="What to read.", examples=["[{name: telegraf, topics: [telegraf]}]"]
    )
    detectors: tuple[DetectorConfig, ...] = Field(
        min_length=1,
        description="What to watch.",
        examples=["[{name: hosts, input: telegraf, features: [cpu, memory]}]"],
    )
    outputs: OutputsConfig = Field(
        default_factory=OutputsConfig,
        description="Where answers go.",
        examples=["{alerts_topic: detector.alerts}"],
    )
    maintenance: tuple[MaintenanceConfig, ...] = Field(
        (),
        description="Windows in which nothing fires and nothing is learnt.",
        examples=['[{every: [sat, sun], from: "02:00", until: "04:00"}]'],
    )
    control: ControlConfig | None = Field(
        None, description="Where such windows are announced.", examples=["{topic: detector.control}"]
    )
    notify: NotifyConfig | None = Field(
        None,
        description="Who is told of alerts, by detector notify.",
        examples=['{alertmanagers: [{urls: ["http://alertmanager:9093"]}]}'],
    )
    web: WebConfig = Field(
        default_factory=WebConfig,
        description="Metrics and health.",
        examples=['{listen_address: "127.0.0.1:9877"}'],
    )
    logging: LoggingConfig = Field(
        default_factory=LoggingConfig, description="Messages.", examples=["{level: info, format: json}"]
    )

    def input(self, name: str) -> InputConfig:
        """Return the input of that name.

        Raises:
            KeyError: There is none.
        """
        for candidate in self.inputs:
            if candidate.name == name:
                return candidate
        raise KeyError(name)

    def detector(self, name: str) -> DetectorConfig:
        """Return the detector of that name.

        Raises:
            KeyError: There is none; the message lists those there are.
        """
        for candidate in self.detectors:
            if candidate.name == name:
                return candidate
        known = ", ".join(detector.name for detector in self.detectors)
        raise KeyError(f"no detector is called {name!r}; the configuration has {known}")

    def detectors_of(self, input: str) -> tuple[DetectorConfig, ...]:
        """Return the detectors that read an input, in the file's order."""
        return tuple(detector for detector in self.detectors if detector.input == input)

    def values_allowed(self, input: str) -> bool:
        """Return whether a bare list of values means the same to every detector of an input."""
        return len({tuple(f.field for f in d.features) for d in self.detectors_of(input)}) == 1


def cross_check(
    names: Mapping[str, Sequence[tuple[int, str]]],
    wanted_inputs: Sequence[tuple[int, str]],
    inputs: Sequence[tuple[int, InputConfig]],
    detectors: Sequence[DetectorConfig] | None,
    kafka: KafkaConfig | None,
    outputs: OutputsConfig | None,
    notify: NotifyConfig | None,
    web: WebConfig | None,
    maintenance: Sequence[tuple[int, MaintenanceConfig]] = (),
    control: ControlConfig | None = None,
) -> list[Problem]:
    """Return what is wrong between sections that are right by themselves.

    Args:
        names: Position and name of every entry of ``inputs`` and ``detectors``, valid or not.
        wanted_inputs: Position of every detector, valid or not, and the input that it names.
        inputs: Position and section of the valid inputs.
        detectors: None if one of them is not valid; ``kafka``, ``outputs``, ``notify`` and ``web`` likewise.
        maintenance: Position and section of the valid windows.
        control: None if there is none, or it is not valid.
    """
    problems = [p for section, entries in names.items() for p in _repeated_names(section, entries)]
    problems += _topic_problems(inputs, outputs, control)
    problems += maintenance_problems(maintenance, [name for _, name in names["detectors"]])
    known = {name for _, name in names["inputs"]}
    for i, wanted in wanted_inputs:
        if wanted not in known:
            message = f"no input is called {wanted!r}; {suggestion(wanted, known)}"
            problems.append(Problem(("detectors", i, "input"), message))
    for i, entry in inputs if detectors is not None else ():
        readers = [detector for detector in detectors or () if detector.input == entry.name]
        problems += _values_problems(i, entry, readers)
        problems += _kind_problems(entry, detectors or ())
        # A detector with a misspelt input is the likelier mistake, and is reported already.
        if not readers and wanted_inputs and all(wanted in known for _, wanted in wanted_inputs):
            message = f"no detector reads input {entry.name!r}; remove it, or name it in a detector's input"
            problems.append(Problem(("inputs", i), message))
    problems += _bootstrap_problems(detectors or ())
    if kafka is not None and kafka.client == "confluent" and not importlib.util.find_spec("confluent_kafka"):
        message = f"'confluent' is not installed; {how_to_install('confluent')}, or write kafka-python"
        problems.append(Problem(("kafka", "client"), message))
    if kafka is not None and notify is not None and notify.group_id == kafka.group_id:
        message = f"{notify.group_id!r} is the scorer's group already; choose another, or leave it out"
        problems.append(Problem(("notify", "group_id"), message))
    if notify is not None:
        problems += _told_label_problems(inputs)
    if notify is not None and web is not None and web.port and notify.address == (web.host, web.port):
        message = f"{notify.listen_address!r} is web.listen_address already; give this one a port of its own"
        problems.append(Problem(("notify", "listen_address"), message))
    return problems


def _told_label_problems(inputs: Sequence[tuple[int, InputConfig]]) -> list[Problem]:
    """Find labels of inputs that nobody would be told, since alerts have others of these names."""
    return [
        Problem(
            ("inputs", i, "labels"),
            f"{label!r} is a label of every alert that is told, which would hide this one; send the "
            "field under another name",
        )
        for i, entry in inputs
        for label in entry.labels
        if label in OWN_LABELS
    ]


def _repeated_names(section: str, names: Sequence[tuple[int, str]]) -> list[Problem]:
    first: dict[str, int] = {}
    problems = []
    for i, name in names:
        if name in first:
            message = f"{name!r} is also the name of {section}[{first[name]}]; rename one of them"
            problems.append(Problem((section, i, "name"), message))
        first.setdefault(name, i)
    return problems


def _topic_problems(
    inputs: Sequence[tuple[int, InputConfig]], outputs: OutputsConfig | None, control: ControlConfig | None
) -> list[Problem]:
    user: dict[str, str] = {}
    problems = []
    for i, entry in inputs:
        for topic in entry.topics:
            if topic in user:
                message = f"topic {topic!r} is already read by {user[topic]}; keep it in one input"
                problems.append(Problem(("inputs", i, "topics"), message))
            user.setdefault(topic, f"inputs[{i}]")
    if control is not None and control.topic in user:
        message = f"topic {control.topic!r} is already {user[control.topic]}'s; give this one its own"
        problems.append(Problem(("control", "topic"), message))
    elif control is not None:
        user[control.topic] = "control.topic"
    if outputs is None:
        return problems
    for name in ("scores_topic", "alerts_topic", "dead_letter_topic"):
        topic = getattr(outputs, name)
        if topic in user:
            message = f"topic {topic!r} is already {user[topic]}'s; give this one a topic of its own"
            problems.append(Problem(("outputs", name), message))
        elif topic is not None:
            user[topic] = f"outputs.{name}"
    return problems


def _bootstrap_problems(detectors: Sequence[DetectorConfig]) -> list[Problem]:
    """Find detectors that are to be trained where nothing can train."""
    if importlib.util.find_spec("sklearn"):
        return []
    message = (
        f"trains beside the daemon, and scikit-learn is not installed; {how_to_install('train')}, "
        "or leave it out and train elsewhere"
    )
    return [
        Problem(("detectors", i, "bootstrap"), message)
        for i, detector in enumerate(detectors)
        if detector.bootstrap is not None
    ]


def _values_problems(i: int, entry: InputConfig, detectors: Sequence[DetectorConfig]) -> list[Problem]:
    orders = {tuple(feature.field for feature in detector.features): detector.name for detector in detectors}
    if "values_field" not in entry.model_fields_set or len(orders) <= 1:
        return []
    message = (
        f"a list of values is ambiguous: {' and '.join(sorted(orders.values()))} have different features; "
        "give them the same features in the same order, or remove values_field and send features by name"
    )
    return [Problem(("inputs", i, "values_field"), message)]


def _kind_problems(entry: InputConfig, detectors: Sequence[DetectorConfig]) -> list[Problem]:
    """Find fields that are text to one detector of an input and a number to another."""
    first: dict[tuple[str, ...], tuple[bool, str]] = {}
    problems = []
    for i, detector in enumerate(detectors):
        for j, feature in enumerate(detector.features if detector.input == entry.name else ()):
            is_text = feature.kind == "categorical"
            was_text, other = first.setdefault(feature.field, (is_text, detector.name))
            if was_text != is_text:
                here, there = ("categorical", "a number") if is_text else ("a number", "categorical")
                message = (
                    f"field {'.'.join(feature.field)!r} is {here} here and {there} to detector {other!r}; "
                    "give it one kind, or send it under two names"
                )
                problems.append(Problem(("detectors", i, "features", j, "kind"), message))
    return problems
