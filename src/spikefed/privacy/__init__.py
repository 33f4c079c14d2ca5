"""Privacy on the wire: secure aggregation of votes and randomised response."""
