"""Joint rows of groups of rectifiers where geometry meets bounds: groups, octahedra, mining."""
