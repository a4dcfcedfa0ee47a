"""Can a classifier still tell the protocol? Slices with their sites, attackers, and what they found."""
