"""Tests for detector.cli.generate."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from detector.bundles.store import BundleStore
from detector.cli.main import main
from detector.config import load_config
from detector.from_config import input_schema
from detector.models.kinds import Kind
from detector.stream.codec_json import JsonCodec
from detector.training.job import TrainingPlan, train
from detector.training.sources import read_file
from tests.stream.records import raw_records


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a champion of two entities, of which db is a hundred times larger."""
    folder = tmp_path_factory.mktemp("generate")
    rng = np.random.default_rng(1)
    with (folder / "old.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "entity", "cpu", "mem"])
        for step in range(1000):
            for entity, size in (("web", 1.0), ("db", 100.0)):
                writer.writerow([1_700_000_000 + 60 * step, entity, *(size * rng.normal(size=2))])
    bundle = train(read_file(folder / "old.csv"), TrainingPlan("hosts", "gmm"), 1.7e9)
    BundleStore(folder).save(bundle.manifest, bundle.model, bundle.held_out)
    BundleStore(folder).set_alias("hosts", bundle.manifest.version)
    return folder


def test_without_a_file_json_records_go_to_stdout(store: Path) -> None:
    result = run("generate", f"{store}/hosts@champion", "-n", "3", "--start", "2026-11-20T15:00:00Z")
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["entity"] for record in records] == ["synthetic"] * 3
    assert [record["time"] for record in records] == [
        f"2026-11-20T15:0{minute}:00.000000Z" for minute in range(3)
    ]
    assert all(set(record["features"]) == {"cpu", "mem"} for record in records)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_backtest_reads_what_was_generated_and_finds_it_normal(store: Path, suffix: str) -> None:
    bundle = store / "hosts" / BundleStore(store).versions("hosts")[0]
    out, scores = store / f"new.{suffix}", store / f"scores-{suffix}.csv"
    result = run("generate", bundle, "-n", "400", "--entity", "db", "--entity", "web", "--out", out)
    assert result.exit_code == 0, result.output
    batch = read_file(out)
    assert batch.entity[:4] == ["db", "web", "db", "web"]
    assert batch.time[2] - batch.time[0] == 60.0
    spread = {name: batch.values[i::2].std(axis=0) for i, name in enumerate(("db", "web"))}
    np.testing.assert_allclose(spread["db"], 100.0, rtol=0.2)
    np.testing.assert_allclose(spread["web"], 1.0, rtol=0.2)
    tested = run("backtest", "--bundle", bundle, "--input", out, "--out", scores)
    assert tested.exit_code == 0, tested.output
    with scores.open(newline="") as file:
        p_value = [float(row["p_value"]) for row in csv.DictReader(file) if row["status"] == "scored"]
    assert len(p_value) > 780
    assert abs(np.mean(p_value) - 0.5) < 0.06


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_texts_counts_and_flags_are_written_as_such(tmp_path: Path, suffix: str) -> None:
    kinds: dict[str, Kind] = {"method": "categorical", "errors": "count", "up": "binary"}
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "time": 1_700_000_000 + np.arange(500),
            "method": rng.choice(["GET", "POST"], 500, p=[0.9, 0.1]),
            "errors": rng.poisson(3.0, 500),
            "up": rng.uniform(size=500) < 0.7,
            "load": rng.normal(size=500),
        }
    )
    pq.write_table(table, tmp_path / "old.parquet")
    plan = TrainingPlan("requests", "naive_bayes", kinds=kinds, options={"n_classes": 1})
    bundle = train(read_file(tmp_path / "old.parquet", kinds=kinds), plan, 1.7e9)
    folder = BundleStore(tmp_path).save(bundle.manifest, bundle.model, bundle.held_out)
    out = tmp_path / f"new.{suffix}"
    assert run("generate", folder, "-n", "300", "--out", out).exit_code == 0
    if suffix == "jsonl":
        features = [json.loads(line)["features"] for line in out.read_text().splitlines()]
        assert {type(row["errors"]) for row in features} == {int}
        method = [row["method"] for row in features]
    else:
        batch = read_file(out, ["method", "errors", "up", "load"], kinds)
        assert set(batch.values[:, 2]) == {0.0, 1.0}
        assert batch.values[:, 1].mean() == pytest.approx(3.0, abs=0.5)
        method = [batch.category_texts[code] for code in batch.values[:, 0].tolist()]
    assert method.count("GET") / 300 == pytest.approx(0.9, abs=0.06)
    assert set(method) == {"GET", "POST"}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_the_same_seed_gives_the_same_bytes(store: Path, suffix: str) -> None:
    contents = []
    for i, seed in enumerate(("5", "5", "6")):
        out = store / f"seed-{i}.{suffix}"
        assert (
            run("generate", f"{store}/hosts@champion", "-n", "20", "--seed", seed, "--out", out).exit_code
            == 0
        )
        contents.append(out.read_bytes())
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "records.txt"], "unknown kind of file"),
        (["--entity", "web", "--entity", "web"], "given twice"),
        (["--interval", "5"], "write it like"),
        (["--start", "yesterday"], "is not a time"),
    ],
)
def test_what_cannot_be_done_is_said(store: Path, arguments: list[str], said: str) -> None:
    result = run("generate", f"{store}/hosts@champion", "-n", "2", *arguments)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(("family", "predictor"), [("auto", "auto"), ("gmm", "level")])
def test_one_feature_comes_from_the_member_that_knows_where_it_belongs(
    tmp_path: Path, family: str, predictor: str
) -> None:
    x = 50.0 + np.random.default_rng(2).normal(size=1500)
    old = tmp_path / "old.csv"
    old.write_text(
        "\n".join(["time,load", *(f"{1_700_000_000 + 60 * i},{v}" for i, v in enumerate(x))]) + "\n"
    )
    bundle = train(read_file(old), TrainingPlan("hosts", family, predictor), 1.7e9)
    folder = BundleStore(tmp_path).save(bundle.manifest, bundle.model, bundle.held_out)
    result = run("generate", folder, "-n", "500")
    assert result.exit_code == 0, result.output
    load = [json.loads(line)["features"]["load"] for line in result.stdout.splitlines()]
    assert np.mean(load) == pytest.approx(50.0, abs=0.3)
    assert np.std(load) == pytest.approx(1.0, abs=0.2)
    followed = "predictor level follows an entity wherever it goes"
    assert (followed in result.stderr) == (predictor == "level")


def test_records_of_a_table_come_from_the_member_that_knows_their_shape(tmp_path: Path) -> None:
    # A member for drift has a bell there, of the right mean and spread: half its records above 113.
    x = 100.0 * np.random.default_rng(3).lognormal(0.0, 0.5, (6000, 2))
    old = tmp_path / "old.csv"
    lines = [f"{1_700_000_000 + 60 * i},{a},{b}" for i, (a, b) in enumerate(x)]
    old.write_text("\n".join(["time,load,heat", *lines]) + "\n")
    bundle = train(read_file(old), TrainingPlan("hosts", "auto", "auto"), 1.7e9)
    assert any(member.time_scale.averaged == "deviation" for member in bundle.model.members)
    folder = BundleStore(tmp_path).save(bundle.manifest, bundle.model, bundle.held_out)
    result = run("generate", folder, "-n", "5000")
    assert result.exit_code == 0, result.output
    load = np.array([json.loads(line)["features"]["load"] for line in result.stdout.splitlines()])
    assert np.median(load) == pytest.approx(np.median(x[:, 0]), rel=0.08)
    assert np.std(load) == pytest.approx(np.std(x[:, 0]), rel=0.1)


def test_an_absent_bundle_is_named(store: Path) -> None:
    result = run("generate", f"{store}/pumps@champion", "-n", "2")
    assert result.exit_code == 2
    assert "'pumps' has no champion" in result.output


def test_logarithms_are_undone_and_counters_are_said_to_be_rates(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    sent, latency = np.cumsum(rng.lognormal(5.0, 0.3, 600)), rng.lognormal(-2.0, 1.0, 600)
    old = tmp_path / "old.csv"
    lines = [f"{1_700_000_000 + 10 * i},{sent[i]},{latency[i]}" for i in range(600)]
    old.write_text("\n".join(["time,sent,latency", *lines]) + "\n")
    plan = TrainingPlan("hosts", "gmm", "none", types={"sent": "counter"}, scales={"latency": "log"})
    bundle = train(read_file(old), plan, 1.7e9)
    folder = BundleStore(tmp_path).save(bundle.manifest, bundle.model, bundle.held_out)
    result = run("generate", folder, "-n", "500")
    assert result.exit_code == 0, result.output
    assert "rates per second, not totals, of the counters sent" in result.stderr
    features = [json.loads(line)["features"] for line in result.stdout.splitlines()]
    assert np.median([f["sent"] for f in features]) == pytest.approx(np.exp(5.0) / 10, rel=0.1)
    drawn = np.array([f["latency"] for f in features])
    assert drawn.min() >= 0.0
    assert np.log(np.median(drawn)) == pytest.approx(-2.0, abs=0.2)


CONFIG = """
inputs:
  - name: telegraf
    topics: telegraf
    entity: {entity}
    time: {time}
    features_field: '{features}'
detectors:
  - name: hosts
    input: telegraf
    features: [{{name: cpu, field: [usage, cpu.total]}}, mem]
"""


@pytest.mark.parametrize(
    ("entity", "time", "features"),
    [("[tags.host, disk]", "meta.ts", "fields"), ("tags.host", "ts", ""), ("'@key'", "'@timestamp'", "a.b")],
)
def test_the_input_that_records_were_made_for_reads_them(
    store: Path, tmp_path: Path, entity: str, time: str, features: str
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG.format(entity=entity, time=time, features=features))
    config = load_config(tmp_path / "config.yaml")
    lines, table = tmp_path / "new.jsonl", tmp_path / "new.csv"
    arguments = ["generate", f"{store}/hosts@champion", "-n", "3", "--entity", "db/sda/1"]
    assert run(*arguments, "--out", lines, "--config", tmp_path / "config.yaml").exit_code == 0
    assert run(*arguments, "--out", table).exit_code == 0
    values = [line.encode() for line in lines.read_text().splitlines()]
    raw = raw_records(values, keys=[b"db/sda/1"] * 3)
    decoded, rejected = JsonCodec(input_schema(config, config.inputs[0])).decode(raw, 2e9)
    expected = read_file(table, ["cpu", "mem"])
    assert rejected == []
    assert decoded.entity == expected.entity == ["db/sda/1"] * 3
    np.testing.assert_array_equal(decoded.values, expected.values)
    if "@" not in time:
        np.testing.assert_allclose(decoded.time, expected.time)


def test_a_configuration_of_something_else_is_refused(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    arguments: list[str | Path] = ["generate", f"{store}/hosts@champion", "-n", "1", "--config", path]
    path.write_text(CONFIG.format(entity="[a, b]", time="ts", features="f"))
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "entity 'synthetic' has 1 parts, and the input joins 2 with '/'" in result.output
    path.write_text(path.read_text().replace(", mem]", "]"))
    assert "has the features cpu, and the version cpu, mem" in run(*arguments).output
    path.write_text(path.read_text().replace("name: hosts", "name: other"))
    assert "no detector is called 'hosts'" in run(*arguments).output
    assert "--config is for JSON lines" in run(*arguments, "--out", "x.csv").output
