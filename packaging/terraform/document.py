#!/usr/bin/env python3
"""The tables of README.md, made from variables.tf and outputs.tf.

    packaging/terraform/document.py          writes them
    packaging/terraform/document.py --check  says whether they are those of the module

Needs hcl2, which checkov brings (tests/fleet/requirements.txt).
"""

import json
import pathlib
import re
import sys

import hcl2

MODULE = pathlib.Path(__file__).resolve().parent
README = MODULE / "README.md"
MARKS = "<!-- {}: made by document.py -->", "<!-- end of {} -->"


def blocks(file, kind):
    """Name and content of each block of a kind, in the file's order."""
    with (MODULE / file).open() as text:
        parsed = hcl2.load(text)
    return [next(iter(block.items())) for block in parsed[kind]]


def plain(value):
    """What hcl2 gives: a list around each attribute, and expressions as ${...}."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return re.sub(r"^\$\{(.*)\}$", r"\1", value, flags=re.DOTALL) if isinstance(value, str) else value


def cell(text):
    return re.sub(r"\s+", " ", text.replace('\\"', '"')).replace("|", "\\|").strip()


def kind(block):
    found = cell(plain(block["type"]))
    return "object" if found.startswith("object") else found


def default(block):
    if "default" not in block:
        return "required"
    value = block["default"]
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return f"`{json.dumps(value)}`"


def tables():
    inputs = ["| variable | type | default | what it is |", "|---|---|---|---|"]
    for name, block in blocks("variables.tf", "variable"):
        inputs.append(f"| `{name}` | {kind(block)} | {default(block)} | {cell(plain(block['description']))} |")
    outputs = ["| output | what it is |", "|---|---|"]
    for name, block in blocks("outputs.tf", "output"):
        outputs.append(f"| `{name}` | {cell(plain(block['description']))} |")
    return {"variables": inputs, "outputs": outputs}


def documented(text):
    for name, lines in tables().items():
        begin, end = (mark.format(name) for mark in MARKS)
        before, rest = text.split(begin)
        after = rest.split(end)[1]
        text = "\n".join([before + begin, *lines, end + after])
    return text


def main():
    there = README.read_text()
    wanted = documented(there)
    if "--check" in sys.argv[1:]:
        if there != wanted:
            sys.exit("README.md is behind variables.tf or outputs.tf: run packaging/terraform/document.py")
    else:
        README.write_text(wanted)


if __name__ == "__main__":
    main()
