"""Work that only Emissary has."""
