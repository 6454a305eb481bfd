"""What the drill's team has written down: settings, policy, approved packages, locks and the advisory. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

__all__ = [
    "FIXED",
    "OLD_RECORDS",
    "PACKAGE",
    "VULNERABLE",
    "Pace",
    "Places",
    "Release",
    "advisory",
    "approved_text",
    "config_text",
    "lock_text",
    "policy_text",
]

PACKAGE: Final = "idna"


@dataclass(frozen=True, slots=True)
class Release:
    """A version of the package, as PyPI has it."""

    version: str
    sha256: str

    @property
    def wheel(self) -> str:
        """The file's name."""
        return f"{PACKAGE}-{self.version}-py3-none-any.whl"


VULNERABLE: Final = Release("3.6", "c05567e9c24a6b9faaa835c4821bad0590fbb9d5779e7caa6e1cc4978e7eb24f")
FIXED: Final = Release("3.10", "946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a canary runs, and how much traffic there is."""

    canary_seconds: float
    requests_per_second: float = 20.0
    share: float = 0.05

    @property
    def is_shortened(self) -> bool:
        """Whether the canary is shorter than the emergency path's five minutes."""
        return self.canary_seconds < 300

    @property
    def min_samples(self) -> int:
        """On each side: half of what is expected, 200 at most and 20 at least."""
        return max(20, min(200, int(self.requests_per_second * self.share * self.canary_seconds / 2)))


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are; addresses are of loopback."""

    folder: str
    registry: str
    """host:port of the front."""
    mirror_port: int
    target_ports: tuple[int, int, int, int]
    podman: tuple[str, ...]
    keys: dict[str, str]
    """Fingerprints by who signs."""
    bases: tuple[str, str]

    @property
    def repository(self) -> str:
        """Where the service's images lie."""
        return f"{self.registry}/team/names"


def config_text(places: Places, pace: Pace) -> str:
    """Write pratique.toml."""
    folder = places.folder
    keys = [f"{folder}/keys/{name}.key.pub" for name in places.keys]
    return f"""
[release.signing]
public_keys = {json.dumps(keys)}
key_file = "{folder}/keys/rollout.key"
[release.policy]
file = "{folder}/promotion.toml"
[release.ledger]
file = "{folder}/ledger.db"
[release.advisories]
database = "{folder}/advisories.db"
[release.triage]
index = "{folder}/triage.db"
feed_state = "{folder}/feed.db"
[release.build]
builder_id = "urn:pratique:builder:drill"
[release.mirror]
approved = "{folder}/approved-packages.toml"
store = "{folder}/mirror"
port = {places.mirror_port}
[release.promotion]
share = {pace.share}
emergency_seconds = {pace.canary_seconds}
look_seconds = {min(15.0, pace.canary_seconds / 4)}
[[release.promotion.canary.metrics]]
name = "error"
kind = "rate"
max_increase = 0.01
min_samples = {pace.min_samples}
[[release.promotion.canary.metrics]]
name = "latency_seconds"
kind = "level"
max_ratio = 1.5
max_increase = 0.05
limit = 0.5
limit_quantile = 0.95
min_samples = {pace.min_samples}
{_target_text(places)}"""


def _target_text(places: Places) -> str:
    folder, ports = places.folder, places.target_ports
    run = [*places.podman, "run", "--rm", "--replace", "--name", "names-{slot}", "--network", "host", "--read-only"]
    run += ["--tmpfs", "/tmp", "--cap-drop=ALL", "--security-opt", "no-new-privileges", "--ulimit", "nofile=1024:1024"]  # noqa: S108 - in the container
    run += ["--ulimit", "nproc=1000:1000", "--tls-verify=false", "--pull", "missing"]
    run += [f"{places.repository}@{{digest}}", "{port}"]
    return f"""[release.promotion.targets.production]
folder = "{folder}/production"
command = {json.dumps(run)}
environment = {{ PATH = "/usr/sbin:/usr/bin:/sbin:/bin", HOME = "{folder}" }}
port = {ports[0]}
admin_port = {ports[1]}
slot_ports = [{ports[2]}, {ports[3]}]
drain_seconds = 10.0
"""


def policy_text(places: Places, pace: Pace) -> str:
    """Write promotion.toml."""
    keys = "\n".join(
        f'[signers.{name}]\nidentities = [{{ key = "{key}" }}]\nemails = ["{name}@team.example"]'
        for name, key in places.keys.items()
    )
    return f"""
schema_version = 1
repositories = ["{places.repository}"]
environments = ["production"]
baseline = "production"
{keys}
[rules.signature]
signers = ["builder"]
[rules.sbom]
signers = ["builder"]
min_components = 3
required_types = ["deb", "pypi"]
[rules.vulnerabilities]
signers = ["scanner"]
max_severity = "medium"
{_provenance_text(places)}[rules.dependencies]
signers = ["builder"]
reviewers = ["ana", "ben"]
review = ["new", "changed", "licence", "removed"]
[rules.hygiene]
signers = ["builder"]
required = ["secret-in-file", "secret-in-configuration", "root-user", "set-id", "toolchain", "package-installer"]
max_size_bytes = 100_000_000
max_wasted_bytes = 5_000_000
[rules.approvals]
signers = ["ana", "ben"]
count = 2
[rules.canary]
signers = ["rollout"]
metrics = ["error", "latency_seconds"]
min_samples = {pace.min_samples}
min_seconds = {pace.canary_seconds}
min_share = {pace.share}
"""


def _provenance_text(places: Places) -> str:
    return f"""[rules.provenance]
repositories = ["git+https://git.example/team/names"]
[[rules.provenance.builders]]
signer = "builder"
builder = "urn:pratique:builder:drill"
build_type = "urn:pratique:build:dockerfile:v1"
[rules.provenance.parameters]
source = ["https://git.example/team/names"]
dockerfile = ["Dockerfile"]
locks = ["requirements.txt"]
secrets = ["pip.conf"]
network_stages = ["deps"]
platform = ["linux/*"]
target = ["runtime"]
test_stage = ["test"]
"arguments.BASE" = ["{places.bases[0]}"]
"arguments.DEPS_BASE" = ["{places.bases[1]}"]
"""


def approved_text(*releases: Release) -> str:
    """Write approved-packages.toml."""
    versions = "".join(
        f'[[package.version]]\nversion = "{one.version}"\nfiles = {{ "{one.wheel}" = "sha256:{one.sha256}" }}\n'
        for one in releases
    )
    return f"""schema = 1
[names]
private = []
popular = []
[[package]]
name = "{PACKAGE}"
licence = "BSD-3-Clause"
approved_by = "ben@team.example"
approved_on = 2025-06-30
reason = "domain names of the world"
similar_to = []
{versions}"""


def lock_text(release: Release, *, has_hash: bool = True) -> str:
    """Write requirements.txt."""
    return f"{PACKAGE}=={release.version}" + (f" --hash=sha256:{release.sha256}\n" if has_hash else "\n")


def advisory(now: str) -> dict[str, object]:
    """Return the record that is published during the drill, in OSV's format and our own words.

    The vulnerability is real (CVE-2024-3651, mended in idna 3.7); the record is the drill's.
    """
    events = [{"introduced": "0"}, {"fixed": "3.7"}]
    return {
        "schema_version": "1.6.0",
        "id": "PRATIQUE-DRILL-2026-1",
        "aliases": ["CVE-2024-3651"],
        "modified": now,
        "published": now,
        "summary": "encode() needs quadratic time for long names that are made up on purpose",
        "affected": [
            {"package": {"ecosystem": "PyPI", "name": PACKAGE}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
        ],
        "database_specific": {"severity": "HIGH"},
    }


OLD_RECORDS: Final = tuple(
    {
        "schema_version": "1.6.0",
        "id": f"PRATIQUE-DRILL-2025-{number}",
        "modified": "2025-06-30T00:00:00Z",
        "summary": "a record about nothing, so that the database knows this ecosystem",
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": "pratique-drill-nothing"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1"}]}],
            }
        ],
        "database_specific": {"severity": "LOW"},
    }
    for number, ecosystem in enumerate(("PyPI", "Debian:12"), start=1)
)
"""What was known before the night. Real data would find what is to be found in Debian's packages, too."""
