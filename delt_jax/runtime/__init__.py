"""What a run needs around the numerics: folder, checkpoints, devices, metrics, random streams."""
