"""`packaging/verify-aws` with what changes nothing, against moto: each question gets an answer, and moto is as before.

How moto differs here: it registers an instance that does not exist, which AWS refuses.
"""

import os
import pathlib
import subprocess
import sys

from conftest import PATIENCE, REGION, ROOT

QUESTIONS = [
    "U6: What are the buckets of Auto Scaling?",
    "Is a deregistration of a target that is not registered a success?",
    "What is shown of a target that is named and not registered?",
    "How is the registration of an instance refused that does not exist?",
    "U2: Does CreateFleet take a template with a market type?",
    "U2, U9: Does RunInstances take it, with tags beside the template's?",
    "How is the detachment of an instance refused that is no member?",
    "How is the completion of a hook refused that is not open?",
]


def test_a_dry_run_asks_every_question_and_changes_nothing(moto, tmp_path):
    web = moto.target_group("web")
    moto.group([web], members=2)
    template = moto.described()["LaunchTemplate"]["LaunchTemplateId"]

    def world():
        targets = {id: target for id, target in moto.targets(web).items() if id != "i-00000000000000000"}
        return targets, sorted(moto.members()), sorted(moto.instances())

    before = world()
    environment = {
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": moto.endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "NO_PROXY": "*",
    }
    command = [ROOT / "packaging" / "verify-aws", "--target-group", web, "--launch-template", template, "--group", "web"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = [part.splitlines() for part in done.stdout.split("\n\n")]
    asked = {lines[0]: lines for lines in (part[1:] if part[0] == "" else part for part in parts) if lines}
    for question in QUESTIONS:
        lines = next((lines for first, lines in asked.items() if first.startswith(question)), None)
        assert lines, f"{question} is missing in {done.stdout}"
        assert lines[1].startswith("  $ ") and lines[2].startswith(("  accepted: ", "  refused: ")), lines
        # The AWS CLI refuses a command that is misspelt before it asks anybody.
        assert "usage: aws" not in lines[2] and "Unknown options" not in lines[2], lines
    assert world() == before
