"""The files of one served model: checked before they are read, verified beside the load.

Starts that failed with them are counted where the next process finds them. A folder without a manifest can be served
unless one is required: then only what can be seen without one is checked, and the log says so.

Where released artifacts are required, nothing is read before all of it is verified: the manifest is held against what
was signed, and the load waits for the checksums (`wait_verified`). Adapters that come later pass the same (`admit`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pratique.core.events import get_logger
from pratique.inference.artifacts.failures import count_failures, default_failures_file, record_failure, record_success
from pratique.inference.artifacts.manifest import (
    MANIFEST,
    Manifest,
    Seal,
    UnreadableError,
    VerificationCancelledError,
    check_layout,
    check_unrecorded_layout,
    manifest_digest,
    verify_content,
)
from pratique.inference.artifacts.recorded import read_recorded
from pratique.inference.artifacts.released import PULL_AGAIN, Admit, Released, ask, check_released
from pratique.inference.errors import ArtifactError, UnreleasedArtifactError

__all__ = ["ModelFiles"]

_TOKENIZERS: Final = ("tokenizer", "vocab", "spiece", "sentencepiece", "tekken", "merges")
_LOG = get_logger("artifacts")


class ModelFiles:
    """A model's folder and those of its adapters."""

    def __init__(
        self,
        folder: Path,
        *,
        adapters: Sequence[Path] = (),
        require_manifest: bool = False,
        recorded: Path | None = None,
        failures: Path | None = None,
        admit: Admit | None = None,
    ) -> None:
        """Take the model's folder, and what is asked of it.

        `recorded` is what the model's own manifest must equal: a manifest kept elsewhere, or a ledger. `admit` says
        which folders were released, and as what; without it any may be loaded.
        """
        self._folder = folder
        self._folders = (folder, *adapters)
        self._require_manifest = require_manifest
        self._recorded = recorded
        self._seals: list[Seal] = []
        self._failures_given = failures is not None
        self._failures = failures or default_failures_file(folder)
        self._manifests: dict[Path, Manifest] = {}
        self._cancelled = threading.Event()
        self._admit = admit
        self._released: dict[Path, Released] = {}
        self._is_verified = False

    def check(self) -> None:
        """Check names, sizes and headers, which is quick.

        Raises:
            ArtifactError: something is not as recorded, or no manifest is there and one is required.
            UnreleasedArtifactError: released artifacts are required, and this is none.
            UnsafeWeightsError: a file is a pickle.
        """
        with self._as_unreleased():
            for folder in self._folders:
                self._check_one(folder)
        names = [path.name for path in self._folder.iterdir()]
        if not any(name.startswith(_TOKENIZERS) for name in names):
            raise ArtifactError(
                f"{self._folder} has no tokenizer: none of {', '.join(f'{name}*' for name in _TOKENIZERS)} is in it.",
                hint="Get the tokenizer's files from where the weights came from, and import the model again.",
            )

    def _check_one(self, folder: Path) -> None:
        recorded = self._recorded if folder == self._folder else None
        released = self._ask(folder)
        if released is not None or (folder / MANIFEST).exists():
            expected = None if recorded is None else read_recorded(recorded, folder.name)
            self._manifests[folder] = manifest = check_layout(folder, expected)
            if released is not None:
                check_released(folder, manifest, released)
            self._seals.append(Seal.take(folder, manifest))
        elif self._require_manifest or recorded is not None:
            raise ArtifactError(
                f"{folder} has no {MANIFEST}, and the settings ask for one.",
                hint="`pratique model import` makes one; or name a folder that was imported.",
            )
        else:
            check_unrecorded_layout(folder)
            _LOG.warning("unverified_model", folder=str(folder), hint="`pratique model import` makes a manifest.")

    def _ask(self, folder: Path) -> Released | None:
        """Ask whether a folder may be loaded, and as what, where that is required."""
        if self._admit is None:
            return None
        base = None if folder == self._folder else self._released[self._folder].digest
        self._released[folder] = released = ask(self._admit, folder, base=base)
        return released

    @contextmanager
    def _as_unreleased(self) -> Iterator[None]:
        """Say of files that differ, where released ones are required, that these are not."""
        try:
            yield
        except (UnreleasedArtifactError, UnreadableError):
            raise
        except ArtifactError as error:
            if self._admit is None:
                raise
            raise UnreleasedArtifactError(error.message, hint=PULL_AGAIN) from error

    def verify(self, progress: Callable[[float], None]) -> None:
        """Compare every byte with the checksums; `progress` hears the share that is done, 0…1.

        Raises:
            ArtifactError: naming the file that differs.
        """
        total = sum(manifest.size_bytes for manifest in self._manifests.values()) or 1
        done = 0
        for folder, manifest in self._manifests.items():
            before, size = done, manifest.size_bytes

            def tell(share: float, before: int = before, size: int = size) -> None:
                progress((before + share * size) / total)

            with self._as_unreleased():
                verify_content(folder, manifest, tell, cancelled=self._cancelled)
            done += size
        self._is_verified = True

    def wait_verified(self) -> None:
        """Block until `verify` has ended, where released artifacts are required; the files may be read then.

        Raises:
            VerificationCancelledError: it did not end well.
        """
        if self._admit is None:
            return
        self._cancelled.wait()
        if not self._is_verified:
            raise VerificationCancelledError

    def admit(self, folder: Path) -> Callable[[], None]:
        """Verify an adapter's folder whole; return what makes sure later that it is still the same files.

        Raises:
            ArtifactError, UnsafeWeightsError: as `check` and `verify`.
        """
        if self._admit is None:
            return lambda: None
        with self._as_unreleased():
            released = ask(self._admit, folder, base=self._released[self._folder].digest)
            manifest = check_layout(folder)
            check_released(folder, manifest, released)
            seal = Seal.take(folder, manifest)
            verify_content(folder, manifest)
        self._released[folder] = released
        return lambda: self._confirm(seal)

    def released(self) -> list[dict[str, object]]:
        """Return what was released, of the folders that were verified; nothing where that is not required."""
        return [{"folder": str(folder), **released.told()} for folder, released in list(self._released.items())]

    def confirm(self) -> None:
        """Check that what was loaded is what was verified: no file was replaced or written to meanwhile.

        Raises:
            ArtifactError: naming the file.
        """
        for seal in self._seals:
            self._confirm(seal)

    def _confirm(self, seal: Seal) -> None:
        with self._as_unreleased():
            seal.check()

    def cancel(self) -> None:
        """End a verification that still runs."""
        self._cancelled.set()

    def count_failure(self, reason: str) -> int:
        """Count a start that failed; return how many did in a row, in this and earlier processes.

        Where there is no model folder, nothing is written beside it: the path may be a slip.
        """
        if not self._folder.is_dir() and not self._failures_given:
            return 1
        return record_failure(self._failures, self._key, reason)

    def failures_before(self) -> int:
        """Return how many starts in a row had failed before this one."""
        return count_failures(self._failures, self._key)

    def forget_failures(self) -> None:
        """The model takes traffic: what failed before was no fault of it."""
        record_success(self._failures, self._key)

    @property
    def _key(self) -> str:
        manifest = self._manifests.get(self._folder)
        return str(self._folder) if manifest is None else manifest_digest(manifest)
