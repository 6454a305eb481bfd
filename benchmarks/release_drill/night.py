"""The story: a vulnerable release in production, an advisory at 2 a.m., and the way until it is proved gone.

Each step runs the commands that a person on call would run, and holds what they say against what must be so.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from benchmarks.release_drill.desk import Part, expect
from benchmarks.release_drill.parts import Traffic
from benchmarks.release_drill.shop import Shop, failed_rules
from benchmarks.release_drill.texts import FIXED, PACKAGE, VULNERABLE, advisory, approved_text, lock_text

__all__ = ["be_woken", "prepare", "try_a_broken_one"]

_CVE = "CVE-2024-3651"


def prepare(shop: Shop) -> None:
    """Bring the vulnerable release into production, the regular way: nobody knows yet."""
    desk = shop.desk
    with desk.step("first release in production", Part.BEFORE) as step:
        shop.import_advisories(_now())
        desk.pratique("lock", "verify", "source/requirements.txt")
        shop.commit("Tell how domain names are written")
        shop.build("old")
        shop.prove("old", baseline=None)
        shop.agree("old", "the first release")
        told = desk.pratique("promote", *shop.about("old"), "--json").told
        expect(holds=told["result"] == "promoted", what="the first release is promoted")
        desk.pratique("inventory", "sync", *shop.config)
        desk.pratique("feed", "watch", "feed", "--once", *shop.config)
        step.shows.append(f"{VULNERABLE.wheel} runs in {shop.images['old'][:19]}…")


def be_woken(shop: Shop, traffic: Traffic) -> None:
    """From the advisory until it is gone from production."""
    _hear(shop)
    _triage(shop)
    _block(shop)
    _patch(shop)
    _rebuild(shop)
    _agree(shop)
    _ship(shop, traffic)
    _prove_gone(shop)


def _hear(shop: Shop) -> None:
    with shop.desk.step("advisory") as step:
        record = advisory(_now())
        (shop.folder / "feed" / f"{record['id']}.json").write_text(json.dumps(record), encoding="utf-8")
        shop.desk.pratique(*("feed", "watch", "feed", "--once", "--webhook", shop.alerts_url, "--ledger", *shop.config))
        told = [one for one in shop.alerts if one.get("advisory") == record["id"]]
        expect(holds=len(told) == 1, what="the webhook has one alert about the advisory")
        running = _digests(told[0]["answer"])
        expect(holds=running == [shop.images["old"]], what="the alert names the image that runs")
        step.shows.append(f"the webhook was told of {record['id']}, with the image that runs")


def _triage(shop: Shop) -> None:
    with shop.desk.step("triage") as step:
        shop.import_advisories(_now())
        answer = shop.desk.pratique("triage", _CVE, *shop.config, "--json", code=1).told
        expect(holds=_digests(answer) == [shop.images["old"]], what="triage names the image that runs")
        place = answer["running"][0]["places"][0]
        reached = answer["running"][0]["reached"][0]
        expect(holds=place["environment"] == "production", what="it takes traffic in production")
        fixed = ", ".join(answer["components"][0]["fixed_in"])
        step.shows.append(f"{reached['package']} in {place['environment']} since {place['since']}, fixed in {fixed}")


def _block(shop: Shop) -> None:
    with shop.desk.step("the old image does not pass any more") as step:
        shop.scan_again("old")
        gate = ("gate", *shop.about("old"), "--environment", "production", "--json")
        failed = failed_rules(shop.desk.pratique(*gate, code=1).told)
        expect(holds="vulnerabilities" in failed, what="the gate blocks it for what the new scan found")
        step.shows.append(f"the gate blocks: {', '.join(failed)}")


def _patch(shop: Shop) -> None:
    desk, lock = shop.desk, shop.folder / "source" / "requirements.txt"
    with desk.step("patched lock") as step:
        lock.write_text(lock_text(FIXED, has_hash=False), encoding="utf-8")
        refused = desk.pratique("lock", "verify", str(lock), "--json", code=1)
        expect(holds="missing-hash" in refused.out, what="a lock without a hash is refused")
        lock.write_text(lock_text(FIXED), encoding="utf-8")
        desk.pratique("lock", "verify", str(lock))
        name = f"idna=={FIXED.version}"
        asked = desk.pratique("mirror", "explain", name, *shop.config, "--json", code=1).told
        expect(holds=asked["code"] != "served", what="a version that nobody approved is not served")
        approved = shop.folder / "approved-packages.toml"
        before = shop.folder / "approved-before.toml"
        before.write_bytes(approved.read_bytes())
        approved.write_text(approved_text(VULNERABLE, FIXED), encoding="utf-8")
        desk.pratique("mirror", "check", "--base", str(before), *shop.config)
        approved.write_text(approved_text(FIXED), encoding="utf-8")
        desk.pratique("mirror", "sync", *shop.config)
        shop.commit("Mend CVE-2024-3651")
        step.shows.append(f"no hash: refused; {FIXED.version}: not approved, then judged, approved, fetched")


def _rebuild(shop: Shop) -> None:
    with shop.desk.step("rebuild") as step:
        digest = shop.build("new")
        expect(holds=digest != shop.images["old"], what="the rebuilt image is another one")
        step.shows.append(f"{digest[:19]}…, pushed under its commit")
    with shop.desk.step("evidence, signed") as step:
        shop.prove("new", baseline="old")
        step.shows.append("bill of materials, scan, dependency diff, hygiene, provenance, signature")


def _agree(shop: Shop) -> None:
    with shop.desk.step("review and two approvals") as step:
        packages = shop.agree("new", f"mends {_CVE}")
        expect(holds=packages == [f"pkg:pypi/{PACKAGE}"], what="no other package changed")
        step.shows.append(f"the gate blocks before; reviewed: {', '.join(packages)}; ana and ben approve")


def _ship(shop: Shop, traffic: Traffic) -> None:
    with shop.desk.step("gate") as step:
        said = shop.desk.pratique("promote", *shop.about("new"), "--emergency", "--dry-run").err
        expect(holds="the gate admits" in said, what="the gate admits the new image to its canary")
        step.shows.append("admits the new image to a canary")
    with shop.desk.step("canary, gate again, promoted") as step:
        before = dict(traffic.answers)
        told = shop.desk.pratique("promote", *shop.about("new"), "--emergency", "--json").told
        expect(holds=told["result"] == "promoted", what="the canary passes, and the release is promoted")
        expect(holds=told["seconds"] >= shop.pace.canary_seconds, what="the canary ran its whole time")
        answers = {status: count - before.get(status, 0) for status, count in traffic.answers.items()}
        expect(holds=set(_some(answers)) == {200}, what=f"no request is lost on the way, got {answers}")
        seconds = f"{shop.pace.canary_seconds:g} s of canary with {shop.pace.share:.0%} of the traffic"
        step.shows.append(f"{seconds}; {answers[200]} requests, none lost")


def _prove_gone(shop: Shop) -> None:
    desk = shop.desk
    with desk.step("verified gone") as step:
        desk.pratique("inventory", "sync", *shop.config)
        answer = desk.pratique("triage", _CVE, *shop.config, "--json", code=1).told
        expect(holds=answer["running"] == [], what="no affected image runs")
        expect(holds=answer["images"] == [shop.images["old"]], what="the old image is still known")
        old = desk.pratique("audit", *shop.about("old"), "--json", code=1).told
        where = next(one["reason"] for one in old["links"] if one["name"] == "running")
        expect(holds="takes no traffic anywhere" in where, what="the audit of the old image finds no traffic")
        report = desk.pratique("audit", *shop.about("new"), "--html", "audit.html", "--json").told
        links = [str(one["name"]) for one in report["links"]]
        expect(holds=report["verdict"] == "holds", what="every link of the new release holds")
        step.shows.append(f"triage: 0 run; audit: the old takes no traffic, the new holds ({', '.join(links)})")
    with desk.step("no way back to it", Part.AFTER) as step:
        words = ("--what", "image", "--reason", _CVE, *shop.config)
        desk.pratique("revoke", shop.images["old"], *words)
        said = desk.pratique("rollback", "--reason", "to try it", *shop.config, code=1).err
        expect(holds="nothing to go back to" in said, what="a rollback refuses what is revoked")
        step.shows.append("revoked; a rollback to it is refused")


def try_a_broken_one(shop: Shop, traffic: Traffic) -> None:
    """Ship a release that passes its tests and fails for people: the canary stops it."""
    desk, program = shop.desk, shop.folder / "source" / "names.py"
    with desk.step("a broken release, up to its canary", Part.AFTER) as step:
        text = program.read_text(encoding="utf-8")
        program.write_text(text.replace("idna.encode(name).decode", 'name.encode("ascii").decode'), encoding="utf-8")
        shop.commit("Leave the package out")
        shop.build("broken")
        shop.prove("broken", baseline="new")
        shop.agree("broken", "smaller")
        step.shows.append("passes its tests and the gate")
    with desk.step("its canary", Part.AFTER) as step:
        before = dict(traffic.answers)
        said = desk.pratique("promote", *shop.about("broken"), "--emergency", code=1).err
        expect(holds="error: worse than allowed" in said, what="the canary fails for the errors")
        answers = _some({status: count - before.get(status, 0) for status, count in traffic.answers.items()})
        asked = desk.pratique("promote", *shop.about("new"), "--dry-run").err
        expect(holds=f"runs {shop.images['new']}" in asked, what="the release before has all traffic again")
        step.shows.append(f"failed, all traffic back at once; answers by status: {answers}")


def _some(answers: dict[int, int]) -> dict[int, int]:
    return {status: count for status, count in answers.items() if count}


def _digests(answer: Any) -> list[str]:  # noqa: ANN401 - the JSON of a command
    return [str(one["digest"]) for one in answer["running"]]


def _now() -> str:
    return datetime.now(UTC).isoformat()
