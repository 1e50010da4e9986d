"""Background jobs: a SQLite store, a runner that resumes unfinished jobs, worker pools, row jobs and downloads."""
