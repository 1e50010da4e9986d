"""Model files: a catalogue of pinned models, fetched once into a cache and verified by checksum."""
