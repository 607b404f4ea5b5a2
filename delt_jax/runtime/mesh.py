"""Devices as a mesh."""

import jax
from jax.sharding import AxisType, Mesh


def device_mesh(axis: str, devices: int = 0) -> Mesh | None:
    """A one-dimensional mesh over this host's first `devices` devices (0: all); None where one."""
    found = jax.local_devices()[: devices or None]
    if len(found) == 1:
        return None
    return jax.make_mesh((len(found),), (axis,), axis_types=(AxisType.Auto,), devices=found)
