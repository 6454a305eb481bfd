"""Signing statements with an identity instead of a key, by sigstore-python.

An identity provider vouches for who asks; Fulcio issues a certificate for minutes, over a key that is made for it and
then forgotten; the signature goes to Rekor and, where the instance has one, to a time stamp authority. Which instance
that is stands in a client trust config, a file, or is Sigstore's public one.

What comes back is verified by our own verifier before it is used: an authority that fails to stamp is only a warning
to sigstore-python, and such a bundle would prove nothing later.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

from pratique.core.errors import CallerError, RefusedError
from pratique.release.errors import UnavailableError, VerificationError
from pratique.release.signing.trust import TrustRoot, parse_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import parse_statement

if TYPE_CHECKING:
    from sigstore.dsse import Statement
    from sigstore.models import ClientTrustConfig

__all__ = ["IdentityRefusedError", "KeylessSigner", "ambient_token", "load_trust_config"]

_DEADLINE_SECONDS: Final = 60.0
"""For one signature: certificate, time stamp and log entry. sigstore-python itself waits for ever in places."""

T = TypeVar("T")


class IdentityRefusedError(RefusedError):
    """The identity token is not one, has expired, or the certificate authority did not take it."""

    code = "identity_refused"


def load_trust_config(file: Path | None) -> ClientTrustConfig:
    """Read which instance signs, and whom it is believed by; without a file, Sigstore's public one, fetched by TUF.

    Raises:
        CallerError: the file cannot be read, or is no client trust config.
        UnavailableError: the public instance's configuration cannot be fetched.
    """
    from sigstore.errors import Error
    from sigstore.models import ClientTrustConfig

    if file is None:
        try:
            return _within(_DEADLINE_SECONDS, ClientTrustConfig.production)
        except (Error, OSError) as error:
            raise UnavailableError(f"the trust configuration of Sigstore cannot be fetched: {error}") from error
    try:
        return ClientTrustConfig.from_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CallerError(f"the trust config {file} cannot be read: {error.strerror}") from error
    except (Error, ValueError) as error:
        raise CallerError(f"{file} is no client trust config: {error}") from error


def ambient_token() -> str:
    """Return the identity token that this machine has, as continuous integration gives it to a job.

    Raises:
        IdentityRefusedError: it has none.
    """
    from sigstore.oidc import IdentityError, detect_credential

    try:
        token = _within(_DEADLINE_SECONDS, detect_credential)
    except IdentityError as error:
        raise IdentityRefusedError(f"this machine's identity token cannot be had: {error}") from error
    if token is None:
        raise IdentityRefusedError(
            "expected an identity token, and this machine offers none",
            hint="Name a file with one: --identity-token-file. In GitHub Actions a job needs 'id-token: write'.",
        )
    return token


@dataclass(frozen=True, slots=True)
class KeylessSigner:
    """A `StatementSigner` that holds an identity token. Every statement gets a certificate of its own."""

    token: str = field(repr=False)
    config: ClientTrustConfig
    deadline_seconds: float = _DEADLINE_SECONDS

    def sign(self, payload: bytes) -> bytes:
        """Return a bundle over a statement's bytes.

        Raises:
            EvidenceError: the bytes are no statement: nothing else is signed.
            IdentityRefusedError: the token is no good, or was not taken.
            UnavailableError: the authority or the log did not answer, or what they answered proves nothing.
        """
        parse_statement(payload)
        bundle = _within(self.deadline_seconds, lambda: self._sign(payload))
        try:
            BundleVerifier(root=_root_of(self.config)).verify(bundle)
        except VerificationError as error:
            raise UnavailableError(
                f"what the instance's services answered does not make a bundle that verifies: {error.message}"
            ) from error
        return bundle

    def _sign(self, payload: bytes) -> bytes:
        from sigstore.oidc import ExpiredIdentity, IdentityError, IdentityToken
        from sigstore.sign import SigningContext

        try:
            context = SigningContext.from_trust_config(self.config)
            with context.signer(IdentityToken(self.token)) as signer:
                return signer.sign_dsse(_exact(payload)).to_json().encode()
        except (IdentityError, ExpiredIdentity) as error:
            raise IdentityRefusedError(f"the identity token is not valid: {error}") from error
        except Exception as error:  # its clients let through whatever they stumble over in an answer
            raise _translated(error) from error


def _translated(error: Exception) -> UnavailableError | IdentityRefusedError:
    """Return "refused" where the authority said no to whoever asked, "could not" for all else."""
    response = getattr(error.__cause__, "response", None)
    status = getattr(response, "status_code", 0)
    said = str(error) or str(error.__cause__)
    if type(error).__name__ == "FulcioClientError" and status in {400, 401, 403}:
        return IdentityRefusedError(f"the certificate authority did not take the identity token: {said}")
    return UnavailableError(f"the instance's services could not be used: {type(error).__name__}: {said}")


def _exact(payload: bytes) -> Statement:
    """Return a statement for sigstore-python with these very bytes.

    Its own constructor demands a name of every subject, which neither the in-toto specification nor cosign does.
    """
    from sigstore.dsse import Statement

    statement = Statement.__new__(Statement)
    statement._contents = payload  # noqa: SLF001 - all that signing reads
    return statement


def _root_of(config: ClientTrustConfig) -> TrustRoot:
    return parse_trust_root(config.trusted_root._inner.to_json().encode())  # noqa: SLF001 - there is no other way out


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return what a call returns, if it does so in time; else it is left alone, in a thread that holds up no exit.

    Raises:
        UnavailableError: it did not.
    """
    done: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - the thread ends here; the caller raises it
            done.put((None, error))

    threading.Thread(target=run, name="keyless", daemon=True).start()
    try:
        result, error = done.get(timeout=seconds)
    except queue.Empty:
        raise UnavailableError(f"the signing services did not answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return cast("T", result)
