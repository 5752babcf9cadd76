"""What the project's servers share: who may do what, refusals, bodies. Stands on aiohttp alone."""
