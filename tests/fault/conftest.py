"""Fault tests: a daemon built with fault points, in front of the lab."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
