"""What a run is, as YAML: schema, reader, grid and identity. Needs no torch."""
