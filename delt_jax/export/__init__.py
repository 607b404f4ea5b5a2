"""Distilled sets out: the ImageFolder with its manifest, and one file per further format."""
