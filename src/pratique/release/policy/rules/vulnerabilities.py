"""A scan of this SBOM, with fresh knowledge, found nothing that blocks. Pure.

An unknown severity blocks like a critical one, and a version that could not be compared blocks whatever its severity:
neither says that all is well. A statement of exploitability (`vex`) can answer both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from pratique.release.policy.decision import Reason, RuleResult
from pratique.release.policy.document import VulnerabilitiesRule
from pratique.release.policy.rules.vex import Exemptions, exemptions
from pratique.release.policy.selection import MAX_SKEW, Case, Query, Read, latest, measurements, reason, result
from pratique.release.predicates import VULNERABILITIES, Scan, Severity, Vulnerability
from pratique.release.values import Digest

__all__ = ["judge_vulnerabilities"]

_RANKS: Final[dict[Severity, int]] = {"none": 0, "low": 1, "medium": 2, "high": 3, "critical": 4, "unknown": 5}
_MEND_SCAN: Final = "Scan the SBOM anew with a current database, sign the report and attach it."


def judge_vulnerabilities(case: Case, rule: VulnerabilitiesRule) -> RuleResult:
    """Judge, for each SBOM that counts, the latest scan of it."""
    query = Query(
        predicate_type=VULNERABILITIES,
        names=rule.signers,
        kind=Scan,
        what="scan",
        mend=_MEND_SCAN,
        time_of=lambda scan: scan.finished_at,
    )
    read, reasons = measurements(case, query)
    exempt = exemptions(case, rule)
    counted: list[Read[Scan]] = []
    found: list[Reason] = [*reasons, *exempt.broken]
    for sbom, num_packages in case.sboms.items():
        scans = latest([one for one in read if one.content.result.sbom_digest == sbom], query.time_of)
        counted += scans
        if read and not scans:
            found.append(
                reason("missing", f"no scan looked at the SBOM {sbom}", mend=_MEND_SCAN, statement=sbom),
            )
        for scan in scans:
            found += [*_freshness_problems(case, rule, scan), *_coverage_problems(rule, scan, num_packages)]
            found += _vulnerable(rule, scan, exempt)
    if not case.sboms:
        found.append(reason("missing", "there is no SBOM that a scan could be of", mend="See the rule 'sbom'."))
    return result("vulnerabilities", found, (*(one.accepted for one in counted), *exempt.used))


def _freshness_problems(case: Case, rule: VulnerabilitiesRule, read: Read[Scan]) -> Iterator[Reason]:
    scan, now, digest = read.content, case.facts.now, read.accepted.digest
    if now - scan.finished_at > timedelta(hours=rule.max_scan_age_hours):
        what = f"the scan is of {scan.finished_at.isoformat()}, at most {rule.max_scan_age_hours:g} hours are allowed"
        yield reason("stale", what, mend=_MEND_SCAN, statement=digest)
    updated_at = scan.scanner.database_updated_at
    if updated_at is None:
        what = "the scan does not say how old its database was"
        yield reason("malformed", what, mend="Use a scanner that says so.", statement=digest)
    elif now - updated_at > timedelta(hours=rule.max_database_age_hours):
        what = f"the database is of {updated_at.isoformat()}, at most {rule.max_database_age_hours:g} hours are allowed"
        yield reason("stale", what, mend="Update the scanner's database, and scan anew.", statement=digest)
    if (updated_at is not None and updated_at - scan.finished_at > MAX_SKEW) or scan.started_at > scan.finished_at:
        what = "the scan ended before it began, or before its database was made"
        yield reason("malformed", what, mend="Correct the scanner's clock, and scan anew.", statement=digest)


def _coverage_problems(rule: VulnerabilitiesRule, read: Read[Scan], num_packages: int) -> Iterator[Reason]:
    looked_at = read.content.result.num_components
    wanted = max(1, math.ceil(rule.min_coverage * num_packages))
    if looked_at < wanted:
        yield reason(
            "incomplete",
            f"the scanner looked at {looked_at} of the {num_packages} packages that the SBOM has, {wanted} are needed",
            mend="Find out why the scanner leaves some out; a scanner that saw nothing finds nothing.",
            statement=read.accepted.digest,
        )


def _vulnerable(rule: VulnerabilitiesRule, read: Read[Scan], exempt: Exemptions) -> Iterator[Reason]:
    for one in read.content.result.vulnerabilities:
        is_over = _RANKS[one.severity] > _RANKS[rule.max_severity]
        if (is_over or one.is_undetermined) and not exempt.covers(one):
            yield _reason(one, exempt.why_not(one), read.accepted.digest)


def _reason(one: Vulnerability, why_not: str, digest: Digest) -> Reason:
    names = "/".join((one.id, *one.aliases[:2]))
    doubt = ", and whether this version is affected could not be determined" if one.is_undetermined else ""
    aside = f"; {why_not}" if why_not else ""
    upgrade = f"Upgrade to {' or '.join(one.fixed_in)}" if one.fixed_in else "There is no fix: replace the package"
    return reason(
        "vulnerable",
        f"{one.package} has {names}, severity {one.severity}{doubt}{aside}",
        mend=f"{upgrade}; or have an accepted author state that the image is not affected (OpenVEX).",
        statement=digest,
    )
