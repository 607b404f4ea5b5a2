"""What vendors publish of devices that people run this on; nothing here was measured."""

import dataclasses

UTILISATION = 0.3  # share of the peak that is assumed where nothing was measured


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine that can be rented or bought.

    Attributes:
      name: as its vendor calls it.
      devices: as jax counts them.
      hosts: processes of jax that they are divided among.
      bfloat16: peak FLOP/s of a device, of dense matrices.
      float32: the same for float32 operands at jax's default precision: TF32 on NVIDIA's, bfloat16
        products on TPUs.
      memory: bytes of a device.
      bandwidth: of that memory, bytes per second.
      source: where the figures stand.
    """

    name: str
    devices: int
    hosts: int
    bfloat16: float
    float32: float
    memory: float
    bandwidth: float
    source: str

    def peak(self, compute_dtype: str) -> float:
        """FLOP/s of a device for activations of this type."""
        return self.bfloat16 if compute_dtype == "bfloat16" else self.float32


# NVIDIA prints the rates of sparse matrices, which are twice those of dense ones.
_A100 = (312e12, 156e12, 80e9, 2.039e12, "https://www.nvidia.com/en-us/data-center/a100/")
_H100 = (989.5e12, 494.5e12, 80e9, 3.35e12, "https://www.nvidia.com/en-us/data-center/h100/")
_H200 = (989.5e12, 494.5e12, 141e9, 4.8e12, "https://www.nvidia.com/en-us/data-center/h200/")
# Chips of v4 are one device each, although the name v4-8 counts their two cores. Slices of several
# hosts have four chips a virtual machine; v5e-8 and v6e-8 have eight in one.
_V4 = (275e12, 275e12, 32 * 2**30, 1.2e12, "https://cloud.google.com/tpu/docs/v4")
_V5E = (197e12, 197e12, 16e9, 0.819e12, "https://cloud.google.com/tpu/docs/v5e")
_V6E = (918e12, 918e12, 32e9, 1.6e12, "https://cloud.google.com/tpu/docs/v6e")

MACHINES: tuple[Machine, ...] = (
    Machine("one A100 80 GB", 1, 1, *_A100),
    Machine("one H100 SXM", 1, 1, *_H100),
    Machine("one H200 SXM", 1, 1, *_H200),
    Machine("TPU v4-8", 4, 1, *_V4),
    Machine("TPU v5e-8", 8, 1, *_V5E),
    Machine("TPU v5e-64", 64, 16, *_V5E),
    Machine("TPU v6e-8", 8, 1, *_V6E),
)
