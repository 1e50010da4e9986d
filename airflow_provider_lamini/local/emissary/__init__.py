"""The Emissary API of the local platform: projects, datasets, training jobs, deployments, engines and inference."""
