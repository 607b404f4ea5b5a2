"""Sweeps: many runs from one command, collected into one table and one report."""
