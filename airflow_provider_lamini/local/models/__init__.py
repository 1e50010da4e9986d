"""The models as data: a pinned catalogue, fetched once into a cache, checked by checksum."""
