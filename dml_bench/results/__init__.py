"""Records of runs and the folder they are kept in. Needs no torch."""
