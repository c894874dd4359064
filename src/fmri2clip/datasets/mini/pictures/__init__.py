"""Pictures of the simulated world, in which things must be recognised to be named."""
