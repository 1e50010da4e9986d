"""The endpoints of the Emissary API, one router per resource."""
