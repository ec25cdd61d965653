"""Tests for detector.cli.backtest."""

import csv
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from detector.bundles.store import BundleStore
from detector.cli.main import main
from detector.training.backtest_file import COLUMNS
from detector.training.job import TrainingPlan, train
from detector.training.sources import read_file


def write_telemetry(path: Path, seed: int, steps: int = 500, anomaly: range = range(0)) -> Path:
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "entity", "cpu", "mem"])
        for step in range(steps):
            for entity in ("web", "db"):
                cpu, mem = rng.normal(size=2)
                if entity == "web" and step in anomaly:
                    cpu += 12.0
                writer.writerow([1_700_000_000 + 60 * step, entity, cpu, "" if step % 50 == 7 else mem])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backtest")
    write_telemetry(path / "old.csv", 1)
    write_telemetry(path / "new.csv", 2, anomaly=range(400, 420))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["backtest", *map(str, arguments)])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_gets_one_answer_in_order_and_the_injected_anomaly_an_alert(folder: Path) -> None:
    out = folder / "scores.csv"
    files = ("--train", folder / "old.csv", "--input", folder / "new.csv", "--out", out)
    result = run(*files, "--predictor", "autoregressive")
    assert result.exit_code == 0, result.output
    rows, source = rows_of(out), rows_of(folder / "new.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [row["entity"] for row in rows] == [row["entity"] for row in source]
    assert rows[0]["time"] == "2023-11-14T22:13:20Z"
    for row in rows:
        scored = row["status"] == "scored"
        for column in ("log_likelihood", "p_value", "anomaly_score", "exceeds_threshold"):
            assert (row[column] != "") == scored
    alerted = {int(i) for i in np.flatnonzero([row["alert"] == "true" for row in rows])}
    assert set(range(802, 840, 2)) <= alerted  # web from the second record of its anomaly on
    counts = {status: sum(row["status"] == status for row in rows) for status in ("scored", "warming_up")}
    assert (
        f"1000 of 2 entities: {counts['scored']} scored, {counts['warming_up']} warming_up" in result.output
    )
    assert "threshold  p <= " in result.output
    assert "1 false alarms per entity in 1d" in result.output


def test_warm_up_trains_on_the_first_records_of_each_entity_and_scores_none_of_them(folder: Path) -> None:
    out = folder / "warm.parquet"
    result = run("--input", folder / "new.csv", "--warmup", "300", "--out", out, "--budget", "2/7d")
    assert "short of records: 90 records of an entity are held out, 410 too few" in result.stdout
    assert result.exit_code == 0, result.output
    status = pq.read_table(out)["status"].to_pylist()
    assert status[:600] == ["warming_up"] * 600
    assert status[600:] == ["scored"] * 400


def test_saved_bundle_scores_as_if_trained_here(folder: Path) -> None:
    records = read_file(folder / "old.csv")
    bundle = train(records, TrainingPlan("backtest", "auto", "auto"), 0.0)
    path = BundleStore(folder / "store").save(bundle.manifest, bundle.model, bundle.held_out)
    BundleStore(folder / "store").set_alias("backtest", bundle.manifest.version)
    champion = folder / "store" / "backtest@champion"
    for option, value, out in (
        ("--bundle", path, "b.csv"),
        ("--bundle", champion, "c.csv"),
        ("--train", folder / "old.csv", "t.csv"),
    ):
        assert run(option, value, "--input", folder / "new.csv", "--out", folder / out).exit_code == 0
    texts = {(folder / name).read_text() for name in ("b.csv", "c.csv", "t.csv")}
    assert len(texts) == 1


def test_kinds_and_labels_are_declared_on_the_command_line(folder: Path) -> None:
    """Among records that are all alike, those with the label would have moved the threshold."""
    rng = np.random.default_rng(0)
    lines = ["time,cpu,up,bad,shift"]
    for i in range(600):
        bad = 300 <= i < 330
        up = str(rng.uniform() < 0.5).lower()
        lines.append(f"{1_700_000_000 + 60 * i},{rng.normal() + 50 * bad},{up},{int(bad)},a")
    path, out = folder / "labelled.csv", folder / "labelled-scores.csv"
    path.write_text("\n".join(lines) + "\n")
    options = ("--train", path, "--input", path, "--out", out, "--kind", "up=binary")
    labels = ("--anomaly-field", "bad", "--regime-field", "shift")
    result = run(*options, *labels)
    assert result.exit_code == 0, result.output
    p_value = [float(row["p_value"]) for row in rows_of(out)[300:330]]
    assert max(p_value) < 1e-4
    assert "is not numeric (row 1: " in run(*options[:-2], *labels).output


def test_a_kind_that_does_not_exist_is_refused(folder: Path) -> None:
    for text in ("cpu=number", "count", "=count"):
        result = run(
            "--train", folder / "old.csv", "--input", folder / "new.csv", "--out", "x.csv", "--kind", text
        )
        assert result.exit_code == 2
        assert f"'{text}' is no kind of a feature" in result.output


def test_a_time_zone_that_does_not_exist_is_refused_and_another_is_trained_by(folder: Path) -> None:
    options = ("--train", folder / "old.csv", "--input", folder / "new.csv", "--out", folder / "zone.csv")
    result = run(*options, "--time-zone", "Europe/Atlantis")
    assert result.exit_code == 2
    assert "'Europe/Atlantis' is no time zone known here" in result.output
    assert run(*options, "--time-zone", "Europe/Berlin", "--family", "gmm").exit_code == 0


def test_what_is_behind_each_row_is_written_on_request(folder: Path) -> None:
    out = folder / "latent.csv"
    result = run("--train", folder / "old.csv", "--input", folder / "new.csv", "--out", out, "--latent")
    assert result.exit_code == 0, result.output
    for row in rows_of(out):
        latent = [value for name, value in row.items() if name.startswith("latent_")]
        assert latent
        if row["status"] == "scored":
            assert sum(map(float, latent)) == pytest.approx(1.0)
        else:
            assert set(latent) == {""}


def test_same_seed_gives_the_same_file_and_a_fleets_budget_is_stricter(folder: Path) -> None:
    def threshold(out: str, *options: str) -> float:
        arguments = ("--train", folder / "old.csv", "--input", folder / "new.csv", "--out", folder / out)
        result = run(*arguments, "--family", "hmm", "--seed", "3", *options)
        assert result.exit_code == 0, result.output
        return float(result.output.split("p <= ")[1].split()[0])

    per_entity = threshold("h1.csv")
    assert threshold("h2.csv") == per_entity
    assert (folder / "h1.csv").read_text() == (folder / "h2.csv").read_text()
    assert threshold("h3.csv", "--per", "fleet") < per_entity


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "one of --train FILE, --warmup N and --bundle FOLDER"),
        (("--warmup", "9", "--train", "old.csv"), "one of --train FILE, --warmup N and --bundle FOLDER"),
        (("--bundle", "b", "--family", "hmm", "--seed", "0"), "--bundle already says --family, --seed"),
        (("--bundle", "b", "--models", "per_entity"), "--bundle already says --models"),
        (("--warmup", "9", "--budget", "daily"), "'daily' is not a budget; write it like 1/1d"),
        (("--warmup", "9", "--budget", "0/1d"), "allow more than 0"),
        (("--warmup", "9"), "18 records are too few"),
        (
            ("--warmup", "99", "--features", "cpu,disk"),
            "no column 'disk'; the file has time",
        ),
        (("--train", "absent.csv"), "absent.csv: cannot be read"),
        (("--bundle", "absent"), "absent/manifest.json cannot be read"),
        (("--bundle", "absent"), "or write STORE/DETECTOR@champion"),
        (("--bundle", "store/hosts@champion"), "detector 'hosts' has no champion in store"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    folder: Path, options: tuple[str, ...], message: str
) -> None:
    result = run("--input", folder / "new.csv", "--out", folder / "none.csv", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert not (folder / "none.csv").exists()


def test_input_is_never_overwritten_and_an_unknown_format_is_refused_first(folder: Path) -> None:
    before = (folder / "new.csv").read_bytes()
    result = run("--input", folder / "new.csv", "--warmup", "300", "--out", folder / "new.csv")
    assert (result.exit_code, (folder / "new.csv").read_bytes()) == (2, before)
    result = run("--input", folder / "new.csv", "--warmup", "300", "--out", folder / "x.txt")
    assert result.exit_code == 2
    assert "unknown kind of file '.txt'" in result.output


def test_without_the_train_extra_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("detector.training.sources", "detector.training.backtest_file"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    result = run("--input", folder / "new.csv", "--warmup", "300", "--out", folder / "none.csv")
    assert result.exit_code == 2
    assert "a backtest needs pyarrow; pip install '.[train]' in the source folder" in result.output


def test_counters_and_logarithmic_scales_are_declared_on_the_command_line(folder: Path) -> None:
    rng = np.random.default_rng(0)
    total, latency = np.cumsum(rng.lognormal(3.0, 0.5, 600)), rng.lognormal(size=600)
    path, out = folder / "totals.csv", folder / "totals-scores.csv"
    lines = [f"{1_700_000_000 + 60 * i},{total[i]},{latency[i]}" for i in range(600)]
    path.write_text("\n".join(["time,sent,latency", *lines]) + "\n")
    options = ("--train", path, "--input", path, "--out", out, "--predictor", "none")
    result = run(*options, "--counter", "sent", "--log-scale", "latency")
    assert result.exit_code == 0, result.output
    rows = rows_of(out)
    assert [row["status"] for row in rows[:2]] == ["warming_up", "scored"]
    assert min(float(row["p_value"]) for row in rows[1:]) > 1e-5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--counter", "disk"), "no feature is called 'disk'"),
        (("--kind", "cpu=count", "--log-scale", "cpu"), "'cpu' cannot be count"),
    ],
)
def test_a_counter_that_cannot_be_is_refused(folder: Path, options: tuple[str, ...], said: str) -> None:
    old = folder / "old.csv"
    result = run("--train", old, "--input", folder / "new.csv", "--out", folder / "none.csv", *options)
    assert result.exit_code == 2
    assert said in result.output
