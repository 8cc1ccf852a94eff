"""What people run: a config for each thing, named by --config."""
