"""Image augmentations on the device, key first."""
