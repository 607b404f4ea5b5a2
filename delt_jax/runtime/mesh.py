"""Devices as a mesh."""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from delt_jax.runtime import hosts


def local_devices() -> list[Any]:
    """Returns the devices of this host that a run computes on."""
    return jax.local_devices()


def device_mesh(axis: str, devices: int = 0) -> Mesh | None:
    """A one-dimensional mesh over this host's first `devices` devices (0: all); None where one."""
    found = local_devices()[: devices or None]
    if len(found) == 1:
        return None
    return jax.make_mesh((len(found),), (axis,), axis_types=(AxisType.Auto,), devices=found)


def describe_devices() -> str:
    """What a run computes on, in words: `4 x TPU v4 on each of 2 hosts`."""
    found, count = local_devices(), hosts.current().count
    where = f" on each of {count} hosts" if count > 1 else ""
    return f"{len(found)} x {found[0].device_kind}{where}"
