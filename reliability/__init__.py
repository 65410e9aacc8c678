"""What docs/reliability.md promises and no test of a few seconds can show."""
