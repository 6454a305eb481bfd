"""Threads that read statements, bundles and manifests for the first time, all at once.

msgspec 0.22 looks at a type when it is first decoded, and two threads that do so at once may crash the process. A
process that fails this test dies by SIGSEGV.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

RACE = """
import sys, threading
sys.setswitchinterval(1e-6)
from pratique.release.components import read_components
from pratique.release.decoding import convert_value, decode_json
from pratique.release.evidence.hygiene.config import ImageConfig, parse_config
from pratique.release.openvex import Document
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST, Manifest
from pratique.release.registry.manifests import read_manifest
from pratique.release.signing.bundle import parse_bundle, write_keyed_bundle
from pratique.release.signing.dsse import Envelope, parse_envelope
from pratique.release.signing.layout import parse_index, parse_referrer
from pratique.release.signing.legacy import parse_legacy
from pratique.release.signing.trust import load_trust_root
from pratique.release.predicates import Approval
from pratique.release.statements import parse_statement
from pratique.release.values import digest_of
subject = b'[{"digest":{"sha256":"%s"}}]' % (b"0" * 64)
statement = b'{"_type":"https://in-toto.io/Statement/v1","subject":%s,"predicateType":"x"}' % subject
bundle = write_keyed_bundle(Envelope(statement, "t", b"s"), hint="")
index = b'{"schemaVersion":2,"manifests":[]}'
barrier = threading.Barrier(8)
def read():
    barrier.wait()
    parse_bundle(bundle)
    parse_referrer(b"{}")
    parse_index(Manifest(index, IMAGE_INDEX, digest_of(index)))
    parse_legacy(b'{"layers":[]}')
    read_manifest(index, IMAGE_INDEX)
    load_trust_root()
    read_components(b'{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"a","components":[]}]}')
    parse_config(b'{"config":{},"history":[{}]}')
    convert_value({"history": []}, ImageConfig)
    try:
        decode_json(b"{}", Document)
    except Exception:
        pass
    try:
        parse_statement(statement).read(Approval)
    except Exception:
        pass
    try:
        parse_envelope(b"{}")
    except Exception:
        pass
threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_may_read_for_the_first_time_at_once() -> None:
    for _ in range(10):
        subprocess.run([sys.executable, "-c", RACE], check=True, timeout=60)
