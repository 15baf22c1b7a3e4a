"""All operations that are disturbed, by name."""

from ingress_ops import INGRESS_OPS
from ops import OPS as PLAIN_OPS

OPS = PLAIN_OPS + INGRESS_OPS
BY_NAME = {op.name: op for op in OPS}
