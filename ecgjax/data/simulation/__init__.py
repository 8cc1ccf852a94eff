"""A simulated heart on a simulated torso: dipole, rhythm, disturbances. Everything that comes out is synthetic."""
