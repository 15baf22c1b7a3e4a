"""What virtual machines need and hosts may lack: then these tests are skipped, with the reason."""

import pytest

from kit.machine import lacking


def pytest_collection_modifyitems(items):
    why = lacking()
    for item in items if why else ():
        item.add_marker(pytest.mark.skip(reason=f"needs {why}"))
