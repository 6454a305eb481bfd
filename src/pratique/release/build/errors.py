"""What a build is refused for.

PratiqueError
├── (CallerError)
│   └── BuildRequestError      what is asked for cannot be built: no such stage, argument or folder
├── (ToolFailedError)
│   └── StepFailedError        a step of the build failed or took too long; the end of its log is in the message
└── (RefusedError)
    ├── DockerfileRefusedError the Dockerfile breaks a rule; every place is named
    ├── DirtyTreeError         what would be built is not what was committed
    ├── TestStageError         the tests inside the image failed
    ├── UnlistedWheelError     the dependency step brought a file that no lock names
    └── NotReproducibleError   two builds of the same inputs differ
"""

from __future__ import annotations

from pratique.core.errors import CallerError, RefusedError
from pratique.release.errors import ToolFailedError

__all__ = [
    "BuildRequestError",
    "DirtyTreeError",
    "DockerfileRefusedError",
    "NotReproducibleError",
    "StepFailedError",
    "TestStageError",
    "UnlistedWheelError",
]


class BuildRequestError(CallerError):
    """What is asked for cannot be built."""

    code = "build_request"


class StepFailedError(ToolFailedError):
    """A step of the build ended with an error."""

    code = "build_step_failed"


class DockerfileRefusedError(RefusedError):
    """The Dockerfile breaks a rule of governed builds."""

    code = "dockerfile_refused"


class DirtyTreeError(RefusedError):
    """The work tree differs from its commit, so the commit would not say what was built."""

    code = "dirty_tree"


class TestStageError(RefusedError):
    """The tests inside the image failed: there is no image."""

    __test__ = False  # no test class, whatever its name begins with
    code = "image_tests_failed"


class UnlistedWheelError(RefusedError):
    """The dependency step brought a file whose hash no lock file names."""

    code = "unlisted_wheel"


class NotReproducibleError(RefusedError):
    """Two builds of the same inputs differ."""

    code = "not_reproducible"
