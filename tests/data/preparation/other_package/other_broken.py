"""Called a source by its package, but not one."""
