"""Files on local disks and object stores, what a run's files are called, and how OpenLineage names data."""
