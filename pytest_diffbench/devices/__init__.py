"""Which device a task runs on, and when: one GPU, or one CPU core, leased to one task at a time."""

from pytest_diffbench.devices.conditions import Conditions, CoreWatch, Watch, obstacle, watch
from pytest_diffbench.devices.inventory import Device, inventory
from pytest_diffbench.devices.lease import lease

__all__ = ["Conditions", "CoreWatch", "Device", "Watch", "inventory", "lease", "obstacle", "watch"]
