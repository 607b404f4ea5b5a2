"""Which sets lie in the devices' memory as a whole; of others, batch follows batch there."""

from delt_jax.runtime import mesh
from delt_jax.stages.packing_width import memory_limit

POOL_SHARE = 0.25  # of what programs may take of a device: networks and activations need the rest
UNKNOWN_MEMORY_BYTES = 2 << 30  # where a device does not tell its memory, as a CPU


def pool_bytes() -> int:
    """Returns how large a set may be to lie on each device as a whole."""
    limits = [memory_limit(device) for device in mesh.local_devices()]
    known = [limit for limit in limits if limit is not None]
    return int(POOL_SHARE * min(known)) if known else UNKNOWN_MEMORY_BYTES


def lies_on_device(set_bytes: int) -> bool:
    """Says whether students and labelling keep a set of so many bytes on each device."""
    return set_bytes <= pool_bytes()
