"""Records of runs, their clocks, and what is drawn of them."""
