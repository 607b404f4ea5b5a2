"""Configurations: base, one file per data set, presets as overrides."""
