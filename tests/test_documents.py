"""Tests for what people read: links lead somewhere, and the first example works."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from detector.config import Config, load_config
from detector.config.findings import _model_in
from detector.config.members import FamilyOptions
from detector.config.section import Section
from detector.delivery.alert import decode_alert
from detector.delivery.notification import labels_of
from tests.conformance.test_alerts_topic import WRITTEN

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_what_is_there(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_every_document_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(f"](docs/{document.name})" in readme for document in ROOT.glob("docs/*.md"))


def test_the_configuration_of_the_readme_is_one(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    file = tmp_path / "config.yaml"
    file.write_text(found[1])
    assert load_config(file).detectors[0].name == "hosts"


def keys(section: type[Section], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key of a configuration: the section that it is in, and its name."""
    for name, field in section.model_fields.items():
        key = field.alias or name
        yield above, key
        below = _model_in(field.annotation)
        if below is not None:
            yield from keys(below, f"{above}.{key}" if above else key)


def rows(document: Path) -> dict[str, str]:
    """Return the rows of tables by the keys in their first cells; ``.c`` after ``a.b`` is ``a.c``."""
    found: dict[str, str] = {}
    for row in re.findall(r"^\| (`.+?) \| (.+) \|$", document.read_text(), re.MULTILINE):
        above = ""
        for key in re.findall(r"`([^`]+)`", row[0].replace("[]", "")):
            path = f"{above}{key}" if key.startswith(".") else key
            above = path.rpartition(".")[0]
            found[path] = f"{found.get(path, '')} {row[1]}"
    return found


def test_every_key_is_in_the_document_of_the_configuration() -> None:
    told = rows(ROOT / "docs" / "configuration.md")

    def is_told(above: str, key: str) -> bool:
        if above == "detectors.members" and key in FamilyOptions.model_fields:
            above = "detectors.training"
        inside = re.findall(r"`[^`]+`", told.get(above, ""))
        by_itself = f"{above}.{key}" if above else key
        return any(path == by_itself or path.startswith(f"{by_itself}.") for path in told) or any(
            re.search(rf"\b{key}\b", code) for code in inside
        )

    every = list(keys(Config))
    assert len(every) > 150
    assert [f"{above}.{key}" for above, key in every if not is_told(above, key)] == []


def fields(value: Any) -> Iterator[str]:
    """Yield the names of all fields of a record, those inside others, too."""
    if isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from fields(part)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_field_of_an_event_is_in_the_document_of_the_records(name: str) -> None:
    text = re.sub("```.*?```", "", (ROOT / "docs/records.md").read_text(), flags=re.DOTALL)
    code = {word for part in re.findall(r"`[^`]+`", text) for word in re.findall(r"\w+", part)}
    record = WRITTEN[name]
    data = json.loads(record.value)
    # Labels have the names that people gave them; a regime is described by an example.
    data |= {"labels": None, "regime": None}
    assert set(fields(data)) - code == set()
    assert {header for header, _ in record.headers} - {"content-type"} <= code


@pytest.mark.parametrize("name", WRITTEN)
def test_every_label_that_people_are_told_by_is_in_the_document_of_the_delivery(name: str) -> None:
    text = (ROOT / "docs/delivery.md").read_text()
    labels = labels_of(decode_alert(WRITTEN[name].value))
    own = {label for label in labels if label not in json.loads(WRITTEN[name].value)["labels"]}
    assert {label for label in own if f"`{label}`" not in text} == set()
    assert f"`{labels['alertname']}`" in text or f"`alertname: {labels['alertname']}`" in text
