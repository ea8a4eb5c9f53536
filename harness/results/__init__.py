"""What runs have found: outcomes of scenarios, by target."""
