"""Provenance: SLSA v1, as it is read and written here.

What a builder was asked for from outside stands in `externalParameters`; all of it must be known to who decides, since
a parameter that nobody reviewed can change what is built. Source: SLSA provenance v1; in-toto resource descriptors.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pratique.release.predicates import Instant

__all__ = ["AUTHORS_ANNOTATION", "Builder", "Definition", "Metadata", "Provenance", "Resource", "Run"]

AUTHORS_ANNOTATION: Final = "authors"
"""Of a source in `resolvedDependencies`: the e-mail addresses of who wrote its commit, a list of text."""


class _Base(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The standard lets others add members; they are left alone."""


class Resource(_Base, frozen=True, kw_only=True):
    """Something that went in or came out, by its digest."""

    name: str = ""
    uri: str = ""
    digest: dict[str, str] = {}
    annotations: dict[str, object] = {}


class Definition(_Base, frozen=True, kw_only=True):
    """What was built, from what."""

    build_type: str
    external_parameters: dict[str, object]
    internal_parameters: dict[str, object] = {}
    resolved_dependencies: tuple[Resource, ...] = ()


class Builder(_Base, frozen=True, kw_only=True):
    """Who built."""

    id: str
    version: dict[str, str] = {}


class Metadata(_Base, frozen=True, kw_only=True):
    """Which run it was."""

    invocation_id: str = ""
    started_on: Instant | None = None
    finished_on: Instant | None = None


class Run(_Base, frozen=True, kw_only=True):
    """How it was built."""

    builder: Builder
    metadata: Metadata = Metadata()
    byproducts: tuple[Resource, ...] = ()


class Provenance(_Base, frozen=True, kw_only=True):
    """The predicate."""

    build_definition: Definition
    run_details: Run
