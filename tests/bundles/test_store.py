"""Tests for detector.bundles.store: what is saved comes back to the bit, what was altered does not."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from detector import __version__
from detector.alerting.rules import AlertRules
from detector.batch import Batch
from detector.bundles.serving import serve
from detector.bundles.store import (
    HELD_OUT,
    MANIFEST,
    MODEL,
    Bundle,
    BundleError,
    BundleNotFoundError,
    BundleRejectedError,
    BundleStore,
)
from detector.training.job import TrainingPlan, train
from tests.made import batch
from tests.pipelines import outcome_of


def records(n: int = 600, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.normal(size=(n, 3)), axis=0) * 0.1 + rng.normal(size=(n, 3))
    return batch(x, entity=["a", "b"] * (n // 2))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return train(records(), TrainingPlan("hosts", "gmm", options={"n_components": 2}), now_s=1.8e9)


@pytest.fixture
def store(tmp_path: Path, bundle: Bundle) -> BundleStore:
    store = BundleStore(tmp_path / "store")
    store.save(bundle.manifest, bundle.model, bundle.held_out)
    store.set_alias("hosts", bundle.manifest.version)
    return store


def folder(store: BundleStore, bundle: Bundle) -> Path:
    return store.root / "hosts" / bundle.manifest.version


def test_what_is_saved_scores_the_same_to_the_bit(store: BundleStore, bundle: Bundle) -> None:
    loaded = store.load("hosts")
    rows = records(seed=5)
    rules = AlertRules()
    before, _ = outcome_of(serve(bundle, rules), rows)
    after, _ = outcome_of(serve(loaded, rules), rows)
    np.testing.assert_array_equal(before.log_likelihood, after.log_likelihood)
    np.testing.assert_array_equal(before.anomaly_score, after.anomaly_score)


def test_champion_names_a_version_and_versions_are_listed(store: BundleStore, bundle: Bundle) -> None:
    assert store.alias("hosts") == bundle.manifest.version
    assert store.versions("hosts") == [bundle.manifest.version]
    assert store.detectors() == ["hosts"]


def test_version_never_changes(store: BundleStore, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="a version never changes"):
        store.save(bundle.manifest, bundle.model, bundle.held_out)


def test_no_champion_says_to_train(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match="run 'detector train CONFIG hosts' first"):
        BundleStore(tmp_path).load("hosts")


def test_alias_to_nowhere_is_refused(store: BundleStore) -> None:
    with pytest.raises(BundleNotFoundError, match="known versions"):
        store.set_alias("hosts", "20990101T000000Z-0000")


def test_altered_arrays_are_rejected(store: BundleStore, bundle: Bundle) -> None:
    path = folder(store, bundle) / MODEL
    payload = bytearray(path.read_bytes())
    payload[-1] ^= 1
    path.write_bytes(payload)
    with pytest.raises(BundleRejectedError, match="sha256"):
        store.load("hosts")


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_truncated_arrays_are_rejected(store: BundleStore, bundle: Bundle, cut: int) -> None:
    path = folder(store, bundle) / MODEL
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BundleRejectedError, match="sha256"):
        store.load("hosts")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_store_that_cannot_be_written_to_keeps_its_champion(
    store: BundleStore, bundle: Bundle, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = {path.name for path in (store.root / "hosts").iterdir()}
    monkeypatch.setattr(os, call, full)
    with pytest.raises(BundleError, match=r"champion\.alias cannot be written: .* check that the store"):
        store.set_alias("hosts", bundle.manifest.version)
    monkeypatch.undo()
    assert {path.name for path in (store.root / "hosts").iterdir()} == before
    assert store.alias("hosts") == bundle.manifest.version


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_promotion_that_cannot_be_written_is_none(
    store: BundleStore, bundle: Bundle, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    version = bundle.manifest.version
    store.promote("hosts", version, "train", 1.8e9)
    before = {path.name for path in (store.root / "hosts").iterdir()}
    monkeypatch.setattr(os, call, full)
    with pytest.raises(BundleError, match=r"cannot be written: .* check that the store"):
        store.promote("hosts", version, "models promote", 1.9e9)
    monkeypatch.undo()
    assert {path.name for path in (store.root / "hosts").iterdir()} == before
    assert [each.how for each in store.history("hosts")] == ["train"]
    assert store.alias("hosts") == version


def test_a_promotion_mends_an_alias_that_cannot_be_read(store: BundleStore, bundle: Bundle) -> None:
    (store.root / "hosts" / "champion.alias").write_bytes(b"\xff")
    store.promote("hosts", bundle.manifest.version, "train", 1.8e9, ["far fewer records"])
    assert store.alias("hosts") == bundle.manifest.version
    [promotion] = store.history("hosts")
    assert (promotion.before, promotion.overridden) == (None, ("far fewer records",))


def test_a_history_that_cannot_be_read_is_an_error(store: BundleStore) -> None:
    (store.root / "hosts" / "champion.history").mkdir()
    with pytest.raises(BundleError, match=r"champion\.history cannot be read"):
        store.history("hosts")


@pytest.mark.parametrize("file", [MANIFEST, MODEL, HELD_OUT])
def test_a_champion_is_there_as_long_as_its_files_are(store: BundleStore, bundle: Bundle, file: str) -> None:
    store.check_there("hosts", "@champion")
    (folder(store, bundle) / file).unlink()
    with pytest.raises(BundleError, match="it is the champion" if file == MANIFEST else "No such file"):
        store.check_there("hosts", "@champion")
    (store.root / "hosts" / "champion.alias").unlink()
    with pytest.raises(BundleNotFoundError, match="has no champion in"):
        store.check_there("hosts", "@champion")


def test_folders_that_cannot_be_read_are_an_error_of_the_store(
    store: BundleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match=r"cannot be read: .* name too long"):
        store.load("hosts", "9" * 300)
    with pytest.raises(BundleError, match=r"cannot be read: .* name too long"):
        store.set_alias("hosts", "9" * 300)

    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    for call in (store.detectors, lambda: store.versions("hosts")):
        with pytest.raises(BundleError, match=r"cannot be read: .* Permission denied"):
            call()


def test_link_out_of_the_store_is_rejected(store: BundleStore, bundle: Bundle, tmp_path: Path) -> None:
    path = folder(store, bundle) / MODEL
    moved = tmp_path / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)
    with pytest.raises(BundleRejectedError, match="cannot be read"):
        store.load("hosts")


def test_file_name_that_leads_elsewhere_is_rejected(store: BundleStore, bundle: Bundle) -> None:
    path = folder(store, bundle) / MANIFEST
    fields = json.loads(path.read_text())
    fields["files"]["../../secret"] = "0"
    path.write_text(json.dumps(fields))
    with pytest.raises(BundleError, match="cannot be a name on disk"):
        store.load("hosts")


def test_other_format_version_is_named(store: BundleStore, bundle: Bundle) -> None:
    path = folder(store, bundle) / MANIFEST
    fields = json.loads(path.read_text()) | {"format_version": 99, "written_by": "9.8.7"}
    path.write_text(json.dumps(fields))
    said = f"format version 99, and 3 is read; written by detector 9.8.7, this is {__version__}: train again"
    with pytest.raises(BundleRejectedError, match=said):
        store.load("hosts")


def test_bundles_from_before_time_zones_go_by_utc(store: BundleStore, bundle: Bundle) -> None:
    path = folder(store, bundle) / MANIFEST
    fields = json.loads(path.read_text())
    assert fields.pop("time_zone") == "UTC"
    path.write_text(json.dumps(fields))
    assert store.load("hosts").manifest.time_zone == "UTC"


def test_fields_that_only_a_newer_detector_knows_are_passed_over(store: BundleStore, bundle: Bundle) -> None:
    path = folder(store, bundle) / MANIFEST
    fields = json.loads(path.read_text())
    for part in (fields, fields["training"], fields["features"][0], fields["members"][0]["report"]):
        part["mood"] = "sunny"
    path.write_text(json.dumps(fields))
    assert store.load("hosts").manifest.model_copy(update={"files": {}}) == bundle.manifest


def test_a_value_that_only_a_newer_detector_knows_is_refused_in_one_line(
    store: BundleStore, bundle: Bundle
) -> None:
    path = folder(store, bundle) / MANIFEST
    fields = json.loads(path.read_text()) | {"written_by": "9.8.7"}
    fields["members"][0]["averaged"] = "regret"
    path.write_text(json.dumps(fields))
    said = r"understood at members\.0\.averaged: .*'surprise'.*; written by detector 9\.8\.7, this is [^\n]*$"
    with pytest.raises(BundleRejectedError, match=said):
        store.load("hosts")


def test_manifest_that_is_no_json_is_rejected(store: BundleStore, bundle: Bundle) -> None:
    (folder(store, bundle) / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(BundleRejectedError, match="cannot be read"):
        store.load("hosts")


@pytest.mark.parametrize("name", ["../hosts", ".hidden", "a/b", ""])
def test_name_that_is_no_name_on_disk_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="cannot be a name on disk"):
        BundleStore(tmp_path).load(name)


def test_a_store_that_cannot_be_written_is_found_before_there_is_something_to_write(tmp_path: Path) -> None:
    store = BundleStore(tmp_path / "new" / "store")
    store.check_writable("hosts")
    assert store.detectors() == []
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"detector 'hosts': store .*/file cannot be written: .*bootstrap"):
        BundleStore(tmp_path / "file").check_writable("hosts")
