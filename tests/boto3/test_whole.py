"""Nothing is implemented that no client has ever parsed. Runs last, by its name, and only with the whole suite."""

import re

import pytest

from conftest import DRIVEN, ROOT

SERVICES = {"api_elb": "elasticloadbalancing", "api_auto_scaling": "autoscaling"}


def implemented():
    """The actions in the simulator's own dispatch."""
    found = {("sts", "GetCallerIdentity")}
    for path in (ROOT / "src" / "sim").glob("api_*.rs"):
        service = SERVICES.get(path.stem, "ec2")
        found |= {(service, action) for action in re.findall(r'^        "([A-Z]\w+)" => ', path.read_text(), re.M)}
    return found


def test_every_operation_was_driven(request):
    files = {item.path.name for item in request.session.items}
    if len(files) < len(list(request.path.parent.glob("test_*.py"))):
        pytest.skip("only with the whole suite")
    assert len(implemented()) > 40
    assert implemented() - DRIVEN == set()
