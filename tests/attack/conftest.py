"""Attack tests. Each names the line of the attack list it stands for (test_D7_…), shows that the
attempt is stopped, that the log says why, and that the very same attempt succeeds once the fence is
lifted: a test without its control could pass because nothing works at all."""

import pytest


@pytest.fixture
def pair(make_box):
    """pair(closed, open): two sandboxes, one behind the fence, one with it lifted."""
    def make(closed, opened):
        return make_box(egress=closed), make_box(egress=opened)
    return make


@pytest.fixture
def gone(lab):
    """gone(since, **match): what reached the Internet; the log is complete when it returns."""
    def flows(since, **match):
        return lab.flows(since, **match)
    return flows
