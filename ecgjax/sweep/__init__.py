"""Sweeps: many evaluations planned, run and watched together; none of them twice, and none lost."""
