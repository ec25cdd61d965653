"""Tests for detector.cli.train and detector.cli.models: a bundle made, looked at, and found damaged."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from detector.batch import Source
from detector.bundles.store import BundleStore
from detector.cli.main import main
from detector.stream import control_topic
from detector.stream.port import BrokerUnavailableError, RawRecords
from tests.stream.records import ListEnvelope


class Project:
    """A configuration, training files and a store in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.data = folder / "normal.csv"
        self.store = folder / "bundles"
        self.config.write_text(f"""
inputs: [{{name: telemetry, topics: telemetry}}]
detectors:
  - name: hosts
    input: telemetry
    features: [cpu, {{name: rps, field: requests_per_s, unit: "1/s"}}]
    family: gmm
    predictor: none
    store: {self.store}
    training: {{n_components: 1}}
logging: {{format: console}}
""")
        rng = np.random.default_rng(3)
        values = rng.normal(size=(600, 2))
        rows = [f"{1.7e9 + 60 * (i // 2)},{'ab'[i % 2]},{a},{b}" for i, (a, b) in enumerate(values)]
        self.data.write_text("time,entity,cpu,rps\n" + "\n".join(rows) + "\n")

    def train(self, *options: str) -> Result:
        return self.call("train", str(self.config), *options)

    def call(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def trained(project: Project) -> Project:
    assert project.train("hosts", "--input", str(project.data)).exit_code == 0
    return project


def test_training_makes_a_champion(project: Project) -> None:
    result = project.train("hosts", "--input", str(project.data))
    assert result.exit_code == 0, result.output
    bundle = BundleStore(project.store).load("hosts")
    assert bundle.manifest.training.records == 600
    assert [(f.name, f.unit) for f in bundle.manifest.features] == [("cpu", None), ("rps", "1/s")]
    assert f"{project.store / 'hosts' / bundle.manifest.version}: champion" in result.stdout
    assert "their times: from 2023-11-14T22:13:20Z until 2023-11-15T03:12:20Z" in result.stdout
    # 180 records held out of two entities are 3 hours, in which 5 episodes can be counted.
    assert "one false alarm per entity in 0.025 days; this one is rarer" in result.stdout


def test_training_names_the_smallest_budget_that_is_supported(project: Project) -> None:
    text = project.config.read_text()
    alerting = "    alerting: {budget: {false_alarms: 100, every: 1d}}\n    training:"
    project.config.write_text(text.replace("    training:", alerting))
    result = project.train("hosts", "--input", str(project.data))
    assert result.exit_code == 0, result.output
    assert "supports budgets down to one false alarm per entity in " in result.stdout
    assert "rarer" not in result.stdout


def test_a_young_version_says_so_and_how_many_records_it_lacks(project: Project) -> None:
    text = project.config.read_text()
    members = "members: [{family: gmm, predictor: none, records: 3, n_components: 1}]"
    text = text.replace("    family: gmm\n    predictor: none\n", f"    {members}\n")
    project.config.write_text(text.replace("    training: {n_components: 1}\n", ""))
    result = project.train("hosts", "--input", str(project.data))
    assert result.exit_code == 0, result.output
    assert "young: 90 records of an entity are held out, 410 too few" in result.stdout
    assert BundleStore(project.store).load("hosts").model.learns


def announce(
    project: Project, monkeypatch: pytest.MonkeyPatch, read: Callable[..., Iterator[RawRecords]]
) -> None:
    project.config.write_text(project.config.read_text() + "control: {topic: announced}\n")
    monkeypatch.setattr(control_topic, "read_range", read)


def test_what_lies_in_announced_windows_is_left_out_of_files_as_well(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = b'{"selector": {"entities": "a"}, "from": 1700006000, "until": 1700009000}'
    others = b'{"selector": {"detectors": "others"}, "from": 1700000000, "until": 1700009000}'
    envelope = ListEnvelope([None, None], [[], []])
    records = RawRecords(
        (Source("announced", 0),), np.zeros(2, int), np.arange(2), [window, others], envelope
    )
    announce(project, monkeypatch, lambda *_: iter([records]))
    result = project.train("hosts", "--input", str(project.data))
    assert result.exit_code == 0, result.output
    assert "50 labelled anomalous or in maintenance" in result.stdout
    assert "left out 50 records inside the windows announced on control topic announced" in result.stderr
    assert BundleStore(project.store).load("hosts").manifest.training.anomalous_records == 50


def test_a_control_topic_that_cannot_be_read_is_warned_of(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> Iterator[RawRecords]:
        raise BrokerUnavailableError("no answer from localhost:9092")

    announce(project, monkeypatch, read)
    result = project.train("hosts", "--input", str(project.data))
    assert result.exit_code == 0, result.output
    assert "control topic announced cannot be read: no answer from localhost:9092; what was" in result.stderr


def test_fewest_refuses_what_is_too_little_and_says_how_much_there_is(project: Project) -> None:
    result = project.train("hosts", "--input", str(project.data), "--fewest", "301")
    assert (result.exit_code, result.stdout) == (3, "300\n")
    assert not project.store.exists()
    assert project.train("hosts", "--input", str(project.data), "--fewest", "300").exit_code == 0


@pytest.mark.parametrize(
    ("module", "name"), [("pyarrow", "pyarrow"), ("sklearn", "scikit-learn"), ("hmmlearn", "hmmlearn")]
)
def test_without_the_train_extra_it_says_what_to_install(
    project: Project, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = project.train("hosts", "--input", str(project.data))
    assert result.exit_code == 2
    assert f"training needs {name}; pip install '.[train]' in the source folder" in result.stderr


def test_files_of_the_configuration_are_read_without_options(project: Project) -> None:
    text = project.config.read_text()
    project.config.write_text(text.replace("n_components: 1", f"n_components: 1, files: {project.data}"))
    assert project.train("hosts").exit_code == 0


def test_several_files_are_one_training_set(project: Project) -> None:
    later = project.folder / "later.csv"
    rows = project.data.read_text().replace("1700", "1800")
    later.write_text(rows)
    result = project.train("hosts", "--input", str(project.data), "--input", str(later))
    assert result.exit_code == 0, result.output
    assert BundleStore(project.store).load("hosts").manifest.training.records == 1200


def rows_of(project: Project, values: np.ndarray) -> str:
    """Write records of entity a, one a minute, and return the file's path."""
    path = project.folder / "others.csv"
    rows = [f"{1.7e9 + 60 * i},a,{cpu},{rps}" for i, (cpu, rps) in enumerate(values)]
    path.write_text("time,entity,cpu,rps\n" + "\n".join(rows) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("n", "offset", "why"),
    [
        (60, 0.0, "18 records of an entity are held out, the champion has 90"),
        (600, 1e4, "the mean of cpu is 1e+04, for the champion it was"),
    ],
)
def test_a_version_that_would_blind_the_daemon_is_written_and_not_promoted(
    trained: Project, n: int, offset: float, why: str
) -> None:
    store = BundleStore(trained.store)
    champion = store.alias("hosts")
    others = rows_of(trained, np.random.default_rng(5).normal([offset, 0.0], size=(n, 2)))
    result = trained.train("hosts", "--input", others)
    assert result.exit_code == 4
    assert store.alias("hosts") == champion
    (newest,) = set(store.versions("hosts")) - {champion}
    assert f"{newest}: not promoted" in result.stdout
    assert why in result.stderr
    assert f"detector models promote {trained.config} hosts {newest}" in result.stderr
    assert trained.train("hosts", "--input", others, "--promote-anyway").exit_code == 0
    assert store.alias("hosts") not in (champion, None)


def test_a_version_of_enough_like_records_takes_over_and_not_where_that_is_not_wanted(
    trained: Project,
) -> None:
    store = BundleStore(trained.store)
    champion = store.alias("hosts")
    others = rows_of(trained, np.random.default_rng(5).normal(size=(400, 2)) + 1.0)
    assert trained.train("hosts", "--input", others, "--no-promote").exit_code == 0
    assert store.alias("hosts") == champion
    assert trained.train("hosts", "--input", others).exit_code == 0
    assert store.alias("hosts") != champion


def test_a_champion_that_cannot_be_read_keeps_no_version_from_taking_over(trained: Project) -> None:
    store = BundleStore(trained.store)
    (trained.store / "hosts" / str(store.alias("hosts")) / "manifest.json").write_text("{}")
    few = rows_of(trained, np.random.default_rng(5).normal(size=(60, 2)))
    assert trained.train("hosts", "--input", few).exit_code == 0


def test_of_more_records_than_allowed_the_newest_are_learnt_from_and_the_manifest_says_so(
    project: Project,
) -> None:
    text = project.config.read_text()
    project.config.write_text(text.replace("training: {", "training: {max_records: 1000, "))
    values = np.random.default_rng(4).normal(size=(1500, 2))
    of = ["old" if i < 40 else "ab"[i % 2] for i in range(1500)]
    rows = [
        f"{1.7e9 + 60 * i},{entity},{a},{b}"
        for i, (entity, (a, b)) in enumerate(zip(of, values, strict=True))
    ]
    project.data.write_text("time,entity,cpu,rps\n" + "\n".join(rows) + "\n")
    result = project.train("hosts", "--input", str(project.data))
    assert result.exit_code == 0, result.output
    assert "1000 records, " in result.stdout
    assert "500 older records left out: training.max_records is 1000" in result.stdout
    facts = BundleStore(project.store).load("hosts").manifest.training
    assert (facts.records, facts.left_out_records) == (1000, 500)
    # An entity that has no more than its part loses nothing.
    assert facts.from_time_s == 1.7e9


def test_models_per_entity_of_the_configuration_reach_the_bundle_and_generate(project: Project) -> None:
    text = project.config.read_text()
    project.config.write_text(text.replace("n_components: 1", "n_components: 1, models: per_entity, jobs: 1"))
    # Features that rise together on one entity and oppose each other on the other.
    rng = np.random.default_rng(3)
    cpu, noise = rng.normal(size=(2, 800))
    sign = np.tile([1.0, -1.0], 400)
    rows = [
        f"{1.7e9 + 60 * (i // 2)},{'ab'[i % 2]},{c},{sign[i] * c + 0.3 * n}"
        for i, (c, n) in enumerate(zip(cpu, noise, strict=True))
    ]
    project.data.write_text("time,entity,cpu,rps\n" + "\n".join(rows) + "\n")
    result = project.train("hosts", "--input", str(project.data))
    assert result.exit_code == 0, result.output
    assert "2 of 2 entities with enough records have a model of their own" in result.stdout
    shown = json.loads(project.call("models", "show", str(project.store), "hosts").stdout)
    assert (shown["models"], shown["entities_with_own_family"]) == ("per_entity", ["a", "b"])
    for entity, expected in (("a", 1.0), ("b", -1.0)):
        drawn = project.call("generate", f"{project.store}/hosts@champion", "-n", "200", "--entity", entity)
        features = [json.loads(line)["features"] for line in drawn.stdout.splitlines()]
        pairs = np.array([[each["cpu"], each["rps"]] for each in features])
        assert expected * np.corrcoef(pairs.T)[0, 1] > 0.8


def test_labels_and_kinds_of_the_configuration_reach_the_bundle(project: Project) -> None:
    lines = project.data.read_text().splitlines()
    labelled = [f"{line},{int(i % 10 == 0)},{'night' if i % 2 else ''}" for i, line in enumerate(lines[1:])]
    project.data.write_text("\n".join([f"{lines[0]},bad,shift", *labelled]) + "\n")
    text = project.config.read_text()
    fields = "n_components: 1, anomaly_field: bad, regime_field: absent"
    project.config.write_text(
        text.replace("n_components: 1", fields).replace('unit: "1/s"', 'unit: "1/s", kind: count')
    )
    result = project.train("hosts", "--input", str(project.data))
    assert result.exit_code == 2
    assert "no column 'absent'" in result.output
    project.data.write_text(project.data.read_text().replace(",-", ","))
    result = project.train("hosts", "--input", str(project.data), "--regime-field", "shift")
    assert result.exit_code == 0, result.output
    assert "60 labelled anomalous" in result.output
    manifest = BundleStore(project.store).load("hosts").manifest
    assert manifest.training.anomalous_records == 60
    assert manifest.training.regimes == ("night",)
    assert [f.kind for f in manifest.features] == ["continuous", "count"]
    assert manifest.members[0].modelled_as == ("continuous", "continuous")


def test_a_label_that_no_record_has_is_said_and_a_feature_is_refused(project: Project) -> None:
    lines = project.data.read_text().splitlines()
    project.data.write_text("\n".join([f"{lines[0]},bad,shift", *(f"{line},,day" for line in lines[1:])]))
    labels = ("--anomaly-field", "bad", "--regime-field", "shift")
    result = project.train("hosts", "--input", str(project.data), *labels)
    assert result.exit_code == 0, result.output
    assert "label field bad is absent or blank in all of the 600 records" in result.stderr
    assert "label field shift" not in result.stderr
    result = project.train("hosts", "--anomaly-field", "cpu")
    assert result.exit_code == 2
    assert "'cpu' is a feature; a label is never one" in result.stderr


def test_an_unknown_detector_exits_2_and_names_the_known(project: Project) -> None:
    result = project.train("host", "--input", str(project.data))
    assert result.exit_code == 2
    assert "no detector is called 'host'; the configuration has hosts" in result.stderr


def test_files_and_a_time_range_exclude_each_other(project: Project) -> None:
    result = project.train("hosts", "--input", str(project.data), "--from", "2026-01-01")
    assert result.exit_code == 2
    assert "give one of them" in result.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--from", "yesterday"), "--from 'yesterday' is not a time; write it like 2026-11-20T15:00:00Z"),
        (("--from", "2026-02-01", "--until", "2026-01-01"), "is empty; swap the times"),
    ],
)
def test_bad_times_exit_2_before_any_connection(
    project: Project, options: tuple[str, ...], complaint: str
) -> None:
    result = project.train("hosts", *options)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_unusable_records_exit_2_and_write_nothing(project: Project) -> None:
    project.data.write_text("time,entity,cpu,rps\n1700000000,a,1,2\n")
    result = project.train("hosts", "--input", str(project.data))
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert "too few" in result.stderr
    assert not project.store.exists()


def test_check_warns_of_a_champion_trained_by_other_settings(trained: Project) -> None:
    def warnings_with(old: str, new: str) -> str:
        text = trained.config.read_text()
        trained.config.write_text(text.replace(old, new))
        result = trained.call("check", str(trained.config))
        trained.config.write_text(text)
        assert result.exit_code == 0
        return result.stderr

    assert warnings_with("", "") == ""
    assert ": predictor is ewma and was none\n" in warnings_with("predictor: none", "predictor: ewma")
    said = "training.n_components is 2 and was 1; training.typicality is on and was not set"
    assert said in warnings_with("n_components: 1", "n_components: 2, typicality: on")


def test_check_refuses_champions_that_the_daemon_would_not_start_with(trained: Project) -> None:
    trained.config.write_text(trained.config.read_text().replace("features: [cpu, ", "features: ["))
    result = trained.call("check", str(trained.config))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{trained.config}: 1 problem\n  detectors[0].store: detector 'hosts': version" in result.stderr
    assert "was trained on cpu, rps, but" in result.stderr
    assert trained.call("run", str(trained.config)).exit_code == 2


def test_check_refuses_a_champion_of_another_format(trained: Project) -> None:
    manifest = next(trained.store.glob("hosts/*/manifest.json"))
    text = manifest.read_text()
    manifest.write_text(re.sub('"format_version": *[0-9]+', '"format_version": 999', text))
    result = trained.call("check", str(trained.config))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "999" in result.stderr


def test_check_says_where_nothing_is_trained_yet_unless_the_daemon_trains(project: Project) -> None:
    result = project.call("check", str(project.config))
    assert result.exit_code == 0
    said = f"detectors[0].store: no version of 'hosts' in '{project.store}' is the champion"
    assert f"{said}; run will end with 2 until one is trained\n" in result.stderr
    project.config.write_text(project.config.read_text().replace("training:", "bootstrap: {}\n    training:"))
    assert project.call("check", str(project.config)).stderr == ""


def test_list_and_show(trained: Project) -> None:
    version = BundleStore(trained.store).alias("hosts")
    assert version is not None
    for where in (trained.store, trained.config):
        listed = trained.call("models", "list", str(where))
        assert listed.exit_code == 0
        assert version in listed.output
        assert "champion" in listed.output
        shown = trained.call("models", "show", str(where), "hosts")
        assert json.loads(shown.stdout)["version"] == version


def test_nothing_trained_yet(project: Project) -> None:
    result = project.call("models", "list", str(project.config))
    assert result.exit_code == 2
    assert "detector train" in result.stderr


def test_verify_finds_a_flipped_bit(trained: Project) -> None:
    assert trained.call("models", "verify", str(trained.store)).exit_code == 0
    version = BundleStore(trained.store).alias("hosts")
    path = trained.store / "hosts" / str(version) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = trained.call("models", "verify", str(trained.store))
    assert result.exit_code == 2
    assert "sha256" in result.stderr
    assert "1 of 1 versions cannot be used" in result.stderr


@pytest.mark.parametrize(
    ("of", "what", "said"),
    [
        ("config", "folder", "is no bundle, and it is the champion; known versions: []"),
        ("store", "folder", "is no bundle, and it is the champion; known versions: []"),
        ("store", "alias", "champion.alias cannot be read"),
        ("store", "tensors", "altered or cut short"),
    ],
)
def test_a_champion_that_cannot_be_loaded_is_said_and_exits_2(
    trained: Project, of: str, what: str, said: str
) -> None:
    folder = trained.store / "hosts"
    version = str(BundleStore(trained.store).alias("hosts"))
    if what == "folder":
        shutil.rmtree(folder / version)
    elif what == "alias":
        (folder / "champion.alias").write_bytes(b"\xff")
    else:
        (folder / version / "model.safetensors").write_bytes(b"0")
    for command in ("list", "verify"):
        result = trained.call("models", command, str(getattr(trained, of)))
        assert result.exit_code == 2, result.output
        assert "hosts: its champion cannot be loaded: " in result.stderr
        assert said in result.stderr
    result = trained.call("check", str(trained.config))
    assert result.exit_code == 2
    assert said in result.stderr


def test_versions_without_a_champion_are_listed_and_it_is_said(trained: Project) -> None:
    (trained.store / "hosts" / "champion.alias").unlink()
    for command in ("list", "verify"):
        result = trained.call("models", command, str(trained.store))
        assert result.exit_code == 0
        said = f"hosts: no version is the champion; detector models promote {trained.store} hosts VERSION"
        assert said in result.stderr
    assert "is the champion; run will end with 2" in trained.call("check", str(trained.config)).stderr


@pytest.mark.parametrize("of", ["config", "store"])
def test_promote_puts_an_older_version_back(trained: Project, of: str) -> None:
    where = str(getattr(trained, of))
    store = BundleStore(trained.store)
    [old] = store.versions("hosts")
    trained.data.write_text(trained.data.read_text() + "1.8e9,a,0,0\n")
    assert trained.train("hosts", "--input", str(trained.data)).exit_code == 0
    new = store.alias("hosts")
    assert new != old
    result = trained.call("models", "promote", where, "hosts", old)
    assert (result.exit_code, result.stdout) == (0, f"hosts: {old} is the champion now, {new} was\n")
    assert store.alias("hosts") == old


def test_promote_refuses_what_a_daemon_could_not_use(trained: Project) -> None:
    store = BundleStore(trained.store)
    champion = store.alias("hosts")
    result = trained.call("models", "promote", str(trained.config), "hosts", "20200101T000000Z-0000")
    assert result.exit_code == 2
    assert f"known versions: ['{champion}']" in result.output
    assert trained.call("models", "promote", str(trained.store), "cpus", str(champion)).exit_code == 2
    trained.config.write_text(trained.config.read_text().replace("features: [cpu, ", "features: ["))
    result = trained.call("models", "promote", str(trained.config), "hosts", str(champion))
    assert result.exit_code == 2
    assert "was trained on cpu, rps, but the configuration lists rps" in result.output
    tensors = trained.store / "hosts" / str(champion) / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    result = trained.call("models", "promote", str(trained.store), "hosts", str(champion))
    assert result.exit_code == 2
    assert "altered or cut short" in result.output
    assert store.alias("hosts") == champion


def train_more(project: Project) -> str:
    """Train on one more record, and return which version became the champion."""
    project.data.write_text(project.data.read_text() + "1.8e9,a,0,0\n")
    assert project.train("hosts", "--input", str(project.data)).exit_code == 0
    return str(BundleStore(project.store).alias("hosts"))


@pytest.mark.parametrize("of", ["config", "store"])
def test_history_tells_every_promotion_and_what_it_overrode(trained: Project, of: str) -> None:
    store = BundleStore(trained.store)
    first = str(store.alias("hosts"))
    second = train_more(trained)
    few = rows_of(trained, np.random.default_rng(5).normal(size=(60, 2)))
    assert trained.train("hosts", "--input", few, "--promote-anyway").exit_code == 0
    third = str(store.alias("hosts"))
    assert trained.call("models", "promote", str(trained.config), "hosts", first).exit_code == 0
    where = str(getattr(trained, of))
    assert "although 18 records" in trained.call("models", "promote", where, "hosts", third).stdout
    result = trained.call("models", "history", where, "hosts")
    assert result.exit_code == 0, result.output
    objection = "; although 18 records of an entity are held out, the champion has 9"
    assert [line.split("Z  ", 1)[1].split(objection) for line in result.stdout.splitlines()] == [
        [f"{first}  train"],
        [f"{second}  train, {first} was"],
        [f"{third}  train, {second} was", "0"],
        [f"{first}  models promote, {third} was"],
        [f"{third}  models promote, {first} was", "0"],
    ]


def test_what_the_daemon_trains_is_told_apart_and_a_version_not_promoted_is_none(project: Project) -> None:
    result = project.call("models", "history", str(project.config), "hosts")
    assert result.exit_code == 2
    assert "no promotion of hosts is noted" in result.stderr
    data = ("--input", str(project.data))
    script = [sys.executable, "-m", "detector.cli.main", "train", str(project.config), "hosts", *data]
    # Its standard input stays open until it has ended.
    with subprocess.Popen([*script, "--end-with-stdin"], stdin=subprocess.PIPE) as job:
        assert job.wait(60.0) == 0
    assert project.train("hosts", *data, "--no-promote").exit_code == 0
    [promotion] = BundleStore(project.store).history("hosts")
    assert (promotion.how, promotion.before) == ("bootstrap", None)


@pytest.mark.parametrize("of", ["config", "store"])
def test_rollback_goes_back_step_by_step(trained: Project, of: str) -> None:
    where = str(getattr(trained, of))
    store = BundleStore(trained.store)
    first, second, third = str(store.alias("hosts")), train_more(trained), train_more(trained)
    for champion, before in ((third, second), (second, first)):
        result = trained.call("models", "rollback", where, "hosts")
        said = f"hosts: {before} is the champion again, {champion} was\n"
        assert (result.exit_code, result.stdout) == (0, said), result.stderr
        assert store.alias("hosts") == before
    result = trained.call("models", "rollback", where, "hosts")
    assert result.exit_code == 2
    assert f"what was the champion of hosts before {first} is not known; choose one" in result.stderr
    told = trained.call("models", "history", where, "hosts").stdout.splitlines()
    assert told[-1].endswith(f"Z  {first}  models rollback, {second} was")
    assert store.alias("hosts") == first
    fourth = train_more(trained)
    assert f"{fourth} was" in trained.call("models", "rollback", where, "hosts").stdout
    assert store.alias("hosts") == first


@pytest.mark.parametrize("how", ["gone", "altered", "of other features"])
def test_rollback_moves_nothing_where_the_version_before_cannot_be_used(trained: Project, how: str) -> None:
    store = BundleStore(trained.store)
    first, second = str(store.alias("hosts")), train_more(trained)
    folder = trained.store / "hosts" / first
    if how == "gone":
        shutil.rmtree(folder)
        why = f"{folder} is no bundle; known versions: ['{second}']"
    elif how == "altered":
        (folder / "model.safetensors").write_bytes(b"0")
        why = "altered or cut short"
    else:
        trained.config.write_text(trained.config.read_text().replace("features: [cpu, ", "features: ["))
        why = "was trained on cpu, rps, but the configuration lists rps"
    result = trained.call("models", "rollback", str(trained.config), "hosts")
    assert result.exit_code == 2
    assert f"hosts: {first} was the champion before, and cannot be used: " in result.stderr
    assert why in result.stderr
    assert f"{second} is the champion still" in result.stderr
    assert store.alias("hosts") == second
    assert len(store.history("hosts")) == 2


def test_prune_removes_old_versions_and_rollback_still_works(trained: Project) -> None:
    where, store = str(trained.config), BundleStore(trained.store)
    folder, first, second = trained.store / "hosts", str(store.alias("hosts")), train_more(trained)
    old = "20200101T000000Z-0000"
    shutil.copytree(folder / first, folder / old)
    size = sum(path.stat().st_size for path in (folder / old).iterdir())
    told = f"hosts/{old}: {size} bytes\nhosts: %s 1 of the versions, {size} bytes\n"
    result = trained.call("models", "prune", where, "hosts", "--keep", "1", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, told % "would remove")
    assert set(store.versions("hosts")) == {old, first, second}
    result = trained.call("models", "prune", str(trained.store), "hosts", "--keep", "1")
    assert (result.exit_code, result.stdout) == (0, told % "removed")
    assert set(store.versions("hosts")) == {first, second}
    assert trained.call("models", "prune", where, "hosts", "--keep", "0").exit_code == 2
    assert (
        "removed 0 of the versions" in trained.call("models", "prune", where, "hosts", "--keep", "1").stdout
    )
    assert trained.call("models", "rollback", where, "hosts").exit_code == 0


@pytest.mark.parametrize("keep", ["1", "2"])
def test_prune_keeps_what_can_be_used_in_place_of_a_damaged_version_and_names_that(
    trained: Project, keep: str
) -> None:
    store, folder = BundleStore(trained.store), trained.store / "hosts"
    first, second, third = str(store.alias("hosts")), train_more(trained), train_more(trained)
    old = "20200101T000000Z-0000"
    shutil.copytree(folder / first, folder / old)
    (folder / second / "model.safetensors").write_bytes(b"0")
    result = trained.call("models", "prune", str(trained.store), "hosts", "--keep", keep)
    assert result.exit_code == 0
    assert set(store.versions("hosts")) == {first, second, third}
    assert result.stderr.startswith(
        f"hosts/{second} stays, counts as none of the newest, and cannot be used: "
    )
    assert "altered or cut short" in result.stderr
    assert trained.call("models", "promote", str(trained.config), "hosts", first).exit_code == 0


def test_show_of_an_unknown_detector(trained: Project) -> None:
    result = trained.call("models", "show", str(trained.store), "pumps")
    assert result.exit_code == 2
    assert "there are: hosts" in result.stderr


def test_labels_that_judged_are_in_the_report(project: Project) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
    rng = np.random.default_rng(0)
    rows = [(60 * i, *rng.normal(size=2), int(400 <= i < 540 and i % 10 == 0)) for i in range(900)]
    shown = [f"{t},{a + 9 * label},{b},{label}" for t, a, b, label in rows]
    project.data.write_text("time,cpu,rps,incident\n" + "\n".join(shown) + "\n")
    text = project.config.read_text().replace("    family: gmm\n    predictor: none\n", "")
    project.config.write_text(text.replace("    training: {n_components: 1}\n", ""))
    result = project.train("hosts", "--input", str(project.data), "--anomaly-field", "incident")
    assert "newer records labelled anomalous, in 10 events" in result.stdout, result.output
    page = project.folder / "report.html"
    assert project.call("models", "report", str(project.store), "hosts", "--out", str(page)).exit_code == 0
    assert "average precision on labelled records" in page.read_text()


def test_report_of_a_version_is_one_page_with_its_plots_inside(trained: Project) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
    page = trained.folder / "report.html"
    result = trained.call("models", "report", str(trained.store), "hosts", "--out", str(page))
    assert result.exit_code == 0, result.output
    text = page.read_text()
    manifest = BundleStore(trained.store).load("hosts").manifest
    assert manifest.version in text
    assert "<svg" in text
    assert "src=" not in text
    assert "What decides" in text
    shown = json.loads(trained.call("models", "show", str(trained.store), "hosts").stdout)
    assert shown["report"]["calibration"]["rows"] == 90
    report = shown["members"][0]["report"]
    assert report["calibration"]["rows"] == 90
    assert report["generated"]["generated"]["coverage"] > 0.5
    assert [feature["name"] for feature in report["features"]] == ["cpu", "rps"]
    assert report["cost_us"] > 0
    assert report["smallest_budget_s"] == pytest.approx(2 * 90 * 60 / 5, rel=0.02)
