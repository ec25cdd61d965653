"""Trained versions on disk: ``store/<detector>/<version>/`` and the alias files beside them.

BundleError                a bundle cannot be read or written; the message says which and why
├── BundleNotFoundError    there is no such detector, version or alias: train one
└── BundleRejectedError    it is there, but damaged, altered or not of this format: nothing of it was used
"""

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from detector import __version__
from detector.alerting.budget import HeldOut
from detector.bundles.history import How, Promotion, read_history, with_another
from detector.bundles.manifest import FORMAT_VERSION, Manifest
from detector.models.contract import Arrays
from detector.scoring.member import MemberNames
from detector.scoring.scoring_model import ScoringModel
from detector.scoring.time_scale import TimeScale

MANIFEST = "manifest.json"
MODEL = "model.safetensors"
HELD_OUT = "held_out.safetensors"
CHAMPION = "champion"

_LARGEST_MANIFEST_BYTES = 64 * 2**20
_LARGEST_ARRAYS_BYTES = 2 * 2**30
_OBJECTIONS_KEPT = 5


class BundleError(RuntimeError):
    """A bundle cannot be read or written."""


class BundleNotFoundError(BundleError):
    """There is no such detector, version or alias."""


class BundleRejectedError(BundleError):
    """The bundle is damaged, altered, or of another format; nothing of it was used."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """One trained version, checked and ready to score."""

    manifest: Manifest
    model: ScoringModel
    held_out: HeldOut


class BundleStore:
    """A folder of trained versions. A version never changes; an alias is replaced atomically."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def versions(self, detector: str) -> list[str]:
        """Return the versions of a detector, oldest first.

        Raises:
            BundleError: They cannot be read.
        """
        return _folders(self.root / _safe(detector, "detector"))

    def detectors(self) -> list[str]:
        """Return the names of the detectors that have a folder here.

        Raises:
            BundleError: They cannot be read.
        """
        return _folders(self.root)

    def alias(self, detector: str, alias: str = CHAMPION) -> str | None:
        """Return the version that an alias names, None where it is not set.

        Raises:
            BundleError: It cannot be read.
        """
        path = self.root / _safe(detector, "detector") / f"{_safe(alias, 'alias')}.alias"
        try:
            return path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path} cannot be read: {error}") from error

    def check_writable(self, detector: str) -> None:
        """Write something, and remove it: so that a job of hours is not the first to find that it cannot.

        Raises:
            BundleError: A version of the detector could not be written.
        """
        folder = self.root / _safe(detector, "detector")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder if folder.is_dir() else self.root):
                pass
        except OSError as error:
            raise BundleError(
                f"detector {detector!r}: store {self.root} cannot be written: {error.strerror}; the "
                "daemon is to train (bootstrap): let its user write there, or take another store"
            ) from error

    def save(self, manifest: Manifest, model: ScoringModel, held_out: HeldOut) -> Path:
        """Write a new version, whole or not at all, and return its folder.

        ``manifest.files`` is filled in here.

        Raises:
            BundleError: The version exists already, or the folder cannot be written.
        """
        folder = self.root / _safe(manifest.detector, "detector") / _safe(manifest.version, "version")
        if folder.exists():
            raise BundleError(f"{folder} exists already; a version never changes, so train a new one")
        payloads = {
            MODEL: save_tensors(_contiguous(model.arrays())),
            HELD_OUT: save_tensors(
                {
                    "p_value": held_out.p_value,
                    "lengths": held_out.lengths,
                    "span_s": held_out.span_s,
                    "time": held_out.time,
                }
            ),
        }
        hashes = {name: hashlib.sha256(payload).hexdigest() for name, payload in payloads.items()}
        text = manifest.model_copy(update={"files": hashes}).model_dump_json(indent=2)
        payloads[MANIFEST] = text.encode()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
            try:
                for name, payload in payloads.items():
                    _write_durably(temporary / name, payload)
                temporary.chmod(0o755)
                temporary.rename(folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        except OSError as error:
            raise BundleError(
                f"{folder} cannot be written: {error}; check that the store is writable"
            ) from error
        return folder

    def set_alias(self, detector: str, version: str, alias: str = CHAMPION) -> None:
        """Point an alias at a version, atomically.

        Raises:
            BundleNotFoundError: There is no such version.
            BundleError: The alias cannot be written; it is as it was.
        """
        folder = self.root / _safe(detector, "detector")
        if not _is_bundle(folder / _safe(version, "version")):
            known = self.versions(detector)
            raise BundleNotFoundError(f"{folder / version} does not exist; known versions: {known}")
        path = folder / f"{_safe(alias, 'alias')}.alias"
        temporary = _temporary(path)
        try:
            _write_durably(temporary, f"{version}\n".encode())
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise BundleError(
                f"{path} cannot be written: {error}; check that the store is writable"
            ) from error

    def promote(
        self, detector: str, version: str, how: How, time_s: float, overridden: Sequence[str] = ()
    ) -> None:
        """Make a version the champion, and note it in the history.

        Args:
            detector: Whose.
            version: One of its versions.
            how: What promotes it.
            time_s: Now, seconds since 1970.
            overridden: What speaks against it, as sentences.

        Raises:
            BundleNotFoundError: There is no such version.
            BundleError: It cannot be written; the champion is as it was.
        """
        path = self._history(detector)
        # Two files: should the second not follow, the history's next line still says what came before it.
        temporary = _temporary(path)
        before = None
        # An alias that cannot be read is no reason not to mend it.
        with suppress(BundleError):
            before = self.alias(detector)
        against = tuple(overridden[:_OBJECTIONS_KEPT])
        done = Promotion(time_s=time_s, version=version, before=before, how=how, overridden=against)
        try:
            _write_durably(temporary, with_another(path, done))
            self.set_alias(detector, version)
            os.replace(temporary, path)
        except OSError as error:
            raise BundleError(
                f"{path} cannot be written: {error}; check that the store is writable"
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink()

    def history(self, detector: str) -> list[Promotion]:
        """Return which versions became the champion, oldest first.

        Raises:
            BundleError: It cannot be read.
        """
        path = self._history(detector)
        try:
            return read_history(path)
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error}") from error

    def _history(self, detector: str) -> Path:
        return self.root / _safe(detector, "detector") / f"{CHAMPION}.history"

    def load(self, detector: str, version: str = f"@{CHAMPION}") -> Bundle:
        """Read a version, or the one that ``@alias`` names, checked against its hashes.

        Raises:
            BundleNotFoundError: There is no such detector, version or alias.
            BundleRejectedError: The bundle is damaged, altered, or of another format.
            BundleError: The store cannot be read.
        """
        return load_bundle(self._folder(detector, version))

    def check_there(self, detector: str, version: str) -> None:
        """Open the files of a version, or of the one that ``@alias`` names, without reading them.

        Raises:
            BundleNotFoundError: There is no such detector, version or alias.
            BundleError: One of its files cannot be opened.
        """
        folder = self._folder(detector, version)
        for name in (MANIFEST, MODEL, HELD_OUT):
            try:
                (folder / name).open("rb").close()
            except OSError as error:
                raise BundleError(f"{folder / name} cannot be read: {error}") from error

    def _folder(self, detector: str, version: str) -> Path:
        """Return where a version is, or the one that ``@alias`` names."""
        named_by = ""
        if version.startswith("@"):
            named = self.alias(detector, version[1:])
            if named is None:
                raise BundleNotFoundError(
                    f"detector {detector!r} has no {version[1:]} in {self.root}; "
                    f"run 'detector train CONFIG {detector}' first, or let the daemon train (bootstrap)"
                )
            named_by = f", and it is the {version[1:]}"
            version = named
        folder = self.root / _safe(detector, "detector") / _safe(version, "version")
        if not _is_bundle(folder):
            known = self.versions(detector)
            raise BundleNotFoundError(f"{folder} is no bundle{named_by}; known versions: {known}")
        return folder


def load_reference(reference: str) -> Bundle:
    """Read what people call a version: ``STORE/DETECTOR@ALIAS``, or the folder of one.

    Raises:
        BundleNotFoundError: There is none.
        BundleRejectedError: The bundle is damaged, altered, or of another format.
    """
    path, at, alias = reference.rpartition("@")
    if at and "/" not in alias:
        return BundleStore(Path(path).parent).load(Path(path).name, f"@{alias}")
    folder = Path(reference)
    if not (folder / MANIFEST).is_file():
        raise BundleNotFoundError(
            f"{folder / MANIFEST} cannot be read: there is none; give the folder of a trained version, or "
            f"write STORE/DETECTOR@{CHAMPION}"
        )
    return load_bundle(folder)


def load_bundle(folder: Path) -> Bundle:
    """Read the bundle in a folder, checked against its hashes.

    Raises:
        BundleRejectedError: The bundle is damaged, altered, or of another format.
    """
    manifest = read_manifest(folder)
    payloads = {name: _checked(folder, name, digest) for name, digest in manifest.files.items()}
    try:
        arrays = load_tensors(payloads[MODEL])
        model = ScoringModel.from_arrays(
            arrays,
            members=[
                MemberNames(
                    member.family,
                    member.predictor,
                    manifest.discrete_columns(member),
                    TimeScale(member.weight, member.confirming_weight, member.averaged),
                    member.share,
                )
                for member in manifest.members
            ],
            feature_names=tuple(f.name for f in manifest.features),
            units=tuple(f.unit for f in manifest.features),
            entities=manifest.entities,
        )
        held = load_tensors(payloads[HELD_OUT])
        held_out = HeldOut(held["p_value"], held["lengths"], held["span_s"], held["time"])
    except (ValueError, KeyError, SafetensorError) as error:
        raise BundleRejectedError(
            f"{folder} does not hold a model that can be used ({error}); "
            f"{_whose(manifest.written_by)}: train it again"
        ) from error
    return Bundle(manifest, model, held_out)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest in a folder.

    Raises:
        BundleRejectedError: It is absent, damaged, or of another format.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > _LARGEST_MANIFEST_BYTES:
            raise BundleRejectedError(f"{path} is larger than {_LARGEST_MANIFEST_BYTES} bytes; not read")
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleRejectedError(f"{path} cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise BundleRejectedError(f"{path} is not a manifest; train again")
    whose = _whose(fields.get("written_by", "of unknown version"))
    found = fields.get("format_version")
    if found != FORMAT_VERSION:
        raise BundleRejectedError(
            f"{path} has format version {found!r}, and {FORMAT_VERSION} is read; {whose}: train again, or "
            "run the detector that wrote it"
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleRejectedError(
            f"{path} cannot be understood at {where}: {first['msg']}; {whose}: train again, or run the "
            "detector that wrote it"
        ) from error


def _whose(writer: object) -> str:
    return f"written by detector {writer}, this is {__version__}"


def _checked(folder: Path, name: str, digest: str) -> bytes:
    path = folder / _safe(name, "file")
    try:
        # A link could lead out of the store; O_NOFOLLOW refuses it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _LARGEST_ARRAYS_BYTES:
                raise BundleRejectedError(
                    f"{path} has {size} bytes, more than {_LARGEST_ARRAYS_BYTES}; not read"
                )
            payload = file.read()
    except OSError as error:
        raise BundleRejectedError(f"{path} cannot be read: {error}") from error
    found = hashlib.sha256(payload).hexdigest()
    if found != digest:
        raise BundleRejectedError(
            f"{path} has sha256 {found}, the manifest says {digest}; it was altered or cut short: "
            "train it again"
        )
    return payload


def _safe(name: str, what: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
        raise BundleError(f"{what} {name!r} cannot be a name on disk; use letters, digits, '-', '_' and '.'")
    return name


def _folders(path: Path) -> list[str]:
    """Return the names of the folders in another one, sorted; none where it is not there."""
    try:
        return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def _is_bundle(folder: Path) -> bool:
    try:
        return (folder / MANIFEST).is_file()
    except OSError as error:
        raise BundleError(f"{folder} cannot be read: {error}") from error


def _contiguous(arrays: Arrays) -> Arrays:
    # safetensors writes the memory as it lies.
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _temporary(path: Path) -> Path:
    # Not named by the process: containers that share a store may all have the same number.
    return path.with_name(f".{path.name}-{secrets.token_hex(8)}")


def _write_durably(path: Path, payload: bytes) -> None:
    with path.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
