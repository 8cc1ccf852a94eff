"""Converts released PyTorch checkpoints to ecgjax weights without torch and without running code from the file."""
