"""Everything that the loop does, together and for long, with clients that vanish, stall and flood."""
