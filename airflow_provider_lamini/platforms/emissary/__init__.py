"""The Emissary platform: projects, datasets, training, checkpoints, engines, deployments and inference."""
