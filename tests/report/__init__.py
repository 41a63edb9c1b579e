"""What the simulation measures, as one page: `make report`."""
