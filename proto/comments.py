"""Writes the comments of the messages as JSON, so that programs can tell what a field means: names to texts.

Reads a FileDescriptorSet with source information from standard input. Knows only the public package; changes no proto.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

PACKAGE = "finetuned.v1"


def main() -> None:
    """One entry for each message, field, oneof, enum and value that has a comment, by its name without the package."""
    files = FileDescriptorSet.FromString(sys.stdin.buffer.read()).file
    texts = dict(entry for file in files if file.package == PACKAGE for entry in comments(file))
    json.dump(texts, sys.stdout, indent=1, sort_keys=True, ensure_ascii=False)
    sys.stdout.write("\n")


def comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Names and texts of one file; a comment of several lines is one line."""
    for place in file.source_code_info.location:
        name = _name(file, place.path)
        text = " ".join(place.leading_comments.split())
        if name and text:
            yield name, text


def _name(file: Any, path: Any) -> str:
    """The name of what stands at a path of field numbers and places, in turns; empty where it has none of its own."""
    names: list[str] = []
    node = file
    for number, place in zip(path[::2], path[1::2], strict=False):
        field = node.DESCRIPTOR.fields_by_number[number]
        if not (field.is_repeated and field.message_type):
            return ""
        node = getattr(node, field.name)[place]
        names.append(getattr(node, "name", ""))
    return ".".join(names) if len(path) % 2 == 0 and all(names) else ""


if __name__ == "__main__":
    main()
