"""Why the test kit does not go on.

TestkitError
├── (CallerError)
│   └── TestkitUsageError       a flag, ini value, factory argument or script that means nothing        (exit 2)
├── (EnvironmentFaultError)
│   ├── ServiceMissingError     no back end of the service is here; says how to get each
│   ├── ServiceStartError       it is here and did not get ready; carries the end of its log
│   ├── ServiceGoneError        it was ready and does not answer any more, or has forgotten what it was told
│   ├── TargetUnreachableError  nobody answers where a proxy is to lead
│   ├── ProxyStuckError         the thread that carries a test's connections does not answer
│   ├── UnexpectedAnswerError   a server answers a client of the kit with something else than expected
│   ├── ToolsInstallError       npm could not install what the services need
│   └── HostGoneError           the process that owns this run's servers does not answer
└── (RefusedError)
    ├── CapabilityMissingError  the back end does not show what the test needs
    ├── CredentialsFoundError   real-looking credentials are within the tests' reach
    └── NetworkBlockedError     a test reached for an address that is not allowed

Outside it, as they are of the test and not of the kit: a test that fails has an AssertionError.

AssertionError
├── kit.LeakError               a test left something behind, and leaks are errors
└── timing.SlaError             something took longer than it may, or did not come true

Outside it, as `pratique secrets` works without the kit's extra:

PratiqueError
├── (CallerError)
│   └── guard.scan.errors.ScanUsageError         a path, a range or an allow file means nothing          (exit 2)
├── (EnvironmentFaultError)
│   └── guard.scan.errors.ScanFailedError        git failed: whether there are secrets is not known      (exit 3)
└── (RefusedError)
    └── guard.scan.hook.ForeignHookError        there is a hook that somebody else wrote                (exit 1)
"""

from __future__ import annotations

from pratique.core.errors import CallerError, EnvironmentFaultError, PratiqueError, RefusedError

__all__ = [
    "CapabilityMissingError",
    "CredentialsFoundError",
    "HostGoneError",
    "NetworkBlockedError",
    "ProxyStuckError",
    "ServiceGoneError",
    "ServiceMissingError",
    "ServiceStartError",
    "TargetUnreachableError",
    "TestkitError",
    "TestkitUsageError",
    "ToolsInstallError",
    "UnexpectedAnswerError",
]


class TestkitError(PratiqueError):
    """Base of everything that the test kit raises on purpose."""

    __test__ = False  # pytest takes names that begin with Test for tests


class TestkitUsageError(TestkitError, CallerError):
    """A flag, an ini value, an argument or a script means nothing to the test kit."""

    code = "testkit_usage"
    __test__ = False


class ServiceMissingError(TestkitError, EnvironmentFaultError):
    """None of a service's back ends is on this machine."""

    code = "service_missing"


class ServiceStartError(TestkitError, EnvironmentFaultError):
    """A service was started and did not get ready; the message ends with its last log lines."""

    code = "service_start_failed"


class ServiceGoneError(TestkitError, EnvironmentFaultError):
    """A service that was ready does not answer any more, or has forgotten what it was told."""

    code = "service_gone"


class TargetUnreachableError(TestkitError, EnvironmentFaultError):
    """Nobody answers where a proxy of TCP faults is to lead."""

    code = "target_unreachable"


class ProxyStuckError(TestkitError, EnvironmentFaultError):
    """The thread that carries connections under TCP faults does not answer."""

    code = "proxy_stuck"


class UnexpectedAnswerError(TestkitError, EnvironmentFaultError):
    """A server answered one of the kit's own clients with something else than was expected."""

    code = "unexpected_answer"

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ToolsInstallError(TestkitError, EnvironmentFaultError):
    """What the services need from npm could not be installed."""

    code = "tools_install_failed"


class HostGoneError(TestkitError, EnvironmentFaultError):
    """The process that owns the servers of this run does not answer."""

    code = "host_gone"


class CapabilityMissingError(TestkitError, RefusedError):
    """The back end in use does not show the behaviour that a test needs."""

    code = "capability_missing"


class CredentialsFoundError(TestkitError, RefusedError):
    """Credentials that look real are within the tests' reach."""

    code = "credentials_found"


class NetworkBlockedError(TestkitError, RefusedError):
    """A test reached for an address that the guard does not allow."""

    code = "network_blocked"
