"""The stages: each unpacks the config, calls core and writes the work directory."""
