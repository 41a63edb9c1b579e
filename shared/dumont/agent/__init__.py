"""What runs on rented machines. Nothing here imports the rest of Dumont: it travels alone."""
