"""Where and in what order the runs of a grid are executed."""
