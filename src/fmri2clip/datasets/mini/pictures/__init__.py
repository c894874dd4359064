"""Pictures of the second simulated world, in which things must be recognised to be named."""
