"""What `dumont doctor` looks at: each module one side, as findings; what cannot be known from here is said so."""
